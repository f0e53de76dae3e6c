"""A model over sites: what may be asked, a site's part of a step, and both on the wire.

A site takes coefficients from nobody: it works them out from all sites' parts of the step before
(``contract.statistics.fitting``), and answers with sums over its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.models import Model
from contract.statistics import design, mixed_steps, recoding, regression
from contract.statistics.cox import Rows, cox_sums, numbered
from contract.statistics.design import Column
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting, Part
from contract.statistics.held import Held, Lines
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Sums, Vector
from contract.statistics.summaries import Codes, Numbers
from contract.work import Statistic, StatisticsWork

__all__ = ["Fitting", "Held", "Part"]

MOST_COLUMNS = 60
ROWS_AT_ONCE = 4096
"""Rows of which the matrix is made at once."""
MOST_TASKS = 60
"""Steps, halved ones included, that a site takes part in for one job."""
LARGEST_REACH = 1e5
"""How far the linear predictor may lie from zero, anywhere within the dictionary's ranges."""
_LARGEST_EXPONENT = 200.0
"""How far the exponent of a mean or a hazard may: exponentials of twice as much are in range. A
step that would lead farther is halved, whoever's values there are."""
_LARGEST_OFFSET = 100.0
_FARTHEST_INTERCEPT = 10.0
"""How many sigma a site's random intercept is taken to lie from zero at most."""
GROWING = DocumentError(
    "A model's coefficients grow without end: something may tell the outcome apart perfectly, or "
    "the dictionary's ranges are far too wide."
)
ENDLESS = DocumentError(
    "The model's steps don't end: too few events, or something that tells the outcome apart "
    "perfectly, leave a coefficient without a value; or the dictionary's ranges are far too wide."
)


def marginals(model: Model, project: Project) -> tuple[Statistic, ...]:
    """Return the statistics of each of a model's variables that its ``ask`` must be."""
    found = []
    for name in model.variables:
        variable = _variable(name, project)
        kind = "moments" if variable.kind == "number" else "levels"
        found.append(Statistic.model_validate({"kind": kind, "variable": name}))
    return tuple(found)


def check(work: StatisticsWork, project: Project) -> tuple[Column, ...]:
    """Return a model's columns. ``DocumentError`` when the dictionary doesn't allow the model.

    Numbers need a range, and an outcome one in which the family is defined: so no answer depends on
    whether somebody's value lies outside.
    """
    model = work.fit
    assert model is not None
    if work.ask != marginals(model, project):
        raise DocumentError("A model's question isn't of exactly its variables.")
    _check_roles(model, project)
    for name in model.variables:
        variable = _variable(name, project)
        if variable.kind == "number":
            low, _ = design.bounds(variable)
            positive = {"gamma": low > 0, "poisson": low >= 0, "cox": low >= 0}
            if name == model.outcome and not positive.get(model.family, True):
                least = "above 0" if model.family == "gamma" else "0 or more"
                raise DocumentError(
                    f"{name} can be what a {model.family} model can't explain: its minimum in the "
                    f"dictionary must be {least}."
                )
            if name == model.weights and low <= 0:
                raise DocumentError(f"{name} can be zero or less, which a weight can't be.")
    if model.family == "cox" and model.time_scale == "log":
        design.check_transform(_variable(model.outcome, project), "log")
    if model.transform is not None:
        design.check_transform(_variable(model.outcome, project), model.transform)
    if design.check_offset(model.offset, project) > _LARGEST_OFFSET:
        raise DocumentError("A model's offset can be too large: log it, or narrow its range.")
    columns = columns_of(model, project)
    if len(columns) > MOST_COLUMNS:
        raise DocumentError(f"A model has at most {MOST_COLUMNS} coefficients.")
    return columns


def _check_roles(model: Model, project: Project) -> None:
    """Raise unless each variable is of the kind that its part in the model needs."""
    roles = [(model.outcome, "category" if model.family == "logistic" else "number")]
    roles += [(model.event, "category")] if model.event is not None else []
    roles += [(n, "number") for n in (model.entry, model.weights) if n is not None]
    for name, wanted in roles:
        variable = _variable(name, project)
        if variable.kind != wanted or (wanted == "category" and len(variable.levels) != 2):
            how = "a number"
            if wanted == "category":
                how = 'a category of two levels; declare it as one with the levels "0" and "1"'
            raise DocumentError(
                f"{name} can't be what a {model.family} model has it for, which is {how}."
            )
    for name in model.strata:
        if _variable(name, project).kind != "category":
            raise DocumentError(f"{name} is no category, so it can't be a stratum.")


