"""What a new release may declare beside the earlier releases of its table.

Rule (H), histories: sort the subjects of all these releases by what answers can tell of each. That
is, for every release, the cell and the sets that the subject is in; and for every two releases, in
which columns the subject's values differ. Each class holds at least k subjects, or nothing is exact
in the new release. A kind of statistic is exact in it only if rules (C) and (D) hold in each class
by itself, by the values of every release that has the kind too. A number has one grid in all of
them. Where one has derived columns, all have the same columns, derived in the same way: what
columns of one kin tell together is looked at within a release alone. What is derived of
images, consents and links is looked at beside releases of other tables too.

Guarantee: any set of exact answers of all these releases is a function of figures each of which is
an aggregate over at least k subjects: every answer is a sum over whole classes. So who came, left
or was corrected is told of k at once or not at all, however many releases are subtracted.
Assumptions: earlier releases were made under this rule too, or what they tell together is known
already; a subject keeps its pseudonym. Source: as for one release, docs/reference/disclosure.md.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contract.errors import DataError
from node.catalog.declaring import Minimums
from node.catalog.freezing import Plan
from node.catalog.manifest import (
    MEMBERSHIP,
    SUBJECT,
    Declaration,
    DeclaredVariable,
    ExactKind,
    ReleaseManifest,
    Strata,
)
from node.catalog.membership import ANALYSIS, CELL, VARIABLE, held_of, load_membership
from node.catalog.pieces import Pieces, of_variable
from node.catalog.rows import ReleaseRow
from node.catalog.strata import Blocks, Categories, Held
from node.home import NodeHome

if TYPE_CHECKING:
    import polars as pl

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
NOWHERE = -2
"""In place of a cell, of whoever is in no set of a release."""


@dataclass(frozen=True)
class Asked:
    """A release as exact answers see it, row by row."""

    declaration: Declaration
    subjects: Sequence[str]
    cells: Ints
    sets: Mapping[str, Bools]
    held: Held
    derived: Mapping[str, str] = field(default_factory=dict)
    """Of each derived column how it was made."""

    def told(self, variable: str) -> Bools:
        """Return of whom answers may tell a variable's value."""
        names = [VARIABLE + variable]
        names += [ANALYSIS + a.name for a in self.declaration.analyses if variable in a.variables]
        some = [self.sets[name] for name in names if name in self.sets]
        return self._in_any(some)

    @property
    def anywhere(self) -> Bools:
        """Return who is in any set at all."""
        return self._in_any(list(self.sets.values()))

    def _in_any(self, sets: Sequence[Bools]) -> Bools:
        found: Bools = np.zeros(len(self.subjects), dtype=np.bool_)
        for inside in sets:
            found |= inside
        return found & (self.cells >= 0)


@dataclass(frozen=True)
class Apart:
    """What is left of a declaration beside earlier releases, and what stood in the way."""

    declaration: Declaration
    releases: int
    """How many earlier ones of the table there are."""
    small: int
    """How many classes are too small; 0 when something is exact."""
    lost: tuple[str, ...]
    """Kinds that are exact no more, as "levels of ill"."""
    derived: bool = False
    """Whether nothing is exact since columns are derived in another way than before."""
    elsewhere: tuple[str, ...] = ()
    """Columns that aren't exact since a release of another table tells of them too."""


def beside_earlier(
    home: NodeHome,
    plan: Plan,
    releases: Sequence[ReleaseRow],
    share: float,
    common: Collection[str] = (),
) -> tuple[Plan, Apart]:
    """Return a planned release with what it may declare beside the earlier ones of its table.

    Revoked ones count, for they may have answered. ``share``: the largest that one subject may
    have of a total. ``common``: columns that other tables can have too, since no table is what they
    are derived of. ``DataError`` when a release can't be read.
    """
    manifest = plan.manifest
    assert manifest.declaration is not None
    asked = [
        row
        for row in releases
        if row.manifest.table is not None
        and row.digest != manifest.digest
        and row.manifest.rows == row.manifest.subjects
        and (row.manifest.declaration is None or row.manifest.declaration.cells)
    ]
    new = of_plan(plan)
    own = [of_release(home, row) for row in asked if row.manifest.table == manifest.table]
    found = apart(new, own, share)
    alike = {(name, digest) for name, digest in manifest.derived.items() if name in common}
    others = [
        of_release(home, row)
        for row in asked
        if row.manifest.table != manifest.table and alike & set(row.manifest.derived.items())
    ]
    found = beside_other_tables(found, new, others, common, share)
    changed = manifest.model_copy(update={"declaration": found.declaration})
    return replace(plan, manifest=changed), found


