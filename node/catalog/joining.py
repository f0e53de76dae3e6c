"""By which strata counts of several variables of an analysis set are exact.

Rules (C) and (B) of ``docs/reference/disclosure.md``, for combinations of two and three variables.
A three is counted only if its pairs are exact, so that the work is that of the pairs and of few
threes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from node.catalog.combining import Analyses, Combining, Exact, Names, combinations, sets_with
from node.catalog.manifest import MAX_ANALYSES, MAX_JOINED, ExactKind, Joint, Strata
from node.catalog.multiplying import Multiplying
from node.catalog.pieces import Ints, counts_are_large

_MOST_STEPS = 10**9
"""Of looking for what bounds tell; when it would take more, they are taken to tell."""


class Joining(Combining):
    """What is exact of several variables of a release's analysis sets."""

    _steps = 0
    """Taken so far to look for what bounds tell."""

    def of(
        self, analyses: Analyses, observe: Callable[[int, int], None] | None = None
    ) -> dict[str, tuple[tuple[Joint, ...], tuple[Joint, ...]]]:
        """Return for each analysis set its ``joint`` and its ``products``.

        ``observe`` is told how many combinations are through, of how many.
        """
        sets = {name: names[:MAX_JOINED] for name, names in analyses.items()}
        joint: dict[Names, Exact] = {}
        products: dict[Names, Exact] = {}
        if self.rows.size:
            joint = self._counted(sets, observe or (lambda *_: None))
            products = Multiplying(self).of(sets, joint)
        return {
            name: (_of_set(joint, 1 << at), _of_set(products, 1 << at))
            for at, name in enumerate(sets)
        }

    def _counted(self, sets: Analyses, observe: Callable[[int, int], None]) -> dict[Names, Exact]:
        found: dict[Names, Exact] = {}
        twos, threes = (list(combinations(sets, size)) for size in (2, 3))
        number = len(twos) + 2 * len(threes)
        for at, names in enumerate(twos):
            observe(at, number)
            exact = self.settle(sets_with(names, sets), self._count_by(names))
            if exact is not None and not self._is_bound_by_strata(names, exact):
                found[names] = exact
        pairs = dict(found)
        for at, names in enumerate(threes, len(twos)):
            observe(at, number)
            exact = self.settle(_sets_of_pairs(names, pairs), self._count_by(names))
            if exact is not None:
                found[names] = exact
        for at, names in enumerate(threes, len(twos) + len(threes)):
            observe(at, number)
            while names not in found and self._is_bound_by_pairs(names, found):
                counted = [pair for pair in _latest_first(names, sets) if pair in found]
                coarser = self._coarser(counted, found)
                if coarser is not None:
                    found |= coarser
                    continue
                # Giving up one that what it means may tell wouldn't help by itself.
                last = next((pair for pair in counted if not self._has_empty(pair)), counted[0])
                found = {n: exact for n, exact in found.items() if not {*last} <= {*n}}
        return found

    def _coarser(
        self, pairs: Sequence[Names], found: Mapping[Names, Exact]
    ) -> dict[Names, Exact] | None:
        """Return one of some pairs by a stratum less; None where that tells no less."""
        for pair in pairs:
            by, sets = found[pair].by, found[pair].sets
            if set(by) <= {*pair} or any({*pair} < {*names} for names in found):
                continue
            one = Exact(sets, by[:-1])
            if not self._is_bound_by_strata(pair, one):
                return {pair: one}
        return None

    def _count_by(self, names: Names) -> Callable[[int], Strata | None]:
        """Return by which strata, given some sets, counts of combinations are exact: rule (C)."""
        coded = [self.places(name) for name in names if self._is_counted(name)]
        known = [one for one in coded if one is not None]

        def by_of(bits: int) -> Strata | None:
            table = self.table(known, bits) if len(known) == len(names) else None
            if table is None:
                return None
            counts, possible = table
            return self.finest(
                bits, lambda groups: counts_are_large(counts, possible, groups, self.least)
            )

        return by_of

    def _is_counted(self, name: str) -> bool:
        """Say whether a variable's own counts, if any are exact, are so in analysis sets too.

        Combinations add up to these. Where the variable's own set alone were told of, the
        difference would tell of those in no analysis set.
        """
        one = self.declared[name]
        kinds: set[ExactKind] = {"levels", "histogram"}
        if self.few(name) is not None:
            kinds |= {"moments", "shape"}
        return kinds & set(one.by) <= set(one.in_analyses)

    def _is_bound_by_strata(self, names: Names, exact: Exact) -> bool:
        """Say whether a pair's counts, with those of its variables by finer strata, tell how few
        have the pair in one of these: rule (B), a stratum being the third variable.
        """
        finer = set(exact.by)
        finer |= set.intersection(*(set(self._told_by(name)) for name in names))
        classes = self.pieces(2**MAX_ANALYSES - 1)
        inner = classes.groups(self.blocks.of(self._ordered(finer)), classes.mask)
        outer = classes.groups(self.blocks.of(exact.by), classes.mask & exact.sets)
        of = np.zeros(int(inner.max()) + 1, dtype=np.int64)
        of[inner] = np.where(classes.mask & exact.sets > 0, outer, -1)
        groups = [np.flatnonzero(of == group) for group in np.unique(of[of >= 0])]
        groups = [some for some in groups if some.size > 1]
        counts = self.dense(names, classes, inner) if groups else None
        return bool(groups) and (
            counts is None or any(self._tells(counts[some]) for some in groups)
        )

    def _is_bound_by_pairs(self, names: Names, found: Mapping[Names, Exact]) -> bool:
        """Say whether the counts of a three's pairs tell how few have all three: rule (B).

        Two pairs are enough where the third has a combination that nobody has: that may be known
        from what the variables mean.
        """
        exact = {p: found[p] for p in itertools.combinations(names, 2) if p in found}
        others = [pair for pair in itertools.combinations(names, 2) if pair not in found]
        sets = 2**MAX_ANALYSES - 1
        for one in exact.values():
            sets &= one.sets
        if len(others) > 1 or not sets or not all(map(self._has_empty, others)):
            return False
        # By a stratum that is one of its own variables a pair is counted anyway.
        strata = {stratum for pair, one in exact.items() for stratum in {*one.by} - {*pair}}
        classes = self.pieces(2**MAX_ANALYSES - 1)
        inner = classes.groups(self.blocks.of(self._ordered(strata)), classes.mask)
        counts = self.dense(names, classes, inner)
        inside = np.unique(inner[classes.mask & sets > 0])
        return counts is None or any(self._tells(counts[group]) for group in inside)

    def _has_empty(self, names: Names) -> bool:
        """Say whether nobody has some combination of places that somebody has."""
        classes = self.pieces(2**MAX_ANALYSES - 1)
        if any(self.places(name) is None for name in names):
            return False
        counts = self.dense(names, classes, np.zeros(classes.cell.size, dtype=np.int64))
        if counts is None:
            return True
        some = counts[0][counts[0].any(axis=1)][:, counts[0].any(axis=0)]
        return bool((some == 0).any())

    def _told_by(self, name: str) -> Strata:
        """Return by which strata how many have a variable's places is told."""
        by = self.declared[name].by
        kinds: tuple[ExactKind, ...] = ("levels", "histogram", "shape", "moments")
        return tuple({stratum for kind in kinds for stratum in by.get(kind, ())})

    def _ordered(self, strata: set[str]) -> Strata:
        return tuple(name for name in self.blocks.names if name in strata)

    def _tells(self, counts: Ints) -> bool:
        """Say whether the sums over each axis of three tell that a few have some combination.

        They don't if subjects could be moved, all sums staying as they are, so that nobody has it,
        or so that enough do. Tried are the simplest moves: along the edges of a box.
        """
        t, least = counts, self.least
        small = np.argwhere((t > 0) & (t < least))
        self._steps += len(small) * t.size
        if self._steps > _MOST_STEPS:
            return True
        for a, b, c in small.tolist():
            out = np.minimum(t[a][None], t[:, b][:, None])
            np.minimum(out, t[:, :, c][:, :, None], out=out)
            into = np.minimum(t, t[:, b, c][:, None, None])
            np.minimum(into, t[a, :, c][None, :, None], out=into)
            np.minimum(into, t[a, b][None, None], out=into)
            free = (out >= t[a, b, c]) | (into >= least - t[a, b, c])
            free[a], free[:, b], free[:, :, c] = False, False, False
            if not free.any():
                return True
        return False


def _sets_of_pairs(names: Names, found: Mapping[Names, Exact]) -> int:
    """Return the sets, as bits, in which all pairs of some variables are exact."""
    sets: int = 2**MAX_ANALYSES - 1
    for pair in itertools.combinations(names, 2):
        sets &= found[pair].sets if pair in found else 0
    return sets


def _latest_first(names: Names, sets: Analyses) -> list[Names]:
    """Return the pairs of three, first that of the two that are named last."""
    first = next(some for some in sets.values() if set(names) <= set(some))
    a, b, c = (name for name in first if name in names)
    return [tuple(sorted(pair)) for pair in ((b, c), (a, c), (a, b))]


def _of_set(found: Mapping[Names, Exact], bit: int) -> tuple[Joint, ...]:
    chosen = [(n, exact.by) for n, exact in found.items() if exact.sets & bit]
    return tuple(
        Joint(variables=n, by=by) for n, by in sorted(chosen, key=lambda one: (len(one[0]), one[0]))
    )