def columns_of(model: Model, project: Project) -> tuple[Column, ...]:
    """Return a model's columns."""
    return design.columns(
        model.terms, project, intercept=model.intercept, shown=model.family != "cox"
    )


def way_back(model: Model, columns: Sequence[Column]) -> design.Matrix:
    """Return the matrix that makes a model's own coefficients of those that its steps are of."""
    groups = design.polynomials(columns, degrees_of(model, columns))
    return recoding.way_back(len(columns), groups, None if model.family == "cox" else 0)


def degrees_of(model: Model, columns: Sequence[Column]) -> dict[int, int]:
    """Return the degrees of the polynomials that stand in for columns.

    A QR keeps the digits of powers up to the fifth better than Chebyshev's polynomials would: it
    loses what a column alone loses. Sums of squares and products don't.
    """
    if not model.intercept:
        return {}
    return design.chebyshev_degrees(columns, least=6 if model.family == "linear" else 2)


def _variable(name: str, project: Project) -> Variable:
    variable = project.variable(name)
    if variable is None and name == "site":
        raise DocumentError(design.BY_SITE)
    if variable is None:
        raise DocumentError(f"Variable {name} is not in the project's dictionary.")
    return variable


# ---- at a site -----------------------------------------------------------------------------------


def check_coefficients(model: Model, columns: Sequence[Column], beta: Vector) -> None:
    """Raise ``DocumentError`` unless these can be coefficients of a fit.

    Within its variables' ranges the predictor stays within ``LARGEST_REACH`` of zero. A fit whose
    steps lead farther has no end.
    """
    linear = model.family == "linear"
    if linear and not beta.size:
        return
    if linear and model.robust is None:
        raise DocumentError("A linear model takes no coefficients.")
    if len(beta) not in _widths(model, len(columns)) or not np.isfinite(beta).all():
        raise DocumentError("A step's coefficients have another form than the model's.")
    if not linear and _reach(model, columns, beta) > LARGEST_REACH:
        raise GROWING


def _widths(model: Model, width: int) -> tuple[int, ...]:
    """Return how many coefficients a step may be at: a random intercept's have its sigma too."""
    stepped = model.site == "random" and model.family != "linear"
    return (width, width + 1) if stepped else (width,)


def _reach(model: Model, columns: Sequence[Column], beta: Vector) -> float:
    low, high = design.ends(columns, beta[: len(columns)], degrees_of(model, columns))
    if model.family == "cox":
        return (high - low) / 2  # hazards are told from each other alone
    return max(abs(low), abs(high)) + _FARTHEST_INTERCEPT * float(
        np.abs(beta[len(columns) :]).sum()
    )


def part(
    model: Model,
    columns: Sequence[Column],
    values: Mapping[str, Numbers | Codes],
    beta: Vector,
    observe: Callable[[Vector], None] = lambda _: None,
) -> Part:
    """Return the part of some rows in a step of a model other than Cox's.

    Rows must have a value of every variable of the model. ``observe`` is told what each weighs at
    the step: nothing of a linear model, or where the step must turn back.
    """
    if model.family == "cox":
        raise DocumentError("A Cox model's sums are of all rows together.")
    if must_turn(model, columns, beta):
        return regression.impossible(len(values[model.outcome]), len(columns))
    x, y, weights, offset = explained(model, columns, values)
    if model.family == "linear":
        return Factor.of(x, y, weights, offset)
    return regression.sums(model.family, x, y, beta, weights, offset, model.link, observe)


def explained(
    model: Model, columns: Sequence[Column], values: Mapping[str, Numbers | Codes]
) -> tuple[design.Matrix, Vector, Vector | None, Vector | None]:
    """Return the matrix of some rows, their outcome, weights and offset."""
    x = design.matrix(columns, values, len(values[model.outcome]), degrees_of(model, columns))
    y = np.asarray(values[model.outcome], dtype=np.float64)
    if model.transform is not None:
        y = design.FUNCTIONS[model.transform](y)
    weights = None if model.weights is None else np.asarray(values[model.weights], np.float64)
    return x, y, weights, design.total(model.offset, values)


