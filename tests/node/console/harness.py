"""A console as a real process, a real browser, and a node's home with something to show."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from contract.documents import Job, new_nonce
from contract.work import Statistic, StatisticsWork
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.manifest import ReleaseColumn, ReleaseManifest
from node.catalog.rows import AssetRow, TableRow
from node.catalog.store import Catalog
from node.config import create_home
from node.gate.ledger import Ledger
from node.home import NodeHome
from tests.node.homes import new_home

PASSWORD = "a ward's own 密码 gate"
PATIENCE_SECONDS = 60.0
"""So long may an answer take on a busy machine."""
CHROMIUM = Path("/usr/bin/chromium")
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PSEUDONYM = "PSEUDONYM0SUBJECT"
RULES = ["IsSigned", "IsNotExpired", "IsNotReplayed", "IsOfApprovedProject"]


def command(program: str) -> str:
    """Return the path of one of the commands."""
    return str(Path(sys.executable).with_name(program))


def set_password(program: str, home: Path, password: str = PASSWORD) -> None:
    """Set the console's password through its command."""
    subprocess.run(
        [command(program), "console", "password", "--stdin", "--home", str(home)],
        input=password + "\n",
        text=True,
        check=True,
        capture_output=True,
    )


def keep_password(home: Path, password: str = PASSWORD) -> None:
    """Keep a password as the command does, with the least work that is accepted: for speed."""
    work = {"n": 2**14, "r": 8, "p": 1}
    hashed = hashlib.scrypt(password.encode(), salt=b"\1" * 16, **work, dklen=32)
    record = {"scheme": "scrypt", **work, "salt": (b"\1" * 16).hex(), "hash": hashed.hex()}
    (home / "console.json").write_text(json.dumps(record))


@contextmanager
def serving(program: str, home: Path, *options: str) -> Iterator[str]:
    """Run ``PROGRAM console`` on a free port, yield its URL, and end it as an operator would."""
    process = subprocess.Popen(
        [command(program), "console", "--home", str(home), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        found = re.search(r"https?://\S+", process.stdout.readline())
        assert found, process.stderr.read()
        yield found.group(0).rstrip("/")
    finally:
        process.terminate()
        ended = process.wait(PATIENCE_SECONDS)
        errors = process.stderr.read()
        process.stdout.close()
        process.stderr.close()
    assert (ended, errors) == (0, "")


def hidden(html: str) -> str:
    """Return the token of the first form of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found
    return found.group(1)


def log_in(client: httpx.Client, password: str = PASSWORD) -> httpx.Response:
    """Fill in the login form as a browser does."""
    token = hidden(client.get("/login").text)
    return client.post("/login", data={"csrf": token, "password": password})


def fill(root: Path, entries: int = 60) -> NodeHome:
    """Make a node that joined a consortium, froze releases, was asked and answered."""
    home = create_home(new_home(root))
    with Catalog.open(home) as catalog:
        release = _fill_catalogue(catalog)
        jobs = _fill_asked(Asked(catalog.engine), release)
    ledger = Ledger(home.ledger)
    about = {"consortium": "north", "project": "stroke", "researcher": "lin"}
    for number in range(entries):
        time = NOW + timedelta(minutes=number)
        job = {"job": jobs[number % len(jobs)]} | about
        if number % 4 == 0:
            ledger.append("admitted", job | {"work": "statistics", "rules": RULES}, time)
        elif number % 4 == 1:
            body = {"task": "statistics", "work": "statistics", "bytes": 1234, "rules": RULES}
            ledger.append("answer", job | body, time)
        elif number % 4 == 2:
            ledger.append("notice", {"consortium": "north", "what": "hello", "bytes": 70}, time)
        else:
            ledger.append("refused", {"consortium": "north", "code": "replay"}, time)
    ledger.close()
    return home


def _fill_catalogue(catalog: Catalog) -> str:
    columns = tuple(
        ReleaseColumn(name=name, type="number", minimum=0, maximum=1) for name in ("age", "nihss")
    )
    chest = ReleaseManifest(
        name="chest-2026", table=None, rows=0, subjects=412, assets={"CR": 500, "CT": 12}, files=()
    )
    trial = ReleaseManifest(
        name="trial-2026", table="trial", columns=columns, rows=1843, subjects=1790, files=()
    )
    catalog.put_table(TableRow("trial", "d" * 64, "{}", 1843, 1790, "e" * 64, NOW))
    catalog.record(
        [
            AssetRow(
                "a" * 64, PSEUDONYM, "2.25.1", "2.25.2", "2.25.3", "1.2.840.10008.5.1.4.1.1.2",
                "CT", "CHEST", "", 512, 512, 1, 5000, NOW,
            )
        ],
        [],
    )  # fmt: skip
    catalog.add_release(chest.digest, chest, NOW)
    catalog.revoke_release(chest.digest, NOW + timedelta(days=1))
    catalog.add_release(trial.digest, trial, NOW + timedelta(hours=1))
    catalog.grant(trial.digest, "north", "stroke", NOW)
    catalog.grant(trial.digest, "north", "stroke-imaging", NOW)
    return trial.digest


def _fill_asked(asked: Asked, release: str) -> list[str]:
    asked.put_consortium(
        ConsortiumRow("north", "lakeside", "coordinator.example.org:7443", "k", None), NOW
    )
    asked.put_project("north", "stroke", 1, b"{}")
    asked.put_project("north", "stroke-imaging", 1, b"{}")
    asked.approve_project("north", "stroke", "f" * 64, NOW)
    digests = []
    for number, (state, code) in enumerate(
        [("closed", ""), ("refused", "not-in-project"), ("accepted", "")]
    ):
        job = Job(
            consortium="north",
            issued_at=NOW,
            expires_at=NOW + timedelta(hours=1),
            project="stroke",
            project_version=1,
            researcher="lin",
            nonce=new_nonce(),
            releases={"lakeside": release},
            work=StatisticsWork(ask=(Statistic(kind="count", variable="age"),)),
        )
        digests.append(f"{number + 10:x}" * 64)
        time = NOW + timedelta(minutes=number)
        asked.add_job(digests[-1], job, "lakeside", b"", state, code, time)
    return digests
