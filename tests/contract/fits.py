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
from contract.statistics import ending, model_words, models
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting, Part
from contract.statistics.held import Held
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
    *,
    secure: bool = False,
    **settings: Any,
) -> tuple[list[str], Fit]:
    """Return the columns' names and the fit; every part and the fit go over the wire's forms.

    ``secure``: parts are added up as words, as where nobody sees one.
    """
    project = World().project(variables=tuple(dictionary))
    model = parse(formula, family, **settings)
    names = check(model, project)
    columns = models.columns_of(model, project)
    width = len(columns)
    held = {name: np.asarray(data[name]) for name in model.variables}
    values = [
        Held.of({name: column[rows] for name, column in held.items()}, project) for rows in sites
    ]
    back = models.way_back(model, columns)
    fitting = Fitting(model, width, names, back)
    powers = model_words.exponents(model, columns, project)
    found: Fit | None = None
    for _ in range(models.MOST_TASKS):
        parts: list[Part] = []
        total = np.zeros(model_words.length(model, width), np.uint64)
        for place, own in enumerate(values):
            beta = fitting.beta_of(place)
            models.check_coefficients(model, columns, beta)
            part = models.part_of(model, columns, own, beta)
            if secure:
                total += model_words.encode(part, powers)
            said = models.encode(part).SerializeToString()
            parts.append(models.decode(wire.ModelPart.FromString(said), model, width))
        if secure:
            parts = [model_words.decode(total, model, width, powers)]
        found = fitting.take(parts)
        if found is not None:
            break
    if found is None:
        raise models.ENDLESS
    if model.has_ending:
        made = [
            ending.ending(model, columns, own, fitting.beta_of(place))
            for place, own in enumerate(values)
        ]
        for one in map(ending.encode, made):
            ending.check_form(one, model, width)
        if secure:
            total = np.sum([model_words.encode(one, powers) for one in made], 0, np.uint64)
            made = [model_words.decode_ending(total, model, width, powers)]
        else:
            made = [ending.decode(ending.encode(one), model, width) for one in made]
        found = ending.ended(fitting, made)
    said = models.encode_fit(found, columns, [str(i) for i in range(len(sites))])
    message = wire.ModelFit.FromString(said.SerializeToString())
    return names, models.decode_fit(message, model, columns)
