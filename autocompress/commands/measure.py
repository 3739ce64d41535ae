"""The cost of any ONNX file on this machine."""

from pathlib import Path

from autocompress.errors import InputError
from autocompress.facts import Facts
from autocompress.hardware.file_facts import file_facts
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.machine import this_machine
from autocompress.hardware.memory import measure_peak_ram
from autocompress.measurement import Latency
from autocompress.paths import near_path
from autocompress.target import Machine, Target


class FileCost(Facts):
    """Latency and RAM measured, size, MACs and parameters counted."""

    file: str
    latency: Latency
    size_bytes: int
    peak_ram_bytes: int
    macs: int
    params: int
    target: Target
    machine: Machine


def measure(file: str | Path, *, target: Target | None = None) -> FileCost:
    """What ``file`` costs in the target runtime; takes about three seconds.

    Raises:
        InputError: no such file.
        MeasurementError: the runtime cannot load or run it.
    """
    path, target = Path(file), target or Target()
    if not path.is_file():
        raise InputError(f"measure takes an ONNX file; there is no {path}{near_path(path)}")
    counted = file_facts(path)
    (latency,) = measure_latency([path], target)
    return FileCost(
        file=str(path),
        latency=latency,
        size_bytes=counted.size_bytes,
        peak_ram_bytes=measure_peak_ram(path, target),
        macs=counted.macs,
        params=counted.params,
        target=target,
        machine=this_machine(),
    )
