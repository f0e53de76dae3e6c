"""UCUM: what is a unit, and published conversions between units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.intake.measures import conversion, measure
from node.intake.units import ucum, without_great_age


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("mmHg", "mm[Hg]"),
        ("kg/m²", "kg/m2"),
        ("µg/L", "ug/L"),
        ("years", "a"),
        ("10*3/uL", "10*3/uL"),
        ("mL/min/{1.73_m2}", "mL/min/1"),
        ("{score}", "{score}"),
        ("", ""),
        ("Jane Doe", None),
        ("0171 2345678", None),
        ("{Jane}", "1"),
        ("mg/Doe", None),
        ("(mg)", None),
        ("m" * 61, None),
    ],
)
def test_only_units_are_units(text: str, unit: str | None) -> None:
    assert ucum(text) == unit


@given(st.text(max_size=70))
def test_any_text_is_a_unit_or_none(text: str) -> None:
    unit = ucum(text)
    if unit:
        assert ucum(unit) == unit
        assert conversion(measure(unit), measure(unit)) is not None


@pytest.mark.parametrize(
    ("given_unit", "wanted", "molar_mass", "value", "expected"),
    [
        ("[degF]", "Cel", None, 98.6, 37.0),
        ("Cel", "K", None, 25.0, 298.15),
        ("mm[Hg]", "kPa", None, 120.0, 15.99864),
        ("[lb_av]", "kg", None, 1.0, 0.45359237),
        ("[in_i]", "cm", None, 1.0, 2.54),
        ("[ft_i]", "m", None, 1.0, 0.3048),
        ("cal", "J", None, 1.0, 4.184),
        ("U/L", "ukat/L", None, 60.0, 1.0),
        ("mo", "a", None, 12.0, 1.0),
        ("g/dL", "g/L", None, 14.0, 140.0),
        ("/uL", "10*9/L", None, 250_000.0, 250.0),
        ("mg/dL", "mmol/L", 180.156, 90.0, 4.99567),  # glucose
        ("mg/dL", "umol/L", 113.12, 1.0, 88.40),  # creatinine
        ("mg/dL", "mmol/L", 386.65, 200.0, 5.1726),  # cholesterol
        ("N.m", "J", None, 1.0, 1.0),
        ("W.s", "J", None, 1.0, 1.0),
        ("V.A", "W", None, 1.0, 1.0),
        ("%", "[ppth]", None, 1.0, 10.0),
    ],
)
def test_numbers_are_converted_as_published(
    given_unit: str, wanted: str, molar_mass: float | None, value: float, expected: float
) -> None:
    found = conversion(measure(given_unit), measure(wanted), molar_mass)
    assert found is not None
    assert value * found.factor + found.offset == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("given_unit", "wanted"),
    [
        ("mg/dL", "mmol/L"),
        ("[IU]/L", "U/L"),
        ("Gy", "Sv"),
        ("Hz", "Bq"),
        ("kg", "m"),
        ("meq/L", "mmol/L"),
        ("percent of sites", "%"),
    ],
)
def test_what_needs_an_assumption_is_not_converted(given_unit: str, wanted: str) -> None:
    assert conversion(measure(given_unit), measure(wanted)) is None


def test_times_of_90_years_or_more_are_90_years() -> None:
    assert without_great_age(104, "a") == 90
    assert without_great_age(89, "a") == 89
    assert without_great_age(1248, "mo") == 1080
    assert without_great_age(104, "kg") == 104
