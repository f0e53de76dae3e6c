"""Imputations are analysed one by one, and what is printed is pooled by Rubin's rules."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from typer.testing import CliRunner

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.rubin import pool
from researcher import cli
from researcher.consortium import Consortium
from researcher.findings import methods
from researcher.formulas import parse
from researcher.imputed import ask_means, draws, formulas, pooled_coefficients, pooled_means
from researcher.models import Coefficient, ModelAnswer
from tests.contract.fits import fit, number
from tests.contract.world import World
from tests.researcher.local import LocalConsortium, split

PROJECT: Project = World().project(
    variables=[
        {"name": "bmi", "kind": "number"},
        {"name": "arm", "kind": "category", "levels": ["a", "b"]},
        {
            "name": "full",
            "kind": "number",
            "derive": {"impute": "bmi", "using": ["arm"], "imputations": 3},
        },
    ]
)
RNG = np.random.default_rng(3)
BMI = RNG.normal(27, 4, 400)
TABLE: dict[str, Any] = {
    "bmi": BMI,
    "arm": RNG.integers(0, 2, 400),
    **{f"full.{i}": np.where(np.arange(400) < 300, BMI, RNG.permutation(BMI)) for i in (1, 2, 3)},
}


def test_a_mean_is_pooled_over_sites_and_imputations_in_one_question() -> None:
    consortium = LocalConsortium(PROJECT.variables, split(TABLE, 3))
    found = consortium.study().imputed_mean("full")
    assert len(consortium.asked) == 1
    columns = [TABLE[f"full.{i}"] for i in (1, 2, 3)]
    wanted = pool([c.mean() for c in columns], [c.var(ddof=1) / 400 for c in columns], 399)
    (row,) = found.tidy()
    assert row["estimate"] == pytest.approx(wanted.estimate, rel=1e-9)
    assert row["std.error"] == pytest.approx(wanted.standard_error, rel=1e-9)
    told = [row[name] for name in ("p.value", "missing information", "df")]
    assert told == pytest.approx(
        [wanted.p_value(), wanted.missing_information, wanted.degrees_of_freedom], rel=1e-9
    )
    assert f"{wanted.missing_information:.0%}" in str(found)
    narrow = consortium.study(confidence=0.9).imputed_mean("full").tidy()[0]
    assert (narrow["conf.low"], narrow["conf.high"]) == pytest.approx(wanted.interval(0.9))
    assert "Rubin" in found.methods
    by = consortium.study().imputed_mean("full", by="arm")
    assert [r["group"] for r in by.tidy()] == ["a", "b"]
    assert max(map(len, str(by).splitlines())) <= 80


def test_imputations_of_other_sites_each_are_not_pooled() -> None:
    consortium = LocalConsortium(PROJECT.variables, split(TABLE, 3))
    answer = consortium.study().ask(*ask_means(PROJECT, "full", None))
    first, *rest = answer.parts
    alone = replace(first, answered=first.answered[:2], withheld=first.answered[2:])
    other = replace(answer, parts=(alone, *rest))
    with pytest.raises(DocumentError, match="other sites"):
        pooled_means(other, "full", None)
    assert "site-2" in methods([other], "").split("Not in all", 1)[1]


def test_a_variable_without_imputations_is_an_error() -> None:
    assert draws(PROJECT, "full") == ["full.1", "full.2", "full.3"]
    for name in ("bmi", "full.1", "x"):
        with pytest.raises(DocumentError, match="imputations"):
            draws(PROJECT, name)


def test_a_formula_is_written_for_each_imputation() -> None:
    names = {"full": ["full.1", "full.2"], "y": ["y.1", "y.2"]}
    assert formulas("y ~ full + full_2:arm + log(full)", names) == [
        "y.1 ~ full.1 + full_2:arm + log(full.1)",
        "y.2 ~ full.2 + full_2:arm + log(full.2)",
    ]
    with pytest.raises(DocumentError, match="another number"):
        formulas("y ~ x", {"x": ["x.1"], "y": ["y.1", "y.2"]})


def test_coefficients_are_pooled_under_the_name_without_a_draw() -> None:
    fits = []
    outcome = BMI + RNG.normal(size=400)
    for i in (1, 2, 3):
        fit = sm.OLS(outcome, np.column_stack([np.ones(400), TABLE[f"full.{i}"]])).fit()
        nan = math.nan
        fits.append(
            [
                Coefficient(name, float(b), float(s), nan, nan, nan, nan, nan, nan)
                for name, b, s in zip(
                    ("(Intercept)", f"log(full.{i}):arm"), fit.params, fit.bse, strict=True
                )
            ]
        )
    found = pooled_coefficients(fits, {"full": ["full.1", "full.2", "full.3"]}, 398)
    assert list(found) == ["(Intercept)", "log(full):arm"]
    wanted = pool([f[1].estimate for f in fits], [f[1].standard_error ** 2 for f in fits], 398)
    assert found["log(full):arm"] == wanted
    other = [[*fits[0][:1]], *fits[1:]]
    with pytest.raises(DocumentError, match="different coefficients"):
        pooled_coefficients(other, {"full": ["full.1", "full.2", "full.3"]}, 398)


class Fitting(LocalConsortium):
    """Sites in memory that fit models too."""

    def __enter__(self) -> Fitting:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def model(self, _project: str, formula: str, family: str, **terms: Any) -> ModelAnswer:
        """Return the fit of the rows, of two sites' halves."""
        halves = list(np.array_split(np.arange(400), 2))
        names, found = fit(formula, family, NUMBERS, TABLE, halves)
        model, sites = parse(formula, family), ("site-0", "site-1")
        project = World().project(variables=NUMBERS)
        return ModelAnswer("ab" * 32, model, found, tuple(names), sites, (), (), project, sites)


NUMBERS = (number("bmi", 0, 60), *(number(f"full.{i}", 0, 60) for i in (1, 2, 3)))


def test_the_command_fits_to_each_imputation_and_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consortium, "connect", lambda _home: Fitting(PROJECT.variables, []))
    asked = ("fit", "-p", "birth", "bmi ~ full", "--family", "linear", "--analysis", "main")
    done = CliRunner().invoke(
        cli.app, [*asked, "--imputed", "full", "--confidence", "0.9", "--json"]
    )
    assert done.exit_code == 0, done.output
    *told, _ = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["coefficient"] for one in told] == ["(Intercept)", "full"]
    designs = [np.column_stack([np.ones(400), TABLE[f"full.{i}"]]) for i in (1, 2, 3)]
    fits = [sm.OLS(BMI, design).fit() for design in designs]
    wanted = pool([f.params[1] for f in fits], [f.bse[1] ** 2 for f in fits], 398)
    assert told[1]["estimate"] == pytest.approx(wanted.estimate, rel=1e-9)
    assert told[1]["p.value"] == pytest.approx(wanted.p_value(), rel=1e-6)
    assert told[1]["conf.low"] == pytest.approx(wanted.interval(0.9)[0], rel=1e-9)
    drawn = CliRunner().invoke(cli.app, [*asked, "--imputed", "full", "--plot", "x.png"])
    assert "no plot" in str(drawn.exception)