def beside_other_tables(
    found: Apart, new: Asked, others: Sequence[Asked], common: Collection[str], share: float
) -> Apart:
    """Return what a release may declare beside those of other tables that tell of the same.

    Each column of ``common`` is looked at by itself, as beside releases of one table. If one loses
    anything, none of ``common`` is exact.
    """
    told = [name for name in new.derived if name in common and _tells(new, name)]
    for name in told:
        theirs = [
            one for one in others
            if one.derived.get(name) == new.derived[name] and _tells(one, name)
        ]  # fmt: skip
        alone = apart(_only(new, name), [_only(one, name) for one in theirs], share)
        if alone.small or alone.lost:
            break
    else:
        return found
    declaration = found.declaration
    if any(stratum.variable in common for stratum in declaration.strata):
        return replace(found, declaration=_nothing(declaration), elsewhere=tuple(told))
    without = declaration.model_copy(
        update={
            "variables": tuple(
                DeclaredVariable(name=v.name) if v.name in common else v
                for v in declaration.variables
            ),
            "analyses": tuple(
                a.model_copy(
                    update={
                        "joint": tuple(j for j in a.joint if not {*j.variables} & {*common}),
                        "products": tuple(p for p in a.products if not {*p.variables} & {*common}),
                    }
                )
                for a in declaration.analyses
            ),
        }
    )
    return replace(found, declaration=without, elsewhere=tuple(told))


def _tells(release: Asked, name: str) -> bool:
    """Say whether anything of a column is exact: its own answers, or cells by it."""
    declared = release.declaration.variable(name)
    by_it = any(stratum.variable == name for stratum in release.declaration.strata)
    return bool(release.declaration.cells) and (by_it or bool(declared and declared.by))


def _only(release: Asked, name: str) -> Asked:
    """Return a release as it is asked of one column."""
    analyses = tuple(a for a in release.declaration.analyses if name in a.variables)
    variables = tuple(v for v in release.declaration.variables if v.name == name)
    sets = {VARIABLE + name, *(ANALYSIS + a.name for a in analyses)}
    return Asked(
        release.declaration.model_copy(update={"variables": variables, "analyses": analyses}),
        release.subjects,
        release.cells,
        {key: inside for key, inside in release.sets.items() if key in sets},
        {name: release.held[name]},
    )


def of_release(home: NodeHome, row: ReleaseRow) -> Asked:
    """Read a release; one of an older format as it is asked with the least minimums."""
    import polars as pl

    manifest, folder = row.manifest, home.release(row.digest)
    members = load_membership(folder, manifest, Minimums(1, 1, 1.0))
    try:
        frame = pl.read_parquet(folder / str(manifest.table_path))
    except (OSError, pl.exceptions.PolarsError):
        raise DataError(f"The table of release {row.name} can't be read.") from None
    return _asked(
        members.declaration, frame, members.cells.astype(np.int64), members.sets, manifest
    )


def of_plan(plan: Plan) -> Asked:
    """Return a planned release."""
    import polars as pl

    manifest = plan.manifest
    assert manifest.declaration is not None
    frame = pl.read_parquet(io.BytesIO(plan.parts[str(manifest.table_path)]))
    members = pl.read_parquet(io.BytesIO(plan.parts[MEMBERSHIP]))
    sets = {n: members[n].to_numpy() for n in members.columns if n.startswith((VARIABLE, ANALYSIS))}
    cells = members[CELL].to_numpy().astype(np.int64)
    return _asked(manifest.declaration, frame, cells, sets, manifest)


