"""One form for each question that is answered with noise, and what its noise costs.

Guarantee: the digest depends on the question and the dictionary alone, never on whom the cohort
selects or what they have. Two wordings of one question have one digest
(``contract.cohorts.NormalForm``), whoever asks, in whatever project or consortium.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from contract import cohorts
from contract.dictionary import Variable
from contract.documents import Project
from contract.work import Statistic, StatisticsWork

WITHIN = {"moments": (1, 1, 1), "shape": (1, 1, 1, 1, 1), "comoments": (1, 2, 5)}
"""In what proportion a statistic shares its epsilon among its counts and each of its sums."""
NEEDS = {"moments": 2, "shape": 3, "comoments": 3}
"""How many times the epsilon of a count these get in a question: they share it."""

LEAST = 1e-4
"""Epsilon of a statistic below which nothing is answered: it would tell nothing."""


def digest(release: str, work: StatisticsWork, statistic: Statistic, project: Project) -> str:
    """Return SHA-256 of one statistic's one form, over a release.

    The analysis set plays no part: with noise, whoever has a value counts.
    """
    names = {*statistic.variables, *([statistic.by] if statistic.by else [])}
    names |= set(cohorts.variables(work.cohort)) if work.cohort is not None else set()
    form = {
        "release": release,
        "cohort": cohorts.normal_form(work.cohort, project),
        "kind": statistic.kind,
        "variables": list(statistic.variables),
        "by": statistic.by,
        "dictionary": [_defined(v) for v in project.variables if v.name in names],
    }
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


def bounded(question: str, most: float) -> str:
    """Return another key for a question, for those who may not see more than epsilon ``most``."""
    return hashlib.sha256(f"{question} within {most!r}".encode()).hexdigest()


def _defined(variable: Variable) -> dict[str, Any]:
    """Return what a variable's values and grid depend on; its meaning and codes change nothing."""
    return variable.model_dump(
        mode="json",
        include={"name", "kind", "whole", "minimum", "maximum", "bins", "levels", "missing"},
    )


def shares(
    wish: float | None, most: float, statistics: Sequence[Statistic]
) -> dict[Statistic, float]:
    """Return the epsilon of each statistic of a question, by need, of what it may spend.

    What a statistic gets doesn't depend on which were answered before.
    """
    whole = most if wish is None else min(wish, most)
    needs = {statistic: NEEDS.get(statistic.kind, 1) for statistic in statistics}
    return {statistic: whole * need / sum(needs.values()) for statistic, need in needs.items()}


def within(statistic: Statistic, epsilon: float) -> list[float]:
    """Return the epsilon of a statistic's counts, and of each of its sums."""
    parts = WITHIN.get(statistic.kind, (1,))
    return [epsilon * part / sum(parts) for part in parts]
