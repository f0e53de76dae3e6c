"""Recipes over real nodes: releases that were frozen, sandboxes, gate and ledger, real TLS."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator.commands import documents as coordinator_documents
from foundation.flower import build
from node.commands import documents as node_documents
from node.commands import recipe as node_recipe
from node.commands import release as node_release
from node.commands.ingest import ingest
from node.config import create_home
from node.home import NodeHome
from tests.end_to_end.federation import POLICY, PROJECT, Federation, project_text, write_schema
from tests.recipes.harness import dicom

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SITES = ("north", "south")
FEATURES = "age,weight,arm=B"
SLICES = 16
PEOPLE = 50


def people(site: str) -> list[dict[str, object]]:
    """A hospital's rows: the outcome depends on age and arm, and south is older."""
    chance = np.random.default_rng(SITES.index(site))
    rows: list[dict[str, object]] = []
    for number in range(PEOPLE):
        age = int(chance.integers(20, 70)) + 15 * SITES.index(site)
        arm = "AB"[int(chance.integers(0, 2))]
        risk = 1 / (1 + np.exp(-(0.08 * (age - 55) + (arm == "B"))))
        rows.append(
            {
                "patient": f"{site}-{number:04d}",
                "name": f"Name {number}",
                "age": age,
                "weight": "" if number % 9 == 0 else round(60 + age / 5 + number % 7, 1),
                "arm": arm,
                "outcome": "yes" if chance.random() < risk else "no",
                "rare": "no",
            }
        )
    return rows


def head(age: float, seed: int) -> np.ndarray:
    """A bright ball with a dark middle that grows with age."""
    side = np.linspace(-1, 1, SLICES)
    z, y, x = np.meshgrid(side, side, side, indexing="ij")
    far = np.sqrt(z**2 + y**2 + x**2)
    found = np.where(far < 0.95, 800, 0)
    found[far < 0.1 + 0.7 * age / 100] = 150
    noise = np.random.default_rng(seed).normal(0, 10, found.shape)
    return np.clip(found + noise, 0, 4000).astype(np.uint16)


def make_node(home: Path, site: str) -> None:
    """Take in a table and scans of the same patients, and freeze both."""
    place = create_home(NodeHome(home))
    place.policy.write_text(POLICY)
    rows = people(site)
    table = home.parent / f"{site}.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    ingest([table], schema=write_schema(home.parent), home=home)
    scans = home.parent / f"{site}-scans"
    scans.mkdir()
    for number, row in enumerate(rows):
        values = head(float(str(row["age"])), number)
        made = dicom(values, str(row["patient"]), thickness_mm=10.0, spacing_mm=(10.0, 10.0))
        (scans / f"{number}.dcm").write_bytes(made.data)
    ingest([scans], home=home)
    node_release.create("trial", table="trial", modality=["MR"], home=home)


