"""Sites in memory: a consortium whose answers are worked out here, without gates or links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contract.dictionary import Variable
from contract.documents import Project
from contract.statistics.answers import answer_locally, merge_answers
from contract.statistics.summaries import Codes, Numbers
from contract.work import Statistic
from researcher.offers import ReleaseInfo
from researcher.statistics import PartAnswer, StatisticsAnswer
from researcher.study import Study
from tests.contract.world import World

Columns = Mapping[str, Numbers | Codes]


class LocalConsortium:
    """Stands where ``Consortium`` does: same call, the merged answer of the rows."""

    def __init__(self, variables: Sequence[Variable], sites: Sequence[Columns]) -> None:
        self._project = World().project().model_copy(update={"variables": tuple(variables)})
        self._sites = sites
        self.strata: tuple[str, ...] = ()
        self.asked: list[tuple[Statistic, ...]] = []
        """Every question, to see how many round trips an analysis takes."""

    def project(self, name: str) -> Project:
        """Return the project."""
        return self._project

    def statistics(self, project: str, ask: Sequence[Statistic], **terms: Any) -> StatisticsAnswer:
        """Return the merged answer."""
        self.asked.append(tuple(ask))
        there = {f"site-{i}": site for i, site in enumerate(self._sites)}
        names = tuple(name for name in there if name in (terms.get("sites") or there))
        merged = merge_answers(answer_locally(ask, self._project, there[name]) for name in names)
        return StatisticsAnswer(
            job="0" * 64,
            parts=tuple(
                PartAnswer(statistic, part, names, ())
                for statistic, part in zip(ask, merged, strict=True)
            ),
            answered=names,
            missing=(),
            receipts=(),
            project=self._project,
        )

    def releases(self, project: str) -> list[ReleaseInfo]:
        """Return a release of each site, with the strata that it was told."""
        return [
            ReleaseInfo(f"site-{i}", "table", f"{i:064x}", (project,), "table", 100, (), {},
                        self.strata)
            for i in range(len(self._sites))
        ]  # fmt: skip

    def study(self, **terms: Any) -> Study:
        """Return a study of it."""
        return Study(self, self._project.name, **terms)  # type: ignore[arg-type]


def split(columns: Columns, sites: int, seed: int = 1) -> list[dict[str, Numbers | Codes]]:
    """Return a table's rows dealt out to sites at random."""
    size = len(next(iter(columns.values())))
    owner = np.random.default_rng(seed).integers(0, sites, size)
    return [{n: c[owner == site] for n, c in columns.items()} for site in range(sites)]
