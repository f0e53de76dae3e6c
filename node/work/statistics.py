"""The node's half of statistics: a site's part of each statistic, from a frozen release."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from contract import cohorts
from contract.dictionary import Variable
from contract.documents import Project
from contract.statistics.answers import EVERYBODY, Part, Summary, merge_summaries, summarise
from contract.work import Statistic, StatisticsWork
from node.catalog.columns import in_blocks
from node.catalog.declaring import Minimums
from node.catalog.membership import Membership
from node.catalog.rows import ReleaseRow
from node.gate import exact
from node.gate.exact import Exactly, Plan
from node.gate.policy import Policy
from node.home import NodeHome

Column = NDArray[np.float64] | NDArray[np.int64]
Columns = Mapping[str, Column]
Rows = NDArray[np.bool_] | slice
"""Which rows of a table: a mask, or all of them."""
AT_ONCE = 2
"""Columns of a large release that are worked on at once, each in memory only then."""


class ColumnCache:
    """Columns of releases that were asked for before, and who is in which cell and set. A release
    never changes, nor does this.

    Holds at most ``limit_bytes``; what was not asked for longest goes first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._columns: OrderedDict[tuple[str, str], Column] = OrderedDict()
        self._members: OrderedDict[tuple[str, Minimums], Membership] = OrderedDict()
        self._rows: OrderedDict[tuple[str, Minimums, str, tuple[int, ...]], Rows] = OrderedDict()
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
                    # One that takes up most of the room would drive out all others.
                    if keys[name] not in self._columns and 4 * column.nbytes <= self._limit:
                        self._columns[keys[name]] = column
                        self._held += column.nbytes
                self._shrink()
            found |= loaded
        return found

    def has_room(self, release: ReleaseRow, columns: int) -> bool:
        """Return whether so many of a release's columns stay here when they are loaded."""
        return columns * release.manifest.rows * 8 <= self._limit

    def membership(self, home: NodeHome, release: ReleaseRow, minimums: Minimums) -> Membership:
        """Return who is in which cell and set of a release."""
        from node.catalog.membership import load_membership

        key = (release.digest, minimums)
        with self._lock:
            found = self._members.get(key)
            if found is not None:
                self._members.move_to_end(key)
                return found
        found = load_membership(home.release(release.digest), release.manifest, minimums)
        with self._lock:
            if key not in self._members:
                self._members[key] = found
                self._held += found.nbytes
                self._shrink()
        return found

    def rows(
        self, release: str, minimums: Minimums, members: Membership, name: str, cells: Sequence[int]
    ) -> Rows:
        """Return which rows are in a set and in some cells."""
        key = (release, minimums, name, tuple(cells))
        with self._lock:
            known = self._rows.get(key)
            if known is not None:
                self._rows.move_to_end(key)
                return known
        wanted = np.zeros(len(members.declaration.cells) + 1, dtype=np.bool_)  # the last is for -1
        wanted[list(cells)] = True
        mask = members.sets[name]
        if not (wanted[:-1].all() and members.everywhere):
            mask = mask & wanted[members.cells]
        found: Rows = EVERYBODY if bool(mask.all()) else mask
        with self._lock:
            if key not in self._rows:
                self._rows[key] = found
                self._held += _nbytes(found)
                self._shrink()
        return found

    def _shrink(self) -> None:
        while self._held > self._limit and self._rows:
            self._held -= _nbytes(self._rows.popitem(last=False)[1])
        while self._held > self._limit and len(self._columns) > 1:
            self._held -= self._columns.popitem(last=False)[1].nbytes
        while self._held > self._limit and len(self._members) > 1:
            self._held -= self._members.popitem(last=False)[1].nbytes


def _nbytes(rows: Rows) -> int:
    return 0 if isinstance(rows, slice) else rows.nbytes