def project(folder: Path) -> str:
    """Return the project's text, with both recipes and their outputs."""
    text = project_text(SITES, ["ana"], {})
    at = text.index("[[variables]]")
    recipes = ""
    for name, metrics, parameters in (
        (
            "tabular",
            ["train_loss", "eval_loss", "eval_brier", "num-examples"],
            {
                "outcome": '{ choices = ["outcome"] }',
                "positive": '{ choices = ["yes"] }',
                "features": f"{{ choices = [{json.dumps(FEATURES)}] }}",
                "standardise": '{ choices = ["sums"] }',
            },
        ),
        (
            "brain_age",
            ["train_loss", "eval_error_years", "eval_bias_years", "num-examples"],
            {
                "age": '{ choices = ["age"] }',
                **dict.fromkeys(("slices", "rows", "columns"), "{ minimum = 8, maximum = 64 }"),
                "channels": "{ minimum = 1, maximum = 16 }",
                "blocks": "{ minimum = 1, maximum = 4 }",
                "learning-rate": "{ minimum = 0.0001, maximum = 0.1 }",
                "local-epochs": "{ minimum = 1, maximum = 10 }",
                "dropout": "{ minimum = 0, maximum = 0.5 }",
                "least-slices": "{ minimum = 1, maximum = 32 }",
            },
        ),
    ):
        path = folder / f"{name}.fab"
        path.write_bytes(build(RECIPES / name))
        recipes += f'[[recipes]]\nname = "{name}"\npath = {json.dumps(str(path))}\n'
        recipes += f"metrics = {json.dumps(metrics)}\n[recipes.parameters]\n"
        for key, allowed in parameters.items():
            recipes += f"{key} = {allowed}\n"
        recipes += 'table = { choices = ["trial"] }\n'
        recipes += "held-out = { minimum = 0.2, maximum = 0.5 }\n"
        recipes += "num-server-rounds = { minimum = 1, maximum = 50 }\n"
        recipes += "minimum-nodes = { minimum = 1, maximum = 4 }\n"
    return text[:at] + recipes + text[at:]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Hospitals under ``open-research`` that approved recipes for tables and for images."""
    root = tmp_path_factory.mktemp("recipes")
    federation = Federation(root / "opt", SITES)
    try:
        federation.found()
        for site in SITES:
            make_node(federation.home(site), site)
            federation.join(site)
        federation.join_researcher("ana")
        federation.agree_on_roster()
        file = root / "project.toml"
        file.write_text(project(root))
        coordinator_documents.propose_project(file, False, federation.coordinator_home)
        for site in SITES:
            for bundle in sorted(root.glob("*.fab")):
                node_recipe.approve(bundle, None, None, True, federation.home(site))
            node_documents.approve_project(
                PROJECT, ["trial"], federation.name, None, True, federation.home(site)
            )
        federation.serve_nodes()
        yield federation
    finally:
        federation.close()


@pytest.mark.slow
def test_standardised_by_sums_over_real_nodes_it_is_the_pooled_tables_scale(
    hospitals: Federation,
) -> None:
    asked = {
        "table": "trial",
        "outcome": "outcome",
        "positive": "yes",
        "features": FEATURES,
        "standardise": "sums",
        "held-out": 0.4,
        "num-server-rounds": 8,
    }
    with hospitals.connect() as ana:
        result = ana.train(PROJECT, "tabular", asked, minimum_sites=2).result()
    arrays = {name: np.asarray(array) for name, array in result.arrays.items.items()}
    assert set(arrays) == {"scale.mean", "scale.sd", "0.weight", "0.bias"}
    ages = [float(str(row["age"])) for site in SITES for row in people(site)]
    # Of the training patients, who are most of them.
    assert arrays["scale.mean"][0] == pytest.approx(np.mean(ages), abs=4)
    assert arrays["scale.sd"][0] == pytest.approx(np.std(ages), abs=4)
    assert arrays["0.weight"][0, 0] > 0
    hospitals.ledgers_verify()


@pytest.mark.slow
def test_scans_of_a_frozen_release_are_learnt_from_in_the_sandbox(hospitals: Federation) -> None:
    asked = {
        "table": "trial",
        "age": "age",
        **dict.fromkeys(("slices", "rows", "columns"), SLICES),
        "channels": 4,
        "blocks": 2,
        "dropout": 0.0,
        "learning-rate": 0.02,
        "local-epochs": 4,
        "held-out": 0.4,
        "num-server-rounds": 3,
    }
    with hospitals.connect() as ana:
        job = ana.train(PROJECT, "brain_age", asked, minimum_sites=2)
        result = job.result()
    assert result.answered == SITES
    arrays = result.arrays.items
    assert arrays["features.0.weight"].shape == (4, 1, 3, 3, 3)
    assert np.isfinite(np.asarray(arrays["head.weight"])).all()
    for site in SITES:
        assert len(hospitals.answers(site, job.digest)) == 6
