"""``wardgate-node pull`` against a real archive; as a process where it is killed."""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pynetdicom import AE

from node.catalog.store import Catalog
from node.commands.pulling import Line
from node.intake.landing import Landing
from node.intake.landing_intake import LOCK
from node.pull.jobs import Jobs
from node.pull.question import Question
from node.pull.run import Progress
from tests.node.orthanc import needs_orthanc, start_orthanc, stop_orthanc
from tests.node.pull.conftest import (
    ACCESSIONS,
    INSTANCES,
    Filled,
    Node,
    archive_table,
    nothing_identified,
)
from tests.node.pull.making import Study
from tests.ports import free_port

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def said(output: str, *lines: str) -> None:
    """Assert that these lines are in the output, blanks aside."""
    there = [" ".join(line.split()) for line in output.splitlines()]
    for line in lines:
        assert line in there, output


def job_of(output: str) -> str:
    """Return the name of the pull that a command speaks of."""
    found = re.search(r"Pull ([0-9a-f-]+)", output)
    assert found is not None
    return found[1]


@needs_orthanc
@pytest.mark.parametrize("kind", ["get", "web"])
def test_a_list_comes_in_de_identified_and_leaves_no_trace(
    node: Node, filled: Filled, accessions: Path, kind: str
) -> None:
    node.settings(archive_table(filled, kind))
    code, output = node.run("pull", "start", "pacs", "--accessions", str(accessions))
    assert code == 0, output
    said(
        output,
        "4 requests found",
        "1 requests not found",
        "4 studies complete",
        f"{len(INSTANCES)} instances arrived",
        f"{len(INSTANCES)} accepted",
    )
    with Catalog.open(node.home) as catalog:
        assert len(catalog.list_assets()) == len(INSTANCES)
    assert Landing(node.home).count() == 0
    nothing_identified({**node.traces(), "what it said": output.encode()})
    # Once more: the archive is asked what it has, and for nothing else.
    code, output = node.run("pull", "start", "pacs", "--accessions", str(accessions))
    assert code == 0, output
    said(output, f"{len(INSTANCES)} instances that were here already")
    assert "arrived" not in output
    code, output = node.run("pull", "list")
    assert output.count("4/4 studies") == 2


@needs_orthanc
def test_while_another_takes_the_landing_in_what_arrives_waits_for_it(
    node: Node, filled: Filled, accessions: Path
) -> None:
    node.settings(archive_table(filled, "web"))
    start = ("pull", "start", "pacs", "--accessions", str(accessions))
    with (Landing(node.home).folder / LOCK).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code, output = node.run(*start)
    assert code == 0, output
    said(output, "4 studies complete", f"{len(INSTANCES)} instances wait in the landing.")
    # The next pull has nothing to fetch, and takes them in.
    code, output = node.run(*start)
    assert code == 0, output
    said(output, f"{len(INSTANCES)} instances that were here already")
    said(output, f"{len(INSTANCES)} accepted")
    assert Landing(node.home).count() == 0


