"""What can be asked for: small functions that make the statistics of a question."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ValidationError

from contract.documents import Project, Statistic
from contract.errors import DocumentError


def count(variable: str, by: str | None = None) -> Statistic:
    """Ask how many subjects have a value of ``variable``."""
    return _statistic("count", variable, by)


def mean(variable: str, by: str | None = None) -> Statistic:
    """Ask for n, mean, variance and standard deviation of a number."""
    return _statistic("moments", variable, by)


def histogram(variable: str, by: str | None = None) -> Statistic:
    """Ask for a number's counts on the grid that the project's dictionary gives it."""
    return _statistic("histogram", variable, by)


def levels(variable: str, by: str | None = None) -> Statistic:
    """Ask for the counts of each level of a category."""
    return _statistic("levels", variable, by)


def _statistic(
    kind: Literal["count", "moments", "histogram", "levels"], variable: str, by: str | None
) -> Statistic:
    try:
        return Statistic(kind=kind, variable=variable, by=by)
    except ValidationError:
        raise DocumentError(f"{variable!r} or {by!r} can't be a variable's name.") from None


def table_one(project: Project, variables: Iterable[str], by: str) -> list[Statistic]:
    """Ask for what a trial's table 1 shows: means of numbers, counts of categories, by arm."""
    asked: list[Statistic] = []
    for name in variables:
        variable = project.variable(name)
        if variable is None:
            raise DocumentError(f"Variable {name} is not in the project's dictionary.")
        asked.append(mean(name, by) if variable.kind == "number" else levels(name, by))
    return asked
