"""A site's part of a model's step as words whose sum over sites is that of the whole.

The words are whether the part is beyond what can be summed (a flag), the number of subjects, that
of those who aren't in the analysis set, and each figure: of a linear model the sums of squares and
products of its columns and the outcome, worked out of the triangular factor; of others, and of what
ends a fit, the sums themselves.

Exactness: a figure is written as a whole number of units of 2^-140, of the columns that it is of
each divided by a power of two above its largest value in the dictionary's ranges. That rounds a
site's figure by 2^-141 of these, which is 4e-43, and a linear model's from the factor's 32 digits.
Adding is of whole numbers, so it rounds nothing, in whatever order; and the total is the same to
the bit wherever it is worked out. It is rounded to doubles once, a linear model's factor to
doubled ones.

A figure is six words of 48 bits, the last with what is left, so that those of ``SITES`` add up
within 63 bits. A part with a larger figure is flagged: the step turns back, as from one at which
the model isn't defined.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.models import Model
from contract.secure_aggregation.masking import Words
from contract.statistics import design, models, regression
from contract.statistics.cox import Checks
from contract.statistics.design import Column, Matrix
from contract.statistics.ending import Ending
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Sums, Vector
from contract.statistics.robust import Scores

UNIT_BITS, WORD_BITS, WORDS = 140, 48, 6
_COUNTS = 3
"""Words before the figures."""
SITES = 1 << 14
"""No sum is over more sites; so no word overflows."""
_LARGEST = 1 << (WORD_BITS * (WORDS - 1) + 47)
_FACTOR_BITS = 220
"""Of a factor's numbers, before they are multiplied."""
_DIGITS = 70
_NOTHING_LEFT = Decimal("1e-30")
"""Of a column's sum of squares, what rounding can leave where the columns before it leave none."""
Words64 = NDArray[np.uint64]


def exponents(model: Model, columns: Sequence[Column], project: Project) -> tuple[int, ...]:
    """Return the powers of two by which a model's columns are divided, and last its outcome."""
    instead = models.degrees_of(model, columns)
    # Polynomials that stand in for powers lie between -1 and 1.
    largest = [
        1.0 if place in instead else design.largest(column) for place, column in enumerate(columns)
    ]
    if model.family == "linear":
        outcome = project.variable(model.outcome)
        assert outcome is not None
        largest.append(_largest(outcome, model))
    return tuple(math.frexp(one)[1] if math.isfinite(one) else 0 for one in largest)


def _largest(outcome: Variable, model: Model) -> float:
    ends = np.array(design.bounds(outcome))
    if model.transform is not None:
        ends = design.FUNCTIONS[model.transform](ends)
    return float(np.abs(ends).max())


def length(model: Model, width: int, *, check: bool = False) -> int:
    """Return how many words a part of a model's step, or of what ends the fit, is."""
    if check:
        figures = width + 2 * _triangle(width) + 3 if model.is_checked else 0
        figures += _triangle(width) + 1 if model.robust is not None else 0
    elif model.family == "linear":
        figures = _triangle(width + 1) + 1
    else:
        figures = _triangle(width) + width + 4
    return _COUNTS + WORDS * figures


# ---- from a part to words ------------------------------------------------------------------------


def encode(part: Sums | Factor | Ending, powers: Sequence[int], missing: int = 0) -> Words64:
    """Return a site's part as words. ``powers`` is what ``exponents`` returned, ``missing`` how
    many aren't in the analysis set.
    """
    try:
        undefined = isinstance(part, Sums) and part.deviance >= regression.IMPOSSIBLE
        figures = [0] * _count(part) if undefined else _figures(part, powers)
    except _TooLarge:
        undefined, figures = True, [0] * _count(part)
    words = [int(undefined), part.n, missing]
    for whole in figures:
        last = WORDS - 1
        words += [whole >> (WORD_BITS * at) & ((1 << WORD_BITS) - 1) for at in range(last)]
        words.append(whole >> (WORD_BITS * last))
    return np.array([word % (1 << 64) for word in words], dtype=np.uint64)


class _TooLarge(Exception):
    """A figure is larger than what can be summed."""


