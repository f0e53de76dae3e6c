"""The node's half of statistics: a site's part of each statistic, from a frozen release."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project, StatisticsWork, Variable
from contract.errors import Refused
from contract.statistics.answers import Part, answer_locally
from node.catalog.rows import ReleaseRow
from node.home import NodeHome

Column = NDArray[np.float64] | NDArray[np.int64]


class ColumnCache:
    """Columns of releases that were asked for before. A release never changes, nor does this.

    Holds at most ``limit_bytes``; the column that was not asked for longest goes first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._columns: OrderedDict[tuple[str, str], Column] = OrderedDict()
        self._lock = threading.Lock()

    def load(
        self, home: NodeHome, release: ReleaseRow, variables: list[Variable]
    ) -> dict[str, Column]:
        """Return the variables' columns, reading only those that aren't held."""
        from node.catalog.columns import load_columns

        keys = {v.name: (release.digest, v.model_dump_json()) for v in variables}
        with self._lock:
            found = {n: self._columns[k] for n, k in keys.items() if k in self._columns}
            for name in found:
                self._columns.move_to_end(keys[name])
        missing = [v for v in variables if v.name not in found]
        if missing:
            loaded = load_columns(home.release(release.digest), release.manifest, missing)
            with self._lock:
                for name, column in loaded.items():
                    self._put(keys[name], column)
            found |= loaded
        return found

    def _put(self, key: tuple[str, str], column: Column) -> None:
        if key in self._columns or column.nbytes > self._limit:
            return
        self._columns[key] = column
        self._held += column.nbytes
        while self._held > self._limit:
            _, gone = self._columns.popitem(last=False)
            self._held -= gone.nbytes


def work_out(
    home: NodeHome,
    release: ReleaseRow,
    project: Project,
    work: StatisticsWork,
    cache: ColumnCache,
) -> list[Part]:
    """Return this site's part of each statistic, before disclosure control."""
    if work.cohort is not None or work.analysis is not None or work.lane == "dp":
        raise Refused("dp-lane", "This site gives no answers with noise yet.")
    names = {s.variable for s in work.ask} | {s.by for s in work.ask if s.by}
    variables = [v for v in project.variables if v.name in names]
    return answer_locally(work.ask, project, cache.load(home, release, variables))
