"""What a UCUM unit measures, and by how much: conversion of numbers between units.

Factors are UCUM 2.1's (tables 1-5 and the appendices), exact as fractions. Amounts of substance,
equivalents, arbitrary units and counts of things each are a dimension of their own here, so that
nothing is converted that needs a molar mass, an assay or an assumption.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from node.intake.units import is_prefix, is_prefixed, ucum

Dimension = tuple[tuple[str, int], ...]
_PREFIXES = {
    **{"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1},
    **{"d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21},
    "y": -24,
}
_BASE = ("m", "g", "s", "K", "rad", "C", "cd", "mol")
_DEFINED = {
    "l": ("1e-3", "m3"),
    "L": ("1e-3", "m3"),
    "N": ("1000", "g.m/s2"),
    "Pa": ("1000", "g/m/s2"),
    "J": ("1000", "g.m2/s2"),
    "W": ("1000", "g.m2/s3"),
    "A": ("1", "C/s"),
    "V": ("1000", "g.m2/s2/C"),
    "F": ("0.001", "C2.s2/g/m2"),
    "Ohm": ("1000", "g.m2/s/C2"),
    "S": ("0.001", "C2.s/g/m2"),
    "Wb": ("1000", "g.m2/s/C"),
    "T": ("1000", "g/s/C"),
    "H": ("1000", "g.m2/C2"),
    "Hz": ("1", "s-1"),
    "kat": ("1", "mol/s"),
    "U": ("1e-6", "mol/min"),
    "bar": ("1e5", "Pa"),
    "t": ("1e6", "g"),
    "cal": ("4.184", "J"),
    "[Cal]": ("4184", "J"),
    "G": ("1e-4", "T"),
    "dyn": ("1e-5", "N"),
    "erg": ("1e-7", "J"),
    "m[H2O]": ("9806.65", "Pa"),
    "m[Hg]": ("133322", "Pa"),
    "g%": ("10", "g/L"),
    "[iU]": ("1", "[IU]"),
    "Ci": ("3.7e10", "Bq"),
    "RAD": ("0.01", "Gy"),
    "REM": ("0.01", "Sv"),
    "P": ("0.1", "Pa.s"),
    "St": ("1e-4", "m2/s"),
    "min": ("60", "s"),
    "h": ("3600", "s"),
    "d": ("86400", "s"),
    "wk": ("604800", "s"),
    "a": ("31557600", "s"),
    "a_j": ("31557600", "s"),
    "a_g": ("31556952", "s"),
    "a_t": ("31556925.216", "s"),
    "mo": ("2629800", "s"),
    "mo_j": ("2629800", "s"),
    "mo_s": ("2551442.976", "s"),
    "deg": ("0.017453292519943295769", "rad"),
    "%": ("0.01", "1"),
    "[ppth]": ("1e-3", "1"),
    "[ppm]": ("1e-6", "1"),
    "[ppb]": ("1e-9", "1"),
    "[pptr]": ("1e-12", "1"),
    "[in_i]": ("0.0254", "m"),
    "[ft_i]": ("0.3048", "m"),
    "[yd_i]": ("0.9144", "m"),
    "[mi_i]": ("1609.344", "m"),
    "[lb_av]": ("453.59237", "g"),
    "[oz_av]": ("28.349523125", "g"),
    "[gr]": ("0.06479891", "g"),
    "[foz_us]": ("29.5735295625e-6", "m3"),
    "[pt_us]": ("473.176473e-6", "m3"),
    "[qt_us]": ("946.352946e-6", "m3"),
    "[cup_us]": ("236.5882365e-6", "m3"),
    "[drp]": ("5e-8", "m3"),
    "[Btu]": ("1055.05585262", "J"),
}
_OFFSETS = {
    "Cel": (Fraction(1), Fraction("273.15")),
    "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
}
_TERM = re.compile(r"(?P<body>.*?[^\d+-]|)(?P<power>[+-]?\d{1,2})?")
_TENS = re.compile(r"10[*^](?P<power>[+-]?\d{1,2})?")


@dataclass(frozen=True)
class Measure:
    """``value`` in this unit is ``value * factor + offset`` in the base units of ``dimension``."""

    factor: Fraction
    dimension: Dimension
    offset: Fraction = Fraction(0)

    def times(self, other: Measure, power: int = 1) -> Measure:
        """Return the product with a power of another; a scale with an offset has none."""
        powers = dict(self.dimension)
        for base, exponent in other.dimension:
            powers[base] = powers.get(base, 0) + power * exponent
        kept = tuple(sorted((base, n) for base, n in powers.items() if n))
        return Measure(self.factor * other.factor**power, kept)


ONE = Measure(Fraction(1), ())


@dataclass(frozen=True)
class Conversion:
    """``value * factor + offset``."""

    factor: float
    offset: float


@lru_cache(maxsize=4096)
def measure(unit: str) -> Measure:
    """Return what a unit measures. What isn't UCUM is a dimension of its own, under its text."""
    written = ucum(unit)
    if written is None:
        return Measure(Fraction(1), ((unit.strip(), 1),))
    if written in _OFFSETS:
        factor, offset = _OFFSETS[written]
        return Measure(factor, (("K", 1),), offset)
    result = ONE
    operator = "."
    for part in re.split(r"([./])(?![^{]*\})", written):
        if part in (".", "/"):
            operator = part
        else:
            result = result.times(_term(part), -1 if operator == "/" else 1)
    return result


def conversion(
    given: Measure, wanted: Measure, molar_mass_g_per_mol: float | None = None
) -> Conversion | None:
    """Return how a number is turned into another unit, None if it can't be.

    With a molar mass, amounts of substance and masses are turned into each other.
    """
    if given.dimension != wanted.dimension and molar_mass_g_per_mol:
        moles = dict(wanted.dimension).get("mol", 0) - dict(given.dimension).get("mol", 0)
        per_gram = Measure(1 / Fraction(molar_mass_g_per_mol), (("g", -1), ("mol", 1)))
        given = given.times(per_gram, moles)
    if given.dimension != wanted.dimension:
        return None
    return Conversion(
        float(given.factor / wanted.factor),
        float((given.offset - wanted.offset) / wanted.factor),
    )


def _term(term: str) -> Measure:
    term = re.sub(r"\{[^{}]*\}", "", term)
    if term in ("", "1"):
        return ONE
    tens = _TENS.fullmatch(term)
    if tens:
        return Measure(Fraction(10) ** int(tens["power"] or 1), ())
    found = _TERM.fullmatch(term)
    body = found["body"] if found else term
    power = int(found["power"] or 1) if found else 1
    return ONE.times(_atom(body), power)


def _atom(body: str) -> Measure:
    if not is_prefixed(body):
        return _unprefixed(body)
    prefix = next(body[:n] for n in (1, 2) if is_prefix(body[:n], body[n:]))
    scale = Measure(Fraction(10) ** _PREFIXES[prefix], ())
    return scale.times(_unprefixed(body[len(prefix) :]))


def _unprefixed(atom: str) -> Measure:
    if atom in _OFFSETS:
        # Within a term a degree is a difference of temperatures.
        return Measure(_OFFSETS[atom][0], (("K", 1),))
    defined = _DEFINED.get(atom)
    if defined is None or atom in _BASE:
        return Measure(Fraction(1), ((atom, 1),))
    return Measure(Fraction(defined[0]), ()).times(measure(defined[1]))