def _count(part: Sums | Factor | Ending) -> int:
    if isinstance(part, Factor):
        return _triangle(len(part.r)) + 1
    if isinstance(part, Sums):
        return _triangle(len(part.score)) + len(part.score) + 4
    count = 0
    if part.checks is not None:
        count += len(part.checks.score) + 2 * _triangle(len(part.checks.score)) + 3
    if part.scores is not None:
        count += _triangle(len(part.scores.squares)) + 1
    return count


def _triangle(side: int) -> int:
    return side * (side + 1) // 2


def _figures(part: Sums | Factor | Ending, powers: Sequence[int]) -> list[int]:
    if isinstance(part, Factor):
        return [*_products(part, powers), _whole(part.constant, 0)]
    if isinstance(part, Sums):
        beside = (part.deviance, part.pearson, part.weight, part.constant)
        return [
            *_square(part.information, powers),
            *_wholes(part.score, powers),
            *(_whole(one, 0) for one in beside),
        ]
    found = []
    if part.checks is not None:
        checks = part.checks
        pairs = (checks.concordant, checks.discordant, checks.tied)
        found += _wholes(checks.score, powers)
        found += _square(checks.with_time, powers)
        found += _square(checks.with_square, powers)
        found += [_whole(one, 0) for one in pairs]
    if part.scores is not None:
        found += _square(part.scores.squares, _of_scores(len(part.scores.squares), powers))
        found.append(_whole(part.scores.sites, 0))
    return found


def _of_scores(width: int, powers: Sequence[int]) -> list[int]:
    """Return the powers of two of scores' columns; a linear model's are times the outcome's."""
    return [power + sum(powers[width:]) for power in powers[:width]]


def _wholes(values: Vector, powers: Sequence[int]) -> list[int]:
    return [_whole(one, power) for one, power in zip(values, powers, strict=True)]


def _square(square: Matrix, powers: Sequence[int]) -> list[int]:
    return [
        _whole(square[i, j], powers[i] + powers[j])
        for i in range(len(powers))
        for j in range(i, len(powers))
    ]


def _whole(value: float, power: int, bits: int = UNIT_BITS) -> int:
    """Return a number over 2^power in units of 2^-bits, rounded."""
    value = float(value)
    if not math.isfinite(value) or math.frexp(value)[1] - power + bits >= _LARGEST.bit_length():
        raise _TooLarge
    return round(math.ldexp(value, bits - power))


def _products(factor: Factor, powers: Sequence[int]) -> list[int]:
    """Return the sums of squares and products of the rows of which a factor is."""
    side = len(powers)
    columns = []
    for k in range(side):
        # The factor's last places are below its own units: what is lost is below the sums' units.
        high = [_whole(factor.r[i, k], powers[k], _FACTOR_BITS) for i in range(k + 1)]
        low = [_whole(factor.whole[1][i, k], powers[k], _FACTOR_BITS) for i in range(k + 1)]
        columns.append([one + other for one, other in zip(high, low, strict=True)])
    down = 2 * _FACTOR_BITS - UNIT_BITS
    found = []
    for i in range(side):
        for j in range(i, side):
            total = sum(a * b for a, b in zip(columns[i], columns[j], strict=False))
            whole = (total + (1 << (down - 1))) >> down
            if abs(whole) >= _LARGEST:
                raise _TooLarge
            found.append(whole)
    return found


# ---- from words to the merged part ---------------------------------------------------------------


def decode(total: Words, model: Model, width: int, powers: Sequence[int]) -> Sums | Factor:
    """Return the part of all sites together."""
    undefined, n, figures = _read(total, length(model, width))
    if model.family == "linear":
        if undefined:
            raise DocumentError("A linear model's sums lie too far outside the dictionary's range.")
        side = width + 1
        r, low = _cholesky(figures[: _triangle(side)], powers)
        return Factor(n, r, _number(figures[-1], 0), low)
    if undefined:
        return regression.impossible(n, width)
    triangle = _triangle(width)
    score = _scores(figures[triangle : triangle + width], powers)
    beside = [_number(one, 0) for one in figures[triangle + width :]]
    return Sums(n, _symmetric(figures[:triangle], powers), score, *beside)


