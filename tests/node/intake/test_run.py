"""Intake of trees: every file has an outcome, again and again, whatever happens in between."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from contract.errors import DataError, NotFound, StorageError, Unavailable, UsageError
from node.catalog import schema
from node.catalog.store import Catalog
from node.home import NodeHome
from node.intake.quarantine import Quarantine
from node.intake.run import IntakeReport, only_intake
from node.intake.sealed import PIECE

Take = Callable[..., IntakeReport]
Image = Callable[..., bytes]
COMMAND = (
    "import typer; from node.commands.ingest import ingest; "
    "app = typer.Typer(pretty_exceptions_enable=False); app.command()(ingest); app()"
)


def everything(catalog: Catalog) -> dict[str, Any]:
    """The catalogue's content, without times."""
    with catalog.reading.connect() as connection:
        assets = [row[:-1] for row in connection.execute(select(schema.assets))]
        intake = [row[:-1] for row in connection.execute(select(schema.intake))]
    return {"assets": sorted(assets), "intake": sorted(intake, key=str)}


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_each_file_ends_in_the_vault_or_in_quarantine(
    take: Take, source: Path, home: NodeHome, catalog: Catalog, make_image: Image
) -> None:
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "no extension").write_bytes(make_image(1))
    (source / "same.dcm").write_bytes(make_image(1))
    (source / "less.dcm").write_bytes(make_image(1, PatientComments="gone anyway"))
    (source / "other.dcm").write_bytes(make_image(1, SliceThickness="9"))
    (source / "cut.dcm").write_bytes(make_image(2)[:-1000])
    (source / "burned.dcm").write_bytes(make_image(3, BurnedInAnnotation="YES"))
    (source / "empty").write_bytes(b"")
    (source / "notes.csv").write_text("name,age\n")
    (source / "link").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    report = take(source)
    assert (report.accepted, report.duplicate, report.known) == (1, 1, 1)
    assert report.quarantined == {
        "burned-in-annotation": 1,
        "duplicate-instance": 1,
        "empty": 1,
        "not-dicom": 1,
        "truncated": 1,
    }
    assert report.not_files == {"link": 1, "special": 1}
    (asset,) = catalog.list_assets()
    path = home.vault / "assets" / asset.digest[:2] / f"{asset.digest}.dcm"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == asset.size_bytes
    assert (asset.modality, asset.rows, asset.columns, asset.frames) == ("CT", 128, 128, 1)
    kept = list(home.quarantine.iterdir())
    assert len(kept) == 5
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in kept)
    assert "1  quarantined: truncated" in report.lines()


def test_a_second_run_has_nothing_to_do(
    take: Take, source: Path, home: NodeHome, catalog: Catalog, make_image: Image
) -> None:
    for number in range(5):
        (source / f"{number}.dcm").write_bytes(make_image(number))
    (source / "cut.dcm").write_bytes(make_image(9)[:-1])
    take(source)
    before, there = everything(catalog), files(home.vault)
    again = take(source)
    assert (again.accepted, again.known, again.quarantined.total()) == (0, 6, 0)
    assert (everything(catalog), files(home.vault)) == (before, there)
    (source / "new.dcm").write_bytes(make_image(7))
    assert take(source).accepted == 1


def test_a_dry_run_says_the_same_and_writes_nothing(
    take: Take, source: Path, home: NodeHome, catalog: Catalog, make_image: Image
) -> None:
    (source / "a.dcm").write_bytes(make_image(1))
    (source / "b.dcm").write_bytes(make_image(1, SliceThickness="9"))
    (source / "c").write_bytes(b"noise")
    before = files(home.root)
    dry = take(source, dry_run=True)
    assert files(home.root) - before <= {"catalogue.db-wal", "catalogue.db-shm"}
    assert catalog.is_empty()
    assert take(source).lines() == dry.lines()


def test_quarantine_is_encrypted_and_notices_every_change(home: NodeHome) -> None:
    quarantine = Quarantine(home)
    data = b"MRN 4711 " * 300_000
    assert len(data) > 2 * PIECE
    for name, content in (("a", data), ("b", b""), ("c", data[: 2 * PIECE])):
        quarantine.put(name, [content[:100], content[100:]])
        assert b"".join(quarantine.open(name)) == content
        assert b"MRN 4711 MRN" not in quarantine.path(name).read_bytes()
    whole = quarantine.path("a").read_bytes()
    sealed = PIECE + 16
    for changed in (
        whole[:-1],
        whole[: 11 + sealed],  # the last pieces cut off
        whole[:11] + whole[11 + sealed : 11 + 2 * sealed] + whole[11 : 11 + sealed],
        whole[:50] + bytes([whole[50] ^ 1]) + whole[51:],
        b"",
    ):
        quarantine.path("a").write_bytes(changed)
        with pytest.raises(DataError):
            b"".join(quarantine.open("a"))
    quarantine.path("d").write_bytes(quarantine.path("c").read_bytes())
    with pytest.raises(DataError):
        b"".join(quarantine.open("d"))


def test_paths_that_make_no_sense_are_refused_by_number(
    take: Take, source: Path, home: NodeHome
) -> None:
    with pytest.raises(NotFound, match="Path 2 of 2"):
        take(source, source / "jane-doe")
    for path in (home.root, home.root.parent, home.vault):
        with pytest.raises(UsageError, match="Path 1 of 1 overlaps"):
            take(path)


