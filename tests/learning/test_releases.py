"""A release as a recipe reads it: tables, assets, groups, who is held out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import releases
from learning.releases import Release
from tests.recipes import harness


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    grey = np.zeros((4, 4), np.uint8)
    files = [
        harness.photograph(grey, "b"),
        harness.photograph(grey + 9, "a"),
        harness.dicom(grey, "a", modality="CT"),
    ]
    picture = files[1].digest
    rows = [
        ("a", "g", "lesion", "dermoscopy", "asset", picture),
        ("a", "g", "lesion", "t", "table", "t"),
    ]
    table = pl.DataFrame({"subject": ["b", "a"], "age": [1, 2], "sex": ["f", "m"]})
    return harness.write_release(
        tmp_path / "release",
        {"t": table},
        files,
        pl.DataFrame(rows, schema=harness.GROUPS, orient="row"),
    )


def test_a_table_is_read_by_its_columns_in_the_order_of_subjects(folder: Path) -> None:
    frame = Release.of({"data-path": str(folder)}).table("t", ["age"])
    assert frame.columns == ["subject", "age"]
    assert frame.rows() == [("a", 2), ("b", 1)]


def test_assets_are_chosen_by_kind_and_modality(folder: Path) -> None:
    release = Release(folder)
    assert [a.subject for a in release.assets(kind="photograph")] == ["a", "b"]
    (scan,) = release.assets(modality=["CT", "MR"])
    assert scan.kind == "dicom"
    assert hashlib.sha256(scan.path.read_bytes()).hexdigest() == scan.digest
    assert set(releases.by_subject(release.assets())) == {"a", "b"}


def test_a_group_leads_to_its_assets(folder: Path) -> None:
    release = Release(folder)
    assets = {asset.digest: asset for asset in release.assets()}
    links = release.groups("lesion")["g"]
    (found,) = releases.linked(links, assets, "dermoscopy")
    assert found.subject == "a"
    assert releases.linked(links, assets, "follow-up") == ()
    assert release.groups("case") == {}


def test_a_folder_table_or_column_that_isnt_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Release(tmp_path)
    with pytest.raises(ValueError, match="no table 'x'"):
        Release(folder).table("x", [])
    with pytest.raises(ValueError, match="no table"):
        Release(folder).table("../t", [])
    with pytest.raises(ValueError, match="no column 'weight'"):
        Release(folder).table("t", ["weight"])


def test_a_name_in_the_index_that_leads_elsewhere_is_refused(folder: Path) -> None:
    index = pl.read_parquet(folder / "assets.parquet")
    index.with_columns(digest=pl.lit("../../etc/passwd")).write_parquet(folder / "assets.parquet")
    with pytest.raises(ValueError, match="can't be one"):
        Release(folder).assets()


@given(st.text(max_size=40), st.integers(0, 10**6), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_subject_held_out_at_a_fraction_is_held_out_at_every_larger_one(
    subject: str, seed: int, one: float, other: float
) -> None:
    less, more = sorted([one, other])
    assert releases.is_held_out(subject, more, seed) or not releases.is_held_out(
        subject, less, seed
    )


def test_the_split_is_by_sha256_and_about_the_fraction_asked_for() -> None:
    held_out = [i for i in range(5000) if releases.is_held_out(f"subject-{i}", 0.3, 1)]
    first = hashlib.sha256(b"1:subject-0").digest()[:8]
    assert (0 in held_out) == (int.from_bytes(first, "big") < 0.3 * 2**64)
    assert abs(len(held_out) / 5000 - 0.3) < 0.02
