"""Observations and profiles that were never measured."""

from pathlib import Path

from sample_result import machine

from autocompress.hardware.kept import circumstances_of
from autocompress.hardware.predictor import profile as profiles
from autocompress.hardware.predictor.observation import Observation

HERE = circumstances_of(machine())


def observation(number: int = 0, *, us: float = 100.0, name: str = "", family: str = "plain") -> Observation:
    """A file of one matrix product, ``us`` microseconds long."""
    width = 8 + number
    inputs = [["float", [1, width], 0], ["float", [width, 4], 1]]
    kernel = ("MatMul", inputs, [["float", [1, 4], 0]], {}, us)
    return Observation(
        name=name or f"drawn-{number}",
        family=family,
        precision="fp32",
        measured_at="2026-01-01T00:00:00+00:00",
        rounds_us=(us, us * 1.01),
        kernels=(kernel,),
    )


def made_profile(folder: Path, count: int = 3, circumstances=HERE) -> Path:
    """A profile with so many observations."""
    profiles.opened(folder, circumstances)
    profiles.append(folder, [observation(number, us=100.0 + number) for number in range(count)])
    return folder
