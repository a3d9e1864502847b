"""Times in and out."""

import pytest

from tito_fast.units import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100ps", 100.0),
        ("1ns", 1000.0),
        ("1.5 ns", 1500.0),
        ("2us", 2e6),
        ("5fs", 0.005),
        (" 1e1ps ", 10.0),
        (".5ns", 500.0),
    ],
)
def test_times_with_units_are_read_in_ps(text, expected):
    assert parse_time(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("text", ["100", "ps", "10 lightyears", "", "1ns,2ns", "nan ps", "--1ps"])
def test_a_time_without_a_known_unit_is_refused(text):
    with pytest.raises(ValueError, match="lag: expected a time with a unit"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0ps", "-5ps", "1e999ns"])
def test_a_time_must_be_finite_and_above_zero(text):
    with pytest.raises(ValueError, match="lag: expected a time above zero"):
        parse_time(text)


@pytest.mark.parametrize("time_ps", [0.002, 1.0, 57.0, 1000.0, 2.5e6, 1e9])
def test_printing_and_reading_a_time_gives_it_back(time_ps):
    assert parse_time(format_time(time_ps)) == pytest.approx(time_ps)
