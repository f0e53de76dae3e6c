"""A coordinator's home with sites, jobs and events to show."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, insert

from contract import wire_pb2 as wire
from contract.documents import JOB_TYPE, Job, new_nonce
from contract.keys import SigningKey
from contract.receipts import Receipt
from contract.records import encode_entry
from contract.trust import Believed
from contract.work import Statistic, StatisticsWork, TrainingWork
from coordinator import schema
from coordinator.commands.options import open_coordinator
from coordinator.jobs.states import JobEvent, SiteState
from coordinator.jobs.store import JobStore
from coordinator.registry.members import Members
from coordinator.registry.models import ModelRegistry
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
    members.note_ledgers({"alder": head})
    members.seen(["alder"], datetime.now(UTC) + timedelta(hours=1))
    members.seen(["birch"], NOW)
    members.revoke(Role.SITE, "cedar", NOW + timedelta(days=2))
    release = wire.Release(name="trial-2026", digest="a" * 64, subjects=1790)
    members.set_releases("alder", wire.Releases(releases=[release]).SerializeToString())
    digests = _fill_jobs(JobStore(opened.engine))
    _fill_models(opened.engine)
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


def model_job(number: int) -> str:
    """Return the digest by which a finished training job goes here."""
    return f"{number:x}" * 64


def _fill_models(engine: Engine) -> None:
    """A model, one that was started from it, and a cross-site evaluation."""
    store, registry = JobStore(engine), ModelRegistry(engine)
    for number in (1, 2, 3):
        work = TrainingWork(
            bundle="b" * 64,
            parameters={"rounds": 2},
            seed=number,
            start_from="1" * 63 + "f" if number == 2 else None,
            cross_evaluation=number == 3,
        )
        job = Job(
            consortium="north", issued_at=NOW, expires_at=NOW + timedelta(hours=1),
            project="stroke", project_version=1, researcher="lin", nonce=new_nonce(),
            releases=dict.fromkeys(SITES, "a" * 64), work=work,
        )  # fmt: skip
        digest, time = model_job(number), NOW - timedelta(days=1) + timedelta(minutes=number)
        store.add(Believed(job, digest, job.seal(JOB_TYPE).to_bytes(), frozenset()), time)
        for event in (JobEvent.OFFER, JobEvent.START):
            store.move(digest, event, time)
        record = wire.ModelRecord(
            digest=f"{number}" * 63 + "f", size=45_000_000, job=digest, project="stroke",
            project_version=1, researcher="lin", recipe="recovery", bundle="b" * 64,
            bundle_name="tests/recovery", bundle_version="1.2.0", strategy="FedAdam",
            strategy_settings=[encode_entry("eta", 0.01)], start_from=work.start_from or "",
            answered=SITES[:2],
        )  # fmt: skip
        rounds = [_round(1, "train", train_loss=0.625), _round(1, "evaluate", eval_loss=0.5)]
        if number == 3:
            for row, model in enumerate((*SITES[:2], "mean")):
                named = {f"eval_loss/{model}/{at}": row + 0.25 for at in SITES[:2]}
                rounds.append(_round(row + 2, "evaluate", **named))
        for site in SITES[:2]:
            for task in ("000001", "000002"):
                receipt = Receipt(
                    consortium="north", site=site, job=digest, task=task, release="a" * 64,
                    payload="c" * 64, payload_bytes=45_000_123, rules=("DeclaredSize",
                    "UpdateClipped"), ledger_sequence=7, ledger_head="d" * 64, time=NOW,
                )  # fmt: skip
                store.add_receipt(digest, site, task, receipt.sign(SigningKey.generate()))
        registry.record(record)
        result = wire.JobResult(answered=SITES[:2], rounds=rounds)
        store.move(digest, JobEvent.RESULT, time, result=result.SerializeToString())


def _round(number: int, step: str, **metrics: float) -> wire.JobEvent:
    entries = [encode_entry(key, value) for key, value in metrics.items()]
    return wire.JobEvent(kind="round", round=number, text=step, metrics=entries)