def missing(total: Words) -> int:
    """Return how many of all sites' aren't in the analysis set, of a total that was decoded."""
    return int(total[_COUNTS - 1])


def decode_ending(total: Words, model: Model, width: int, powers: Sequence[int]) -> Ending:
    """Return what ends a fit of all sites together; ``DocumentError`` where it can't be summed."""
    undefined, n, figures = _read(total, length(model, width, check=True))
    if undefined:
        raise DocumentError("What ends a fit is larger than what can be summed.")
    checks = scores = None
    triangle = _triangle(width)
    if model.is_checked:
        end = width + 2 * triangle
        checks = Checks(
            n,
            _scores(figures[:width], powers),
            _symmetric(figures[width : width + triangle], powers),
            _symmetric(figures[width + triangle : end], powers),
            *(_number(one, 0) for one in figures[end : end + 3]),
        )
        figures = figures[end + 3 :]
    if model.robust is not None:
        own = _of_scores(width, powers)
        scores = Scores(n, _symmetric(figures[:-1], own), round(_number(figures[-1], 0)))
    return Ending(n, checks, scores)


def _read(total: Words, wanted: int) -> tuple[int, int, list[int]]:
    """Return for how many sites it is beyond what can be summed, of how many, and the figures."""
    if total.shape != (wanted,) or total.dtype != np.uint64:
        raise DocumentError("A sum of a model's step has another length than its model.")
    signed = [int(word) for word in total.view(np.int64)]
    if min(signed[:_COUNTS]) < 0:
        raise DocumentError("A sum of a model's step is of no subjects.")
    figures = [
        sum(word << (WORD_BITS * at) for at, word in enumerate(signed[start : start + WORDS]))
        for start in range(_COUNTS, wanted, WORDS)
    ]
    return signed[0], signed[1], figures


def _number(whole: int, power: int) -> float:
    """Return the double nearest to a figure, times 2^power."""
    return math.ldexp(whole / (1 << UNIT_BITS), power)


def _scores(figures: Sequence[int], powers: Sequence[int]) -> Vector:
    return np.array([_number(one, p) for one, p in zip(figures, powers, strict=True)])


def _symmetric(figures: Sequence[int], powers: Sequence[int]) -> Matrix:
    side = len(powers)
    square = np.zeros((side, side))
    at = 0
    for i in range(side):
        for j in range(i, side):
            square[i, j] = square[j, i] = _number(figures[at], powers[i] + powers[j])
            at += 1
    return square


def _cholesky(figures: Sequence[int], powers: Sequence[int]) -> tuple[Matrix, Matrix]:
    """Return the triangular factor of sums of squares and products, as doubled numbers.

    A column that follows from those before it gets a zero on the diagonal.
    """
    side = len(powers)
    high, low = np.zeros((side, side)), np.zeros((side, side))
    with decimal.localcontext() as context:
        context.prec, context.Emin, context.Emax = _DIGITS, -(10**6), 10**6
        unit = Decimal(1 << UNIT_BITS)
        sums = iter(figures)
        square = [[Decimal(next(sums)) / unit for _ in range(i, side)] for i in range(side)]
        rows: list[list[Decimal]] = []
        for i in range(side):
            # Row i of what the rows before leave of the sums, from its diagonal on.
            left = list(square[i])
            for row_at, row in enumerate(rows):
                factor = row[i - row_at]
                if factor:
                    left = [
                        one - factor * other
                        for one, other in zip(left, row[i - row_at :], strict=True)
                    ]
            if left[0] <= _NOTHING_LEFT * square[i][0]:
                rows.append([Decimal(0)] * (side - i))
                continue
            root = left[0].sqrt()
            rows.append([root, *(one / root for one in left[1:])])
        for i, row in enumerate(rows):
            for j, one in enumerate(row, i):
                near = float(one)
                high[i, j] = math.ldexp(near, powers[j])
                low[i, j] = math.ldexp(float(one - Decimal(near)), powers[j])
    return high, low
