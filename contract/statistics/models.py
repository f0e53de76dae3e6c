"""A model fitted over sites: what is asked of each in a step, and the next step of all.

The coordinator keeps the coefficients (``Fitting``); a site is told them, checks that they can be
those of a fit, and answers with sums over its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from contract import wire_pb2 as wire
from contract.documents import Model, Project, Statistic, StatisticsWork, Variable
from contract.errors import DocumentError
from contract.statistics import design, regression
from contract.statistics.design import Column
from contract.statistics.regression import Factor, Family, Fit, State, Sums, Vector
from contract.statistics.summaries import Codes, Numbers
from contract.statistics.survival import cox_sums

MOST_COLUMNS = 60
MOST_TASKS = 60
"""Steps, halved ones included, that a site takes part in for one job."""
LARGEST_REACH = 200.0
"""How far the linear predictor may lie from zero, anywhere within the dictionary's ranges."""


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
    for name, wanted in (
        (model.outcome, "category" if model.family == "logistic" else "number"),
        (model.event, "category"),
    ):
        if name is None:
            continue
        variable = _variable(name, project)
        if variable.kind != wanted or (wanted == "category" and len(variable.levels) != 2):
            raise DocumentError(f"{name} can't be what a {model.family} model has it for.")
    for name in model.variables:
        variable = _variable(name, project)
        if variable.kind == "number":
            low, _ = _range(variable)
            positive = {"gamma": low > 0, "poisson": low >= 0, "cox": low >= 0}
            if name == model.outcome and not positive.get(model.family, True):
                raise DocumentError(f"{name} can be what a {model.family} model can't explain.")
    columns = columns_of(model, project)
    if len(columns) > MOST_COLUMNS:
        raise DocumentError(f"A model has at most {MOST_COLUMNS} coefficients.")
    return columns


def columns_of(model: Model, project: Project) -> tuple[Column, ...]:
    """Return a model's columns."""
    return design.columns(model.terms, project, intercept=model.family != "cox")


def _variable(name: str, project: Project) -> Variable:
    variable = project.variable(name)
    if variable is None:
        raise DocumentError(f"Variable {name} is not in the project's dictionary.")
    return variable


def family(model: Model) -> Family:
    """Return the family whose steps a model takes; a Cox model's are as a logistic one's."""
    return "logistic" if model.family == "cox" else model.family


# ---- at a site -----------------------------------------------------------------------------------


def check_coefficients(model: Model, columns: Sequence[Column], beta: Vector) -> None:
    """Raise ``DocumentError`` unless these can be coefficients of a fit.

    Within its variables' ranges the predictor stays within ``LARGEST_REACH`` of zero, so that no
    sum overflows. Whoever chooses them still weighs rows as they like: see
    ``docs/reference/disclosure.md``.
    """
    if model.family == "linear":
        if beta.size:
            raise DocumentError("A linear model takes no coefficients.")
        return
    if beta.shape != (len(columns),) or not np.isfinite(beta).all():
        raise DocumentError("A step's coefficients have another form than the model's.")
    reach = sum(
        abs(float(value)) * largest(column) for column, value in zip(columns, beta, strict=True)
    )
    if reach > LARGEST_REACH:
        raise DocumentError("A step's coefficients can't be those of a fit.")


def largest(column: Column) -> float:
    """Return the largest absolute value of a column within the dictionary's ranges."""
    found = 1.0
    for variable, level in column.factors:
        if level is None:
            found *= max(map(abs, _range(variable)))
    return found


def _range(variable: Variable) -> tuple[float, float]:
    if variable.minimum is None or variable.maximum is None:
        raise DocumentError(f"The dictionary gives {variable.name} no range, which a model needs.")
    return variable.minimum, variable.maximum


def clipped(values: Mapping[str, Numbers | Codes], project: Project) -> dict[str, Numbers | Codes]:
    """Return values with numbers brought into the dictionary's ranges."""
    found = dict(values)
    for name in values:
        variable = _variable(name, project)
        if variable.kind == "number":
            found[name] = np.clip(np.asarray(values[name], np.float64), *_range(variable))
    return found


