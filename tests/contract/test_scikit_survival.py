"""Survival compared with scikit-survival, which is under the GPL: it runs as a process of its own,
in an environment that is made for the test and goes with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import pytest

from contract.dictionary import Variable
from contract.statistics import regression
from contract.statistics.cox import Rows, Ties, cox_checks, cox_sums
from contract.statistics.fit import Fit
from contract.statistics.summaries import Counts, place_codes, places
from contract.statistics.survival import LifeTable, life_tables, log_rank

pytestmark = pytest.mark.slow
SITES = 3
THEIRS = """
import json, sys
import numpy as np
from sksurv.compare import compare_survival
from sksurv.datasets import load_gbsg2, load_veterans_lung_cancer
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import kaplan_meier_estimator, nelson_aalen_estimator

found = {}
for name, load, columns, groups in (
    ("gbsg2", load_gbsg2, ["age", "estrec", "pnodes", "progrec", "tsize"], "horTh"),
    ("veterans", load_veterans_lung_cancer,
     ["Age_in_years", "Karnofsky_score", "Months_from_Diagnosis"], "Celltype"),
):
    held, y = load()
    x = held[columns].to_numpy(float)
    event, time = y.dtype.names
    y = np.array(list(zip(y[event].astype(bool), y[time])), dtype=[("e", bool), ("t", float)])
    one = {"x": x.tolist(), "time": y["t"].tolist(), "event": y["e"].astype(int).tolist(),
           "group": np.asarray(held[groups].astype("category").cat.codes).tolist(), "cox": {}}
    for ties in ("breslow", "efron"):
        model = CoxPHSurvivalAnalysis(ties=ties, alpha=0, tol=1e-13, n_iter=200).fit(x, y)
        risk = x @ model.coef_
        one["cox"][ties] = {"coefficients": model.coef_.tolist(),
            "pairs": list(concordance_index_censored(y["e"], y["t"], risk))}
    t, s = kaplan_meier_estimator(y["e"], y["t"])
    one["kaplan_meier"] = [t.tolist(), s.tolist()]
    t, h = nelson_aalen_estimator(y["e"], y["t"])
    one["nelson_aalen"] = [t.tolist(), h.tolist()]
    one["log_rank"] = list(compare_survival(y, np.array(one["group"])))
    found[name] = one
json.dump(found, sys.stdout, default=float)
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    home = tmp_path_factory.mktemp("scikit-survival")
    subprocess.run([sys.executable, "-m", "venv", home / "v"], check=True)
    python = home / "v" / "bin" / "python"
    asked = [python, "-m", "pip", "install", "--quiet", "scikit-survival==0.28.0"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("scikit-survival can't be installed here")
    done = subprocess.run([python, "-I", "-c", THEIRS], stdout=subprocess.PIPE, check=True)
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(params=["gbsg2", "veterans"])
def one(request: pytest.FixtureRequest, theirs: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = theirs[request.param]
    return found


def fitted(rows: Rows, ties: Ties) -> Fit:
    state: regression.State | Fit = regression.start(rows.x.shape[1])
    while not isinstance(state, Fit):
        state = regression.advance("cox", state, cox_sums(rows, state.beta, ties))
    return state


def tables(one: Mapping[str, Any]) -> list[LifeTable]:
    """Return groups' tables by the order of the times, on which alone all of them depend."""
    distinct, time = np.unique(one["time"], return_inverse=True)
    group, last = np.array(one["group"]), len(distinct)
    days = Variable(name="t", kind="number", minimum=0, maximum=last, bins=last, whole=True)
    codes = [place_codes(days, time.astype(float)), np.array(one["event"]), group]
    widths = [places(days), 2, int(group.max()) + 1]
    owner = np.random.default_rng(1).integers(0, SITES, len(time))
    parts = [Counts.of_crosstab([c[owner == s] for c in codes], widths) for s in range(SITES)]
    return life_tables(reduce(Counts.merge, parts).counts, days, widths[2])


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_cox_models_and_concordance_are_those_of_scikit_survival(
    one: Mapping[str, Any], ties: Ties
) -> None:
    rows = Rows(np.array(one["x"]), np.array(one["time"]), np.array(one["event"], bool))
    fit = fitted(rows, ties)
    expected = one["cox"][ties]
    np.testing.assert_allclose(fit.coefficients, expected["coefficients"], rtol=1e-9)
    share, concordant, discordant, tied, _ = expected["pairs"]
    checks = cox_checks(rows, np.array(expected["coefficients"]), ties)
    assert (checks.concordant, checks.discordant, checks.tied) == (concordant, discordant, tied)
    found = (concordant + tied / 2) / (concordant + discordant + tied)
    assert found == pytest.approx(share, rel=1e-12)


def test_curves_and_log_rank_tests_are_those_of_scikit_survival(one: Mapping[str, Any]) -> None:
    parts = tables(one)
    whole = reduce(LifeTable.merge, parts)
    for curve, (times, values) in (
        (whole.survival, one["kaplan_meier"]),
        (whole.cumulative_hazard, one["nelson_aalen"]),
    ):
        assert np.array_equal(times, np.unique(one["time"]))
        held = curve[: len(times)]
        np.testing.assert_allclose(held, values, rtol=1e-10)
    statistic, p = one["log_rank"]
    found = log_rank(parts)
    assert found.statistic == pytest.approx(statistic, rel=1e-9)
    assert found.p == pytest.approx(p, rel=1e-8)
