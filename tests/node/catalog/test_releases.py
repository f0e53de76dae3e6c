"""Frozen releases: content, digest, tampering, and their columns as arrays."""

from __future__ import annotations

import stat
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from contract.dictionary import Variable
from contract.errors import DataError, NotFound, UsageError
from node.catalog.columns import check_dictionary, load_columns, load_subjects
from node.catalog.freezing import plan_release
from node.catalog.manifest import ReleaseFile, ReleaseManifest
from node.catalog.releases import create_release, missing_counts, verify_release
from node.catalog.rows import AssetRow, ReleaseRow
from node.catalog.selection import AssetFilter, Selection
from node.catalog.store import Catalog
from node.commands.release import app
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import TableSchema
from node.intake.tables import ingest_table
from node.intake.vault import Vault
from tests.node.catalog.making import asset

KEY = Pseudonyms(b"k" * 32)
TRIAL = Selection(table="trial")
CT = AssetFilter(modality=("CT",))


@pytest.fixture
def release(catalog: Catalog, home: NodeHome, trial: bytes, now: datetime) -> ReleaseRow:
    return create_release(catalog, home, "trial-1", TRIAL, now=now)


@pytest.fixture
def assets(catalog: Catalog, home: NodeHome, now: datetime) -> list[AssetRow]:
    import hashlib

    rows = []
    for number, (subject, modality) in enumerate([("p1", "CT"), ("p1", "MR"), ("p9", "CT")]):
        data = f"asset {number}".encode()
        digest = hashlib.sha256(data).hexdigest()
        Vault(home).put(digest, data)
        rows.append(
            AssetRow(
                digest=digest,
                subject=KEY.subject(subject),
                study_uid="2.25.1",
                series_uid="2.25.2",
                sop_instance_uid=f"2.25.3{number}",
                sop_class_uid="1.2",
                modality=modality,
                body_part="HEAD",
                manufacturer="X",
                rows=1,
                columns=1,
                frames=1,
                size_bytes=len(data),
                ingested_at=now,
            )
        )
    catalog.record(rows, [])
    return rows


def test_a_release_counts_rows_and_subjects(release: ReleaseRow) -> None:
    assert (release.manifest.rows, release.subjects, release.manifest.subjects) == (4, 3, 3)
    assert [c.name for c in release.manifest.columns] == [
        "age",
        "arm",
        "smoker",
        "visit",
        "height",
    ]
    assert release.manifest.column("age").unit == "years"  # type: ignore[union-attr]
    assert release.digest == release.manifest.digest


def test_the_same_content_has_the_same_digest_whatever_the_order_of_the_file(
    catalog: Catalog,
    home: NodeHome,
    schema: TableSchema,
    trial: bytes,
    release: ReleaseRow,
    now: datetime,
) -> None:
    again = create_release(catalog, home, "trial-1", TRIAL, now=now + timedelta(days=1))
    assert again == release
    header, *lines = trial.splitlines(keepends=True)
    ingest_table(header + b"".join(reversed(lines)), schema, KEY, catalog, home, now=now)
    assert create_release(catalog, home, "trial-1", TRIAL, now=now).digest == release.digest
    other = create_release(
        catalog, home, "trial-1", Selection(table="trial", columns=("age",)), now=now
    )
    assert other.digest != release.digest


def test_a_release_outlives_a_new_version_of_its_table(
    catalog: Catalog,
    home: NodeHome,
    schema: TableSchema,
    trial: bytes,
    release: ReleaseRow,
    now: datetime,
) -> None:
    ingest_table(trial + b"p4,50,B,no,2020-01-01,1.7,\n", schema, KEY, catalog, home, now=now)
    assert verify_release(home, release.digest).rows == 4
    assert create_release(catalog, home, "trial-1", TRIAL, now=now).manifest.rows == 5


def test_files_can_be_read_by_a_worker_and_the_folder_above_lets_nobody_in(
    home: NodeHome, release: ReleaseRow
) -> None:
    folder = home.release(release.digest)
    for path in [folder, *folder.rglob("*")]:
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted
    assert stat.S_IMODE(home.releases.stat().st_mode) == 0o700
    assert not [path for path in home.releases.iterdir() if path.name.startswith(".")]


def test_assets_are_those_of_the_tables_subjects(
    catalog: Catalog, home: NodeHome, trial: bytes, assets: list[AssetRow], now: datetime
) -> None:
    made = create_release(catalog, home, "images", Selection(table="trial", assets=CT), now=now)
    assert made.manifest.assets == {"CT": 1}
    folder = home.release(made.digest)
    linked = folder / "assets" / f"{assets[0].digest}.dcm"
    assert linked.stat().st_ino == Vault(home).path(assets[0].digest).stat().st_ino
    index = pl.read_parquet(folder / "assets.parquet")
    assert index["digest"].to_list() == [assets[0].digest]
    assert index["subject"].to_list() == [assets[0].subject]
    alone = create_release(catalog, home, "images", Selection(assets=AssetFilter()), now=now)
    assert (alone.manifest.assets, alone.subjects) == ({"CT": 2, "MR": 1}, 2)