def part_of(
    model: Model,
    columns: Sequence[Column],
    held: Held,
    beta: Vector,
    observe: Callable[[Vector], None] = lambda _: None,
) -> Part:
    """Return a site's part of a step; only as many rows are copied at once as are worked on.

    ``observe`` is told what rows weigh at the step, of a Cox model up to a factor.
    """
    if model.family == "cox":
        if must_turn(model, columns, beta):
            return regression.impossible(len(held), len(columns))
        return cox_sums(cox_rows(model, columns, held), beta, model.ties, observe)
    if len(beta) > len(columns):
        return _mixed(model, columns, held, beta, observe)
    found: Part | None = None
    for some in blocks(held):
        one = part(model, columns, some, beta, observe)
        found = one if found is None else _added(found, one)
    assert found is not None
    return found


def _mixed(
    model: Model,
    columns: Sequence[Column],
    held: Held,
    beta: Vector,
    observe: Callable[[Vector], None],
) -> Sums:
    """Return a site's part of a step of a random intercept other than a linear model's."""
    if must_turn(model, columns, beta):
        return mixed_steps.impossible(len(held), len(columns))

    def rows() -> Iterator[mixed_steps.Block]:
        for some in blocks(held):
            x, y, _, offset = explained(model, columns, some)
            yield x, y, offset

    assert model.family in ("logistic", "poisson")
    return mixed_steps.sums(model.family, rows, len(columns), beta, observe)


def blocks(held: Held) -> Iterator[dict[str, Numbers | Codes]]:
    """Yield the values of some rows at once; of none, once."""
    for start in range(0, max(len(held), 1), ROWS_AT_ONCE):
        yield held.some(slice(start, start + ROWS_AT_ONCE))


def must_turn(model: Model, columns: Sequence[Column], beta: Vector) -> bool:
    """Say whether a step must turn back: exponentials could be out of range."""
    exponential = model.family in ("poisson", "gamma", "cox") and model.link == "log"
    return exponential and _reach(model, columns, beta) > _LARGEST_EXPONENT


def _added(one: Part, other: Part) -> Part:
    if isinstance(one, Factor):
        assert isinstance(other, Factor)
        return one.merge(other)
    assert isinstance(other, Sums)
    return one.merge(other)


def cox_rows(model: Model, columns: Sequence[Column], held: Held) -> Rows:
    """Return a site's rows of a Cox model."""
    assert model.event is not None

    def number(name: str | None) -> Vector | None:
        return None if name is None else np.asarray(held.one(name), np.float64)

    time = number(model.outcome)
    assert time is not None
    offsets = {factor.variable: held.one(factor.variable) for factor in model.offset}
    return Rows(
        Lines(tuple(columns), held, degrees_of(model, columns)),
        time,
        np.asarray(held.one(model.event) == 1),
        number(model.entry),
        number(model.weights),
        design.total(model.offset, offsets),
        numbered([np.asarray(held.one(name), np.int64) for name in model.strata]),
    )


# ---- on the wire ---------------------------------------------------------------------------------


def encode(found: Part) -> wire.ModelPart:
    """Return a part for the wire."""
    if isinstance(found, Factor):
        low = None if found.low is None else _single(triangle(found.low))
        return wire.ModelPart(
            n=found.n, information=triangle(found.r), constant=found.constant, low=low
        )
    return wire.ModelPart(
        n=found.n,
        information=triangle(found.information),
        score=found.score,
        deviance=found.deviance,
        pearson=found.pearson,
        weight=found.weight,
        constant=found.constant,
    )


def decode(message: wire.ModelPart, model: Model, width: int) -> Part:
    """Return a part from the wire; ``DocumentError`` when it isn't of this model, or not finite."""
    linear = model.family == "linear"
    score = np.array(message.score)
    side = width + 1 if linear else len(score)
    beside = [message.deviance, message.pearson, message.weight, message.constant]
    if (
        message.HasField("ending")
        or (message.low and not linear)
        or (len(score) not in ((0,) if linear else _widths(model, width)))
        or not np.isfinite([*score, *beside]).all()
        or max(message.n, message.missing) > 1 << 48
    ):
        raise OTHER_FORM
    found = square(message.information, side)
    if linear:
        return Factor(message.n, found, message.constant, _low(message.low, found))
    return Sums(message.n, symmetric(found), score, *beside)


