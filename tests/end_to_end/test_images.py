"""Images from intake to a model, and from a model to drafts, over real nodes."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from safetensors.numpy import save

from contract.errors import JobFailed
from coordinator.commands import documents as coordinator_documents
from foundation.flower import build
from node.catalog.store import Catalog
from node.commands import documents as node_documents
from node.commands import recipe as node_recipe
from node.commands import release as node_release
from node.commands import weights as node_weights
from node.commands.ingest import ingest
from node.config import create_home
from node.home import NodeHome
from node.work.training.drafts import list_drafts, read_draft
from tests.end_to_end.federation import Federation, write_csv
from tests.node.deid.test_volume import WORD, nifti
from tests.recipes.harness import Recipe, dicom
from tests.recipes.pictures import chest

SITES = ("north", "south")
PROJECT = "films"
PATIENTS = 32
DX = "1.2.840.10008.5.1.4.1.1.1.1"
METRICS = ["train_loss", "eval_loss", "eval_dice", "eval_accuracy", "eval_balanced_accuracy",
           "eval_auc", "eval_distance", "drafts", "empty", "num-examples"]  # fmt: skip
SCHEMA = """
table = "films"
subject = "patient"
[[columns]]
name = "profusion"
type = "category"
levels = ["0", "3"]
[[columns]]
name = "fold"
type = "category"
levels = ["train", "test"]
"""
WHERE = """
table = "films"
groups = true
[assets]
"""
POLICY = """
profile = "open-research"
[disclosure]
minimum_cohort = 5
minimum_cell = 5
[training]
minimum_subjects = 30
drafts = true
"""
DRAWN = {
    "structures": "lung", "shape": "32,32", "widths": "4,8", "modality": "DX", "most": 8,
}  # fmt: skip
OUTLINED = {
    "structures": "lung", "image-role": "mr", "mask-role": "mask", "shape": "8,8,8",
    "spacing-mm": "5,2,1.5", "widths": "4,8", "split-table": "films", "split-column": "fold",
}  # fmt: skip


@dataclass
class Films:
    """Two hospitals with chest films, and the file of weights that both approved."""

    federation: Federation
    weights: str


def hospital(home: Path, site: str, number: int) -> None:
    """Make a node, and take in a film of each patient and a table of their stages."""
    place = create_home(NodeHome(home))
    place.policy.write_text(POLICY)
    # Always the same pseudonyms, by which it goes who is held out.
    place.pseudonym_key.touch(mode=0o600)
    place.pseudonym_key.write_bytes(bytes([number]) * 32)
    rng = np.random.default_rng(number)
    folder = home.parent / f"{site}-films"
    folder.mkdir()
    rows: list[dict[str, object]] = []
    for patient in range(PATIENTS):
        stage, mark = (0, 3)[patient % 2], f"CANARY-{site}-{patient}"
        film = dicom(chest(stage, rng, 40), mark, modality="DX", sop_class_uid=DX)
        (folder / f"{patient}.dcm").write_bytes(film.data)
        rows.append(
            {"patient": mark, "profusion": stage, "fold": ("train", "test")[patient % 8 > 5]}
        )
    schema = home.parent / "films.toml"
    schema.write_text(SCHEMA)
    ingest([folder], home=home)
    ingest([write_csv(home.parent / f"{site}.csv", rows)], schema=schema, home=home)
    folder = volumes(home.parent / f"{site}-volumes", rows, rng)
    ingest([folder], manifest=folder / "list.csv", home=home)
    where = home.parent / "where.toml"
    where.write_text(WHERE)
    node_release.create("films", where=where, home=home)


def volumes(folder: Path, rows: list[dict[str, object]], rng: np.random.Generator) -> Path:
    """Write each patient's volume and its outline as NIfTI, and the list of whose they are."""
    folder.mkdir()
    lines = ["path,patient,kind,group,body_site"]
    for number, row in enumerate(rows):
        bright = np.zeros((10, 9 + number % 5, 8), "u1")
        # Each outline is another: the same bytes twice are one file, of whom had it first.
        first, second = 2 + number % 3, 3 + number // 3 % 3
        bright[first : first + 4, second : second + 4, 2:6] = 1
        values = (100 * bright + rng.integers(0, 20, bright.shape)).astype("i2")
        for kind, data in (("mr", nifti(values)), ("mask", nifti(bright))):
            name = f"{row['patient']}-{kind}.nii.gz"
            (folder / name).write_bytes(gzip.compress(data))
            lines.append(f"{name},{row['patient']},{kind},case,lung")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


