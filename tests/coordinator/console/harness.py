"""A coordinator's home with sites, jobs and events to show."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from contract import wire_pb2 as wire
from contract.documents import Job, new_nonce
from contract.trust import Believed
from contract.work import Statistic, StatisticsWork
from coordinator import schema
from coordinator.commands.options import open_coordinator
from coordinator.jobs.states import JobEvent, SiteState
from coordinator.jobs.store import JobStore
from coordinator.registry.members import Members
from foundation.transport import Role
from tests.node.console.harness import command

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SITES = ("alder", "birch", "cedar")


def fill(home: Path) -> tuple[Path, str]:
    """Make a coordinator; return its home and the digest of its newest job."""
    subprocess.run(
        [
            command("wardgate-coordinator"), "init", "north",
            "--address", "coordinator.example.org:7443", "--home", str(home),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    opened = open_coordinator(home)
    members = Members(opened.engine)
    with opened.engine.begin() as connection:
        for role, names in ((Role.SITE, SITES), (Role.RESEARCHER, ("lin",))):
            for name in names:
                values = {"role": role, "name": name, "signing_key": "k", "steward_key": ""}
                connection.execute(insert(schema.members).values(**values, joined_at=NOW))
    head = wire.LedgerHead(sequence=1041, hash=b"\1" * 32)
    # A site stays online for three heartbeats only, so the test's is given a long future.
    members.note_ledger("alder", head)
    members.seen(["alder"], datetime.now(UTC) + timedelta(hours=1))
    members.seen(["birch"], NOW)
    members.revoke(Role.SITE, "cedar", NOW + timedelta(days=2))
    release = wire.Release(name="trial-2026", digest="a" * 64, subjects=1790)
    members.set_releases("alder", wire.Releases(releases=[release]).SerializeToString())
    digests = _fill_jobs(JobStore(opened.engine))
    opened.engine.dispose()
    return home, digests[-1]


def _fill_jobs(store: JobStore) -> list[str]:
    digests = []
    for number in range(3):
        job = Job(
            consortium="north",
            issued_at=NOW,
            expires_at=NOW + timedelta(hours=1),
            project="stroke",
            project_version=1,
            researcher="lin",
            nonce=new_nonce(),
            releases=dict.fromkeys(SITES, "a" * 64),
            work=StatisticsWork(ask=(Statistic(kind="count", variable="age"),)),
        )
        digests.append(f"{number + 10:x}" * 64)
        time = NOW + timedelta(minutes=number)
        store.add(Believed(job, digests[-1], b"{}", frozenset()), time)
        store.move(digests[-1], JobEvent.OFFER, time)
    store.move(digests[0], JobEvent.RESULT, NOW, result=b"")
    store.move(digests[1], JobEvent.TOO_FEW, NOW, reason="Fewer than 2 sites answered.")
    newest = digests[-1]
    store.set_site(newest, "alder", SiteState.ACCEPTED)
    sentence = "The cohort has fewer subjects than the policy asks for."
    store.set_site(newest, "birch", SiteState.REFUSED, "cohort-too-small", sentence)
    for kind, site, text in (
        ("state", "", "offered"),
        ("site", "alder", "accepted"),
        ("log", "", "a recipe's own words"),
        ("site", "birch", "refused: cohort-too-small"),
    ):
        event = wire.JobEvent(time=NOW.timestamp(), kind=kind, site=site, text=text)
        store.add_event(newest, event)
    return digests
