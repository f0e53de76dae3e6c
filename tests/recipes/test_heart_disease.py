"""The published benchmark in its short form: FLamby's split of UCI's heart disease."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "heart_disease.py"


@pytest.fixture(scope="module")
def heart() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_heart_disease", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    first = sys.path[0]
    spec.loader.exec_module(module)
    sys.path[0] = first
    if not module.DEFAULT.is_dir():
        pytest.skip("UCI's heart disease data aren't here")
    return module


def test_the_rows_are_those_that_flamby_has(heart: ModuleType) -> None:
    frames = [heart.hospital(heart.DEFAULT, name) for name in heart.HOSPITALS]
    assert [frame.height for frame in frames] == [303, 261, 46, 130]
    split = [heart.with_split(frame, 43) for frame in frames]
    trained = [int((frame["fold"] == "train").sum()) for frame in split]
    assert trained == [199, 172, 30, 85]
    assert sum(trained) == 486


def test_federated_it_is_the_pooled_fit_and_better_than_was_published(
    heart: ModuleType, tmp_path: Path
) -> None:
    frames = [heart.hospital(heart.DEFAULT, name) for name in heart.HOSPITALS]
    found = heart.figures([heart.run(frames, 43, tmp_path)])
    assert found["most_apart"] < 0.01
    assert found["most_apart_recipe"] < 1e-5
    assert found["difference_low"] <= 0 <= found["difference_high"]
    assert found["accuracy"] > found["published_fedavg"] + 0.027
    assert found["accuracy"] > found["published_pooled"]
