"""A watched folder: files are taken in when they are whole, once, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.home import NodeHome
from node.intake.items import Item
from node.intake.manifest import Manifest, read_manifest
from node.intake.run import Intake
from node.intake.watching import Settling, Then, Watch, open_for_writing

Image = Callable[..., bytes]
Watching = Callable[..., Watch]
SETTLE = 5.0


@pytest.fixture
def watching(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, source: Path
) -> Watching:
    def make(then: Then = "keep", manifest: Callable[[], Manifest] = lambda: Manifest({})) -> Watch:
        return Watch(
            source,
            lambda settled, journal: Intake(
                home,
                catalog,
                deidentifier,
                lambda: datetime.now(UTC),
                settled=settled,
                journal=journal,
            ),
            settle_seconds=SETTLE,
            then=then,
            manifest=manifest,
        )

    return make


@given(
    st.lists(
        st.tuples(st.floats(0.1, 10), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))),
        max_size=20,
    )
)
def test_a_file_is_ready_exactly_when_it_was_the_same_for_long_enough(
    looks: list[tuple[float, dict[str, int]]],
) -> None:
    settling, now = Settling(SETTLE), 0.0
    since: dict[str, tuple[int, float]] = {}
    for pause, there in looks:
        now += pause
        items = [Item(name, found=(1, state, 0, 0)) for name, state in there.items()]
        since = {
            name: since[name] if name in since and since[name][0] == state else (state, now)
            for name, state in there.items()
        }
        expected = {name for name, (_, first) in since.items() if now - first >= SETTLE}
        assert {item.place for item in settling.ready(items, now)} == expected


def test_a_file_that_grows_waits_and_one_that_is_renamed_into_place_comes_at_once(
    watching: Watching, source: Path, catalog: Catalog, make_image: Image
) -> None:
    data = make_image(1)
    with watching() as watch:
        for number, end in enumerate(range(5000, len(data) + 5000, 5000)):
            with (source / "growing.dcm").open("ab") as file:
                file.write(data[end - 5000 : end])
            watch.look(number * (SETTLE - 0.1))
            assert watch.report.files == 0
        last = number * (SETTLE - 0.1)
        (source.parent / "whole").write_bytes(make_image(2))
        (source.parent / "whole").rename(source / "renamed.dcm")
        watch.look(last + 1)
        watch.look(last + SETTLE)
        assert watch.report.accepted == 1
        assert watch.waiting
        watch.look(last + 1 + SETTLE)
        assert (watch.report.accepted, watch.report.quarantined) == (2, {})
        watch.look(last + 2 + SETTLE)
        assert not watch.waiting
        assert watch.report.files == 2
    assert len(catalog.list_assets()) == 2


def test_a_file_that_somebody_has_open_for_writing_waits(
    watching: Watching, source: Path, make_image: Image
) -> None:
    data = make_image(1)
    code = (
        "import sys; f = open(sys.argv[1], 'wb'); f.write(sys.stdin.buffer.read(9000)); f.flush(); "
        "print(flush=True); f.write(sys.stdin.buffer.read()); f.close(); print(flush=True)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(source / "a.dcm")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(data[:9000])
    writer.stdin.flush()
    writer.stdout.readline()
    status = (source / "a.dcm").stat()
    file = status.st_dev, status.st_ino
    assert open_for_writing({file}) == {file}
    with watching() as watch:
        watch.look(0)
        watch.look(SETTLE * 10)
        assert watch.report.files == 0
        writer.communicate(data[9000:])
        assert open_for_writing({file}) == set()
        watch.look(SETTLE * 11)
        watch.look(SETTLE * 12)
        assert watch.report.accepted == 1


def test_with_delete_a_file_goes_when_the_vault_has_it_and_others_stay(
    watching: Watching, source: Path, catalog: Catalog, make_image: Image
) -> None:
    (source / "deep").mkdir()
    (source / "deep" / "a.dcm").write_bytes(make_image(1))
    (source / "again.dcm").write_bytes(make_image(1))
    (source / "cut.dcm").write_bytes(make_image(2)[:-5])
    with watching("delete") as watch:
        for number in range(4):
            watch.look(number * SETTLE)
        assert (watch.report.accepted, watch.report.known) == (1, 1)
        assert watch.report.quarantined == {"truncated": 1}
    assert [path.name for path in source.rglob("*") if path.is_file()] == ["cut.dcm"]
    # A kill between the catalogue and the deletion: the next watch deletes what is left.
    (source / "b.dcm").write_bytes(make_image(1))
    with watching("delete") as watch:
        for number in range(4):
            watch.look(number * SETTLE)
        assert (watch.report.known, watch.report.files) == (2, 2)
    assert [path.name for path in source.rglob("*") if path.is_file()] == ["cut.dcm"]
    assert len(catalog.list_assets()) == 1


def test_a_photograph_waits_in_quarantine_for_its_line_in_the_manifest(
    watching: Watching, source: Path, catalog: Catalog
) -> None:
    from tests.node.intake.test_kinds import photograph

    (source / "a.jpg").write_bytes(photograph())
    path = source / "manifest.csv"
    path.write_text("path,patient\n")
    manifests = [read_manifest(path)]
    with watching(manifest=lambda: manifests[-1]) as watch:
        for number in range(4):
            watch.look(number * SETTLE)
        assert watch.report.quarantined == {"no-subject": 1}
        assert not watch.waiting
        path.write_text("path,patient\na.jpg,4711\n")
        manifests.append(read_manifest(path))
        for number in range(4, 8):
            watch.look(number * SETTLE)
        assert (watch.report.accepted, watch.report.files) == (1, 2)
    assert len(catalog.list_assets()) == 1


def test_a_watch_that_is_killed_loses_nothing_and_one_that_is_stopped_ends_cleanly(
    source: Path, home: NodeHome, make_image: Image
) -> None:
    command = [sys.executable, "-m", "node", "watch", str(source), "--home", str(home.root)]
    code = "from node.cli import main; main()"
    command = [sys.executable, "-c", code, *command[3:], "--profile", "basic", "--workers", "1"]
    settings = {"SETTLE_SECONDS": "0.2", "LOOK_SECONDS": "0.1"}
    environment = dict(os.environ) | {f"WARDGATE_NODE_INTAKE__{k}": v for k, v in settings.items()}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def wait(count: int) -> None:
        deadline = time.monotonic() + 120
        with Catalog.open(home) as catalog:
            while len(catalog.list_assets()) < count and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(catalog.list_assets()) == count

    for number in range(20):
        (source / f"{number}.dcm").write_bytes(make_image(number))
    first = start()
    deadline = time.monotonic() + 120
    while not list((home.vault).rglob("incoming/*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.wait()
    second = start()
    wait(20)
    (source / "new.dcm").write_bytes(make_image(99))
    wait(21)
    second.send_signal(signal.SIGTERM)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0
    assert "accepted" in output
    assert len(list((home.vault / "assets").rglob("*.dcm"))) == 21
