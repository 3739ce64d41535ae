"""Energy of an inference: an estimate from its work and its latency, or fitted where a meter can be read."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import numpy as np
from pydantic import Field
from scipy.optimize import nnls

from autocompress.errors import MeasurementError
from autocompress.facts import Facts
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.work import work_of

FEWEST_METERED = 4  # files: as many as there are coefficients
_INTEGERS = {"int8", "uint8"}


class EnergySource(StrEnum):
    """Where coefficients come from: constants of the literature, or a meter of this machine."""

    ESTIMATED = "estimated"
    METERED = "metered"


class Work(Facts):
    """What one inference does: multiply-accumulates by their arithmetic, and bytes that its kernels read and write."""

    float_macs: float = Field(0.0, ge=0)
    integer_macs: float = Field(0.0, ge=0)
    moved_bytes: float = Field(0.0, ge=0)


class EnergyCoefficients(Facts):
    """Watts while running, and picojoules per multiply-accumulate and per byte.

    The defaults are estimates, good for comparing networks, not for a battery's life. Arithmetic from Horowitz,
    "Computing's energy problem", ISSCC 2014, table of 45 nm at 0.9 V: float multiply 3.7 and add 0.9 pJ, 8-bit
    multiply 0.2 and 32-bit add 0.1 pJ; 70 pJ for what a processor spends around one instruction, shared by the
    8 floats or 32 integers of a 256-bit vector. Moving 64 bits costs 100 pJ at a 1 MB cache, where most activations
    lie. Today's processes take less; ``static_watts`` is a guess at one core with its share of the rest.
    """

    static_watts: float = Field(2.0, ge=0)
    float_mac_pj: float = Field(4.6 + 70 / 8, ge=0)
    integer_mac_pj: float = Field(0.3 + 70 / 32, ge=0)
    byte_pj: float = Field(100 / 8, ge=0)
    source: EnergySource = EnergySource.ESTIMATED


def work_in(kernels: Iterable[Kernel]) -> Work:
    """The work of all ``kernels`` of one inference."""
    float_macs = integer_macs = moved = 0.0
    for kernel in kernels:
        macs, moved_bytes = work_of(kernel)
        moved += moved_bytes
        if any(tensor.dtype in _INTEGERS for tensor in kernel.inputs):
            integer_macs += macs
        else:
            float_macs += macs
    return Work(float_macs=float_macs, integer_macs=integer_macs, moved_bytes=moved)


def estimate_energy(work: Work, latency_ms: float, coefficients: EnergyCoefficients) -> float:
    """Millijoules of one inference; ``coefficients.source`` says what that number is worth."""
    picojoules = (
        work.float_macs * coefficients.float_mac_pj
        + work.integer_macs * coefficients.integer_mac_pj
        + work.moved_bytes * coefficients.byte_pj
    )
    return coefficients.static_watts * latency_ms + picojoules * 1e-9


def fit_energy(metered: Sequence[tuple[Work, float, float]]) -> EnergyCoefficients:
    """Coefficients from work, latency (ms) and metered energy (mJ) of files: least relative squares, none below zero.

    Raises:
        MeasurementError: fewer files than coefficients, or an energy of nothing.
    """
    energies = np.array([energy for _, _, energy in metered], float)
    if len(metered) < FEWEST_METERED or energies.min() <= 0:
        found = f"{len(metered)} files" if len(metered) < FEWEST_METERED else f"an energy of {energies.min():g} mJ"
        raise MeasurementError(
            f"energy is fitted to at least {FEWEST_METERED} files with more than 0 mJ each, got {found}; "
            "meter more files, or longer"
        )
    rows = [
        (latency, work.float_macs * 1e-9, work.integer_macs * 1e-9, work.moved_bytes * 1e-9)
        for work, latency, _ in metered
    ]
    relative = np.array(rows) / energies[:, None]
    unit = np.maximum(np.abs(relative).max(axis=0), np.finfo(float).tiny)
    static, float_mac, integer_mac, byte = (nnls(relative / unit, np.ones(len(energies)))[0] / unit).tolist()
    return EnergyCoefficients(
        static_watts=static, float_mac_pj=float_mac, integer_mac_pj=integer_mac, byte_pj=byte,
        source=EnergySource.METERED,
    )  # fmt: skip
