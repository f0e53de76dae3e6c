"""What all parts of the gate share: catalogue, policy, ledger, clock, and whom it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from contract.documents import Job, Project
from contract.keys import SigningKey
from contract.trust import TrustedDocuments
from foundation.database import written
from node.catalog.asked import Asked
from node.catalog.inbox import Inbox
from node.catalog.rows import ReleaseRow
from node.catalog.store import Catalog
from node.gate.account import PrivacyAccount
from node.gate.dp.draws import Draws
from node.gate.dp.lane import DpLane
from node.gate.exact import Exactly
from node.gate.ledger import Ledger
from node.gate.policy import Policy


@dataclass(frozen=True)
class Membership:
    """This node in one consortium: its name there, its receipt key, and what it believes."""

    consortium: str
    site: str
    own_steward: str
    key: SigningKey
    trusted: TrustedDocuments


@dataclass(frozen=True)
class Admission:
    """A job that the gate let in. ``resumed``: it was let in before a restart."""

    digest: str
    job: Job
    project: Project
    release: ReleaseRow
    resumed: bool
    signers: frozenset[str]
    """The keys that signed the job; its researcher's must stay on the roster."""
    policy: str
    """The digest of the policy that let it in."""
    plan: Sequence[Exactly | None]
    """How each statistic is answered exactly, by what the release declares."""


class State:
    """What the gate of a node stands on. ``clock`` gives the time in UTC."""

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        policy: Callable[[], Policy],
        clock: Callable[[], datetime],
        noise_key: Path | None = None,
    ) -> None:
        self.catalog = catalog
        self._noise_key = noise_key
        self.asked = Asked(catalog.engine)
        self.inbox = Inbox(catalog.engine)
        self.ledger = ledger
        self.account = PrivacyAccount(catalog.engine, ledger)
        self.dp = DpLane(self.account, Draws(catalog.engine))
        self.policy = policy
        """Gives the whole policy as it is now."""
        self.clock = clock

    def changes(self) -> object:
        """Return what stays equal as long as policy and catalogue do. It only looks at files."""
        return self.policy().digest, written(self.catalog.engine)

    def policy_of(self, admission: Admission) -> Policy:
        """Return the policy as it is now for an admitted job's project."""
        return self.policy().under(admission.job.project)
