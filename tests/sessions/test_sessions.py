"""Honest work passes: whole analyses under ``standard``, with missing values, and by which lane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.documents import RecipeGrant
from contract.statistics.answers import Part
from contract.statistics.noisy import estimate_comoments, quantile
from contract.statistics.summaries import CoMoments
from contract.statistics.survival import last_values, life_tables, log_rank
from contract.work import Statistic, TrainingWork
from node.catalog.strata import StratumWish
from researcher.models import ModelAnswer
from tests.sessions.hospitals import (
    Session,
    Table,
    counts,
    missing,
    moments,
    open_sites,
)
from tests.sessions.trained import parameters, tabular, trained

NO_YES = ("no", "yes")
WOMEN = Cohort(variable="sex", levels=("f",))
OLDER = Cohort(variable="age", at_least=60)


def statistic(kind: str, variable: str, by: str | None = None) -> Statistic:
    return Statistic.model_validate({"kind": kind, "variable": variable, "by": by})


def assert_mean(part: Part, group: str, values: list[float]) -> None:
    """An exact mean and standard deviation are the pooled ones."""
    found = moments(part, group)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9)
    assert found.standard_deviation == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def half_width(part: Part, figure: str = "counts") -> float:
    assert part.noise is not None
    return next(t.half_width for t in part.noise.terms if t.figure == figure)


def assert_fit(found: ModelAnswer, expected: Any) -> None:
    """A model over sites is that of the pooled rows."""
    assert found.fit.coefficients == pytest.approx(expected.params, rel=1e-6, abs=1e-9)
    assert found.fit.standard_errors == pytest.approx(expected.bse, rel=1e-6)


def assert_survival(session: Session, analysis: str, time: str, event: str, group: str) -> None:
    """Curves, their test and a Cox model are those of the pooled rows."""
    told = f"analysis:{analysis}"
    [crossed] = session.ask(
        "survival",
        Statistic(kind="crosstab", variable=time, across=(event, group)),
        analysis=analysis,
    )
    variable, by = session.project.variable(time), session.project.variable(group)
    assert variable is not None
    assert by is not None
    tables = life_tables(counts(crossed).counts, variable, len(by.levels))
    for level, table in zip(by.levels, tables, strict=True):
        times = np.array(session.values(time, told, **{group: level}))
        events = np.array(session.values(event, told, **{group: level})) == "yes"
        ends = last_values(variable)
        # Who is lost within a bin is at risk for its events.
        binned = ends[np.searchsorted(ends, times)] + np.where(events, 0, 0.5)
        curve = sm.SurvfuncRight(binned, events)
        expected = [curve.surv_prob[curve.surv_times <= end][-1] for end in table.times]
        assert table.survival == pytest.approx(expected)
    assert log_rank(tables).p < 0.01

    cox = session.fit(
        "survival", f"Surv({time}, {event}) ~ {group} + age", "cox", analysis=analysis
    )
    x, _ = session.design(told, (group, "age"), event)
    seen = np.array(session.values(event, told)) == "yes"
    model = sm.PHReg(
        np.array(session.values(time, told)),
        x[:, 1:],
        seen,
        strata=session.places(told),
        ties="efron",
    )
    assert_fit(cox, model.fit(method="newton", tol=1e-12, maxiter=100, disp=0))


# ---- a trial in three centres --------------------------------------------------------------------

TRIAL = (
    Variable(name="arm", kind="category", levels=("active", "control")),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="age", kind="number", whole=True, minimum=18, maximum=90, bins=6),
    Variable(name="bmi", kind="number", minimum=10, maximum=70, bins=6),
    Variable(name="smoker", kind="category", levels=NO_YES),
    Variable(name="ill", kind="category", levels=NO_YES),
    Variable(name="weeks", kind="number", whole=True, minimum=0, maximum=51, bins=3),
    Variable(name="relapse", kind="category", levels=NO_YES),
)


def trial(seed: int, size: int) -> Table:
    rng = np.random.default_rng(seed)
    arm = [("active", "control")[i % 2] for i in range(size)]
    return {
        "arm": arm,
        "sex": missing(rng, [str(v) for v in rng.choice(["f", "m"], size)], 0.004),
        "age": [int(v) for v in rng.integers(25, 85, size)],
        "bmi": missing(rng, [round(float(v), 2) for v in rng.normal(27, 4, size)], 0.05),
        "smoker": missing(rng, [NO_YES[int(v < 0.3)] for v in rng.random(size)], 0.03),
        "ill": missing(
            rng,
            [NO_YES[int(rng.random() < (0.25 if a == "active" else 0.4))] for a in arm],
            0.04,
        ),
        **followed(rng, [0.02 if a == "active" else 0.035 for a in arm], 51, "weeks", "relapse"),
    }


def followed(
    rng: np.random.Generator, hazards: Sequence[float], end: int, time: str, event: str
) -> dict[str, list[Any]]:
    """Until when each was followed, and whether with the event; some are lost on the way."""
    until = np.ceil(rng.exponential(1 / np.array(hazards)))
    lost = np.minimum(rng.integers(1, 2 * end, len(hazards)), end)
    return {
        time: [int(v) for v in np.minimum(until, lost)],
        event: [NO_YES[int(v)] for v in until <= lost],
    }


def test_a_trial_in_three_centres(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sites = open_sites(
        tmp_path,
        [trial(1, 480), trial(2, 460), trial(3, 520)],
        TRIAL,
        [StratumWish("arm"), StratumWish("sex"), StratumWish("age", (60.0,))],
        {"primary": ("ill", "bmi", "age", "arm", "weeks", "relapse")},
    )
    session = Session(sites)

    table = [
        statistic("moments", "age", "arm"),
        statistic("moments", "bmi", "arm"),
        statistic("levels", "sex", "arm"),
        statistic("levels", "smoker", "arm"),
        statistic("levels", "ill", "arm"),
    ]
    age, bmi, sex, smoker, ill = session.ask("table 1", *table)
    for arm in ("active", "control"):
        assert_mean(age, arm, session.values("age", "variable:age", arm=arm))
        assert_mean(bmi, arm, session.values("bmi", "variable:bmi", arm=arm))
        for part, name, levels in (
            (sex, "sex", ("f", "m")), (smoker, "smoker", NO_YES), (ill, "ill", NO_YES),
        ):  # fmt: skip
            there = session.values(name, f"variable:{name}", arm=arm)
            assert counts(part, arm).counts == tuple(there.count(level) for level in levels)
            # Few are left out: nearly all who have a value are told of.
            assert len(there) >= 0.85 * len(session.values(name, arm=arm))

    [women] = session.ask("women", statistic("levels", "ill", "arm"), cohort=WOMEN)
    for arm in ("active", "control"):
        there = session.values("ill", "variable:ill", arm=arm, sex="f")
        assert counts(women, arm).counts == (there.count("no"), there.count("yes"))
    [older] = session.ask("60 and older", statistic("moments", "bmi", "arm"), cohort=OLDER)
    for arm in ("active", "control"):
        older_bmi = session.values("bmi", "variable:bmi", arm=arm, age=lambda v: v >= 60)
        assert_mean(older, arm, older_bmi)

    [primary] = session.ask("complete cases", statistic("levels", "ill", "arm"), analysis="primary")
    for arm in ("active", "control"):
        there = session.values("ill", "analysis:primary", arm=arm)
        assert counts(primary, arm).counts == (there.count("no"), there.count("yes"))

    # Regressions on the complete cases, and survival.
    logistic = session.fit("model", "ill ~ arm + age + bmi", "logistic", analysis="primary")
    x, y = session.design("analysis:primary", ("arm", "age", "bmi"), "ill")
    assert_fit(logistic, sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-12))
    linear = session.fit("model", "bmi ~ arm + age", "linear", analysis="primary")
    x, y = session.design("analysis:primary", ("arm", "age"), "bmi")
    assert_fit(linear, sm.OLS(y, x).fit())
    assert_survival(session, "primary", "weeks", "relapse", "arm")

    # Not declared: by body mass. It has noise, and is of use.
    heavy = Cohort(variable="bmi", at_least=30)
    [noisy] = session.ask("bmi 30 and more", statistic("levels", "ill", "arm"), cohort=heavy)
    assert noisy.lane == "dp"
    for arm in ("active", "control"):
        there = session.values("ill", arm=arm, bmi=lambda v: v >= 30)
        truth = np.array([there.count("no"), there.count("yes")])
        off = np.abs(np.array(counts(noisy, arm).counts) - truth)
        assert off.max() <= 5 * half_width(noisy)
        assert half_width(noisy) < 0.2 * truth.sum()

    with capsys.disabled():
        print("\n" + session.show("A trial in three centres"))
    exact = [lane for name, lane in session.lanes.items() if not name.startswith("bmi 30")]
    assert set(exact) == {"exact"}


@pytest.mark.slow
def test_a_model_is_trained_on_the_trial(tmp_path: Path) -> None:
    features = ("arm=control", "age", "bmi")
    bundle, grant = tabular("session", "ill", features)
    sites = open_sites(
        tmp_path, [trial(1, 480), trial(2, 460), trial(3, 520)], TRIAL, [StratumWish("arm")], {},
        recipes=[grant],
    )  # fmt: skip
    assert_trained(Session(sites), tmp_path, bundle, grant, ("age", "bmi"))


def assert_trained(
    session: Session, folder: Path, bundle: bytes, grant: RecipeGrant, numbers: Sequence[str]
) -> None:
    """A model learns from round to round; numbers are scaled by what the sites tell exactly."""
    asked = session.ask("scaling", *(statistic("moments", name) for name in numbers))
    scales = {n: moments(p) for n, p in zip(numbers, asked, strict=True)}
    features = str(grant.parameters["features"].choices[0]).split(",")
    scaled = [
        (scales[f].mean, scales[f].standard_deviation) if f in scales else (0.5, 0.5)
        for f in features
    ]
    values = parameters(grant, scaled, len(session.sites))
    envelope = session.job(TrainingWork(bundle=grant.bundle, parameters=values))
    losses = trained(folder, bundle, envelope, session.project, session.sites)
    assert len(losses["train_loss"]) == 6
    assert losses["train_loss"][-1] < losses["train_loss"][0] < np.log(2) + 0.2
    assert losses["eval_brier"][-1] < 0.25
    for site in session.sites:
        steps = [e for e in site.hospital.entries("answer") if e.body["task"] != "statistics"]
        assert len(steps) >= 12


# ---- a registry ----------------------------------------------------------------------------------

REGISTRY = (
    Variable(name="stage", kind="category", levels=("I", "II", "III", "IV")),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="age", kind="number", whole=True, minimum=20, maximum=100, bins=8),
    Variable(name="marker", kind="number", minimum=0, maximum=500, bins=10),
    Variable(name="pressure", kind="number", whole=True, minimum=60, maximum=260, bins=10),
    Variable(name="treated", kind="category", levels=NO_YES),
    Variable(name="died", kind="category", levels=NO_YES),
    Variable(name="months", kind="number", whole=True, minimum=0, maximum=60, bins=4),
)


def registry(seed: int, size: int) -> Table:
    rng = np.random.default_rng(seed)
    stages = rng.choice(["I", "II", "III", "IV"], size, p=[0.35, 0.3, 0.2, 0.15])
    hazard = {"I": 0.012, "II": 0.015, "III": 0.022, "IV": 0.035}
    treated = rng.random(size) < 0.5
    hazards = [hazard[str(s)] * (0.7 if t else 1.0) for s, t in zip(stages, treated, strict=True)]
    return {
        "stage": [str(v) for v in stages],
        "sex": [str(v) for v in rng.choice(["f", "m"], size)],
        "age": [int(v) for v in rng.integers(30, 89, size)],
        "marker": missing(
            rng, [round(min(float(v), 499.0), 2) for v in rng.gamma(3, 40, size)], 0.3
        ),
        "pressure": missing(rng, [int(v) for v in rng.normal(140, 20, size)], 0.1),
        "treated": [NO_YES[int(v)] for v in treated],
        **followed(rng, hazards, 60, "months", "died"),
    }


def test_a_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sites = open_sites(
        tmp_path,
        [registry(11, 1200), registry(12, 900), registry(13, 1500)],
        REGISTRY,
        [StratumWish("stage"), StratumWish("sex")],
        {"survival": ("died", "treated", "stage", "months", "age")},
    )
    session = Session(sites)
    stages = ("I", "II", "III", "IV")
    age, pressure, marker, died, treated = session.ask(
        "by stage",
        statistic("moments", "age", "stage"),
        statistic("moments", "pressure", "stage"),
        statistic("moments", "marker", "stage"),
        statistic("levels", "died", "stage"),
        statistic("levels", "treated", "stage"),
    )
    for stage in stages:
        for part, name in ((age, "age"), (pressure, "pressure"), (marker, "marker")):
            there = session.values(name, f"variable:{name}", stage=stage)
            assert_mean(part, stage, there)
            # Fewer than 20 are left out in a cell; the smallest cells hold some 65.
            assert len(there) >= 0.75 * len(session.values(name, stage=stage))
        for part, name in ((died, "died"), (treated, "treated")):
            there = session.values(name, f"variable:{name}", stage=stage)
            assert counts(part, stage).counts == (there.count("no"), there.count("yes"))

    late = Cohort(variable="stage", levels=("III", "IV")) & WOMEN
    [deaths] = session.ask("women, late", statistic("levels", "died"), cohort=late)
    there = session.values("died", "variable:died", sex="f", stage=lambda v: v in ("III", "IV"))
    assert counts(deaths).counts == (there.count("no"), there.count("yes"))

    [complete] = session.ask(
        "complete cases", statistic("levels", "died", "stage"), analysis="survival"
    )
    there = session.values("died", "analysis:survival", stage="IV")
    assert counts(complete, "IV").counts == (there.count("no"), there.count("yes"))

    # Survival by treatment, and what predicts the pressure at the beginning.
    assert_survival(session, "survival", "months", "died", "treated")
    adjusted = session.fit("model", "died ~ treated + age + stage", "logistic", analysis="survival")
    x, y = session.design("analysis:survival", ("treated", "age", "stage"), "died")
    assert_fit(adjusted, sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-12))

    # The youngest, and a histogram whose tails are thin: with noise.
    young = Cohort(variable="age", below=40)
    [few, grid] = session.ask(
        "under 40", statistic("count", "age"), statistic("histogram", "pressure"), cohort=young
    )
    truth = len(session.values("age", age=lambda v: v < 40))
    assert abs(counts(few).n - truth) <= 5 * half_width(few)
    assert half_width(few) < 0.25 * truth
    assert (few.lane, grid.lane) == ("dp", "dp")

    # Quantiles and a correlation in a subgroup that nobody foresaw.
    severe = Cohort(variable="marker", at_least=120) & ~Cohort(variable="stage", levels=("I",))
    [pressures] = session.ask("high marker", statistic("histogram", "pressure"), cohort=severe)
    where = {"marker": lambda v: v >= 120, "stage": lambda v: v != "I"}
    there = session.values("pressure", **where)
    assert pressures.noise is not None
    median = quantile(counts(pressures), pressures.noise, 60, 260, 0.5)
    assert median.low - 20 <= np.median(there) <= median.high + 20  # a bin beside, for the unlikely
    assert median.high - median.low <= 80
    [both] = session.ask(
        "under 80",
        Statistic(kind="comoments", variable="age", across=("pressure",)),
        cohort=Cohort(variable="age", below=80),
    )
    comoments = both.groups[""]
    assert isinstance(comoments, CoMoments)
    assert both.noise is not None
    said = estimate_comoments(comoments, both.noise, [(20, 100), (60, 260)])
    where = {"age": lambda v: v < 80, "pressure": lambda v: True}
    truth = np.corrcoef(session.values("age", **where), session.values("pressure", **where))[0, 1]
    width = said.correlation_half_width[0, 1]
    assert abs(said.correlation[0, 1] - truth) <= 4 * width
    assert width < 0.6  # 0.35 or so; noise is in the width, too

    with capsys.disabled():
        print("\n" + session.show("A registry"))
    explored = ("under 40", "high marker", "under 80")
    exact = [lane for name, lane in session.lanes.items() if not name.startswith(explored)]
    assert set(exact) == {"exact"}


@pytest.mark.slow
def test_a_model_is_trained_on_the_registry(tmp_path: Path) -> None:
    bundle, grant = tabular("session", "died", ("treated=yes", "stage=III", "stage=IV", "age"))
    sites = open_sites(
        tmp_path, [registry(11, 1200), registry(12, 900), registry(13, 1500)], REGISTRY,
        [StratumWish("stage")], {}, recipes=[grant],
    )  # fmt: skip
    assert_trained(Session(sites), tmp_path, bundle, grant, ("age",))
