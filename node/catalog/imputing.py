"""Multiple imputation by chained equations, at the site, when a release is made.

One variable after the other is drawn anew from what the others tell, until draws don't depend on
where they began (van Buuren 2018, *Flexible Imputation of Missing Data*, 2nd ed., 4.5):

- a number by predictive mean matching (3.4, type 1): a Bayesian linear regression's draw says whose
  observed value is taken, one of the five nearest. So only values that occur are ever drawn; where
  those who lack a value would have had others than anybody with one, that biases;
- a category by multinomial logistic regression of a bootstrap sample (3.6), whose probabilities say
  which level is drawn.

It assumes that values are missing at random given the variables used. Imputed values tell of other
subjects, so they have no noise, and exact answers to them are sums over enough subjects
(``docs/reference/disclosure.md``). The draws follow from the table, pseudonyms included, which
nobody outside knows: the same table has the same imputations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.deriving import Coded, Column
from contract.errors import DataError

CYCLES = 10
DONORS = 5
MAX_LEVELS = 50
"""Of a category that takes part; one of more levels would need as many coefficients."""
_RIDGE = 1e-5
"""Of the variance of each predictor: regressions of predictors that are alike stay solvable."""
_PENALTY = 0.1
"""Of squared coefficients; a tenth of what one subject's information is at most."""
_MOST_NEWTON = 300
"""Coefficients of one model, above which Newton's matrix isn't made."""
_NEWTON_STEPS, _BOUND_STEPS = 12, 100
_MOST_STEP = 5.0
Numbers = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = NDArray[Any]
"""Numbers, or codes of levels."""


def impute(
    columns: Mapping[str, Column],
    subjects: Sequence[str],
    imputations: int,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Column]]:
    """Return so many completed copies of columns that have a row for each of ``subjects``.

    ``observe`` is told how many are done. ``DataError`` where a column has fewer than two values,
    or a category too many levels.
    """
    for name, column in columns.items():
        if len(set(_present(column)[~_missing(column)].tolist())) < 2:
            raise DataError(f"Column {name} has no two values to impute from or by.")
        if isinstance(column, Coded) and len(column.levels) > MAX_LEVELS:
            raise DataError(f"Column {name} has more than {MAX_LEVELS} levels.")
    seed = _seed(columns, subjects)
    found = []
    for number in range(1, imputations + 1):
        observe(number - 1, imputations)
        found.append(_chain(columns, np.random.default_rng([number, *seed])))
    return found


def _seed(columns: Mapping[str, Column], subjects: Sequence[str]) -> list[int]:
    digest = hashlib.sha256(b"imputation")
    for subject in subjects:
        digest.update(subject.encode() + b"\0")
    for name in sorted(columns):
        column = columns[name]
        levels = "\0".join(column.levels) if isinstance(column, Coded) else ""
        digest.update(f"\0{name}\0{levels}\0".encode() + _present(column).tobytes())
    return list(np.frombuffer(digest.digest(), dtype="<u4").tolist())


def _present(column: Column) -> Values:
    return column.codes if isinstance(column, Coded) else column


def _missing(column: Column) -> NDArray[np.bool_]:
    return column.codes < 0 if isinstance(column, Coded) else np.isnan(column)


def _chain(columns: Mapping[str, Column], rng: np.random.Generator) -> dict[str, Column]:
    """Return one completed copy: begun with values drawn at random, then cycle after cycle."""
    missing = {name: _missing(column) for name, column in columns.items()}
    held: dict[str, Values] = {n: np.array(_present(c)) for n, c in columns.items()}
    wanting = sorted((int(gone.sum()), name) for name, gone in missing.items() if gone.any())
    for number, name in wanting:
        held[name][missing[name]] = rng.choice(held[name][~missing[name]], number)
    for _ in range(CYCLES if len(wanting) > 1 else min(len(wanting), 1)):
        for _, name in wanting:
            others = _design(columns, held, name)
            gone, column = missing[name], columns[name]
            if isinstance(column, Coded):
                width = len(column.levels)
                held[name][gone] = _levels(others, held[name], gone, width, rng)
            else:
                held[name][gone] = _matched(others, held[name], gone, rng)
    return {
        name: Coded(held[name].astype(np.int64), column.levels)
        if isinstance(column, Coded)
        else held[name].astype(np.float64)
        for name, column in columns.items()
    }


def _design(columns: Mapping[str, Column], held: Mapping[str, Values], but: str) -> Numbers:
    """Return the predictors of one variable: an intercept, numbers to one scale, indicators."""
    rows = len(held[but])
    found: list[Numbers] = [np.ones(rows)]
    for name, column in columns.items():
        if name == but:
            continue
        if isinstance(column, Coded):
            common = np.bincount(held[name].astype(np.int64), minlength=len(column.levels))
            first = int(common.argmax())
            found += [
                (held[name] == level).astype(np.float64)
                for level in range(len(column.levels))
                if level != first and common[level]
            ]
            continue
        values = held[name].astype(np.float64)
        spread = values.std()
        found.append((values - values.mean()) / (spread or 1.0))
    return np.column_stack(found)