def work_out(
    home: NodeHome,
    release: ReleaseRow,
    project: Project,
    work: StatisticsWork,
    cache: ColumnCache,
    policy: Policy,
    plan: Plan,
) -> list[Part | None]:
    """Return this site's part of each statistic that is answered exactly, None for the others.

    ``plan`` says which these are (``node.gate.exact``).
    """
    if not any(plan):
        return [None] * len(work.ask)
    disclosure = policy.disclosure
    minimums = Minimums(
        disclosure.minimum_cohort, disclosure.minimum_cell, disclosure.largest_contribution
    )
    members = cache.membership(home, release, minimums)
    if release.manifest.declaration is None:
        # What an older release declares isn't in its manifest, so it is kept to here.
        found = exact.plan(work, project, members.declaration)
        plan = [
            None if one is None else (now or exact.WITHHELD)
            for one, now in zip(plan, found, strict=True)
        ]
    parts: list[Part | None] = [None] * len(work.ask)

    asked = [place for place, one in enumerate(plan) if one is not None]
    stay = cache.has_room(release, len({n for place in asked for n in work.ask[place].variables}))

    def take(places: Sequence[int]) -> None:
        names = {n for place in places for n in work.ask[place].variables}
        variables = [v for v in project.variables if v.name in names]
        exactly = _Exact(release.digest, minimums, members, project, cache, in_blocks=not stay)
        some = {place: (work.ask[place], one) for place in places if (one := plan[place])}
        if stay:
            exactly.add(some, cache.load(home, release, variables))
        else:
            for block in in_blocks(home.release(release.digest), release.manifest, variables):
                exactly.add(some, block)
        for place, (_, one) in some.items():
            parts[place] = exactly.part(place, one)

    if stay:
        take(asked)
        return parts
    # What of a large release is of the same columns is worked out together, the rest apart.
    apart: dict[frozenset[str], list[int]] = {}
    for place in asked:
        apart.setdefault(frozenset(work.ask[place].variables), []).append(place)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="columns") as pool:
        list(pool.map(take, apart.values()))
    return parts


class _Exact:
    """Exact parts of one release, whose rows may come in blocks."""

    def __init__(
        self,
        release: str,
        minimums: Minimums,
        members: Membership,
        project: Project,
        cache: ColumnCache,
        *,
        in_blocks: bool,
    ) -> None:
        self._in_blocks = in_blocks
        self._release = release
        self._minimums = minimums
        self._members = members
        self._project = project
        self._cache = cache
        self._start = 0
        self._found: dict[tuple[int, str], Summary] = {}
        self._rows: dict[tuple[str, tuple[int, ...]], slice | NDArray[np.uint8]] = {}
        """Kept for all blocks, also when the cache has no room for them: a bit for each row, for
        there may be as many as there are groups."""

    def add(self, asked: Mapping[int, tuple[Statistic, Exactly]], columns: Columns) -> None:
        """Take in the next rows for each statistic that is asked for at a place."""
        end = self._start + max((column.size for column in columns.values()), default=0)
        for place, (statistic, one) in asked.items():
            for level, cells in one.groups.items():
                rows = self._rows_of(one.set, tuple(cells), end)
                found = summarise(statistic, self._project, columns, rows)
                before = self._found.get((place, level))
                self._found[place, level] = (
                    found if before is None else merge_summaries(before, found)
                )
        self._start = end

    def _rows_of(self, name: str, cells: tuple[int, ...], end: int) -> Rows:
        """Return which of the next rows are in a set and in some cells."""
        start = self._start
        kept = self._rows.get((name, cells))
        if kept is None:
            rows = self._cache.rows(self._release, self._minimums, self._members, name, cells)
            if not self._in_blocks:
                return rows if isinstance(rows, slice) else rows[start:end]
            kept = rows if isinstance(rows, slice) else np.packbits(rows)
            self._rows[name, cells] = kept
        if isinstance(kept, slice):
            return kept
        bits = np.unpackbits(kept[start // 8 : -(-end // 8)])
        return bits[start % 8 :][: end - start].view(np.bool_)

    def part(self, place: int, one: Exactly) -> Part:
        """Return the part of the statistic at a place; withheld where nothing is declared."""
        if not one.groups:
            return Part({}, withheld=True)
        return Part(
            {
                level: self._told(self._found[place, level], cells)
                for level, cells in one.groups.items()
            }
        )

    def _told(self, found: Summary, cells: Sequence[int]) -> Summary:
        if self._members.declaration.sums_only:  # there is one set, and only it is told of
            missing = 0
        else:  # of whom no value is told are those of the cells' largest sets who aren't in this
            missing = int(self._members.largest[list(cells)].sum()) - found.n
        return found if found.missing == missing else dataclasses.replace(found, missing=missing)


def cohort_rows(
    home: NodeHome, release: ReleaseRow, project: Project, work: StatisticsWork, cache: ColumnCache
) -> tuple[dict[str, Column], NDArray[np.bool_] | None]:
    """Return the columns that a question is about, and who is in its cohort; None is everybody.

    For answers with noise: these are of all subjects, whatever the release declares.
    """
    names = {n for s in work.ask for n in s.variables} | {s.by for s in work.ask if s.by}
    if work.cohort is not None:
        names |= set(cohorts.variables(work.cohort))
    columns = cache.load(home, release, [v for v in project.variables if v.name in names])
    if work.cohort is None:
        return columns, None
    return columns, cohorts.mask(work.cohort, columns, project)
