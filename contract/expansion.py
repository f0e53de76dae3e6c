"""A dictionary's variables that are written once for several, written out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contract.derivations import MAX_IMPUTATIONS
from contract.holdings import MAX_BINS


def expand(variables: Any) -> Any:
    """Return a dictionary's raw variables with those written once for several written out.

    ``derive = {impute = "bmi", using = [...], imputations = 5}`` of ``bmi_full`` makes
    ``bmi_full.1`` to ``bmi_full.5``. ``derive = {intensity = "all", ...}`` of ``ct`` makes
    ``ct.mean``, ``ct.sd`` and ``ct.b00`` for each bin. What isn't of that form stays as it is, for
    whoever checks it.
    """
    if not isinstance(variables, list | tuple):
        return variables
    found: list[Any] = []
    for variable in variables:
        derive = variable.get("derive") if isinstance(variable, Mapping) else None
        name = variable.get("name") if isinstance(variable, Mapping) else None
        if not isinstance(derive, Mapping) or not isinstance(name, str):
            found.append(variable)
        elif "impute" in derive and "imputation" not in derive:
            number = derive.get("imputations", 5)
            if not isinstance(number, int) or not 2 <= number <= MAX_IMPUTATIONS:
                found.append(variable)
                continue
            for at in range(1, number + 1):
                one = {**derive, "imputations": number, "imputation": at}
                found.append({**variable, "name": f"{name}.{at}", "derive": one})
        elif derive.get("intensity") == "all":
            found += _intensities(variable, name, derive)
        else:
            found.append(variable)
    return found


def _intensities(
    variable: Mapping[str, Any], name: str, derive: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    number = derive.get("bins", 1)
    number = number if isinstance(number, int) and 1 <= number <= MAX_BINS else 1
    low, high = derive.get("minimum"), derive.get("maximum")
    span = high - low if isinstance(low, int | float) and isinstance(high, int | float) else None
    for part, bounds in (("mean", (low, high)), ("sd", (0, span))):
        yield {
            **variable,
            "name": f"{name}.{part}",
            "minimum": bounds[0],
            "maximum": bounds[1],
            "derive": {**derive, "intensity": part},
        }
    for at in range(number):
        yield {
            **{key: value for key, value in variable.items() if key not in ("unit", "bins")},
            "name": f"{name}.b{at:02}",
            "minimum": 0.0,
            "maximum": 1.0,
            "derive": {**derive, "intensity": at},
        }