def _matched(
    design: Numbers, values: Values, gone: NDArray[np.bool_], rng: np.random.Generator
) -> Numbers:
    """Return observed values of those whose prediction is near: predictive mean matching."""
    x, y = design[~gone], values[~gone].astype(np.float64)
    gram = x.T @ x
    inverse = np.linalg.inv(gram + np.diag(_RIDGE * (np.diag(gram) + 1)))
    fitted = inverse @ (x.T @ y)
    left = y - x @ fitted
    degrees = max(y.size - x.shape[1], 1)
    scale = np.sqrt(float(left @ left) / rng.chisquare(degrees))
    root = np.linalg.cholesky((inverse + inverse.T) / 2)
    drawn = fitted + scale * (root @ rng.standard_normal(x.shape[1]))
    donors, wanted = x @ fitted, design[gone] @ drawn
    return y[_near(donors, wanted, rng)]


def _near(donors: Numbers, wanted: Numbers, rng: np.random.Generator) -> Ints:
    """Return, for each wanted prediction, one of the donors with the nearest, at random."""
    order = np.argsort(donors, kind="stable")
    ordered = donors[order]
    number = min(DONORS, ordered.size)
    first = np.searchsorted(ordered, wanted) - number
    places = np.clip(first[:, None] + np.arange(2 * number), 0, ordered.size - 1)
    apart = np.abs(ordered[places] - wanted[:, None])
    # A place that was clipped stands there twice; only its first counts.
    apart[:, 1:][places[:, 1:] == places[:, :-1]] = np.inf
    nearest = np.argpartition(apart, number - 1, axis=1)[:, :number]
    chosen = nearest[np.arange(wanted.size), rng.integers(0, number, wanted.size)]
    found: Ints = order[places[np.arange(wanted.size), chosen]]
    return found


def _levels(
    design: Numbers,
    codes: Values,
    gone: NDArray[np.bool_],
    levels: int,
    rng: np.random.Generator,
) -> Ints:
    """Return levels drawn by their probabilities, of a model of a bootstrap sample."""
    observed = np.flatnonzero(~gone)
    sample = rng.choice(observed, observed.size)
    coefficients = _multinomial(design[sample], codes[sample].astype(np.int64), levels)
    shares = _softmax(design[gone] @ coefficients)
    places = rng.random(len(shares))[:, None] > np.cumsum(shares, axis=1)
    found: Ints = np.minimum(places.sum(axis=1), levels - 1).astype(np.int64)
    return found


def _multinomial(x: Numbers, codes: Ints, levels: int) -> Numbers:
    """Return a multinomial logistic regression's coefficients: those of the first level are 0.

    A weak penalty keeps them finite where a level is told from the others completely, or is not in
    the sample: it then gets next to no probability. Newton's steps; of many coefficients steps by
    Böhning's bound of the Hessian (1992), which needs the predictors' matrix alone.
    """
    rows, width = x.shape
    wanted = np.zeros((rows, levels - 1))
    later = np.flatnonzero(codes > 0)
    wanted[later, codes[later] - 1] = 1
    found = np.zeros((width, levels - 1))
    is_small = found.size <= _MOST_NEWTON
    bound = np.linalg.inv(0.5 * (x.T @ x) + _PENALTY * np.eye(width))
    for _ in range(_NEWTON_STEPS if is_small else _BOUND_STEPS):
        shares = _softmax(np.column_stack([np.zeros(rows), x @ found]))[:, 1:]
        gradient = x.T @ (wanted - shares) - _PENALTY * found
        if is_small:
            step = np.linalg.solve(_hessian(x, shares), gradient.T.reshape(-1))
            step = step.reshape(levels - 1, width).T
            step *= min(1.0, _MOST_STEP / max(float(np.abs(step).max()), 1e-300))
        else:
            step = bound @ gradient
        found += step
        if np.abs(step).max() < 1e-4:
            break
    return np.column_stack([np.zeros(width), found])


def _hessian(x: Numbers, shares: Numbers) -> Numbers:
    """Return minus the penalised log-likelihood's second derivatives, level by level."""
    width, levels = x.shape[1], shares.shape[1]
    found = _PENALTY * np.eye(width * levels)
    for k in range(levels):
        for m in range(k, levels):
            weights = shares[:, k] * ((k == m) - shares[:, m])
            block = (x * weights[:, None]).T @ x
            found[k * width : (k + 1) * width, m * width : (m + 1) * width] += block
            if m > k:
                found[m * width : (m + 1) * width, k * width : (k + 1) * width] += block
    return found


def _softmax(scores: Numbers) -> Numbers:
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Numbers = found / found.sum(axis=1, keepdims=True)
    return shares
