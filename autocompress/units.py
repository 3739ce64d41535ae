"""Quantities as people write them, in one unit a kind: ms, bytes, millijoule, plain counts, seconds.

Decimal prefixes are powers of 1000 (``MB`` = 10^6), binary ones of 1024 (``MiB`` = 2^20).
"""

import re
from enum import StrEnum


class Kind(StrEnum):
    """What a number counts; the value is the unit it is kept in."""

    TIME = "ms"
    BYTES = "bytes"
    COUNT = "count"
    ENERGY = "mJ"
    FRACTION = "fraction"


UNITS: dict[Kind, dict[str, float]] = {
    Kind.TIME: {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3},
    Kind.BYTES: {
        "B": 1.0,
        "kB": 1e3,
        "KB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
    },
    Kind.COUNT: {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    Kind.ENERGY: {"uJ": 1e-3, "µJ": 1e-3, "mJ": 1.0, "J": 1e3},
    Kind.FRACTION: {"": 1.0},
}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Zµ]*)\s*")
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(h|min|m|s)\s*")
_SECONDS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}


def parse_quantity(text: str, kind: Kind) -> float:
    """The number in ``text``, in the unit of ``kind``.

    Raises:
        ValueError: no number, or a unit that ``kind`` does not have; the message lists those it has.
    """
    match = _QUANTITY.fullmatch(text)
    units = UNITS[kind]
    named = ", ".join(unit for unit in units if unit)
    if match is None:
        raise ValueError(f"{text.strip()!r} is not a number with a unit" + (f" ({named})" if named else ""))
    number, unit = match.groups()
    if unit not in units:
        rule = f"use one of: {named}" if named else "no unit belongs here"
        raise ValueError(
            f"{unit!r} in {text.strip()!r} is not a unit of this quantity; {rule}"
            if unit
            else f"{text.strip()!r} lacks its unit; {rule}"
        )
    return float(number) * units[unit]


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``10m``, ``1h30m``.

    Raises:
        ValueError: not a duration, or not above zero.
    """
    cleaned = text.strip()
    if re.fullmatch(r"\d+\.?\d*", cleaned):
        seconds = float(cleaned)
    else:
        parts = _DURATION.findall(cleaned)
        if not parts or _DURATION.sub("", cleaned):
            raise ValueError(f"a duration looks like 90s, 10m or 1h30m, got {text!r}")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ValueError(f"a duration must be above zero, got {text!r}")
    return seconds


def format_quantity(value: float, kind: Kind) -> str:
    """``value`` with the unit that reads best, three significant digits."""
    if kind is Kind.TIME:
        return _scaled(value * 1e-3, (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)), " ")
    if kind is Kind.BYTES:
        return _scaled(value, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)), " ")
    if kind is Kind.COUNT:
        return _scaled(value, (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)), "")
    if kind is Kind.ENERGY:
        return _scaled(value * 1e-3, (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)), " ")
    return f"{value:.4f}"


def exact_quantity(value: float, kind: Kind) -> str:
    """``value`` as briefly as it can be said exactly, so that ``parse_quantity`` gives it back."""
    texts = [
        f"{value / scale:.6g}{unit}"
        for unit, scale in UNITS[kind].items()
        if abs(value) >= scale and float(f"{value / scale:.6g}") * scale == value
    ]
    base = next(unit for unit, scale in UNITS[kind].items() if scale == 1.0)
    return min(texts, key=len, default=f"{value!r}{base}")


def format_duration(seconds: float) -> str:
    """``75`` reads ``1m15s``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _scaled(value: float, scales: tuple[tuple[str, float], ...], gap: str) -> str:
    unit, scale = next(((u, s) for u, s in scales if abs(value) >= s), scales[-1])
    return f"{_three_digits(value / scale)}{gap}{unit}".rstrip()


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    decimals = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