def test_progress_says_what_came_how_fast_and_how_long_it_takes(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Jobs(node.home) as jobs:
        job = jobs.create("pacs", "", Question(), [], NOW, most_studies=1)
    line = Line(job, monotonic=iter([100.0, 110.0, 120.0]).__next__)
    line.progress(Progress(studies=4, studies_done=1, instances=50, bytes=25_000_000))
    line.progress(Progress(studies=4, waiting_until=NOW))
    shown = terminal.getvalue()
    assert "pacs: 1/4 studies, 50 instances, 5/s, 2.5 MB/s, 30 s left" in shown
    assert "waiting for the allowed hours" in shown


@needs_orthanc
def test_a_dry_run_counts_and_writes_nothing(node: Node, filled: Filled, accessions: Path) -> None:
    node.settings(archive_table(filled, "get"))
    before = set(node.traces())
    code, output = node.run(
        "pull", "start", "pacs", "--accessions", "-", "--dry-run", given=accessions.read_text()
    )
    assert code == 0, output
    said(
        output,
        "Asked 5; 1 found nothing; 0 no number.",
        f"Would come: 4 studies, 6 series, {len(INSTANCES)} instances.",
    )
    assert set(node.traces()) == before


@needs_orthanc
def test_a_query_needs_no_list(node: Node, filled: Filled) -> None:
    node.settings(archive_table(filled, "move"))
    words = ("--modality", "mr", "--from", "2026-01-01", "--to", "2026-01-31", "--no-intake")
    code, output = node.run("pull", "start", "pacs", *words)
    assert code == 0, output
    said(output, "2 studies complete", "6 instances arrived")
    assert Landing(node.home).count() == 6


@needs_orthanc
def test_numbers_without_a_match_can_be_written_out(
    node: Node, filled: Filled, accessions: Path, tmp_path: Path
) -> None:
    node.settings(archive_table(filled, "get"))
    code, output = node.run("pull", "start", "pacs", "--accessions", str(accessions), "--no-intake")
    assert code == 0, output
    name = job_of(output)
    target = tmp_path / "missing.txt"
    code, output = node.run("pull", "status", name, "--not-found-to", str(target))
    assert code == 0, output
    assert target.read_text() == "N0\n"
    assert target.stat().st_mode & 0o077 == 0
    assert "N0" not in output
    assert node.run("pull", "forget", name)[0] == 0
    code, output = node.run("pull", "status", name)
    assert (code, output.count("\n")) == (14, 1)


@needs_orthanc
def test_what_goes_wrong_is_one_line_and_a_code(
    node: Node, filled: Filled, accessions: Path, tmp_path: Path
) -> None:
    table = archive_table(filled, "get")
    nowhere = f'[pull.archives.gone]\nkind = "dicom"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    few = "[pull]\nmost_studies = 2\nattempts = 1\n"
    node.settings(few + table + nowhere + 'ae_title = "X"\n')
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"\xff\xfe\x00")
    listed = ("--accessions", str(accessions))
    for expected, words in (
        (14, ("start", "nosuch", *listed)),
        (14, ("start", "pacs", "--accessions", str(tmp_path / "none"))),
        (2, ("start", "pacs")),
        (2, ("start", "pacs", "--accessions", str(empty))),
        (9, ("start", "pacs", "--accessions", str(odd))),
        (2, ("start", "pacs", "--from", "yesterday")),
        (2, ("start", "pacs", "--from", "2026-02-01", "--to", "2026-01-01")),
        (2, ("start", "pacs", "--modality", "C*")),
        (2, ("start", "pacs", *listed)),  # too many
        (10, ("start", "gone", *listed)),
        (10, ("archive", "test", "gone")),
        (14, ("resume", "20260101-abcdef")),
    ):
        code, output = node.run("pull", *words)
        assert code == expected, (words, output)
        assert len(output.strip().splitlines()) == 1, output
        assert output.startswith("wardgate-node: ")
    assert node.run("pull", "list") == (0, "No pulls in the last 30 days.\n")
    code, output = node.run("pull", "start", "pacs", *listed, "--yes", "--no-intake")
    assert code == 0, output
    entity = AE(ae_title="STRICT")
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.require_calling_aet = ["SOMEBODY"]
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False)
    try:
        refusing = table.replace(f"port = {filled.orthanc.dicom_port}", f"port = {port}")
        node.settings(refusing)
        code, output = node.run("pull", "start", "pacs", *listed)
        assert code == 3
        assert "doesn't know our title" in output
    finally:
        server.shutdown()
    bad = table.replace('kind = "dicom"', 'kind = "pigeon"')
    node.settings(bad)
    assert node.run("pull", "archive", "list")[0] == 3


