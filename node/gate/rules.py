"""What a rule is: a small object with one method that returns, or raises ``Refused``.

A refusal's sentence is the same whatever the patients are: it says which rule objected, never by
how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.documents import Job, Project, RecipeGrant, Roster
from contract.errors import Refused
from contract.records import Records
from contract.statistics.answers import Part
from contract.trust import Believed, TrustedDocuments
from node.catalog.rows import ReleaseRow
from node.gate.exact import Exactly
from node.gate.inbox.decisions import Verdict
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
    granted: Callable[[str, str], ReleaseRow | None]
    """A release by its digest, if a project may ask it: it is granted and not revoked."""
    approved_recipes: Callable[[], frozenset[str]]
    """The bundles that our steward approved."""
    approved_weights: Callable[[], frozenset[str]] = frozenset
    """The files of pretrained weights that our steward approved, by their SHA-256."""
    forgotten: Callable[[str], bool] = lambda job: False
    """Whether the ledger answered a job, by its digest, that the catalogue doesn't know."""
    asked_of_project: Callable[[str], int] = lambda project: 0
    """How many jobs all researchers asked under a project in the last hour."""
    withdrawn_recipes: Callable[[], frozenset[str]] = frozenset
    """The bundles that our steward let in once and withdrew."""
    decided: Callable[[str], Verdict | None] = lambda job: None
    """What our stewards decided on a job that waits, by its digest."""
    waits: list[str] = field(default_factory=list)
    """Why the job waits for a steward; rules add to it."""
    believed: Believed[Job] | None = None
    roster: Roster | None = None
    project: Project | None = None
    release: ReleaseRow | None = None
    plan: Sequence[Exactly | None] = ()
    """How each statistic is answered exactly."""

    @property
    def job(self) -> Job:
        """The job, once it is believed."""
        assert self.believed is not None
        return self.believed.document

    @property
    def let_in(self) -> bool:
        """Whether the job was let in before, so that this is the same job after a restart."""
        assert self.believed is not None
        return self.seen_nonce(self.job.nonce) == f"{self.believed.digest}:accepted"


class Waits(Refused):
    """Neither allowed nor refused: the site's steward decides, and the decision comes later."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("waiting", "The site's steward has not decided yet.")
        self.reasons = reasons


@dataclass(frozen=True)
class StatisticsOutput:
    """An answer in statistics that wants to leave."""

    parts: Sequence[Part]


@dataclass(frozen=True)
class ModelOutput:
    """A site's part of a step of a model with ``width`` coefficients that wants to leave."""

    part: wire.ModelPart
    width: int


@dataclass(frozen=True)
class TrainingOutput:
    """A recipe's reply that wants to leave: its records, and those that it is a reply to."""

    message_type: str
    records: Records
    received: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
    grant: RecipeGrant
    arrays: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    """The arrays that were received, by group: an update is what a reply's are less these."""
    question: bytes = b""
    """A digest of all that was asked: release, recipe, parameters and message."""


@dataclass
class Outbound:
    """A payload as a rule sees it before egress. ``size`` counts every byte that would leave.

    ``message`` and ``tensors`` are a recipe's reply as it would leave; ``output`` is what it says.
    """

    job: Job
    project: Project
    release: ReleaseRow
    policy: Policy
    output: StatisticsOutput | ModelOutput | TrainingOutput
    size: int
    message: wire.RecordDict = field(default_factory=wire.RecordDict)
    tensors: bytes = b""
    laid_out_here: bool = False
    """Whether the gate itself made message and tensors of the output's records."""


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