OTHER_FORM = DocumentError("A part of a model hasn't the form of its columns.")


def triangle(whole: design.Matrix) -> Vector:
    """Return a matrix's upper triangle, by rows."""
    return np.asarray(whole[np.triu_indices(len(whole))], dtype=np.float64)


def _single(low: Vector) -> Vector:
    """Return numbers that single precision can hold, 0 for others."""
    return np.where(np.abs(low) < np.finfo(np.float32).max, low, 0.0)


def square(numbers: Sequence[float], side: int) -> design.Matrix:
    """Return an upper triangle as a matrix; ``DocumentError`` unless it is that."""
    told = np.array(numbers)
    if told.shape != (side * (side + 1) // 2,) or not np.isfinite(told).all():
        raise OTHER_FORM
    found = np.zeros((side, side))
    found[np.triu_indices(side)] = told
    return found


def _low(numbers: Sequence[float], factor: design.Matrix) -> design.Matrix | None:
    """Return what is below a factor's last places; ``DocumentError`` when it isn't below them."""
    if not numbers:
        return None
    low = square(numbers, len(factor))
    if (np.abs(low) > np.abs(np.spacing(factor))).any():
        raise OTHER_FORM
    return low


def symmetric(upper: design.Matrix) -> design.Matrix:
    """Return the symmetric matrix of an upper triangle."""
    return np.asarray(upper + np.triu(upper, 1).T)


def encode_fit(fit: Fit, columns: Sequence[Column], sites: Sequence[str] = ()) -> wire.ModelFit:
    """Return a fit for the wire; ``sites`` are those of it, in the order of their parts."""
    message = _encode_fit(fit, columns)
    message.sites.extend(sites)
    for one in fit.each:
        own = wire.ModelFit(failed=one) if isinstance(one, str) else _encode_fit(one, columns)
        message.each.append(own)
    return message


def _encode_fit(fit: Fit, columns: Sequence[Column]) -> wire.ModelFit:
    return wire.ModelFit(
        n=fit.n,
        columns=[column.name for column in columns],
        coefficients=fit.coefficients,
        covariance=fit.covariance.ravel(),
        dispersion=fit.dispersion,
        deviance=fit.deviance,
        steps=fit.steps,
        converged=fit.converged,
        null_deviance=fit.null_deviance,
        log_likelihood=fit.log_likelihood,
        events=fit.events,
        score_test=fit.score_test,
        proportionality=fit.proportionality,
        concordant=fit.pairs[0],
        discordant=fit.pairs[1],
        tied=fit.pairs[2],
        site_variance=fit.site_variance,
        site_effects=fit.site_effects,
        effects_fitted=fit.effects_fitted,
        robust=[] if fit.robust is None else fit.robust.ravel(),
        clusters=fit.clusters,
    )


def decode_fit(message: wire.ModelFit, model: Model, columns: Sequence[Column]) -> Fit:
    """Return a fit from the wire; ``DocumentError`` when it is of other columns."""
    each = tuple(
        one.failed if one.failed else _decode_fit(one, model, columns) for one in message.each
    )
    by_site = {"each": len(message.each), "pooled": len(message.sites)}
    if by_site.get(model.site, len(message.site_effects)) != len(message.sites):
        raise DocumentError("The coordinator's fit is of other sites.")
    return replace(_decode_fit(message, model, columns), each=each)


def _decode_fit(message: wire.ModelFit, model: Model, columns: Sequence[Column]) -> Fit:
    width = len(columns)
    if (
        list(message.columns) != [column.name for column in columns]
        or len(message.coefficients) != width
        or len(message.covariance) != width * width
        or len(message.proportionality) not in (0, width + 1)
        or len(message.robust) not in (0, width * width)
    ):
        raise DocumentError("The coordinator's fit is of another model.")
    return Fit(
        model.family,
        message.n,
        np.array(message.coefficients),
        np.array(message.covariance).reshape(width, width),
        message.dispersion,
        message.deviance,
        message.steps,
        message.converged,
        message.null_deviance,
        message.log_likelihood,
        message.events,
        message.score_test,
        tuple(message.proportionality),
        (message.concordant, message.discordant, message.tied),
        message.site_variance,
        tuple(message.site_effects),
        message.effects_fitted,
        (),
        np.array(message.robust).reshape(width, width) if message.robust else None,
        message.clusters,
    )