@needs_orthanc
def test_an_archive_shows_a_sign_of_life(node: Node, filled: Filled) -> None:
    node.settings(archive_table(filled, "get"))
    assert node.run("pull", "archive", "test", "pacs") == (
        0,
        "pacs: C-ECHO, C-FIND, C-GET accepted.\n",
    )
    code, output = node.run("pull", "archive", "list")
    assert (code, output) == (
        0,
        f"pacs  C-GET  ORTHANC at 127.0.0.1:{filled.orthanc.dicom_port}\n",
    )


@needs_orthanc
def test_outside_the_hours_it_ends_if_told_not_to_wait(
    node: Node, filled: Filled, accessions: Path
) -> None:
    # The hour that began three hours ago is over.
    hour = (time.gmtime().tm_hour - 3) % 24
    table = archive_table(filled, "get")
    closed = f'[pull]\nhours = "{hour:02d}:00-{hour:02d}:30"\ntime_zone = "UTC"\n'
    node.settings(closed + table)
    start = ("pull", "start", "pacs", "--accessions", str(accessions))
    code, output = node.run(*start, "--no-wait", "--no-intake")
    assert code == 10, output
    said(output, "4 studies pending")
    assert f" {hour:02d}:00 UTC" in output
    node.settings(table)
    code, output = node.run("pull", "resume", job_of(output), "--no-intake")
    assert code == 0, output
    said(output, f"{len(INSTANCES)} instances arrived")


@needs_orthanc
@pytest.mark.parametrize(
    "kind", ["get", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("move", "web"))]
)
def test_killed_in_the_middle_it_goes_on_and_asks_for_nothing_twice(
    node: Node, tmp_path: Path, kind: str
) -> None:
    studies = [Study(n, ("CT",), 10) for n in range(1, 4)]
    orthanc = start_orthanc(tmp_path / "orthanc")
    try:
        for study in studies:
            for file in study.files():
                orthanc.upload(file)
        port = free_port()
        orthanc.modality("wardgate", "WARDGATE", port)
        slow = "[pull]\ninstances_per_second = 5\n"
        node.settings(slow + archive_table(Filled(orthanc, port), kind))
        numbers = tmp_path / "numbers.txt"
        numbers.write_text("".join(f"{study.accession}\n" for study in studies))
        process = node.start("pull", "start", "pacs", "--accessions", str(numbers), "--no-intake")
        landing = Landing(node.home)
        killed_at = 17
        until = time.monotonic() + 120
        while landing.count() < killed_at and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        durable = landing.count()
        assert killed_at <= durable < 30
        code, output = node.run("pull", "list")
        assert "fetching" in output
        complete = int(output.split("/3 studies")[0].split()[-1])
        code, output = node.run("pull", "resume", output.split()[0], "--no-intake")
        assert code == 0, output
        said(output, "3 studies complete")
        assert landing.count() == 30
        receipts = [entry.receipt for entry in landing.entries()]
        assert sorted(receipts) == sorted(
            landing.receipt(uid) for study in studies for uid in study.instance_uids()
        )
        # Those of the first run's complete studies, and those that were not durable: no other.
        arrived = int(output.split("instances arrived")[0].split()[-1])
        assert arrived == complete * 10 + 30 - durable
    finally:
        stop_orthanc(orthanc)


@needs_orthanc
def test_terminated_it_ends_in_order_and_says_how_to_go_on(node: Node, filled: Filled) -> None:
    node.settings("[pull]\ninstances_per_second = 1\n" + archive_table(filled, "get"))
    process = node.start("pull", "start", "pacs", "--modality", "CT", "--no-intake")
    landing = Landing(node.home)
    until = time.monotonic() + 120
    while not landing.count() and time.monotonic() < until:
        time.sleep(0.02)
    process.terminate()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    name = job_of(output)
    assert f"pull resume {name}" in errors
    assert ACCESSIONS[0] not in output + errors
    node.settings(archive_table(filled, "get"))
    code, output = node.run("pull", "resume", name, "--no-intake")
    assert code == 0, output
    assert landing.count() == 12
