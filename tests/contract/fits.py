"""Fits a model over simulated sites as coordinator and nodes do, by formula and dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import Project
from contract.models import Model
from contract.statistics import models
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting, with_checks
from contract.work import StatisticsWork
from researcher.formulas import parse
from tests.contract.world import World

Rows = NDArray[np.intp]


def number(name: str, low: float = -1e9, high: float = 1e9, **more: Any) -> Variable:
    """Return a number of a dictionary."""
    return Variable(name=name, kind="number", minimum=low, maximum=high, **more)


def category(name: str, *levels: str) -> Variable:
    """Return a category of a dictionary."""
    return Variable(name=name, kind="category", levels=levels)


def split(rows: int, sites: int, seed: int = 0) -> list[Rows]:
    """Deal rows out to sites, unevenly."""
    owner = np.random.default_rng(seed).integers(0, sites, rows) ** 2 // max(1, sites - 1)
    return [np.flatnonzero(owner == site) for site in range(sites)]


def check(model: Model, project: Project) -> list[str]:
    """Return a model's columns' names, checked as a node does."""
    work = StatisticsWork(
        ask=models.marginals(model, project), analysis="main", lane="exact", fit=model
    )
    return [column.name for column in models.check(work, project)]


def fit(
    formula: str,
    family: str,
    dictionary: Sequence[Variable],
    data: Mapping[str, Any],
    sites: Sequence[Rows],
    **settings: Any,
) -> tuple[list[str], Fit]:
    """Return the columns' names and the fit; every part and the fit go over the wire's forms."""
    project = World().project(variables=tuple(dictionary))
    model = parse(formula, family, **settings)
    names = check(model, project)
    columns = models.columns_of(model, project)
    width = len(columns)
    held = {name: np.asarray(data[name]) for name in model.variables}
    values = [
        models.clipped({name: column[rows] for name, column in held.items()}, project)
        for rows in sites
    ]
    back = models.way_back(model, columns)
    fitting = Fitting(model, width, names, back)
    found: Fit | None = None
    for _ in range(models.MOST_TASKS):
        parts = []
        for place, own in enumerate(values):
            beta = fitting.beta_of(place)
            models.check_coefficients(model, columns, beta)
            said = models.encode(models.part(model, columns, own, beta)).SerializeToString()
            parts.append(models.decode(wire.ModelPart.FromString(said), model, width))
        found = fitting.take(parts)
        if found is not None:
            break
    if found is None:
        raise models.ENDLESS
    if family == "cox" and model.site == "pooled":
        checks = [
            models.encode(models.checks(model, columns, own, fitting.beta_of(place)))
            for place, own in enumerate(values)
        ]
        for one in checks:
            models.check_form(one, model, width)
        found = with_checks(
            found, [models.decode_checks(one, model, width) for one in checks], back
        )
    said = models.encode_fit(found, columns, [str(i) for i in range(len(sites))])
    message = wire.ModelFit.FromString(said.SerializeToString())
    return names, models.decode_fit(message, model, columns)