def test_what_is_not_there_can_not_be_released(
    catalog: Catalog, home: NodeHome, trial: bytes
) -> None:
    def plan(selection: Selection) -> None:
        plan_release(catalog, home, "r", selection, today=date(2026, 3, 1))

    with pytest.raises(NotFound, match="table 'other'"):
        plan(Selection(table="other"))
    with pytest.raises(NotFound, match="column 'weight'"):
        plan(Selection(table="trial", columns=("weight",)))
    with pytest.raises(NotFound, match="no assets like these"):
        plan(Selection(table="trial", assets=AssetFilter(modality=("US",))))
    with pytest.raises(UsageError):
        plan(Selection())


def test_a_table_that_was_changed_in_the_vault_is_not_released(
    catalog: Catalog, home: NodeHome, trial: bytes
) -> None:
    (path,) = (home.vault / "tables").glob("*.parquet")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="changed in the vault"):
        plan_release(catalog, home, "r", TRIAL, today=date(2026, 3, 1))


@pytest.mark.parametrize("part", ["manifest.json", "tables/trial.parquet"])
def test_verification_sees_a_single_changed_bit(
    home: NodeHome, release: ReleaseRow, part: str
) -> None:
    assert verify_release(home, release.digest) == release.manifest
    path = home.release(release.digest) / part
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="was changed"):
        verify_release(home, release.digest)


def test_verification_sees_missing_and_added_files(home: NodeHome, release: ReleaseRow) -> None:
    folder = home.release(release.digest)
    (folder / "assets" / "extra").write_text("x")
    with pytest.raises(DataError, match="1 are not in its manifest"):
        verify_release(home, release.digest)
    (folder / "assets" / "extra").unlink()
    (folder / "tables/trial.parquet").unlink()
    (folder / "tables/trial.parquet").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="1 files differ"):
        verify_release(home, release.digest)
    (folder / "tables/trial.parquet").unlink()
    with pytest.raises(DataError, match="1 are missing"):
        verify_release(home, release.digest)


def test_a_manifest_is_read_as_it_was_written(release: ReleaseRow) -> None:
    assert ReleaseManifest.read(release.manifest.to_bytes()) == release.manifest
    with pytest.raises(DataError):
        ReleaseManifest.read(b'{"path": "../x"}')


AGE = Variable(name="age", kind="number", unit="years", minimum=0, maximum=120)
ARM = Variable(name="arm", kind="category", levels=("B", "A"))
SMOKER = Variable(name="smoker", kind="category", levels=("false", "true"))


def test_columns_are_arrays_with_missing_marked(home: NodeHome, release: ReleaseRow) -> None:
    folder = home.release(release.digest)
    found = load_columns(folder, release.manifest, [AGE, ARM, SMOKER])
    assert {name: values.dtype for name, values in found.items()} == {
        "age": np.float64,
        "arm": np.int64,
        "smoker": np.int64,
    }
    frame = pl.read_parquet(folder / "tables/trial.parquet")
    rows = set(zip(frame["subject"], found["age"], found["arm"], found["smoker"], strict=True))
    assert {(s, None if np.isnan(a) else a, b, c) for s, a, b, c in rows} == {
        (KEY.subject("p1"), 63, 1, 1),
        (KEY.subject("p1"), 64, 1, 0),
        (KEY.subject("p2"), None, 0, 0),
        (KEY.subject("p3"), 41, -1, 1),
    }
    subjects = load_subjects(folder, release.manifest)
    assert sorted(subjects) in ([0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2])
    assert frame["subject"].n_unique() == len(set(subjects))
    assert missing_counts(folder, release.manifest) == {
        "age": 1,
        "arm": 1,
        "smoker": 0,
        "visit": 0,
        "height": 1,
    }


def test_a_dictionary_that_does_not_fit_is_told_variable_by_variable(
    home: NodeHome, release: ReleaseRow
) -> None:
    folder = home.release(release.digest)
    arm = ARM.model_copy(update={"levels": ("A", "B", "C")})  # the schema has one that nobody is in
    assert check_dictionary(release.manifest, [AGE, arm, SMOKER]) == []
    wrong = [
        Variable(name="weight", kind="number"),
        Variable(name="visit", kind="number"),
        Variable(name="height", kind="number", unit="cm"),
        Variable(name="arm", kind="category", levels=("A", "C")),
        Variable(name="age", kind="category", levels=("63",)),
    ]
    assert check_dictionary(release.manifest, wrong) == [
        "variable weight is not in the release",
        "variable visit is a number in the dictionary and of type date in the release",
        "variable height has another unit in the release than in the dictionary",
        "variable arm: 1 levels of the release are not in the dictionary",
        "variable age is a category in the dictionary and of type integer in the release",
    ]
    for variable in wrong:
        with pytest.raises(DataError):
            load_columns(folder, release.manifest, [variable])