def network() -> bytes:
    """A U-Net that finds the structure everywhere."""
    module = Recipe("preannotation").module("task")
    recipe = Recipe("preannotation")
    model = module.Plan.read(recipe.config(**DRAWN)).network.build()
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    state["head.bias"][:] = (-50, 50)
    return save(state)


def project_text(bundles: dict[str, Path], weights: str) -> str:
    quoted = json.dumps
    lines = [
        f"name = {quoted(PROJECT)}", 'title = "films"', 'purpose = "tests"',
        'ethics_reference = "none"', 'legal_basis = "generated data"',
        f"sites = {quoted(list(SITES))}", 'researchers = ["ana"]', "minimum_sites = 2",
        'table = "films"', 'kinds = ["training"]',
    ]  # fmt: skip
    for name, path in bundles.items():
        lines += ["[[recipes]]", f"name = {quoted(name)}", f"path = {quoted(str(path))}"]
        lines += [f"metrics = {quoted(METRICS)}"]
        if name == "preannotation":
            lines += ["drafts = true", f"weights = {quoted([weights])}"]
        lines += ["[recipes.parameters]"]
        for parameter, value in Recipe(name).defaults.items():
            if isinstance(value, bool):
                lines.append(f"{parameter} = {{ choices = [true, false] }}")
            elif isinstance(value, str):
                told = OUTLINED if name == "segmentation" else DRAWN
                given = {
                    "table": "films", "label": "profusion", "classes": "0,3", "modality": "DX",
                    **{key: str(said) for key, said in told.items()},
                }.get(parameter, value)  # fmt: skip
                lines.append(f"{parameter} = {{ choices = [{quoted(given)}] }}")
            else:
                lines.append(f"{parameter} = {{ minimum = 0, maximum = 10000 }}")
    return "\n".join([*lines, "[[variables]]", 'name = "profusion"', 'kind = "category"',
                      'levels = ["0", "3"]', ""])  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Films]:
    """Two hospitals with films, under ``open-research`` with drafts."""
    federation = Federation(tmp_path_factory.mktemp("images") / "opt", SITES)
    try:
        federation.found()
        for number, site in enumerate(SITES):
            hospital(federation.home(site), site, number)
            federation.join(site)
        federation.join_researcher("ana")
        federation.agree_on_roster()
        file = federation.root / "everywhere.safetensors"
        file.write_bytes(network())
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        bundles = {}
        for name in ("classification_2d", "preannotation", "segmentation"):
            bundles[name] = federation.root / f"{name}.fab"
            bundles[name].write_bytes(build(Recipe(name).folder))
        text = federation.root / "project.toml"
        text.write_text(project_text(bundles, digest))
        coordinator_documents.propose_project(text, False, federation.coordinator_home)
        for site in SITES:
            home = federation.home(site)
            for path in bundles.values():
                node_recipe.approve(path, None, None, True, home)
            node_weights.approve(file, "everywhere", None, True, False, home)
            node_documents.approve_project(PROJECT, ["films"], federation.name, None, True, home)
        federation.serve_nodes()
        yield Films(federation, digest)
    finally:
        federation.close()


