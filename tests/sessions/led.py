"""A coordinator's half of questions, in one process with the hospitals' nodes: no network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.message import Message

from contract import wire_pb2 as wire
from contract.documents import Job, Project, Roster
from contract.envelope import Envelope
from contract.statistics import forms
from contract.statistics.answers import Part
from coordinator.jobs.states import SiteState
from coordinator.work.models import ModelJob
from coordinator.work.steps import SteppedJob
from coordinator.work.sums import SecureSumJob
from node.gate.gate import Membership
from node.work.desk import WorkDesk


class Node(Protocol):
    """A hospital's node: its desk, and whom it is in the consortium."""

    @property
    def member(self) -> Membership: ...

    desk: WorkDesk


class Led:
    """Takes the place of the link and the job's store: a step goes to the desks themselves."""

    def __init__(self, envelope: bytes, project: Project, roster: Roster, nodes: Sequence[Node]):
        self.nodes = {node.member.site: node for node in nodes}
        self.envelope, self.project, self.roster = envelope, project, roster
        self.job = Job.read(Envelope.parse(envelope).body)
        self.refusals: dict[str, str] = {}
        self.steps: list[str] = []
        self.sites: dict[str, SiteState] = {}
        self._replies: dict[str, wire.Reply] = {}
        self._left: set[str] = set()

    def run(self) -> wire.JobResult:
        """Offer the job, and lead those who accept through the steps."""
        accepted = []
        for site, node in self.nodes.items():
            sealed = node.desk.offered(node.member, self.envelope)
            assert sealed is not None
            decision = sealed.message.decision
            self.digest = decision.job
            if decision.accepted:
                accepted.append(site)
            else:
                self.refusals[site] = decision.sentence
        assert isinstance(self, SteppedJob)
        assert not self.refusals, self.refusals
        result = asyncio.run(self.lead(sorted(accepted)))
        result.status.job = self.digest
        result.receipts.extend(reply.receipt for reply in self._replies.values())
        return result

    def is_enough(self, sites: int) -> bool:
        """Say whether so many sites are."""
        return sites >= max(self.job.minimum_sites, self.project.minimum_sites)

    async def ask(self, step: str, told: Mapping[str, Message]) -> dict[str, wire.Reply]:
        """Send a step; what the sites say comes back at once."""
        self.steps.append(step)
        found = {}
        for site, message in told.items():
            node = self.nodes[site]
            payload = message.SerializeToString(deterministic=True)
            task = wire.Task(job=self.digest, task=step, message_type="step", payload=payload)
            said = node.desk.task(node.member, task, lambda *_: None).message
            if said.HasField("reply"):
                found[site] = said.reply
            else:
                self.refusals[site] = said.failed.code
        return found

    def missing(self, there: Sequence[str]) -> tuple[list[str], float]:
        """Nobody is too small for a model here: there is no store to say so."""
        return [], 0.0

    def _suppressed(self) -> list[str]:
        return []

    def set_site(self, site: str, state: SiteState, code: str = "", sentence: str = "") -> None:
        """Note that a site's answer was of no use."""
        self.refusals[site] = code


class LedSum(Led, SecureSumJob):
    """A secure sum."""


class LedModel(Led, ModelJob):
    """A model."""


def parts_of(result: wire.JobResult) -> list[Part]:
    """Return the parts of a result."""
    return forms.decode(result.statistics)
