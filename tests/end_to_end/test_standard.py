"""Nodes under the policy ``standard`` as it is written: what leaves them, and what doesn't."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from lifelines import CoxPHFitter

from contract.errors import JobFailed, UsageError
from node.commands import release as node_release
from node.config import create_home, default_text
from researcher import Consortium, levels, mean
from tests.end_to_end.federation import (
    PROJECT,
    Federation,
    canary,
    surname,
    take_in,
    weight,
    write_csv,
    write_schema,
)
from tests.node.homes import new_home

SITES = ("east", "mid", "north", "south", "west")
"""As many as a secure sum under ``standard`` is over."""
ROWS = 140
FEW = 7
"""How many have the rare finding at the last site: enough under ``open-research``, not here."""
ENOUGH = 25
RARE = "yes"


@cache
def rows(site: str) -> list[dict[str, object]]:
    """A hospital's rows: its patients' ages at the outcome or the end depend on the arm."""
    place = SITES.index(site)
    chance = np.random.default_rng(place)
    made: list[dict[str, object]] = []
    for i in range(ROWS):
        arm = "AB"[int(chance.integers(0, 2))]
        years = chance.exponential((16.0 if arm == "B" else 24.0) + 2 * place)
        made.append(
            {
                "patient": canary(site, i),
                "name": surname(site, i),
                "age": round(20 + min(years, 60.0)),
                "weight": repr(weight(site, i)),
                "arm": arm,
                "outcome": "yes" if chance.random() < 0.6 else "no",
                "rare": RARE if i < (FEW if site == SITES[-1] else ENOUGH) else "no",
            }
        )
    return made


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Five hospitals whose policy is the one that a new home has."""
    federation = Federation(tmp_path_factory.mktemp("standard") / "opt", SITES)
    try:
        for site in SITES:
            home = federation.homes[site] = federation.home(site)
            home.parent.mkdir(parents=True, exist_ok=True)
            place = create_home(new_home(home))
            assert place.policy.read_text() == default_text("policy/standard.toml")
            table = write_csv(home.parent / f"{site}.csv", rows(site))
            take_in(home, table, write_schema(home.parent))
            node_release.create(
                "trial", table="trial", home=home, analysis=["main=age,arm,outcome"]
            )
        yield federation.bring_up(researchers=("ana",))
    finally:
        federation.close()


def pooled() -> pl.DataFrame:
    """Return all rows with their hospital, which nobody else sees together."""
    return pl.concat([pl.DataFrame(rows(site)).with_columns(site=pl.lit(site)) for site in SITES])


def test_means_and_counts_leave_exactly(hospitals: Federation) -> None:
    with hospitals.connect() as ana:
        found = ana.statistics(
            PROJECT, [mean("age", by="arm"), levels("outcome", by="arm")], lane="exact"
        )
    frame = pooled()
    ages, outcomes = found.parts
    for (arm,), some in frame.group_by("arm"):
        assert ages.moments(str(arm)).n == some.height
        assert ages.moments(str(arm)).mean == pytest.approx(some["age"].mean(), rel=1e-12)
        told = outcomes.counts(str(arm))
        assert told.counts == tuple((some["outcome"] == one).sum() for one in ("no", "yes"))
    assert found.answered == SITES
    assert found.notes == []


@pytest.mark.parametrize("secure", [False, True])
def test_a_cox_model_with_hospitals_as_strata_is_that_of_all_rows(
    hospitals: Federation, secure: bool
) -> None:
    with hospitals.connect() as ana:
        found = ana.model(
            PROJECT, "Surv(age, outcome) ~ arm", "cox", analysis="main", secure=secure
        )
    frame = pooled().select(
        "age", "site", event=pl.col("outcome") == "yes", arm=(pl.col("arm") == "B").cast(float)
    )
    expected = CoxPHFitter().fit(
        pd.DataFrame(frame.to_dict(as_series=False)),
        "age",
        "event",
        strata=["site"],
        fit_options={"precision": 1e-14},
    )
    assert found.answered == SITES
    assert found.fit.converged
    assert found.fit.n == frame.height
    assert found.fit.coefficients == pytest.approx(expected.params_.to_numpy(), rel=1e-9)
    assert found.fit.standard_errors == pytest.approx(
        expected.standard_errors_.to_numpy(), rel=1e-9
    )


def test_a_count_below_the_minimum_cell_is_withheld_and_named(hospitals: Federation) -> None:
    with hospitals.connect() as ana:
        found = ana.statistics(PROJECT, [levels("rare"), levels("outcome")], lane="exact")
    rare, outcome = found.parts
    assert rare.withheld == SITES[-1:]
    assert rare.counts().counts[1] == ENOUGH * (len(SITES) - 1)
    assert outcome.counts().n == ROWS * len(SITES)
    [note] = found.notes
    assert "west withheld levels of rare (20% of subjects)" in note


def test_a_count_that_one_hospital_alone_is_asked_for_is_refused(hospitals: Federation) -> None:
    with hospitals.connect() as ana:
        found = ana.statistics(PROJECT, [levels("rare")], lane="exact")
    assert found.answered == SITES[:-1]
    assert [(one.site, one.state) for one in found.missing] == [(SITES[-1], "refused")]
    assert "1 refused" in found.notes[-1]
    assert not hospitals.answers(SITES[-1], found.job)


def test_hospitals_take_part_in_a_secure_sum_over_five_and_in_none_over_fewer(
    hospitals: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> int:
        return sum(e.kind == "answer" for site in SITES for e in hospitals.entries(site))

    with hospitals.connect() as ana:
        found = ana.statistics(PROJECT, [mean("age")], secure=True)
        before = answers()
        with pytest.raises(UsageError, match="over 5 sites or more, and 4 are asked"):
            ana.statistics(PROJECT, [mean("age")], sites=list(SITES[:-1]), secure=True)
        # Whoever asks without minding what hospitals want is refused by them.
        monkeypatch.setattr(Consortium, "_fewest_of_a_sum", lambda *_: 0)
        with pytest.raises(JobFailed, match=r"Too few sites.*too-few-sites .*--minimum-sites"):
            ana.statistics(
                PROJECT, [mean("age")], sites=list(SITES[:-1]), minimum_sites=4, secure=True
            )
    assert found[0].moments().mean == pytest.approx(pooled()["age"].mean(), rel=1e-12)
    assert answers() == before


def test_an_approved_recipe_runs(hospitals: Federation) -> None:
    sites = SITES[:2]
    with hospitals.connect() as ana:
        result = ana.train(PROJECT, "steps", {"rounds": 1}, seed=1, sites=list(sites)).result()
    assert result.answered == sites
    # One step from zero; both hospitals have as many rows, so it is the step of all their rows.
    some = pooled().filter(pl.col("site").is_in(sites))
    x = np.column_stack([np.ones(some.height), (some["age"] - 50) / 20, some["arm"] == "B"])
    step = 0.1 * x.T @ (some["outcome"] == "yes").to_numpy() / some.height
    assert np.asarray(result.arrays.items["w"]) == pytest.approx(step, rel=1e-5)
