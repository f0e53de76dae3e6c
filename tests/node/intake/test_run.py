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
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from contract.errors import DataError, NotFound, StorageError, Unavailable, UsageError
from node.catalog import schema
from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.home import NodeHome
from node.intake import taking
from node.intake.crew import Executed
from node.intake.quarantine import Quarantine
from node.intake.run import IntakeReport, ingest, only_intake
from node.intake.sealed import PIECE
from node.intake.taking import give
from tests.node.homes import new_home

Take = Callable[..., IntakeReport]
Image = Callable[..., bytes]
COMMAND = (
    "import typer; from node.commands.ingest import ingest; from node.intake import run; "
    "run.BATCH = 16; "
    "app = typer.Typer(pretty_exceptions_enable=False); app.command()(ingest); app()"
)


def everything(catalog: Catalog) -> dict[str, Any]:
    """The catalogue's content, without times and numbers of its own."""

    def rows(table: Any) -> list[str]:
        with catalog.reading.connect() as connection:
            found = [dict(row._mapping) for row in connection.execute(select(table))]
        kept = [
            {k: v for k, v in row.items() if k not in ("ingested_at", "time", "facet")}
            for row in found
        ]
        return sorted(map(str, kept))

    return {"assets": rows(schema.assets), "intake": rows(schema.intake)}


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
    (source / "images.zip").write_bytes(b"PK\3\4" + bytes(40))
    (source / "link").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    report = take(source)
    assert (report.accepted, report.duplicate, report.known) == (1, 1, 1)
    assert report.quarantined == {
        "archive": 1,
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
    assert len(kept) == 6
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


def test_tables_are_taken_in_one_after_the_other(home: NodeHome) -> None:
    with only_intake(home), pytest.raises(Unavailable, match="Another intake"), only_intake(home):
        pass


def test_a_file_that_can_not_be_read_is_not_passed_over(
    take: Take, source: Path, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a.dcm").write_bytes(make_image(1))
    (source / "b.dcm").write_bytes(make_image(2))
    real = taking.open_file

    def open_file(path: Path) -> int:
        if path.name == "a.dcm":
            raise PermissionError(errno.EACCES, "denied")
        return real(path)

    monkeypatch.setattr(taking, "open_file", open_file)
    report = take(source)
    assert (report.accepted, report.quarantined) == (1, {"unreadable-file": 1})
    monkeypatch.undo()
    assert take(source).accepted == 1


def test_a_file_too_large_for_any_kind_is_quarantined_piece_by_piece(
    take: Take, source: Path, home: NodeHome, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "MAX_FILE_BYTES", 1000)
    (source / "a.dcm").write_bytes(make_image(1))
    assert take(source).quarantined == {"too-large": 1}
    (kept,) = home.quarantine.iterdir()
    assert b"".join(Quarantine(home).open(kept.stem)) == make_image(1)


def test_a_file_that_is_mapped_gives_what_one_that_is_read_gives(
    take: Take, source: Path, catalog: Catalog, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a.dcm").write_bytes(make_image(1))
    (source / "b.dcm").write_bytes(make_image(2)[:-9])
    assert take(source, dry_run=True).accepted == 1
    monkeypatch.setattr(taking, "MAPPED_BYTES", 1000)
    report = take(source)
    assert (report.accepted, report.quarantined) == (1, {"truncated": 1})
    monkeypatch.undo()
    (asset,) = catalog.list_assets()
    (source / "c.dcm").write_bytes(make_image(1, PatientComments="gone anyway"))
    report = take(source)
    assert (report.duplicate, report.known) == (1, 2)
    assert catalog.list_assets() == [asset]


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
    real, written = os.writev, 0

    def full(descriptor: int, buffers: Any) -> int:
        nonlocal written
        written += 1
        if written > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StorageError, match="full"):
        take(source)
    monkeypatch.undo()
    registered = {row.digest for row in catalog.list_assets()}
    assert {path.stem for path in (home.vault / "assets").rglob("*.dcm")} == registered
    assert len(registered) == 5
    assert files(home.vault / "incoming") == {"lock"}
    report = take(source)
    assert report.accepted + report.known == 10
    assert len(catalog.list_assets()) == 10


def test_what_is_done_is_not_read_again_and_what_changed_is(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, source: Path, make_image: Image
) -> None:
    before = time.time() - 60

    def run() -> IntakeReport:
        for path in source.iterdir():
            os.utime(path, (before, before))
        return ingest([source], home, catalog, deidentifier, clock=lambda: datetime.now(UTC))

    for number in range(3):
        (source / f"{number}.dcm").write_bytes(make_image(number))
    (source / "cut.dcm").write_bytes(make_image(5)[:-5])
    assert run().bytes_read > 0
    # A change of times is a change: what is in the file then decides.
    again = run()
    assert (again.known, again.bytes_read > 0) == (4, True)
    settled = ingest([source], home, catalog, deidentifier, clock=lambda: datetime.now(UTC))
    assert (settled.known, settled.bytes_read) == (4, 0)
    (source / "1.dcm").write_bytes(make_image(7))
    assert run().accepted == 1
    with (home.root / "journal.db").open("r+b") as journal:
        journal.write(b"not a database any more")
    assert (run().known, len(catalog.list_assets())) == (4, 4)


def test_a_catalogue_from_a_backup_gets_everything_anew(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, source: Path, make_image: Image
) -> None:
    for number in range(3):
        path = source / f"{number}.dcm"
        path.write_bytes(make_image(number))
        os.utime(path, (0, 0))

    def run() -> IntakeReport:
        return ingest([source], home, catalog, deidentifier, clock=lambda: datetime.now(UTC))

    assert (run().accepted, run().bytes_read) == (3, 0)
    with catalog.engine.begin() as connection:
        for table in (schema.strata, schema.assets, schema.intake):
            connection.execute(delete(table))
    assert run().accepted == 3


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
    home = new_home(folder / "node")
    subprocess.run(command(source, home), check=True, stdout=subprocess.DEVNULL)
    for path in source.iterdir():
        os.utime(path, (0, 0))
    return source, home


def command(source: Path, home: NodeHome) -> list[str]:
    options = ["--home", str(home.root), "--profile", "basic", "--workers", "2"]
    return [sys.executable, "-c", COMMAND, str(source), *options]


@pytest.mark.parametrize("made_before_the_kill", [1, 70])
def test_an_intake_that_is_killed_ends_the_same_when_run_again(
    made_before_the_kill: int, tmp_path: Path, calm: tuple[Path, NodeHome]
) -> None:
    source, undisturbed = calm
    killed = new_home(tmp_path / "killed")
    shutil.copy(undisturbed.pseudonym_key, killed.pseudonym_key)
    with Catalog.open(killed):
        pass
    running = subprocess.Popen(command(source, killed), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < deadline:
        if sum(1 for p in killed.vault.rglob("*") if len(p.stem) > 20) >= made_before_the_kill:
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


def test_a_dry_run_needs_no_node(tmp_path: Path, source: Path, make_image: Image) -> None:
    (source / "IM1").write_bytes(make_image(1))
    home = tmp_path / "none"
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(source), "--home", str(home), "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1:] == ["1  accepted"]
    assert not home.exists()


def test_the_command_says_counts_and_no_names(
    tmp_path: Path, source: Path, make_image: Image
) -> None:
    (source / "DOE^JANE.dcm").write_bytes(make_image(1))
    (source / "DOE^JANE.txt").write_bytes(b"Jane Doe")
    home = tmp_path / "node2"
    command = [sys.executable, "-c", COMMAND]
    done = subprocess.run(
        [*command, str(source), "--home", str(home), "--profile", "basic"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1  accepted", "1  quarantined: no-subject"]
    (tmp_path / "manifest.csv").write_text(
        f"path,patient\n{source / 'DOE^JANE.txt'},1\nlost.txt,2\n"
    )
    manifest = ["--manifest", str(tmp_path / "manifest.csv")]
    done = subprocess.run(
        [*command, str(source), "--home", str(home), *manifest],
        capture_output=True,
        text=True,
        check=True,
    )
    said = " ".join(done.stdout.split())
    assert "1 reports, as drafts" in said
    assert "1 of 2 lines of the manifest name no file" in said
    assert list((home / "quarantine").iterdir()) == [], "what was made safe leaves the quarantine"
    (source / "t.csv").write_text("pid,age\np1,4\n")
    (tmp_path / "t.toml").write_text(
        'table = "t"\nsubject = "pid"\n[[columns]]\nname = "age"\ntype = "integer"\n'
    )
    table = [*command, str(source / "t.csv"), "--home", str(home)]
    refused = subprocess.run(table, capture_output=True, text=True, check=False)
    assert "UsageError: A table is taken in with its schema" in refused.stderr
    table += ["--schema", str(tmp_path / "t.toml")]
    done = subprocess.run(table, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Table t: 1 rows of 1 subjects.")
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "Example: wardgate-node ingest" in done.stdout


class _Swapping(ThreadPoolExecutor):
    """Turns a folder into a link to another one before anything is taken."""

    def __init__(self, folder: Path, other: Path) -> None:
        super().__init__(1)
        self._folder, self._other = folder, other

    def submit(self, *given: Any, **named: Any) -> Any:
        if not self._folder.is_symlink():
            shutil.rmtree(self._folder)
            self._folder.symlink_to(self._other)
        return super().submit(*given, **named)


def test_a_folder_that_becomes_a_link_after_the_walk_leads_nowhere(
    take: Callable[..., IntakeReport],
    source: Path,
    tmp_path: Path,
    make_image: Callable[..., bytes],
    catalog: Catalog,
    deidentifier: Deidentifier,
) -> None:
    outside = tmp_path / "outside"
    for number, folder in enumerate((source / "study", outside)):
        folder.mkdir(parents=True)
        (folder / "image").write_bytes(make_image(number))
    give(deidentifier)
    with _Swapping(source / "study", outside) as executor:
        report = take(source, crew=Executed(executor, 1))
    assert report.accepted == 0
    assert report.quarantined == {"unreadable-file": 1}
    assert catalog.list_assets() == []