def test_two_intakes_do_not_run_at_once(take: Take, source: Path, home: NodeHome) -> None:
    with only_intake(home), pytest.raises(Unavailable, match="Another intake"):
        take(source)


def test_a_file_that_can_not_be_read_is_not_passed_over(
    take: Take, source: Path, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node.intake import run

    (source / "a.dcm").write_bytes(make_image(1))
    (source / "b.dcm").write_bytes(make_image(2))
    real = run.read_file

    def read_file(path: Path) -> bytes | None:
        if path.name == "a.dcm":
            raise PermissionError(errno.EACCES, "denied")
        return real(path)

    monkeypatch.setattr(run, "read_file", read_file)
    report = take(source)
    assert (report.accepted, report.quarantined) == (1, {"unreadable-file": 1})
    monkeypatch.undo()
    assert take(source).accepted == 1


def test_a_file_too_large_for_memory_is_quarantined_piece_by_piece(
    take: Take, source: Path, home: NodeHome, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node.intake import walk

    monkeypatch.setattr(walk, "MAX_FILE_BYTES", 1000)
    (source / "a.dcm").write_bytes(make_image(1))
    assert take(source).quarantined == {"too-large": 1}
    (kept,) = home.quarantine.iterdir()
    assert b"".join(Quarantine(home).open(kept.stem)) == make_image(1)


def test_a_full_disk_is_one_clear_error_and_the_next_run_goes_on(
    take: Take,
    source: Path,
    home: NodeHome,
    catalog: Catalog,
    make_image: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(10):
        (source / f"{number}.dcm").write_bytes(make_image(number))
    synced = 0

    def full(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced > 25:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("foundation.files.os.fsync", full)
    with pytest.raises(StorageError, match="full"):
        take(source)
    monkeypatch.undo()
    registered = {row.digest for row in catalog.list_assets()}
    there = {path.stem for path in (home.vault / "assets").rglob("*.dcm")}
    assert 0 < len(registered) < 10
    assert registered <= there
    report = take(source)
    assert report.accepted + report.known == 10
    assert len(catalog.list_assets()) == 10


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, make_image: Image) -> tuple[Path, NodeHome]:
    """A tree of 101 files, and a home that took it in without being disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    source = folder / "landing"
    source.mkdir()
    whole = make_image(100_000)
    for number in range(100):
        data = whole.replace(b"1.2.3.4.100000", b"1.2.3.4.%06d" % (100_000 + number))
        (source / f"{number:03}.dcm").write_bytes(data if number % 10 else data[:-9])
    (source / "twice.dcm").write_bytes((source / "011.dcm").read_bytes())
    home = NodeHome(folder / "node").create()
    subprocess.run(command(source, home), check=True, stdout=subprocess.DEVNULL)
    return source, home


def command(source: Path, home: NodeHome) -> list[str]:
    return [sys.executable, "-c", COMMAND, str(source), "--home", str(home.root)]


@pytest.mark.parametrize("assets_before_the_kill", [1, 65, 80])
def test_an_intake_that_is_killed_ends_the_same_when_run_again(
    assets_before_the_kill: int, tmp_path: Path, calm: tuple[Path, NodeHome]
) -> None:
    source, undisturbed = calm
    killed = NodeHome(tmp_path / "killed").create()
    shutil.copy(undisturbed.pseudonym_key, killed.pseudonym_key)
    with Catalog.open(killed):
        pass
    running = subprocess.Popen(command(source, killed), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while running.poll() is None and time.monotonic() < deadline:
        if sum(1 for _ in killed.vault.rglob("*.dcm")) >= assets_before_the_kill:
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    with Catalog.open(killed) as catalog:
        partial = everything(catalog)
    subprocess.run(command(source, killed), check=True, stdout=subprocess.DEVNULL)
    with Catalog.open(killed) as one, Catalog.open(undisturbed) as other:
        assert everything(one) == everything(other)
        assert len(partial["intake"]) < 100
        assert len(everything(one)["assets"]) == 90
    assert files(killed.vault) == files(undisturbed.vault)
    assert files(killed.quarantine) == files(undisturbed.quarantine)


def test_the_command_says_counts_and_no_names(
    tmp_path: Path, source: Path, make_image: Image
) -> None:
    (source / "DOE^JANE.dcm").write_bytes(make_image(1))
    (source / "DOE^JANE.txt").write_bytes(b"Jane Doe")
    home = tmp_path / "node2"
    command = [sys.executable, "-c", COMMAND]
    done = subprocess.run(
        [*command, str(source), "--home", str(home)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1  accepted", "1  quarantined: not-dicom"]
    (source / "t.csv").write_text("pid,age\np1,4\n")
    (tmp_path / "t.toml").write_text(
        'table = "t"\nsubject = "pid"\n[[columns]]\nname = "age"\ntype = "integer"\n'
    )
    table = [*command, str(source / "t.csv"), "--home", str(home)]
    refused = subprocess.run(table, capture_output=True, text=True, check=False)
    assert "UsageError: A CSV file is taken in with its schema" in refused.stderr
    table += ["--schema", str(tmp_path / "t.toml")]
    done = subprocess.run(table, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Table t: 1 rows of 1 subjects."
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "Example: wardgate-node ingest" in done.stdout