def test_films_are_taken_in_released_and_learned_from(films: Films) -> None:
    with films.federation.connect() as ana:
        result = ana.train(
            PROJECT,
            "classification_2d",
            {
                "table": "films", "label": "profusion", "classes": "0,3", "modality": "DX",
                "size": 40, "held-out": 0.5, "num-server-rounds": 4, "local-epochs": 12,
                "learning-rate": 0.01,
                "batch-size": 8, "augment": False,
            },
            seed=1,
        ).result()  # fmt: skip
    assert result.answered == SITES
    rounds = {(r.number, r.step): r.metrics for r in result.rounds}
    assert rounds[4, "train"]["train_loss"] < rounds[1, "train"]["train_loss"]
    assert max(rounds[n, "evaluate"]["eval_auc"] for n in (2, 3, 4)) > 0.7
    assert set(rounds[4, "evaluate"]) <= set(METRICS)
    films.federation.ledgers_verify()


@pytest.mark.slow
def test_nifti_volumes_and_their_outlines_are_taken_in_and_learned_from_in_patches(
    films: Films,
) -> None:
    with films.federation.connect() as ana:
        result = ana.train(
            PROJECT,
            "segmentation",
            OUTLINED | {
                "patches": 2, "num-server-rounds": 2, "local-epochs": 5, "learning-rate": 0.01,
                "batch-size": 4,
            },
            seed=1,
        ).result()  # fmt: skip
    assert result.answered == SITES
    last = next(r.metrics for r in result.rounds if (r.number, r.step) == (2, "evaluate"))
    # Whoever outlines nothing has 0, and whoever outlines everything has 0.15.
    assert last["eval_dice"] > 0.6
    for site in SITES:
        home = films.federation.home(site)
        assert films.federation.answers(site, result.job)
        kept = b"".join(p.read_bytes() for p in home.rglob("*.nii"))
        assert kept
        assert WORD not in kept


def test_drafts_stay_where_the_images_are(films: Films) -> None:
    federation = films.federation
    with federation.connect() as ana:
        result = ana.train(PROJECT, "preannotation", DRAWN | {"weights": films.weights}).result()
    (scored,) = [r.metrics for r in result.rounds if r.step == "evaluate"]
    assert (scored["drafts"], scored["empty"]) == (8, 0)
    for site in SITES:
        home = NodeHome(federation.home(site))
        with Catalog.open(home) as catalog:
            drafts = list_drafts(catalog.engine)
        assert len(drafts) == 8
        assert {draft.job for draft in drafts} == {result.job}
        for draft in drafts:
            path = home.drafts / draft.job / draft.digest
            assert path.stat().st_mode & 0o077 == 0
            told = pydicom.dcmread(path)
            assert told.Rows == 40
            assert told.pixel_array.all()
            assert read_draft(home, draft)
        (entry,) = [e for e in federation.entries(site) if e.kind == "drafted"]
        assert entry.body["files"] == 8
        left = federation.answers(site, result.job)
        payloads = b"".join(p.read_bytes() for p in (home.ledger / "payloads").iterdir())
        assert left
        assert all(draft.asset.encode() not in payloads for draft in drafts)
    listed = federation.on("north", "drafts", "list")
    assert "8 dicom-seg" in listed.out, listed.errors
    target = federation.root / "to-correct"
    exported = federation.on("north", "drafts", "export", target)
    assert exported.code == 0, exported.errors
    assert len(list(target.rglob("*.dcm"))) == 8
    federation.ledgers_verify()


@pytest.mark.slow
def test_withdrawn_weights_are_seen_by_no_further_job(films: Films) -> None:
    node_weights.withdraw(films.weights, films.federation.home("south"))
    with films.federation.connect() as ana, pytest.raises(JobFailed):
        ana.train(PROJECT, "preannotation", DRAWN | {"weights": films.weights}).result()
    codes = [e.body["code"] for e in films.federation.entries("south") if e.kind == "refused"]
    assert codes == ["weights-not-approved"]
