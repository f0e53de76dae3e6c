"""A project derives variables, hospitals make releases with them, and a researcher asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from coordinator.commands import documents as coordinator_documents
from node.catalog.asked import Asked
from node.catalog.store import Catalog
from node.commands import documents as node_documents
from node.commands.consent import add as add_consents
from node.commands.ingest import ingest
from node.config import create_home
from node.console.cohorts import Cohorts, choices, read
from node.gate.policy import Policy
from node.home import NodeHome
from researcher import levels, mean
from researcher.imputed import draws
from tests.end_to_end.federation import (
    POLICY,
    PROJECT,
    Federation,
    canary,
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
[[variables]]
name = "ct.kvp"
kind = "number"
unit = "kV"
minimum = 60
maximum = 150
bins = 9
derive = { imaging = "kvp", modality = "CT" }
[[variables]]
name = "ct.manufacturer"
kind = "category"
levels = ["GE MEDICAL SYSTEMS", "mixed"]
derive = { imaging = "manufacturer", modality = "CT" }
[[variables]]
name = "mr.repetition_time"
kind = "number"
unit = "ms"
minimum = 0
maximum = 10000
derive = { imaging = "repetition_time", modality = "MR" }
[[variables]]
name = "research"
kind = "category"
levels = ["no", "yes"]
derive = { consent = "research" }
[[variables]]
name = "has_ct"
kind = "category"
levels = ["no", "yes"]
derive = { linked = "images", modality = "CT" }
"""
CONSENTING = 75
"""So many patients of each site, the first, consent to research; they have all the images."""
CT, CT_140, BOTH = ("CT_small",), ("693_J2KI",), ("CT_small", "693_J2KI")
MR, MR_FAST = ("MR_small",), ("examples_overlay",)
SCANNED = {
    "north": {CT: 16, CT_140: 14, BOTH: 12, MR: 20},
    "south": {CT: 15, CT_140: 16, MR_FAST: 20},
    "west": {CT: 14, CT_140: 14, MR: 16},
}
"""Which of pydicom's files so many patients of a site have. Others have no images."""


def sign(path: Path, site: str) -> Path:
    """Write a site's list of consents."""
    lines = [f"{canary(site, i)},consent,research" for i in range(CONSENTING)]
    lines += [f"{canary(site, i)},refused,research" for i in range(CONSENTING, CONSENTING + 20)]
    path.write_text("\n".join(["number,basis,purposes", *lines]))
    return path


def scan(folder: Path, site: str) -> Path:
    """Write a site's images: pydicom's real ones, each as another patient's."""
    folder.mkdir()
    patients = [files for files, many in SCANNED[site].items() for _ in range(many)]
    for number, files in enumerate(patients):
        for name in files:
            image = pydicom.dcmread(str(get_testdata_file(f"{name}.dcm")))
            image.PatientID = canary(site, number)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(
                    image, keyword, generate_uid(entropy_srcs=[site, str(number), name, keyword])
                )
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.save_as(folder / f"{number}-{name}.dcm")
    return folder


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
            ingest([scan(federation.root / f"{site}-images", site)], home=place.root)
            add_consents(sign(federation.root / f"{site}-consents.csv", site), home=place.root)
            federation.join(site)
        federation.join_researcher("ana")
        federation.agree_on_roster()
        file = federation.root / "project.toml"
        file.write_text(project_text(SITES, ["ana"], {}) + DERIVED)
        coordinator_documents.propose_project(file, False, federation.coordinator_home)
        for site in SITES:
            options = ["--table", "trial", "--dictionary", PROJECT, "--cells", "research"]
            options += ["--modality", "CT", "--modality", "MR"]
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
    assert "yes where consent for research is held" in " ".join(shown.out.replace("│", " ").split())


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


def test_how_images_were_taken_is_told_over_all_sites(clinics: Federation) -> None:
    volts = {CT: 120, CT_140: 140, BOTH: 130}
    had = [volts[f] for s in SITES for f, n in SCANNED[s].items() for _ in range(n) if f in volts]
    with clinics.connect() as consortium:
        found = consortium.study(PROJECT).acquisition()
    assert found.answers[0].lane == "exact"
    kvp, maker, wait = found.tidy()
    # Exact answers leave a few subjects out, at random.
    assert 0.85 * len(had) <= float(kvp["n"]) <= len(had)
    assert kvp["mean"] == pytest.approx(np.mean(had), rel=0.02)
    assert kvp["SD"] == pytest.approx(np.std(had), rel=0.1)
    assert 120 <= float(kvp["median"]) <= 140
    # 693_J2KI doesn't name its maker.
    assert (maker["level"], maker["share"]) == ("GE MEDICAL SYSTEMS", 1)
    assert (wait["modality"], wait["parameter"]) == ("MR", "repetition time (ms)")
    assert 5 < float(wait["mean"]) <= 4000
    done = clinics.as_researcher("ana", "analyse", "acquisition", "-p", PROJECT, "--modality", "CT")
    assert "GE MEDICAL" in done.out
    assert "repetition" not in done.out


def test_those_who_consent_and_are_linked_are_a_cohort_in_python_in_json_and_on_the_page(
    clinics: Federation, tmp_path: Path
) -> None:
    young = [float(r["age"]) < 60 for s in SITES for r in rows(s)[:CONSENTING] if r["age"] != ""]  # type: ignore[arg-type]
    with clinics.connect() as consortium:
        study = consortium.study(PROJECT)
        consenting = study.of(study["research"] == "yes")
        found = consenting.ask(levels("age_group"))
        scanned = study.ask(levels("has_ct"))["levels", "has_ct"].counts().counts
    assert found.lane == "exact"
    counts = found["levels", "age_group"].counts().counts
    # Exact answers leave a few subjects out, at random.
    assert 0.9 * len(young) <= sum(counts) <= len(young)
    assert counts[0] / sum(counts) == pytest.approx(np.mean(young), abs=0.05)
    had = sum(n for s in SITES for files, n in SCANNED[s].items() if {*files} & {*BOTH})
    assert scanned[1] == pytest.approx(had, rel=0.1)
    cohort = tmp_path / "cohort.json"
    cohort.write_text(json.dumps({"variable": "research", "levels": ["yes"]}))
    asked = ("statistics", "-p", PROJECT, "--levels", "age_group", "--json")
    in_json = clinics.as_researcher("ana", *asked, "--cohort", cohort)
    typed = clinics.as_researcher("ana", *asked, "--where", "research = yes")
    told = [json.loads(line)["value"] for line in typed.out.splitlines()]
    assert told[: len(counts)] == list(counts)
    assert in_json.out == typed.out
    home = NodeHome(clinics.home(SITES[0]))
    with Catalog.open(home) as catalog:
        (choice,) = choices(catalog)
        counting = Cohorts(home, Asked(catalog.engine))
        counted = counting.count(choice, read("research = yes\nhas_ct = yes"), Policy())
    inside = [n for files, n in SCANNED[SITES[0]].items() if {*files} & {*BOTH}]
    assert (counted.inside, counted.subjects) == (sum(inside), len(rows(SITES[0])))
