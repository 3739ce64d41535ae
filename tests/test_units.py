"""Quantities as people write them."""

import re

import pytest
from hypothesis import given
from hypothesis.strategies import floats, sampled_from

from autocompress.units import (
    UNITS,
    Kind,
    exact_quantity,
    format_duration,
    format_quantity,
    parse_duration,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5ms", Kind.TIME, 5),
        (" 1.5 s ", Kind.TIME, 1500),
        ("20us", Kind.TIME, 0.02),
        ("20µs", Kind.TIME, 0.02),
        ("3ns", Kind.TIME, 3e-6),
        ("2MB", Kind.BYTES, 2_000_000),
        ("2MiB", Kind.BYTES, 2 * 1024**2),
        ("1KiB", Kind.BYTES, 1024),
        ("1kB", Kind.BYTES, 1000),
        ("1GiB", Kind.BYTES, 1024**3),
        ("100M", Kind.COUNT, 100_000_000),
        ("1e3", Kind.COUNT, 1000),
        ("7", Kind.COUNT, 7),
        (".5J", Kind.ENERGY, 500),
        ("-2mJ", Kind.ENERGY, -2),
        ("0.9", Kind.FRACTION, 0.9),
    ],
)
def test_units_are_exact(text, kind, value):
    assert parse_quantity(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("fast", Kind.TIME, "'fast' is not a number with a unit (ns, us, µs, ms, s)"),
        ("5 ms ms", Kind.TIME, "'5 ms ms' is not a number with a unit (ns, us, µs, ms, s)"),
        ("", Kind.FRACTION, "'' is not a number with a unit"),
        ("nan", Kind.FRACTION, "'nan' is not a number with a unit"),
        ("5", Kind.TIME, "'5' lacks its unit; use one of: ns, us, µs, ms, s"),
        ("5MB", Kind.TIME, "'MB' in '5MB' is not a unit of this quantity; use one of: ns, us, µs, ms, s"),
        (
            "5mb",
            Kind.BYTES,
            "'mb' in '5mb' is not a unit of this quantity; use one of: B, kB, KB, MB, GB, KiB, MiB, GiB",
        ),
        ("5ms", Kind.FRACTION, "'ms' in '5ms' is not a unit of this quantity; no unit belongs here"),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_units_that_there_are(text, kind, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_quantity(text, kind)


@given(kind=sampled_from(Kind), value=floats(min_value=1e-9, max_value=1e18))
def test_an_exact_quantity_is_read_back_to_the_last_bit(kind, value):
    assert parse_quantity(exact_quantity(value, kind), kind) == value


@given(kind=sampled_from(Kind), number=floats(min_value=1e-3, max_value=999), data=sampled_from(range(8)))
def test_a_formatted_quantity_keeps_three_digits(kind, number, data):
    value = number * list(UNITS[kind].values())[data % len(UNITS[kind])]
    if kind is not Kind.FRACTION and value >= min(UNITS[kind].values()):
        text = format_quantity(value, kind)
        assert parse_quantity(text, kind) == pytest.approx(value, rel=0.01, abs=1e-5)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1.2345, Kind.TIME, "1.23 ms"),
        (0.5, Kind.TIME, "500 µs"),
        (2500, Kind.TIME, "2.5 s"),
        (231_904, Kind.BYTES, "232 kB"),
        (0, Kind.BYTES, "0 B"),
        (1_118_270, Kind.COUNT, "1.12M"),
        (12, Kind.COUNT, "12"),
        (0.5, Kind.ENERGY, "500 µJ"),
        (0.97917, Kind.FRACTION, "0.9792"),
    ],
)
def test_quantities_read_in_the_unit_that_suits_them(value, kind, text):
    assert format_quantity(value, kind) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("1h 30m 5s", 5405), ("1.5m", 90)],
)
def test_durations_are_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "1m30", "-5s", "m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=f"a duration looks like 90s, 10m or 1h30m, got {re.escape(repr(text))}"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0m"])
def test_a_duration_of_nothing_is_refused(text):
    with pytest.raises(ValueError, match=f"a duration must be above zero, got '{text}'"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (75, "1m15s"), (3600, "1h00m"), (5425, "1h30m"), (-3, "0s")]
)
def test_durations_read_in_two_units(seconds, text):
    assert format_duration(seconds) == text
