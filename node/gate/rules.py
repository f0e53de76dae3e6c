"""What a rule is: a small object with one method that returns, or raises ``Refused``.

A refusal's sentence is the same whatever the patients are: it says which rule objected, never by
how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from contract import wire_pb2 as wire
from contract.documents import Job, Project, RecipeGrant, Roster
from contract.records import Records
from contract.statistics.answers import Part
from contract.trust import Believed, TrustedDocuments
from node.catalog.rows import ReleaseRow
from node.gate.policy import Policy


@dataclass
class Question:
    """A job as a rule sees it before work. Rules fill in what they established, in order."""

    envelope: bytes
    consortium: str
    site: str
    now: datetime
    policy: Policy
    trusted: TrustedDocuments
    approved_project: Callable[[str], str | None]
    """The digest of the version that our steward approved, by the project's name."""
    seen_nonce: Callable[[str], str | None]
    """``DIGEST:STATE`` of the job that used a nonce."""
    asked_this_hour: Callable[[str], int]
    """How many jobs a researcher asked in the last hour."""
    granted: Callable[[str], Sequence[ReleaseRow]]
    """The releases granted to a project."""
    approved_recipes: Callable[[], frozenset[str]]
    """The bundles that our steward approved."""
    believed: Believed[Job] | None = None
    roster: Roster | None = None
    project: Project | None = None
    release: ReleaseRow | None = None

    @property
    def job(self) -> Job:
        """The job, once it is believed."""
        assert self.believed is not None
        return self.believed.document


@dataclass(frozen=True)
class StatisticsOutput:
    """An answer in statistics that wants to leave."""

    parts: Sequence[Part]


@dataclass(frozen=True)
class TrainingOutput:
    """A recipe's reply that wants to leave: its records, and those that it is a reply to."""

    message_type: str
    records: Records
    received: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
    grant: RecipeGrant


@dataclass
class Outbound:
    """A payload as a rule sees it before egress. ``size`` counts every byte that would leave.

    ``message`` and ``tensors`` are a recipe's reply as it would leave; ``output`` is what it says.
    """

    job: Job
    project: Project
    release: ReleaseRow
    policy: Policy
    output: StatisticsOutput | TrainingOutput
    size: int
    message: wire.RecordDict = field(default_factory=wire.RecordDict)
    tensors: bytes = b""


class BeforeWork(Protocol):
    """A rule of the first table."""

    code: str

    def check(self, question: Question) -> None:
        """Return, or raise ``Refused``."""


class BeforeEgress(Protocol):
    """A rule of the second table."""

    code: str

    def check(self, outbound: Outbound) -> None:
        """Return, or raise ``Refused``."""
