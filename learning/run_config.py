"""Values of a run config that are lists written as text: whole numbers, names."""

from __future__ import annotations

from collections.abc import Mapping

Scalar = bool | int | float | str


def whole_numbers(config: Mapping[str, Scalar], key: str) -> tuple[int, ...]:
    """Return comma-separated whole numbers; ``ValueError`` names the key."""
    try:
        return tuple(int(number) for number in str(config[key]).split(","))
    except ValueError:
        raise ValueError(f"{key}: must be whole numbers, comma-separated") from None


def names(config: Mapping[str, Scalar], key: str) -> tuple[str, ...]:
    """Return comma-separated names, without blanks around them; none of an empty text."""
    return tuple(name.strip() for name in str(config[key]).split(",") if name.strip())
