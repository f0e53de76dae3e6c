"""A reference population to compare with, and its file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import UsageError
from foundation.files import read_bounded

MAX_REFERENCE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Reference:
    """A population to compare with: shares of levels, or a number's mean and standard deviation."""

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def read_reference(path: Path) -> Reference:
    """Read a reference population: a TOML file with a table for each variable.

    ``[sex]`` with ``F = 0.51`` and ``M = 0.49``; ``[age]`` with ``mean`` and ``sd``. ``UsageError``
    names what doesn't fit.
    """
    try:
        values = tomllib.loads(read_bounded(path, MAX_REFERENCE_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None
    shares: dict[str, Mapping[str, float]] = {}
    numbers: dict[str, tuple[float, float]] = {}
    for name, table in values.items():
        if not isinstance(table, dict) or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in table.values()
        ):
            raise UsageError(f"{path}: {name} is no table of numbers.")
        is_number = set(table) == {"mean", "sd"}
        if is_number and table["sd"] > 0:
            numbers[name] = float(table["mean"]), float(table["sd"])
        elif table and not is_number and min(table.values()) >= 0 and sum(table.values()) > 0:
            shares[name] = {level: float(share) for level, share in table.items()}
        else:
            raise UsageError(f"{path}: {name} has neither mean and sd nor shares of levels.")
    return Reference(shares, numbers)