def _asked(
    declaration: Declaration,
    frame: pl.DataFrame,
    cells: Ints,
    sets: Mapping[str, Bools],
    manifest: ReleaseManifest,
) -> Asked:
    held = held_of(frame, manifest.columns)
    subjects = frame[SUBJECT].to_list()
    return Asked(declaration, subjects, cells, sets, held, manifest.derived)


def apart(new: Asked, earlier: Sequence[Asked], share: float) -> Apart:
    """Return what a release may declare beside earlier ones."""
    releases = [new, *earlier]
    columns = {(frozenset(r.held), frozenset(r.derived.items())) for r in releases}
    if len(columns) > 1 and any(r.derived for r in releases):
        return Apart(_nothing(new.declaration), len(earlier), 0, (), derived=True)
    classes, sizes = _classes(releases)
    if not earlier or not sizes.size:
        return Apart(new.declaration, len(earlier), 0, ())
    small = int(np.count_nonzero(sizes < new.declaration.minimum_cohort))
    if small:
        return Apart(_nothing(new.declaration), len(earlier), small, ())
    moved = {v.name for v in new.declaration.variables if _has_another_grid(v, earlier)}
    own = [_is_own(release, of) for release, of in zip(releases, classes, strict=True)]
    if all(own) and not moved:
        return Apart(new.declaration, len(earlier), 0, ())  # nothing is cut finer than by itself
    variables, lost = [], []
    for variable in new.declaration.variables:
        kept = set(variable.by) - ({"histogram"} if variable.name in moved else set())
        for release, of in zip(releases, classes, strict=True):
            theirs = release.declaration.variable(variable.name)
            if theirs is not None and variable.name in release.held:
                kept -= set(theirs.by) - _passing(release, of, variable, new.declaration, share)
        lost += [f"{kind} of {variable.name}" for kind in variable.by if kind not in kept]
        by = {kind: strata for kind, strata in variable.by.items() if kind in kept}
        inside = tuple(kind for kind in variable.in_analyses if kind in kept)
        variables.append(variable.model_copy(update={"by": by, "in_analyses": inside}))
    analyses = tuple(
        a.model_copy(update={"joint": (), "products": ()}) for a in new.declaration.analyses
    )
    lost += [f"what is of several variables in {a.name}" for a in new.declaration.analyses
             if a.joint or a.products]  # fmt: skip
    declaration = new.declaration.model_copy(
        update={"variables": tuple(variables), "analyses": analyses}
    )
    return Apart(declaration, len(earlier), 0, tuple(lost))


def _has_another_grid(variable: DeclaredVariable, earlier: Sequence[Asked]) -> bool:
    """Say whether an earlier release counts a number on another grid."""
    found = [release.declaration.variable(variable.name) for release in earlier]
    grids = [one.grid for one in found if one is not None and one.grid is not None]
    return variable.grid is not None and any(grid != variable.grid for grid in grids)


def _nothing(declaration: Declaration) -> Declaration:
    return declaration.model_copy(
        update={
            "cells": (),
            "variables": tuple(DeclaredVariable(name=v.name) for v in declaration.variables),
            "analyses": tuple(
                a.model_copy(update={"by": None, "joint": (), "products": ()})
                for a in declaration.analyses
            ),
        }
    )


# ---- histories -----------------------------------------------------------------------------------


def _classes(releases: Sequence[Asked]) -> tuple[list[Ints], Ints]:
    """Return the class of each row of each release, -1 of whoever is nowhere; and their sizes."""
    union = sorted(set().union(*(release.subjects for release in releases)))
    place = {subject: at for at, subject in enumerate(union)}
    rows = [np.array([place[s] for s in r.subjects], dtype=np.int64) for r in releases]
    keys: list[Ints] = []
    present: list[Bools] = []
    for release, at in zip(releases, rows, strict=True):
        inside = np.zeros(len(union), dtype=np.bool_)
        inside[at] = release.anywhere
        present.append(inside)
        for column in (release.cells, *(held.astype(np.int64) for held in release.sets.values())):
            aligned = np.full(len(union), NOWHERE, dtype=np.int64)
            aligned[at] = column
            keys.append(np.where(inside, aligned, NOWHERE))
    for one, other in itertools.combinations(range(len(releases)), 2):
        both = present[one] & present[other]
        for differs in _differing(releases[one], rows[one], releases[other], rows[other], place):
            keys.append((differs & both).astype(np.int64))
    anywhere = np.logical_or.reduce(present)
    found = np.full(len(union), -1, dtype=np.int64)
    numbers = _numbered([key[anywhere] for key in keys])
    found[anywhere] = numbers
    of = [np.where(r.anywhere, found[at], -1) for r, at in zip(releases, rows, strict=True)]
    return of, np.bincount(numbers)


