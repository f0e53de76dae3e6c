"""Units that are units: UCUM's syntax and the atoms met in medicine, and nothing else.

A unit is free text in most sources, so it may hold anything. What doesn't parse as a term of the
Unified Code for Units of Measure (UCUM 2.1, sections 2 and 4) is not kept.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PREFIX_WORDS = "Y Z E P T G M k h da d c m u n p f a z y"
_METRIC_WORDS = """
m g s K cd C rad l L mol Hz N Pa J W A V F Ohm S Wb Cel T H lm lx Bq Gy Sv eq osm kat bar t u eV
cal U G B dyn erg pc m[H2O] m[Hg] g% [iU] [IU] [Cal] Ci R RAD REM P St Mx Oe bit By B[V] B[SPL]
"""
_OTHER_WORDS = """
min h d wk mo mo_j mo_s a a_j a_g a_t deg ' '' % 10* 10^ [ppth] [ppm] [ppb] [pptr] [pH] sr [in_i]
[ft_i] [yd_i] [mi_i] [lb_av] [oz_av] [gr] [degF] [foz_us] [pt_us] [qt_us] [cup_us] [drp] [arb'U]
[beth'U] [CFU] [PFU] [FFU] [BAU] [diop] [p'diop] [HPF] [LPF] [knk'U] [mclg'U] [tb'U] [todd'U]
[dye'U] [ka'U] [hnsf'U] [bdsk'U] [GPL'U] [MPL'U] [APL'U] [AU] [IR] [EU] [ELU] [FEU] [ACT'] [USP'U]
[CCID_50] [TCID_50] [EID_50] [LD_50] [Amb'a'1'U] [D'ag'U] [S] [Ch] [MET] [PRU] [wood'U] [Btu]
"""
_ANNOTATION_WORDS = """
{score} {index} {ratio} {INR} {count} {cells} {copies} {titer} {nominal} {#} {events} {pack-years}
{pack} {T-score} {Z-score} {beats} {breaths} {DALY} {QALY} {steps} {RBC} {WBC} {CFU} {IU}
"""
_PREFIXES = frozenset(_PREFIX_WORDS.split())
_METRIC = frozenset(_METRIC_WORDS.split())
_OTHER = frozenset(_OTHER_WORDS.split())
_ANNOTATIONS = frozenset(_ANNOTATION_WORDS.split())
_WORDS = {
    "mmHg": "mm[Hg]",
    "mm Hg": "mm[Hg]",
    "cmH2O": "cm[H2O]",
    "bpm": "/min",
    "beats/min": "/min",
    "beats/minute": "/min",
    "breaths/min": "/min",
    "breaths/minute": "/min",
    "year": "a",
    "years": "a",
    "yr": "a",
    "yrs": "a",
    "months": "mo",
    "weeks": "wk",
    "days": "d",
    "hours": "h",
    "minutes": "min",
    "percent": "%",
    "°C": "Cel",
    "°F": "[degF]",
    "IU/L": "[IU]/L",
    "IU/mL": "[IU]/mL",
    "mIU/L": "m[IU]/L",
    "mIU/mL": "m[IU]/mL",
    "uIU/mL": "u[IU]/mL",
    "mEq/L": "meq/L",
    "kg/m²": "kg/m2",
    "score": "{score}",
}
UCUM = "http://unitsofmeasure.org"
_DAYS_IN = {
    **dict.fromkeys(("a", "a_j", "a_g", "a_t"), 365.25),
    **dict.fromkeys(("mo", "mo_j", "mo_s"), 30.4375),
    "wk": 7.0,
    "d": 1.0,
}
GREATEST_AGE = 90
_AGE = re.compile(
    r"(?:^|[\W_])(?:age|alter|âge|edad|idade|età|leeftijd|ålder)(?:$|[\W_])|年龄|年齢", re.I
)
_BIRTH_YEAR = re.compile(
    r"birth[\W_]*year|year[\W_]*of[\W_]*birth|(?:^|[\W_])yob(?:$|[\W_])|geburtsjahr|出生年", re.I
)
_ATOM = re.compile(r"(?P<body>(?:[^\s\d./(){}\[\]+-]|\[[^\]\s]{1,16}\])+)(?P<power>[+-]?\d{1,2})?")
_TENS = re.compile(r"10[*^](?:[+-]?\d{1,2})?")
_NOTE = re.compile(r"\{[^{}]{0,40}\}")


@lru_cache(maxsize=4096)
def ucum(text: str) -> str | None:
    """Return a unit as UCUM writes it, "" for no unit, None for what is none.

    Annotations of a closed list stay, any other says nothing that is needed and is cut out.
    Common spellings outside UCUM ("mmHg", "bpm", "years") are turned into it.
    """
    unit = text.strip()
    if not unit or len(unit) > 60:
        return "" if not unit else None
    unit = _WORDS.get(unit) or _WORDS.get(unit.lower()) or unit
    unit = unit.replace("µ", "u").replace("μ", "u")
    if "(" in unit or not unit.replace("²", "2").replace("³", "3").isascii():
        return None
    unit = unit.replace("²", "2").replace("³", "3")
    parts = re.split(r"([./])(?![^{]*\})", unit)
    terms, operators = parts[::2], parts[1::2]
    if terms[0] == "" and operators and operators[0] == "/":
        kept = [""]
    else:
        first = _term(terms[0])
        if first is None:
            return None
        kept = [first]
    for operator, term in zip(operators, terms[1:], strict=True):
        checked = _term(term)
        if not checked:
            return None
        kept += [operator, checked]
    return "".join(kept)


def without_great_age(value: float, unit: str) -> float:
    """Return a time of 90 years or more, which may be an age, as 90 years; else ``value``."""
    days = _DAYS_IN.get(unit)
    if days is None:
        return value
    return min(value, round(GREATEST_AGE * 365.25 / days, 4))


def greatest_age(unit: str, *names: str) -> float:
    """Return 90 years in a unit of time, infinity in any other.

    A number without a unit is in years when one of its names says that it is an age.
    """
    written = ucum(unit) if unit else "a" if any(map(_AGE.search, names)) else ""
    return without_great_age(float("inf"), written or "")


def is_birth_year(*names: str) -> bool:
    """Say whether one of a number's names says that it is a year of birth."""
    return any(map(_BIRTH_YEAR.search, names))


def _term(term: str) -> str | None:
    note = ""
    found = _NOTE.search(term)
    if found:
        note = found[0] if found[0] in _ANNOTATIONS else ""
        term = term[: found.start()] + term[found.end() :]
        if not term:
            return note or "1"
    if not _is_simple(term):
        return None
    return term + note


def _is_simple(term: str) -> bool:
    if term == "1" or _TENS.fullmatch(term):
        return True
    found = _ATOM.fullmatch(term)
    if found is None:
        return False
    body = found["body"]
    return body in _METRIC or body in _OTHER or is_prefixed(body)


def is_prefixed(body: str) -> bool:
    """Say whether an atom is a prefix and a metric unit, and not a unit by itself ("mmol")."""
    return body not in _METRIC | _OTHER and any(is_prefix(body[:n], body[n:]) for n in (1, 2))


def is_prefix(prefix: str, unit: str) -> bool:
    """Say whether both are what they are called: "m" before "mol"."""
    return prefix in _PREFIXES and unit in _METRIC
