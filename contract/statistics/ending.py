"""What ends a model's fit, at its coefficients: a Cox model's checks, scores for robust errors.

It is asked once, in place of the next step's sums, and no step follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.models import Model
from contract.statistics import least_squares, models, regression, robust
from contract.statistics.cox import Checks, cox_checks, cox_scores
from contract.statistics.design import Column, Matrix, bounds
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting
from contract.statistics.held import Held, Places
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Vector
from contract.statistics.robust import Cells, Scores
from contract.terms import Value

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Ending:
    """A site's part, or all sites': ``checks`` of a Cox model, ``scores`` where errors are robust.

    Of sites' own fits, ``scores`` is of one.
    """

    n: int
    checks: Checks | None = None
    scores: Scores | None = None


def ending(
    model: Model,
    columns: Sequence[Column],
    held: Held,
    beta: Vector,
    observe: Callable[[Vector], None] = lambda _: None,
    observe_share: Callable[[float], None] = lambda _: None,
    *,
    by_cells: bool = True,
) -> Ending:
    """Return a site's part. ``DocumentError`` where the fit of such a model has no ending.

    ``observe`` is told what rows weigh in the scores' products, of all but Cox models;
    ``observe_share`` the largest share that a row has of any figure of them, with ``by_cells`` over
    the rows of one combination of categories by which figures differ.
    """
    if not model.has_ending:
        raise NO_ENDING
    if models.must_turn(model, columns, beta):
        raise regression.UNDEFINED
    checks = None
    if model.is_checked:
        rows = models.cox_rows(model, columns, held)
        checks = cox_checks(rows, beta, model.ties, model.time_scale)
    if model.robust is None:
        assert checks is not None
        return Ending(checks.n, checks)
    if model.robust == "site":
        scores = _of_site(model, columns, held, beta)
    else:
        width = len(columns)
        one = Cells(np.ones((width, width), np.bool_), np.zeros(len(held), np.int64))
        cells = _cells(columns, held) if by_cells else [one]
        blocks = _scores(model, columns, held, beta, observe)
        scores, share = robust.of_rows(blocks, width, cells)
        observe_share(share)
    return Ending(scores.n, checks, scores)


def _of_site(model: Model, columns: Sequence[Column], held: Held, beta: Vector) -> Scores:
    part = models.part_of(model, columns, held, beta)
    score = least_squares.score(part, beta) if isinstance(part, Factor) else part.score
    return robust.of_site(part.n, score)


def _scores(
    model: Model,
    columns: Sequence[Column],
    held: Held,
    beta: Vector,
    observe: Callable[[Vector], None],
) -> Iterator[tuple[Matrix, Places]]:
    """Yield some rows' scores, and which rows they are."""
    if model.family == "cox":
        rows = models.cox_rows(model, columns, held)
        for places, found in cox_scores(rows, beta, model.ties):
            yield found, places
        return
    start = 0
    for some in models.blocks(held):
        x, y, weights, offset = models.explained(model, columns, some)
        found, by = regression.scores(model.family, x, y, beta, weights, offset, model.link)
        observe(by**2)
        yield found, slice(start, start + len(found))
        start += len(found)


def _cells(columns: Sequence[Column], held: Held) -> list[Cells]:
    """Return into which cells rows fall, for the figures that tell of cells.

    Figures of the same numbers differ by categories alone, so that those of all combinations of
    them can follow. A number that isn't taken as it is counts as the category of its grid's bins.
    """
    of = [_parts(column) for column in columns]
    together: dict[tuple[str, ...], set[str]] = {}
    pairs = {
        (i, j): tuple(sorted(of[i][0] + of[j][0]))
        for i in range(len(of))
        for j in range(i, len(of))
    }
    for (i, j), numbers in pairs.items():
        together.setdefault(numbers, set()).update(of[i][1], of[j][1])
    figures: dict[tuple[str, ...], NDArray[np.bool_]] = {}
    for pair, numbers in pairs.items():
        names = tuple(sorted(together[numbers]))
        figures.setdefault(names, np.zeros((len(of), len(of)), np.bool_))[pair] = True
    return [Cells(told, _codes(names, held)) for names, told in figures.items()]