def part(
    model: Model,
    columns: Sequence[Column],
    values: Mapping[str, Numbers | Codes],
    beta: Vector,
) -> Sums | Factor:
    """Return a site's part of a step. Rows must have a value of every variable of the model."""
    rows = len(values[model.outcome])
    x = design.matrix(columns, values, rows)
    y = np.asarray(values[model.outcome], dtype=np.float64)
    if model.family == "linear":
        return Factor.of(x, y)
    if model.family == "cox":
        assert model.event is not None
        return cox_sums(x, y, values[model.event] == 1, beta, model.ties)
    return regression.sums(model.family, x, y, beta)


def encode(found: Sums | Factor) -> wire.ModelPart:
    """Return a part for the wire."""
    if isinstance(found, Factor):
        return wire.ModelPart(n=found.n, information=_triangle(found.r))
    return wire.ModelPart(
        n=found.n,
        information=_triangle(found.information),
        score=found.score,
        deviance=found.deviance,
        pearson=found.pearson,
    )


def decode(message: wire.ModelPart, model: Model, width: int) -> Sums | Factor:
    """Return a part from the wire; ``DocumentError`` when it isn't of this model, or not finite."""
    side = width + 1 if model.family == "linear" else width
    upper = np.array(message.information)
    score = np.array(message.score)
    numbers = np.concatenate([upper, score, [message.deviance, message.pearson]])
    if (
        upper.shape != (side * (side + 1) // 2,)
        or score.shape != (0 if model.family == "linear" else width,)
        or not np.isfinite(numbers).all()
        or message.n > 1 << 48
    ):
        raise DocumentError("A part of a model hasn't the form of its columns.")
    square = np.zeros((side, side))
    square[np.triu_indices(side)] = upper
    if model.family == "linear":
        return Factor(message.n, square)
    information = square + np.triu(square, 1).T
    return Sums(message.n, information, score, message.deviance, message.pearson)


def _triangle(square: design.Matrix) -> Vector:
    return np.asarray(square[np.triu_indices(len(square))], dtype=np.float64)


# ---- in the middle -------------------------------------------------------------------------------


class Fitting:
    """A fit under way: the coefficients to ask next, until there is one."""

    def __init__(self, model: Model, width: int) -> None:
        self.model = model
        self._state = State(np.zeros(0)) if model.family == "linear" else regression.start(width)

    @property
    def beta(self) -> Vector:
        """The coefficients of the next step."""
        return self._state.beta

    def take(self, parts: Sequence[Sums | Factor]) -> Fit | None:
        """Take all sites' parts of a step; return the fit if it was the last one."""
        if not parts:
            raise DocumentError("No site has a part in the model.")
        if self.model.family == "linear":
            factors = [one for one in parts if isinstance(one, Factor)]
            return regression.finish_linear(reduce(Factor.merge, factors))
        merged = reduce(Sums.merge, [one for one in parts if isinstance(one, Sums)])
        found = regression.advance(family(self.model), self._state, merged)
        if isinstance(found, Fit):
            return found
        self._state = found
        return None


def encode_fit(fit: Fit, columns: Sequence[Column]) -> wire.ModelFit:
    """Return a fit for the wire."""
    return wire.ModelFit(
        n=fit.n,
        columns=[column.name for column in columns],
        coefficients=fit.coefficients,
        covariance=fit.covariance.ravel(),
        dispersion=fit.dispersion,
        deviance=fit.deviance,
        steps=fit.steps,
        converged=fit.converged,
    )


def decode_fit(message: wire.ModelFit, model: Model, columns: Sequence[Column]) -> Fit:
    """Return a fit from the wire; ``DocumentError`` when it is of other columns."""
    width = len(columns)
    if (
        list(message.columns) != [column.name for column in columns]
        or len(message.coefficients) != width
        or len(message.covariance) != width * width
    ):
        raise DocumentError("The coordinator's fit is of another model.")
    return Fit(
        family(model),
        message.n,
        np.array(message.coefficients),
        np.array(message.covariance).reshape(width, width),
        message.dispersion,
        message.deviance,
        message.steps,
        message.converged,
    )