def _numbered(keys: Sequence[Ints]) -> Ints:
    """Return the number of each row's combination of keys, from 0 without gaps."""
    numbers = np.zeros(keys[0].size, dtype=np.int64)
    for key in keys:  # one after the other, so that their product stays a number
        low, high = int(key.min(initial=0)), int(key.max(initial=0))
        if low < high:
            both = numbers * (high - low + 1) + (key - low)
            numbers = np.unique(both, return_inverse=True)[1].reshape(-1)
    return numbers


def _differing(
    one: Asked, rows: Ints, other: Asked, others: Ints, place: Mapping[str, int]
) -> Iterator[Bools]:
    """Yield for each column of both releases of whom the values differ."""
    for name in sorted(set(one.held) & set(other.held)):
        left, right = one.held[name], other.held[name]
        if isinstance(left, Categories) and isinstance(right, Categories):
            levels = {text: code for code, text in enumerate(sorted({*left.levels, *right.levels}))}
            pair = [_coded(c, levels) for c in (left, right)]
        elif isinstance(left, Categories) or isinstance(right, Categories):
            continue  # no statistic is of both
        else:
            pair = [left, right]
        aligned = []
        for column, at in zip(pair, (rows, others), strict=True):
            whole = np.full(len(place), np.nan)
            whole[at] = column
            aligned.append(whole)
        a, b = aligned
        yield ~((a == b) | (np.isnan(a) & np.isnan(b)))


def _coded(column: Categories, levels: Mapping[str, int]) -> NDArray[np.float64]:
    to = np.array([*(levels[text] for text in column.levels), np.nan])
    return np.asarray(to[column.codes])  # -1 is the last: missing


def _is_own(release: Asked, classes: Ints) -> bool:
    """Say whether classes cut a release no finer than its own cells and sets."""
    inside = classes >= 0
    keys = [release.cells, *(held.astype(np.int64) for held in release.sets.values())]
    own = _numbered([key[inside] for key in keys])
    return bool(own.max(initial=0) == _numbered([classes[inside]]).max(initial=0))


class _Each(Blocks):
    """Every class by itself: nothing is put together."""

    def __init__(self, number: int) -> None:
        super().__init__((), [()] * number)

    def choices(self) -> list[Strata]:
        return [()]

    def of(self, by: Strata) -> Ints:
        return np.arange(self.cells)


def _passing(
    release: Asked, classes: Ints, variable: DeclaredVariable, new: Declaration, share: float
) -> set[ExactKind]:
    """Return the kinds of a variable that pass in each class by itself."""
    told, column = release.told(variable.name), release.held[variable.name]
    used, of = np.unique(classes[told], return_inverse=True)
    cells = np.zeros(classes.size, dtype=np.int32)
    cells[told] = of.reshape(-1)
    pieces = Pieces(told, np.zeros(classes.size, dtype=np.int64), cells, used.size)
    levels = column.levels if isinstance(column, Categories) else ()
    possible = np.ones((used.size, len(levels)), dtype=np.bool_)
    for place, stratum in enumerate(release.declaration.strata):
        if stratum.variable == variable.name and stratum.levels:
            cell_of = np.zeros(used.size, dtype=np.int64)
            cell_of[cells[told]] = release.cells[told]
            for one, cell in enumerate(cell_of.tolist()):
                values = {c[place] for c in release.declaration.cells[cell]}
                here = {stratum.levels[v] for v in values if v < len(stratum.levels)}
                possible[one] = [level in here for level in levels]
    found = of_variable(
        *(variable.name, column, pieces, _Each(used.size), possible),
        *(variable.grid, new.minimum_cell, share),
    )
    return set(found.by)