def _parts(column: Column) -> tuple[list[str], set[str]]:
    """Return the numbers of a column, and what of it counts as a category."""
    numbers, counted = [], set()
    for piece in column.pieces:
        if piece.variable.kind == "number" and isinstance(piece.factor, Value):
            numbers.append(piece.variable.name)
        else:
            counted.add(piece.variable.name)
    return numbers, counted


def _codes(names: Sequence[str], held: Held) -> NDArray[np.int64]:
    """Return a number for each combination of levels, or of bins."""
    found = np.zeros(len(held), np.int64)
    for name in names:
        variable = held.project.variable(name)
        assert variable is not None
        if variable.kind == "category":
            found = found * len(variable.levels) + np.asarray(held.one(name), np.int64)
        elif variable.bins is not None:
            edges = np.linspace(*bounds(variable), variable.bins + 1)[1:-1]
            found = found * variable.bins + np.searchsorted(edges, held.one(name), "right")
    return found


def ended(fitting: Fitting, parts: Sequence[Ending | None]) -> Fit:
    """Return a fit with what sites told at its end, None of one that told nothing.

    Checks are left out where a site told none. ``DocumentError`` where scores are missing.
    """
    checks = [part.checks for part in parts if part is not None and part.checks is not None]
    scores = [None if part is None else part.scores for part in parts]
    return fitting.ended(
        checks if len(checks) == len(parts) else (),
        () if fitting.model.robust is None else scores,
    )


# ---- on the wire ---------------------------------------------------------------------------------


def encode(found: Ending) -> wire.ModelPart:
    """Return a part for the wire."""
    message = wire.ModelEnding()
    if found.checks is not None:
        checks = found.checks
        message.checks.CopyFrom(
            wire.ModelChecks(
                score=checks.score,
                with_time=models.triangle(checks.with_time),
                with_square=models.triangle(checks.with_square),
                concordant=checks.concordant,
                discordant=checks.discordant,
                tied=checks.tied,
            )
        )
    if found.scores is not None:
        message.squares.extend(models.triangle(found.scores.squares))
    return wire.ModelPart(n=found.n, ending=message)


def decode(message: wire.ModelPart, model: Model, width: int) -> Ending:
    """Return a part from the wire; ``DocumentError`` when it isn't of this model, or not finite."""
    said = message.ending
    beside = (
        list(message.information),
        list(message.score),
        message.deviance,
        message.pearson,
        message.weight,
        message.constant,
        list(message.low),
        message.missing,
    )
    if (
        not message.HasField("ending")
        or any(beside)
        or said.HasField("checks") != model.is_checked
        or (said.squares and model.robust is None)
        or message.n > 1 << 48
    ):
        raise models.OTHER_FORM
    scores = None
    if model.robust is not None:
        squares = models.symmetric(models.square(said.squares, width))
        scores = Scores(message.n, squares, int(message.n > 0))
    checks = _checks(message.n, said.checks, width) if model.is_checked else None
    return Ending(message.n, checks, scores)


def _checks(n: int, said: wire.ModelChecks, width: int) -> Checks:
    score = np.array(said.score)
    pairs = [said.concordant, said.discordant, said.tied]
    if score.shape != (width,) or not np.isfinite([*score, *pairs]).all():
        raise models.OTHER_FORM
    return Checks(
        n,
        score,
        models.symmetric(models.square(said.with_time, width)),
        models.symmetric(models.square(said.with_square, width)),
        *pairs,
    )


def check_form(message: wire.ModelPart, model: Model, width: int) -> None:
    """Raise ``DocumentError`` unless this is a part of a step, or of what ends the fit."""
    if len(message.told) not in (0, _DIGEST_BYTES):
        raise models.OTHER_FORM
    if message.HasField("ending"):
        decode(message, model, width)
    else:
        models.decode(message, model, width)


NO_ENDING = DocumentError("A fit of this model is asked nothing once it has ended.")
