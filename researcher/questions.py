"""What can be asked for: small functions that make the statistics of a question."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ValidationError

from contract.cohorts import Cohort
from contract.documents import Project
from contract.errors import DocumentError, UsageError
from contract.work import Statistic, StatisticsWork
from researcher.checking import variable_of

Lane = Literal["any", "exact", "dp"]
"""How an answer may be protected: ``exact`` refuses noise, ``dp`` wants it in any case."""

_VALUE_ERROR = "Value error, "


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


def shape(variable: str, by: str | None = None) -> Statistic:
    """Ask for what ``mean`` gives, and skewness and kurtosis."""
    return _statistic("shape", variable, by)


def crosstab(variable: str, *across: str, by: str | None = None) -> Statistic:
    """Ask for the counts of each combination of the levels of two or three variables.

    Of a number each bin of the dictionary's grid is a level, and what lies outside of it two more.
    """
    return _statistic("crosstab", variable, by, across)


def comoments(variable: str, *across: str, by: str | None = None) -> Statistic:
    """Ask for means, variances and covariances of several numbers, of those who have all."""
    return _statistic("comoments", variable, by, across)


Kind = Literal["count", "moments", "shape", "histogram", "levels", "crosstab", "comoments"]


def _statistic(
    kind: Kind, variable: str, by: str | None, across: tuple[str, ...] = ()
) -> Statistic:
    try:
        return Statistic(kind=kind, variable=variable, by=by, across=across)
    except ValidationError as error:
        said = str(error.errors()[0]["msg"]).removeprefix(_VALUE_ERROR)
        names = ", ".join(map(repr, (variable, *across, *([by] if by else []))))
        raise DocumentError(f"{kind} can't be asked of {names}: {said}.") from None


def question(
    ask: Iterable[Statistic],
    *,
    cohort: Cohort | None = None,
    analysis: str | None = None,
    lane: Lane = "any",
    epsilon: float | None = None,
    secure: bool = False,
    small_sites: bool = False,
) -> StatisticsWork:
    """Return a question in statistics; ``UsageError`` for a setting that can't be."""
    secure = secure or small_sites
    if secure and lane == "dp":
        raise DocumentError("A secure sum is exact, so it can't have noise: leave out one of both.")
    try:
        return StatisticsWork(
            ask=tuple(ask),
            cohort=cohort,
            analysis=analysis,
            lane="exact" if secure else lane,
            epsilon=epsilon,
            secure=secure,
            small_sites=small_sites,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where, said = ".".join(map(str, first["loc"])), str(first["msg"]).removeprefix(_VALUE_ERROR)
        raise UsageError(
            f"The question can't be asked: {where}{': ' if where else ''}{said}."
        ) from None


def table_one(project: Project, variables: Iterable[str], by: str) -> list[Statistic]:
    """Ask for what a trial's table 1 shows: means of numbers, counts of categories, by arm."""
    asked: list[Statistic] = []
    for name in variables:
        variable = variable_of(project, name)
        asked.append(mean(name, by) if variable.kind == "number" else levels(name, by))
    return asked
