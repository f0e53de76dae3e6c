"""Flower apps as their authors write them: of the older kind, and with a package of their own."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.errors import DocumentError, JobFailed
from contract.work import Scalar
from node.commands import recipe as node_recipe
from tests.end_to_end.federation import PROJECT, Federation, bundle, make_node, records

APPS = ("older", "wheeled", "conventional", "analytics", "trees", "shared", "plain", "workflow")
HALVER = b'''"""Halving."""


def halfway(a, b):
    """Return what lies in the middle."""
    return (a + b) / 2
'''


def wheel(folder: Path) -> Path:
    """Make a wheel by hand (PyPA, binary distribution format)."""
    folder.mkdir(parents=True, exist_ok=True)
    info = "halver-1.0.dist-info"
    files = {
        "halver.py": HALVER,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: halver\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / "halver-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two sites with the profile ``open-research``, and every app of this module."""
    root = tmp_path_factory.mktemp("pair")
    wheel(root / "wheelhouse")
    federation = Federation(root / "opt", ("north", "south"))
    federation.settings["WARDGATE_NODE_TRAINING__NODE_CONFIG"] = 'table-name = "trial"'
    try:
        yield federation.bring_up(researchers=("ana",), apps=APPS, wheelhouse=root / "wheelhouse")
    finally:
        federation.close()


def expected(rounds: int) -> float:
    """What both apps arrive at, by arithmetic."""
    means = [
        np.mean([float(str(r["age"])) for r in records(site, i, few=False)])
        for i, site in enumerate(("north", "south"))
    ]
    w = 0.0
    for _ in range(rounds):
        w = float(np.mean([(w + mean) / 2 for mean in means]))
    return w


@pytest.mark.parametrize("app", [pytest.param("older", marks=pytest.mark.slow), "wheeled"])
def test_an_unmodified_app_runs_from_end_to_end(pair: Federation, app: str) -> None:
    with pair.connect() as ana:
        result = ana.train(PROJECT, app, {"rounds": 2}, minimum_sites=2).result()
    [array] = result.arrays.items.values()
    assert array == pytest.approx(expected(2), rel=1e-12)
    assert result.answered == ("north", "south")
    assert {r.number for r in result.rounds if r.step == "train"} == {1, 2}
    pair.ledgers_verify()


def test_an_app_with_its_own_strategy_mods_and_state_runs_as_flowers_examples_do(
    pair: Federation,
) -> None:
    with pair.connect() as ana:
        job = ana.train(PROJECT, "conventional", {}, minimum_sites=2)
        result = job.result()
    arrays = result.arrays.items
    assert arrays["norm.num_batches_tracked"].dtype == np.int64
    # 60 patients in batches of 16: whole numbers that both sites counted up, as PyTorch does.
    assert int(arrays["norm.num_batches_tracked"]) == 3 * 4
    assert all(np.isfinite(array).all() for array in arrays.values())
    rounds = {(r.number, r.step): r.metrics for r in result.rounds}
    assert {number for number, step in rounds if step == "train"} == {1, 2, 3}
    # The site's own head was in the context's state from the first training on.
    assert [rounds[n, "evaluate"]["own"] for n in (1, 2, 3)] == [1.0, 1.0, 1.0]
    at_the_server = {number for number, step in rounds if step == "evaluate on the server"}
    assert at_the_server == {0, 1, 2, 3}
    assert rounds[3, "evaluate on the server"]["loaded"] == 4  # by a process of PyTorch's loader


def test_an_app_that_only_asks_queries_ends_well_without_a_model(pair: Federation) -> None:
    """It reads the table that each hospital's settings name."""
    with pair.connect() as ana:
        job = ana.train(PROJECT, "analytics", {}, minimum_sites=2)
        said = list(job.events())
        result = job.result()
    assert {name: array.size for name, array in result.arrays.items.items()} == {"nothing": 0}
    assert result.answered == ("north", "south")
    ages = [
        float(str(r["age"]))
        for i, site in enumerate(("north", "south"))
        for r in records(site, i, few=False)
    ]
    expected = np.histogram(ages, bins=np.linspace(0, 120, 5))[0]
    assert f"ages {expected.tolist()}" in [e.text for e in said if e.kind == "log"]


def test_what_an_app_of_queries_prints_is_what_its_researcher_is_shown(pair: Federation) -> None:
    done = pair.as_researcher("ana", "train", "analytics", "-p", PROJECT, "-o", pair.root / "model")
    assert done.code == 0, done.errors
    assert "  ages [" in done.out
    assert "left no model" in done.out and not (pair.root / "model").exists()


