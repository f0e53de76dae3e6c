"""Conditions as a person types them, read into cohorts: a closed list of forms, nothing evaluated.

``age >= 65``, ``age < 40``, ``sex = f`` or ``sex == f``, ``stage = I | II``, ``stage != I``,
``age missing``, ``age known``. Whoever has no value fits none of the comparisons, and ``!=``
neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import ValidationError

from contract.cohorts import Cohort
from contract.errors import UsageError

_FORM = re.compile(
    r"\s*(?P<variable>[A-Za-z_][A-Za-z0-9_.]{0,63})\s*"
    r"(?:(?P<sign>>=|<=|!=|==?|>|<)\s*(?P<value>.+?)|(?P<word>missing|known))\s*"
)
_BOUNDS = {">=": "at_least", ">": "above", "<=": "at_most", "<": "below"}


def where(text: str) -> Cohort:
    """Return the cohort of one condition; ``UsageError`` for what is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no condition; write for example 'age >= 65' or 'sex = f'.")
    variable, sign = found["variable"], found["sign"]
    if found["word"]:
        return Cohort(variable=variable, missing=found["word"] == "missing")
    try:
        if sign in _BOUNDS:
            return Cohort.model_validate({"variable": variable, _BOUNDS[sign]: found["value"]})
        levels = tuple(level.strip() for level in found["value"].split("|"))
        fits = Cohort(variable=variable, levels=levels)
        return fits if sign != "!=" else ~fits & Cohort(variable=variable, missing=False)
    except ValidationError:
        raise UsageError(f"{text!r} compares with what is no number.") from None


def all_of(conditions: Iterable[str]) -> Cohort | None:
    """Return the cohort of those who fit all conditions; None, which is everybody, for none."""
    found = [where(text) for text in conditions]
    if len(found) < 2:
        return found[0] if found else None
    return Cohort(all=tuple(found))
