"""Who is held out is told by a digest or by a column, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from learning.releases import Release, is_held_out
from learning.splits import Split
from tests.recipes.harness import write_release

CONFIG: dict[str, Any] = {"held-out": 0.3, "split-seed": 1}


def test_a_column_decides_alone(tmp_path: Path) -> None:
    rows = pl.DataFrame({"subject": ["a", "a", "b", "c"], "fold": ["train", "test", "train", None]})
    release = Release(write_release(tmp_path / "r", {"folds": rows}))
    split = Split.read({**CONFIG, "split-column": "fold", "split-table": "folds"})
    assert split.scores
    assert [split.of(release)(subject) for subject in "abcd"] == [True, False, False, False]
    with pytest.raises(ValueError, match="no table"):
        Split.read({**CONFIG, "split-column": "fold"}, "other").of(release)


def test_without_one_a_digest_does(tmp_path: Path) -> None:
    release = Release(write_release(tmp_path / "r"))
    told = Split.read(CONFIG).of(release)
    assert [told(str(n)) for n in range(50)] == [is_held_out(str(n), 0.3, 1) for n in range(50)]
    assert not Split.read({**CONFIG, "held-out": 0.0}).scores


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"held-out": 1.0}, "held-out"),
        ({"split-column": "../x"}, "split-column"),
        ({"split-column": "fold"}, "split-table"),
    ],
)
def test_what_doesnt_fit_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Split.read(CONFIG | changes)
