"""A spline's open knots can be at all subjects' quantiles, as R has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contract.dictionary import Variable
from contract.errors import DocumentError, JobFailed
from contract.models import Model
from contract.statistics.answers import Part
from contract.terms import Factor, Spline
from researcher import splines_at_quantiles
from researcher.formulas import parse
from researcher.questions import histogram
from researcher.statistics import StatisticsAnswer
from tests.researcher.local import LocalConsortium, split

AGE = Variable(name="age", kind="number", minimum=30, maximum=90, bins=60, whole=True)
DIED = Variable(name="died", kind="category", levels=("no", "yes"))
AGES = np.concatenate(
    [np.repeat(k, c) for k, c in ((39, 5), (56, 54), (63, 57), (69, 57), (82, 55))]
)
"""As the quartiles of R's ``lung``: attr(ns(lung$age, df = 4), "knots") is 56, 63, 69."""


def answer(variable: Variable = AGE) -> StatisticsAnswer:
    columns = {"age": AGES.astype(float), "died": np.zeros(len(AGES), dtype=np.int64)}
    return LocalConsortium([variable, DIED], split(columns, 4)).study().ask(histogram("age"))


def model(formula: str) -> Model:
    return parse(formula, "logistic")


def factors(fitted: Model) -> list[Factor]:
    return [factor for term in fitted.terms for factor in term.factors]


def test_knots_are_at_the_quantiles_of_the_pooled_rows() -> None:
    fitted = splines_at_quantiles.placed(model("died ~ ns(age, df = 4)"), answer())
    [spline] = factors(fitted)
    assert isinstance(spline, Spline)
    assert (spline.df, spline.knots) == (None, (56, 63, 69))


def test_what_has_no_open_knots_is_not_asked_about() -> None:
    for formula in ("died ~ age", "died ~ ns(age, knots = 50)", "died ~ bs(age, df = 3)"):
        assert splines_at_quantiles.names(model(formula)) == ()
        assert splines_at_quantiles.placed(model(formula), answer()) == model(formula)
    assert splines_at_quantiles.names(model("died ~ bs(age, df = 4)")) == ("age",)


def test_too_coarse_a_grid_and_a_withheld_histogram_are_said() -> None:
    coarse = AGE.model_copy(update={"bins": 2})
    with pytest.raises(DocumentError, match="4 bins or more"):
        splines_at_quantiles.placed(model("died ~ ns(age, df = 4)"), answer(coarse))
    found = answer()
    [part] = found.parts
    held = replace(found, parts=(replace(part, part=Part({}, withheld=True)),))
    with pytest.raises(JobFailed, match="withheld its histogram"):
        splines_at_quantiles.placed(model("died ~ ns(age, df = 4)"), held)
