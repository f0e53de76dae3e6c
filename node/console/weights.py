"""Approved weights as the console shows them: who let each file in, and what may and did use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from contract.documents import Job, Project
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.keys import key_id
from contract.work import TrainingWork
from foundation.database import reading
from node.catalog import schema
from node.catalog.asked import Asked
from node.catalog.inbox import Inbox
from node.catalog.store import Catalog
from node.gate.inbox.decisions import Decision
from node.gate.inbox.stewards import allowed_keys
from node.gate.recipe_rules import WEIGHTS
from node.work.training.weights import list_weights

NEWEST_JOBS = 200
"""So many training jobs are looked through for the weights that they named."""


@dataclass(frozen=True)
class Approver:
    """A steward who signed for a file: by name, or empty for the one that the node joined with."""

    name: str
    key_id: str


@dataclass(frozen=True)
class UsedBy:
    """A job that named a file."""

    job: str
    consortium: str
    project: str
    researcher: str
    state: str


@dataclass(frozen=True)
class WeightsLine:
    """A file of weights. ``approvers`` is empty where the policy asked for no signature."""

    digest: str
    name: str
    size_bytes: int
    tensors: int
    state: Literal["approved", "withdrawn"]
    approved_at: datetime
    withdrawn_at: datetime | None
    approvers: tuple[Approver, ...]
    projects: tuple[str, ...]
    """``CONSORTIUM/PROJECT`` of those whose jobs may name it."""
    jobs: tuple[UsedBy, ...]
    """Of the newest training jobs, the newest first."""


def weights_lines(catalog: Catalog, asked: Asked) -> list[WeightsLine]:
    """Return every file of weights that was let in, the newest first, withdrawn ones too."""
    projects, jobs = _projects(asked), _jobs(catalog)
    inbox = Inbox(catalog.reading)
    names = {row.key_id: row.name for row in inbox.stewards(removed=True)}
    registered = [row.envelope for row in inbox.stewards()]
    allowed: set[str] = set(names)
    for row in asked.consortia():
        allowed |= allowed_keys(row.anchor, registered)
    return [
        WeightsLine(
            digest=one.digest,
            name=one.name,
            size_bytes=one.size_bytes,
            tensors=one.tensors,
            state="withdrawn" if one.withdrawn_at else "approved",
            approved_at=one.approved_at,
            withdrawn_at=one.withdrawn_at,
            approvers=tuple(
                Approver(names.get(key, ""), key)
                for key in _signers(inbox.decisions(one.digest), allowed, one.digest)
            ),
            projects=tuple(name for name, digests in projects if one.digest in digests),
            jobs=tuple(job for digest, job in jobs if digest == one.digest),
        )
        for one in reversed(list_weights(catalog.reading))
    ]


def _signers(envelopes: Iterable[bytes], allowed: Iterable[str], digest: str) -> list[str]:
    """Return the ids of the keys that signed for a file, each once."""
    keys = frozenset(allowed)
    found: dict[str, None] = {}
    for data in envelopes:
        try:
            decision = Decision.verify(data, keys)
        except (DocumentError, SignatureError):
            continue
        about = (decision.what, decision.subject, decision.verdict)
        if about == ("weights", digest, "approve"):
            found[key_id(decision.key)] = None
    return list(found)


def _projects(asked: Asked) -> list[tuple[str, frozenset[str]]]:
    found = []
    for consortium in asked.consortia():
        for row in asked.projects(consortium.name):
            try:
                project = Project.read(Envelope.parse(row.envelope).body)
            except DocumentError:
                continue
            listed = frozenset(w for recipe in project.recipes for w in recipe.weights)
            found.append((f"{consortium.name}/{row.name}", listed))
    return found


def _jobs(catalog: Catalog) -> list[tuple[str, UsedBy]]:
    """Return which weights the newest training jobs named, with the jobs."""
    table = schema.jobs
    query = (
        select(table)
        .where(table.c.kind == "training")
        .order_by(table.c.received_at.desc())
        .limit(NEWEST_JOBS)
    )
    with reading(catalog.reading) as connection:
        rows = connection.execute(query).all()
    found = []
    for row in rows:
        try:
            work = Job.read(Envelope.parse(row.envelope).body).work
        except DocumentError:
            continue
        named = work.parameters.get(WEIGHTS) if isinstance(work, TrainingWork) else None
        if isinstance(named, str) and named:
            used = UsedBy(row.digest, row.consortium, row.project, row.researcher, row.state)
            found.append((named, used))
    return found
