"""The commands around the receiver, and what it deletes."""

from __future__ import annotations

import logging
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contract.errors import AlreadyExists, NotFound, WardgateError
from node.catalog.rows import IntakeRow
from node.catalog.store import Catalog
from node.cli import app
from node.config import NodeSettings
from node.home import NodeHome
from node.intake.landing import Landing
from node.intake.quarantine import Quarantine
from node.receive.behind import BehindOrder, purge
from node.receive.tokens import Tokens

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
SECRET = b"Quillfeather^Zebediah"
DIGESTS = ["ab" * 32, "cd" * 32]


def call(home: NodeHome, *words: str | Path) -> str:
    """Run a command in this process; return what it printed, or raise what it raised."""
    environment = {"COLUMNS": "200", "NO_COLOR": "1"}
    arguments = [*map(str, words), "--home", str(home.root)]
    done = CliRunner().invoke(app, arguments, env=environment)
    if isinstance(done.exception, WardgateError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def quarantine(home: NodeHome) -> Quarantine:
    made = Quarantine(home)
    for days, digest in enumerate(DIGESTS):
        made.put(digest, [SECRET * (days + 1)])
        at = (datetime.now(UTC) - timedelta(days=20 * days + 15)).timestamp()
        os.utime(made.path(digest), (at, at))
    with Catalog.open(home) as catalog:
        row = IntakeRow(DIGESTS[0], "quarantined", "burned-in-annotation", None, NOW)
        catalog.record([], [row])
    return made


def test_quarantine_list_and_show_say_reason_date_and_size_and_no_name(
    home: NodeHome, quarantine: Quarantine
) -> None:
    said = call(home, "quarantine", "list")
    rows = [line for line in said.splitlines() if re.search(r"^[0-9a-f]{12} ", line)]
    assert DIGESTS[1][:12] in rows[0] and "not known" in rows[0] and "42" in rows[0]
    assert DIGESTS[0][:12] in rows[1] and "burned-in-annotation" in rows[1] and "21" in rows[1]
    shown = call(home, "quarantine", "show", "abab")
    assert all(len(line) <= 80 for line in said.splitlines())
    assert DIGESTS[0] in shown and "burned-in-annotation" in shown
    assert "Quillfeather" not in said + shown
    with pytest.raises(NotFound):
        call(home, "quarantine", "show", "00")


def test_quarantine_open_writes_the_file_for_its_owner_alone(
    home: NodeHome, quarantine: Quarantine, tmp_path: Path
) -> None:
    target = tmp_path / "look.dcm"
    said = call(home, "quarantine", "open", "cdcd", target)
    assert target.read_bytes() == SECRET * 2
    assert target.stat().st_mode & 0o777 == 0o600
    assert "delete it" in said
    with pytest.raises(AlreadyExists):
        call(home, "quarantine", "open", "abab", target)
    assert target.read_bytes() == SECRET * 2
    for missing in (tmp_path / "no folder" / "look.dcm", target / "look.dcm"):
        with pytest.raises(NotFound, match="folder"):
            call(home, "quarantine", "open", "abab", missing)
    with pytest.raises(NotFound):
        call(home, "quarantine", "open", "00", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_quarantine_purge_deletes_what_is_older_than_the_settings_say(
    home: NodeHome, quarantine: Quarantine
) -> None:
    said = call(home, "quarantine", "purge", "--dry-run")
    assert said.startswith("1 files in quarantine and 0 in the landing")
    assert len(quarantine.held()) == 2
    assert "1 files in quarantine deleted" in call(home, "quarantine", "purge")
    assert [held.source_digest for held in quarantine.held()] == [DIGESTS[0]]
    home.settings.write_text("[receive]\nquarantine_days = 14\n")
    assert "1 files in quarantine deleted" in call(home, "quarantine", "purge")
    assert quarantine.held() == []


def test_what_a_kill_left_unfinished_in_quarantine_goes_too(
    home: NodeHome, quarantine: Quarantine
) -> None:
    left = [home.quarantine / f".{'a' * 64}.sealed.{number:08x}" for number in range(2)]
    for path, age in zip(left, (timedelta(days=31), timedelta(days=1)), strict=True):
        path.write_bytes(b"sealed")
        then = (datetime.now(UTC) - age).timestamp()
        os.utime(path, (then, then))
    call(home, "quarantine", "purge")
    assert [path.exists() for path in left] == [False, True]


def test_what_was_never_de_identified_is_deleted_after_a_day_and_reported_loudly(
    home: NodeHome, caplog: pytest.LogCaptureFixture
) -> None:
    landing, quarantine = Landing(home, lambda: NOW), Quarantine(home)
    with landing.writer("cstore", "1.2.3") as writer:
        writer.write(SECRET)
        writer.commit()
    order = BehindOrder(home, NodeSettings(), verbose=False)
    purge(order, landing, quarantine, NOW + timedelta(hours=23))
    assert landing.count() == 1 and not caplog.records
    purge(order, landing, quarantine, NOW + timedelta(hours=25))
    assert landing.count() == 0 and landing.held(["1.2.3"]) == set()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "1 arrivals were not de-identified within 24 hours" in record.getMessage()


def test_tokens_are_made_listed_and_removed(home: NodeHome) -> None:
    secret = call(home, "receive", "token", "add", "pacs").strip()
    tokens = Tokens(home.receive_tokens)
    assert tokens.who(f"Bearer {secret}") == "pacs"
    said = call(home, "receive", "token", "list")
    assert "pacs" in said and secret not in said
    call(home, "receive", "token", "remove", "pacs")
    assert tokens.who(f"Bearer {secret}") is None
    with pytest.raises(NotFound):
        call(home, "receive", "token", "remove", "pacs")
