"""Robust (sandwich) standard errors: sums of squares and products of rows' scores, or of sites'.

A row's score is its part of the likelihood's derivative at the fit's coefficients. With the
information A and the sum B of the scores' products, A^-1 B A^-1 is the coefficients' covariance
whether or not the model's variance is right. ``HC0`` is that; ``HC1`` is it times n / (n - p);
``site`` has sites' scores for rows', so that subjects of a site may be alike, times G / (G - 1)
for G sites, and of a linear model (n - 1) / (n - p) besides.

Sources: Huber 1967; White 1980; MacKinnon, White 1985 (HC1); Liang, Zeger 1986 (clusters); Lin, Wei
1989 (Cox models); Zeileis 2006, as R's ``sandwich`` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.models import Robust
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit
from contract.statistics.held import Places

LEAST_SITES = 3
_CLOSEST = 1e13
"""The largest condition of columns' covariance: errors then keep three digits. Unlike the fit's QR
they are made of sums of products, which lose twice as many."""


@dataclass(frozen=True)
class Scores:
    """Sums over ``n`` rows at ``sites`` sites of the products of scores, at a fit's coefficients.

    ``squares`` is of rows' scores, or of sites'.
    """

    n: int
    squares: Matrix
    sites: int

    def merge(self, other: Scores) -> Scores:
        """Return the sums over both parts' rows."""
        if self.squares.shape != other.squares.shape:
            raise DocumentError("Two parts of a model have different columns.")
        return Scores(self.n + other.n, self.squares + other.squares, self.sites + other.sites)

    def spread(self, to: Matrix) -> Scores:
        """Return these sums in the coefficients b of which ``to @ b`` are this site's."""
        return replace(self, squares=to.T @ self.squares @ to)


@dataclass(frozen=True)
class Cells:
    """Into which cells rows fall for some of the figures: ``figures`` is true of those, ``codes``
    a row's cell."""

    figures: NDArray[np.bool_]
    codes: NDArray[np.int64]


class _Shares:
    """Of the rows of a cell, each figure's sum of absolute values, and the largest."""

    def __init__(self, width: int) -> None:
        self._total, self._largest = np.zeros((width, width)), np.zeros((width, width))

    def take(self, sizes: Matrix) -> None:
        self._total += sizes.T @ sizes
        for place in range(sizes.shape[1]):
            here = (sizes[:, place, None] * sizes[:, place:]).max(axis=0)
            self._largest[place, place:] = np.maximum(self._largest[place, place:], here)

    def most(self, figures: NDArray[np.bool_]) -> float:
        told = figures & (self._largest > 0)
        return float((self._largest[told] / self._total[told]).max(initial=0.0))


def of_rows(
    blocks: Iterable[tuple[Matrix, Places]], width: int, cells: Sequence[Cells]
) -> tuple[Scores, float]:
    """Return the sums over rows' scores, and the largest share that a row has of any figure.

    Blocks are rows' scores, and which rows they are. A share is of the sum of the absolute values
    of the rows of one cell: so none is larger of a figure over several cells, or of what figures
    tell that differ by cells.
    """
    squares, n = np.zeros((width, width)), 0
    shares: list[dict[int, _Shares]] = [{} for _ in cells]
    for scores, rows in blocks:
        n += len(scores)
        squares += scores.T @ scores
        sizes = np.abs(scores)
        for one, found in zip(cells, shares, strict=True):
            codes = one.codes[rows]
            for code in np.unique(codes):
                found.setdefault(int(code), _Shares(width)).take(sizes[codes == code])
    most = max(
        (
            cell.most(one.figures)
            for one, found in zip(cells, shares, strict=True)
            for cell in found.values()
        ),
        default=0.0,
    )
    return Scores(n, squares, int(n > 0)), most


def of_site(n: int, score: Matrix) -> Scores:
    """Return the product of a site's score with itself."""
    return Scores(n, np.outer(score, score), int(n > 0))


def covariance(fit: Fit, scores: Scores, kind: Robust) -> Matrix:
    """Return the robust covariance of all coefficients of a fit, in the columns of ``scores``.

    ``DocumentError`` of fewer than three sites, where sites are what scores are of, and where too
    few digits would be left.
    """
    if not fit.dispersion > 0:
        raise DocumentError("The model explains the outcome perfectly: no error to be robust to.")
    p = len(fit.coefficients)
    factor = 1.0
    if kind == "HC1":
        factor = fit.n / (fit.n - p)
    elif kind == "site":
        if scores.sites < LEAST_SITES:
            raise DocumentError(f"Standard errors by site need {LEAST_SITES} sites with rows.")
        factor = scores.sites / (scores.sites - 1)
        if fit.family == "linear":
            factor *= (fit.n - 1) / (fit.n - p)
    bread = fit.covariance / fit.dispersion
    spread = np.sqrt(np.diag(bread))
    if not np.linalg.cond(bread / np.outer(spread, spread)) < _CLOSEST:
        raise DocumentError(
            "A number that hardly varies for its size leaves robust errors no digits: take it from "
            "its middle, as I(x - 50)."
        )
    return np.asarray(factor * bread @ scores.squares @ bread, dtype=np.float64)