def test_a_first_example_runs_as_it_does_at_home(pair: Federation) -> None:
    """It counts batches, reports a list, knows nodes by their ids, and saves to its folder."""
    done = pair.as_researcher("ana", "train", "plain", "-p", PROJECT, "--log")
    assert done.code == 0, done.errors
    lines = done.out.splitlines()
    assert "  known [1, 1]" in lines and "  saved [2.0]" in lines
    assert [line for line in lines if line.startswith("round ")] == [
        "round 0 evaluate on the server: value 0",
        "round 1 train",
        "round 1 evaluate: parts[0] 0.25, parts[1] 0.75, parts[2] 1",
        "round 1 evaluate on the server: value 1",
        "round 2 train",
        "round 2 evaluate: parts[0] 0.25, parts[1] 0.75, parts[2] 1",
    ]
    [job] = [line.removeprefix("job ") for line in lines if line.startswith("job ")]
    assert "  saved [2.0]" in pair.as_researcher("ana", "job", job, "--log").out.splitlines()


def test_why_sites_gave_no_answer_and_what_to_do_is_said(pair: Federation) -> None:
    done = pair.as_researcher("ana", "train", "plain", "-p", PROJECT, "--set", "shout=true")
    done.fails(16, "north, south: undeclared-metric (a metric isn't among the project's metrics")
    assert "failed: undeclared-metric (a metric" in done.out


def test_an_older_app_that_starts_a_workflow_is_seen_and_gives_its_model(pair: Federation) -> None:
    with pair.connect() as ana:
        result = ana.train(PROJECT, "workflow", {}, minimum_sites=2).result()
    [array] = result.arrays.items.values()
    assert array.tolist() == [2.0, 2.0]
    rounds = [(r.number, r.step, r.metrics.get("loss")) for r in result.rounds]
    assert rounds == [
        (0, "evaluate on the server", 0.0),
        (1, "train", None),
        (1, "evaluate on the server", 2.0),
        (1, "evaluate", 1.0),
        (2, "train", None),
        (2, "evaluate on the server", 4.0),
        (2, "evaluate", 2.0),
    ]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        pytest.param({"initial": False}, "has no initial parameters", marks=pytest.mark.slow),
        ({"summed": True}, "secure aggregation isn't run here"),
        ({"minimum": 9}, "waits for 9 sites, and 2 take part"),
    ],
)
def test_what_an_older_app_wants_and_cannot_have_is_said(
    pair: Federation, parameters: dict[str, Scalar], words: str
) -> None:
    with pair.connect() as ana, pytest.raises(JobFailed, match=words):
        ana.train(PROJECT, "workflow", parameters, minimum_sites=2).result()


@pytest.mark.slow
def test_trees_grow_where_the_project_grants_a_model_of_bytes(pair: Federation) -> None:
    import xgboost

    with pair.connect() as ana:
        result = ana.train(PROJECT, "trees", {}, minimum_sites=2).result()
    booster = xgboost.Booster()
    booster.load_model(bytearray(result.arrays.items["0"].tobytes()))
    # Flower's bagging takes the first site's trees as the start and adds all others.
    assert booster.num_boosted_rounds() == 6
    assert {r.number for r in result.rounds if r.step == "evaluate"} == {1, 2, 3}
    pair.ledgers_verify()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["scaffold", "cyclic"])
def test_an_app_uses_strategies_and_mods_of_learning(pair: Federation, strategy: str) -> None:
    with pair.connect() as ana:
        result = ana.train(PROJECT, "shared", {"strategy": strategy}, minimum_sites=2).result()
    losses = {r.number: r.metrics["loss"] for r in result.rounds if r.step == "evaluate"}
    assert losses[4] < losses[1]
    assert result.arrays.items.keys() == {"w", "own.bias"}
    assert result.arrays.items["own.bias"] == 0.0  # the sites' own levels stayed with them


@pytest.mark.slow
def test_a_package_that_is_nowhere_is_named_when_the_recipe_is_approved(tmp_path: Path) -> None:
    home = make_node(tmp_path / "node", "north").root
    fab = tmp_path / "wheeled.fab"
    fab.write_bytes(bundle("wheeled"))
    with pytest.raises(DocumentError, match="halver"):
        node_recipe.approve(fab, None, None, True, home)