def test_the_release_commands_do_what_they_say(
    catalog: Catalog, home: NodeHome, trial: bytes
) -> None:
    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, "--home", str(home.root)])
        assert (result.exit_code == 0) == (code == 0), result.output
        return result.output

    assert "would hold 3 subjects" in call("create", "r1", "--table", "trial", "--dry-run")
    assert "No releases yet" in call("list")
    digest = call("create", "r1", "--table", "trial", "--columns", "age, arm").splitlines()[-1]
    assert digest[:16] in call("list")
    shown = call("show", digest[:10])
    assert "age  integer in years  (1 missing)" in shown
    assert "unchanged" in call("verify", "r1")
    call("grant", "r1", "--project", "north/stroke")
    assert "north/stroke" in call("show", "r1")
    assert "no longer" in call("ungrant", "r1", "--project", "north/stroke")
    call("grant", "r1", "--project", "north", code=1)
    call("revoke", "r1")
    call("show", "r1", code=1)
    call("create", "Not A Name", "--table", "trial", code=1)
    for command in ("create", "list", "show", "verify", "revoke", "grant", "ungrant"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert "Example: wardgate-node release" in " ".join(result.output.split())


def test_a_home_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["list", "--home", str(tmp_path / "none")])
    assert isinstance(result.exception, NotFound)
    assert not (tmp_path / "none").exists()


def test_a_mirax_slide_is_released_with_its_further_files(
    catalog: Catalog, home: NodeHome, now: datetime
) -> None:
    import hashlib

    parts = {"Data0000.dat": b"tiles", "Slidedat.ini": b"[GENERAL]"}
    listing = "".join(
        f"{hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in parts.items()
    ).encode()
    row = asset(
        1,
        "s",
        digest=hashlib.sha256(listing).hexdigest(),
        kind="slide",
        suffix=".mrxs",
        size_bytes=len(listing) + sum(map(len, parts.values())),
    )
    vault = Vault(home)
    with vault.staging() as staging:
        staged = staging.new(".mrxs")
        staged.write_bytes(listing)
        staged.with_suffix("").mkdir()
        for name, data in parts.items():
            (staged.with_suffix("") / name).write_bytes(data)
        vault.keep(staged, row.digest, ".mrxs")
    catalog.record([row], [])
    made = create_release(catalog, home, "slides", Selection(assets=AssetFilter()), now=now)
    folder = home.release(made.digest) / "assets"
    assert {path.name for path in folder.rglob("*")} == {
        f"{row.digest}.mrxs", row.digest, "Data0000.dat", "Slidedat.ini",
    }  # fmt: skip
    assert verify_release(home, made.digest) == made.manifest
    tiles = folder / row.digest / "Data0000.dat"
    tiles.unlink()
    tiles.write_bytes(b"tilez")
    with pytest.raises(DataError, match="1 files differ"):
        verify_release(home, made.digest)


def test_a_release_of_format_1_can_still_be_verified(
    home: NodeHome, catalog: Catalog, assets: list[AssetRow], now: datetime
) -> None:
    import hashlib

    made = create_release(catalog, home, "new", Selection(assets=AssetFilter()), now=now)
    folder = home.release(made.digest)
    index = pl.read_parquet(folder / "assets.parquet").drop("suffix", "kind", "study_date")
    index.write_parquet(folder / "assets.parquet")
    data = (folder / "assets.parquet").read_bytes()
    files = [
        ReleaseFile(
            path="assets.parquet", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
        )
    ]
    files += [
        ReleaseFile(path=f"assets/{a.digest}.dcm", sha256=a.digest, size_bytes=a.size_bytes)
        for a in assets
    ]
    old = ReleaseManifest(
        format=1, name="old", table=None, rows=0, subjects=2, assets={"CT": 2, "MR": 1},
        files=tuple(files),
    )  # fmt: skip
    assert b"asset_bytes" not in old.to_bytes()
    (folder / "manifest.json").write_bytes(old.to_bytes())
    folder.rename(home.release(old.digest))
    assert verify_release(home, old.digest) == old
    (home.release(old.digest) / "assets" / f"{assets[0].digest}.dcm").unlink()
    with pytest.raises(DataError, match="1 are missing"):
        verify_release(home, old.digest)
