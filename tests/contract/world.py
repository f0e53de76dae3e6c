"""A consortium in memory: everybody's keys, and every document that they could sign.

Nothing is mocked: what a ``World`` makes goes through the same envelopes and rules as in service.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from contract.dictionary import Variable
from contract.documents import (
    JOB_TYPE,
    PROJECT_TYPE,
    ROSTER_TYPE,
    Document,
    Job,
    Member,
    Project,
    Roster,
    new_nonce,
)
from contract.envelope import Envelope
from contract.keys import SigningKey
from contract.receipts import Receipt
from contract.trust import TrustedDocuments
from contract.work import Statistic, StatisticsWork

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
SITES = ("kentucky", "minnesota", "mississippi", "new-york")
RELEASE = "ab" * 32
BUNDLE = "cd" * 32

VARIABLES = (
    Variable(name="age", kind="number", minimum=0, maximum=100, bins=10),
    Variable(name="weight", kind="number"),
    Variable(name="arm", kind="category", levels=("A", "B")),
)


@dataclass
class World:
    """Everybody's private keys, by name; what the documents say by default."""

    consortium: str = "preterm"
    sites: dict[str, SigningKey] = field(
        default_factory=lambda: {name: SigningKey.generate() for name in SITES}
    )
    stewards: dict[str, SigningKey] = field(
        default_factory=lambda: {name: SigningKey.generate() for name in SITES}
    )
    researchers: dict[str, SigningKey] = field(
        default_factory=lambda: {name: SigningKey.generate() for name in ("ana", "ben")}
    )
    coordinator: SigningKey = field(default_factory=SigningKey.generate)
    threshold: int = 2

    # ---- documents -----------------------------------------------------------------------------

    def roster(self, version: int = 1, **changes: Any) -> Roster:
        """A roster of everybody."""
        values: dict[str, Any] = {
            "consortium": self.consortium,
            "issued_at": NOW - timedelta(days=1),
            "expires_at": NOW + YEAR,
            "version": version,
            "threshold": self.threshold,
            "stewards": members(self.stewards),
            "sites": members(self.sites),
            "researchers": members(self.researchers),
        }
        return Roster(**values | changes)

    def project(self, version: int = 1, **changes: Any) -> Project:
        """A project of every site and of ana, for statistics."""
        values: dict[str, Any] = {
            "consortium": self.consortium,
            "issued_at": NOW - timedelta(days=1),
            "expires_at": NOW + YEAR / 2,
            "name": "birth",
            "version": version,
            "title": "Preterm birth",
            "purpose": "research",
            "ethics_reference": "ER-1",
            "legal_basis": "consent",
            "sites": tuple(self.sites),
            "researchers": ("ana",),
            "variables": VARIABLES,
            "kinds": ("statistics", "training"),
        }
        return Project(**values | changes)

    def job(self, **changes: Any) -> Job:
        """A question of ana's about the age of everybody."""
        values: dict[str, Any] = {
            "consortium": self.consortium,
            "issued_at": NOW - timedelta(minutes=1),
            "expires_at": NOW + timedelta(hours=1),
            "project": "birth",
            "project_version": 1,
            "researcher": "ana",
            "nonce": new_nonce(),
            "releases": dict.fromkeys(self.sites, RELEASE),
            "work": StatisticsWork(ask=(Statistic(kind="moments", variable="age"),)),
        }
        return Job(**values | changes)

    def receipt(self, site: str, job: str, **changes: Any) -> bytes:
        """A receipt of a site's, signed by that site."""
        values: dict[str, Any] = {
            "consortium": self.consortium,
            "site": site,
            "job": job,
            "task": "statistics",
            "release": RELEASE,
            "payload": "ef" * 32,
            "payload_bytes": 10,
            "rules": ("DeclaredSchema",),
            "ledger_sequence": 4,
            "ledger_head": "01" * 32,
            "time": NOW,
        }
        return Receipt(**values | changes).sign(self.sites[site])

    # ---- signing -------------------------------------------------------------------------------

    def sign(self, document: Document, *keys: SigningKey) -> bytes:
        """A document's envelope with these signatures."""
        return sign(document, *keys)

    def signed_roster(
        self, version: int = 1, by: Iterable[str] | None = None, **changes: Any
    ) -> bytes:
        """A roster signed by these stewards, or by all."""
        names = self.stewards if by is None else by
        return sign(self.roster(version, **changes), *(self.stewards[name] for name in names))

    def signed_project(
        self, version: int = 1, by: Iterable[str] | None = None, **changes: Any
    ) -> bytes:
        """A project signed by these stewards, or by all."""
        names = self.stewards if by is None else by
        return sign(self.project(version, **changes), *(self.stewards[name] for name in names))

    def signed_job(self, **changes: Any) -> bytes:
        """A job signed by the researcher that it names."""
        job = self.job(**changes)
        return sign(job, self.researchers[job.researcher])

    # ---- somebody's view -----------------------------------------------------------------------

    def view(self, site: str = "kentucky") -> TrustedDocuments:
        """What a site believes that has heard nothing yet."""
        return TrustedDocuments(self.consortium, self.stewards[site].id)

    def settled(self, site: str = "kentucky") -> TrustedDocuments:
        """What a site believes that has the first roster and project."""
        view = self.view(site)
        assert view.update_roster(self.signed_roster(), NOW)
        assert view.update_project(self.signed_project(), NOW)
        return view


def members(keys: dict[str, SigningKey]) -> tuple[Member, ...]:
    """The members with these names and keys."""
    return tuple(Member(name=name, key=key.public) for name, key in keys.items())


def sign(document: Document, *keys: SigningKey) -> bytes:
    """A document's envelope, signed by ``keys``."""
    types = {Roster: ROSTER_TYPE, Project: PROJECT_TYPE, Job: JOB_TYPE}
    envelope: Envelope = document.seal(types[type(document)])
    for key in keys:
        envelope = envelope.sign(key)
    return envelope.to_bytes()
