"""A project derives variables, hospitals make releases with them, and a researcher asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator.commands import documents as coordinator_documents
from node.commands import documents as node_documents
from node.config import create_home
from node.home import NodeHome
from researcher import levels, mean
from researcher.imputed import draws
from tests.end_to_end.federation import (
    POLICY,
    PROJECT,
    Federation,
    project_text,
    take_in,
    write_csv,
    write_schema,
)
from tests.end_to_end.test_models import SITES, rows

pytestmark = pytest.mark.slow

DERIVED = """
[[variables]]
name = "age_group"
kind = "category"
levels = ["young", "old"]
derive = { bins = { variable = "age" }, edges = [60], levels = ["young", "old"] }
[[variables]]
name = "age_full"
kind = "number"
minimum = 0
maximum = 120
derive = { impute = "age", using = ["weight", "outcome"], imputations = 3 }
"""


@pytest.fixture(scope="module")
def clinics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = Federation(tmp_path_factory.mktemp("derived") / "opt", SITES)
    try:
        federation.found()
        for site in SITES:
            place = create_home(NodeHome(federation.home(site)))
            place.policy.write_text(POLICY)
            table = write_csv(federation.root / f"{site}.csv", rows(site))
            take_in(place.root, table, write_schema(federation.root))
            federation.join(site)
        federation.join_researcher("ana")
        federation.agree_on_roster()
        file = federation.root / "project.toml"
        file.write_text(project_text(SITES, ["ana"], {}) + DERIVED)
        coordinator_documents.propose_project(file, False, federation.coordinator_home)
        for site in SITES:
            options = ("--table", "trial", "--dictionary", PROJECT, "--cells", "none")
            made = federation.on(site, "release", "create", "derived", *options)
            assert "derived variables:" in made.out, made
            node_documents.approve_project(
                PROJECT, ["derived"], federation.name, None, True, federation.home(site)
            )
        federation.serve_nodes()
        yield federation
    finally:
        federation.close()


def test_everybody_is_shown_how_variables_are_derived(clinics: Federation) -> None:
    shown = clinics.as_researcher("ana", "projects")
    assert "age in bins at 60" in " ".join(shown.out.replace("│", " ").split())
    assert "imputed by" in shown.out


def test_what_is_derived_is_asked_like_anything_else(clinics: Federation) -> None:
    ages = np.array([float(r["age"]) for s in SITES for r in rows(s) if r["age"] != ""])  # type: ignore[arg-type]
    with clinics.connect() as consortium:
        study = consortium.study(PROJECT)
        found = study.ask(levels("age_group"), mean("age"))
        counts = found["levels", "age_group"].counts().counts
        assert found.lane == "exact"
        assert abs(counts[0] / sum(counts) - (ages < 60).mean()) < 0.02
        assert draws(study.project, "age_full") == [f"age_full.{i}" for i in (1, 2, 3)]
        pooled = study.imputed_mean("age_full").result["all"]
        assert pooled.imputations == 3
        assert abs(pooled.estimate - ages.mean()) < 4 * pooled.standard_error
        report = study.quality("age", "age_group", outcome="outcome", predictors=["age"])
        assert report.lane == "exact"
        assert "participants" in str(report)


def test_the_report_is_a_command(clinics: Federation, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    options = ("-p", PROJECT, "--outcome", "outcome", "--predictor", "age", "--html", page)
    done = clinics.as_researcher("ana", "quality", "age", "age_group", *options)
    assert "events per parameter" in done.out
    assert max(len(line) for line in done.out.splitlines() if line.startswith("│")) <= 80
    assert "<pre" in page.read_text()
