"""Of several variables at once: exact where releases declare it, and then the pooled answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.dictionary import Variable
from contract.statistics.summaries import CoMoments, Shape
from contract.work import Statistic
from node.catalog.strata import StratumWish
from tests.sessions.hospitals import Session, counts, missing, open_sites

VARIABLES = (
    Variable(name="arm", kind="category", levels=("new", "usual")),
    Variable(name="smoker", kind="category", levels=("no", "yes")),
    Variable(name="relapse", kind="category", levels=("no", "yes")),
    Variable(name="age", kind="number", minimum=20, maximum=100, bins=4),
    Variable(name="weight", kind="number", minimum=30, maximum=150),
)
MAIN = ("arm", "smoker", "relapse", "age", "weight")
TOLD = "analysis:main"


def table(seed: int, size: int) -> dict[str, list[Any]]:
    """A hospital's patients."""
    rng = np.random.default_rng(seed)
    age = np.round(rng.uniform(25, 89, size), 1)
    weight = np.round(rng.normal(75, 12, size) + 0.1 * (age - 60), 1)
    found: dict[str, list[Any]] = {
        "arm": rng.choice(["new", "usual"], size).tolist(),
        "smoker": rng.choice(["no", "yes"], size, p=[0.7, 0.3]).tolist(),
        "relapse": rng.choice(["no", "yes"], size, p=[0.6, 0.4]).tolist(),
        "age": age.tolist(),
        "weight": weight.tolist(),
    }
    return {
        name: values if name == "arm" else missing(rng, values, 0.01)
        for name, values in found.items()
    }


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Two hospitals, in cells by arm."""
    folder = tmp_path_factory.mktemp("together")
    tables = [table(1, 500), table(2, 700)]
    return Session(open_sites(folder, tables, VARIABLES, [StratumWish("arm")], {"main": MAIN}))


def crosstab(*names: str) -> Statistic:
    """A table of two or three variables."""
    return Statistic(kind="crosstab", variable=names[0], across=names[1:])


@pytest.mark.parametrize(
    "names", [("smoker", "relapse"), ("smoker", "relapse", "arm"), ("age", "smoker")]
)
def test_a_crosstab_is_that_of_the_pooled_complete_cases(
    session: Session, names: tuple[str, ...]
) -> None:
    [part] = session.ask("crosstab", crosstab(*names), analysis="main", lane="exact")
    found = np.array(counts(part).counts)
    codes, widths = [], []
    for name in names:
        values = np.array(session.values(name, TOLD))
        variable = next(v for v in VARIABLES if v.name == name)
        if variable.kind == "number":
            codes.append(((values - 20) // 20).astype(int))
            widths.append(6)
        else:
            codes.append(np.array([variable.levels.index(v) for v in values]))
            widths.append(2)
    expected = np.bincount(np.ravel_multi_index(codes, widths), minlength=int(np.prod(widths)))
    assert found.tolist() == expected.tolist()


def test_comoments_by_arm_are_those_of_the_pooled_complete_cases(session: Session) -> None:
    asked = Statistic(kind="comoments", variable="age", across=("weight",), by="arm")
    [part] = session.ask("comoments", asked, analysis="main", lane="exact")
    for arm in ("new", "usual"):
        found = part.groups[arm]
        assert isinstance(found, CoMoments)
        pair = [session.values(name, TOLD, arm=arm) for name in ("age", "weight")]
        assert found.n == len(pair[0])
        assert found.matrix / (found.n - 1) == pytest.approx(np.cov(pair), rel=1e-9)


def test_a_shape_is_that_of_the_pooled_values(session: Session) -> None:
    [part] = session.ask("shape", Statistic(kind="shape", variable="weight"), lane="exact")
    found = part.groups[""]
    assert isinstance(found, Shape)
    values = np.array(session.values("weight", "variable:weight"))
    deviations = values - values.mean()
    assert found.m3 == pytest.approx((deviations**3).sum(), rel=1e-9)
    assert found.m4 == pytest.approx((deviations**4).sum(), rel=1e-9)


def test_what_no_analysis_set_is_asked_of_is_not_exact_together(session: Session) -> None:
    smokers = Statistic(kind="levels", variable="smoker")
    parts = session.ask("no set", smokers, crosstab("smoker", "relapse"), lane="exact")
    assert [part.withheld for part in parts] == [False, True]
