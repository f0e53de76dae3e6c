"""What a question names, looked up in the project's dictionary before it is sent.

A hospital's gate looks again and says no more than it must; whoever mistyped wants to hear what
there is.
"""

from __future__ import annotations

from difflib import get_close_matches

from contract.cohorts import Cohort, conditions
from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import NotFound, UsageError
from contract.work import Statistic, StatisticsWork

_NUMBERS = {
    "moments": "mean",
    "shape": "mean",
    "comoments": "covariance",
    "histogram": "histogram",
}
_SHOWN = 10
"""Levels, at most, that a message names."""


def variable_of(project: Project, name: str) -> Variable:
    """Return a variable of the dictionary; ``NotFound`` for none says which is called alike."""
    found = project.variable(name)
    if found is not None:
        return found
    known = {variable.name.casefold(): variable.name for variable in project.variables}
    near = get_close_matches(name.casefold(), known, 1)
    meant = f" (did you mean {known[near[0]]}?)" if near else ""
    raise NotFound(
        f"Variable {name} is not in the project's dictionary{meant}; "
        "'wardgate projects' shows what is."
    )


def check(work: StatisticsWork, project: Project) -> None:
    """Raise ``NotFound`` for a variable or level that isn't there, ``UsageError`` where what is
    asked of a variable isn't of its kind.
    """
    if work.fit is None:
        for statistic in work.ask:
            _check_statistic(statistic, project)
    if work.cohort is not None:
        for condition in conditions(work.cohort):
            _check_condition(condition, project)


def _check_statistic(statistic: Statistic, project: Project) -> None:
    for name in statistic.variables:
        variable = variable_of(project, name)
        what = _NUMBERS.get(statistic.kind)
        if what is not None and variable.kind == "category":
            raise UsageError(f"{name} is a category and has no {what}; ask for its levels.")
        if statistic.kind == "levels" and variable.kind == "number":
            raise UsageError(f"{name} is a number and has no levels; ask for its mean.")
        if statistic.kind == "histogram" and variable.bins is None:
            raise UsageError(f"The dictionary gives {name} no grid (bins) to be counted on.")
    if statistic.by is not None and variable_of(project, statistic.by).kind == "number":
        raise UsageError(
            f"{statistic.by} is a number, and groups are a category's levels; the project's "
            "dictionary can derive one of it by bins."
        )


def _check_condition(condition: Cohort, project: Project) -> None:
    name = condition.variable or ""
    variable = variable_of(project, name)
    if condition.missing is not None:
        return
    if variable.kind == "number" and condition.levels is not None:
        raise UsageError(f"{name} is a number; compare it: '{name} >= 65'.")
    if variable.kind == "category" and condition.levels is None:
        raise UsageError(f"{name} is a category; name its levels: '{name} = {variable.levels[0]}'.")
    for level in condition.levels or ():
        if level not in variable.levels:
            more = ", ..." if len(variable.levels) > _SHOWN else ""
            there = ", ".join(variable.levels[:_SHOWN]) + more
            raise NotFound(f"{name} has no level {level!r}; it has {there}.")
