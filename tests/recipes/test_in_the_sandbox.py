"""Recipes as a node runs them: approved by digest, in the real sandbox, over one release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contract import records
from contract import wire_pb2 as wire
from foundation.bubblewrap import Limits
from node.work.training.bundles import build_bundle
from node.work.training.worker import Worker
from tests.node.work.training.flower_apps import approved
from tests.recipes import test_explanation, test_fusion, test_registration, test_slide_mil
from tests.recipes.harness import RECIPES, Recipe, write_release
from tests.recipes.phantoms import moved_heads, ultrasound

pytestmark = pytest.mark.slow

LIMITS = Limits(
    memory_bytes=4 * 2**30,
    processes=64,
    tmp_bytes=64 * 2**20,
    message_seconds=300,
    reply_bytes=10 * 2**20,
    threads=2,
)


def registration(folder: Path) -> tuple[Path, dict[str, Any]]:
    moved = moved_heads(6, test_registration.SHAPE, 1)
    return test_registration.release(folder, moved), test_registration.SMALL


def fusion(folder: Path) -> tuple[Path, dict[str, Any]]:
    moved = moved_heads(6, test_fusion.SHAPE, 1)
    made = test_fusion.release(folder, moved, ultrasound(moved.moving, 1))
    return made, test_fusion.SMALL


def slide_mil(folder: Path) -> tuple[Path, dict[str, Any]]:
    subjects = [f"s{index}" for index in range(6)]
    files = [test_slide_mil.slide(s, n % 2 == 0, n) for n, s in enumerate(subjects)]
    table = pl.DataFrame({"subject": subjects, "outcome": [n % 2 == 0 for n in range(6)]})
    told = {"source": "slides", "positive": "true", "network": "small", "tile_pixels": 64}
    told |= {"downsample": 1.0, "most_tiles": 20, "local_epochs": 1, "width": 8}
    return write_release(folder, {"table": table}, files), told


def explanation(folder: Path) -> tuple[Path, dict[str, Any]]:
    release = write_release(folder, {"table": test_explanation.table(60, 1)})
    return release, test_explanation.SMALL


@pytest.mark.parametrize("made", [registration, fusion, slide_mil, explanation])
def test_a_recipe_trains_inside_on_what_the_release_holds(made: Any, tmp_path: Path) -> None:
    name = made.__name__
    release, told = made(tmp_path / "release")
    recipe = Recipe(name)
    config = recipe.config(**told | {"local_steps": 2, "held_out": 0.0})
    model = recipe.module("task").build_model(_plan(recipe, config))
    weights = {n: v.numpy() for n, v in model.state_dict().items()}
    payload, blob = records.encode({"arrays": records.Arrays(weights)})
    worker = Worker.start(
        recipe=approved(tmp_path / "home", build_bundle(RECIPES / name)),
        release=release,
        job="job",
        parameters={key: v for key, v in config.items() if v != recipe.defaults[key]},
        seed=1,
        run_id=5,
        node_id=17,
        node_config={"data-path": "/release"},
        limits=LIMITS,
        log=tmp_path / "log",
    )
    try:
        task = wire.Task(
            job="job",
            task="000001",
            message_type="train",
            group="1",
            payload=payload.SerializeToString(),
            tensors=payload.tensors,
        )
        reply = worker.handle(task, blob, b"")
    finally:
        worker.close()
    back = records.decode(reply.payload, reply.tensors)
    arrays, metrics = back["arrays"], back["metrics"]
    assert isinstance(arrays, records.Arrays)
    assert isinstance(metrics, records.Metrics)
    assert set(arrays.items) == set(weights)
    assert any(not np.array_equal(arrays.items[n], w) for n, w in weights.items())
    assert metrics.items["num-examples"] > 0


def _plan(recipe: Recipe, config: dict[str, Any]) -> Any:
    task = recipe.module("task")
    return task.Plan.read(config)
