"""The node's part in a secure sum of statistics (``contract.secure_aggregation``), step by step.

The site's own part goes through the gate's rules before it is masked, and leaves masked only.
"""

from __future__ import annotations

import json
import secrets
import time

from contract import wire_pb2 as wire
from contract.errors import Refused
from contract.secure_aggregation import Client, encoding
from contract.secure_aggregation.encoding import Answer
from contract.secure_aggregation.messages import Survivors
from contract.statistics import forms, sums, words
from contract.statistics.answers import Part
from contract.work import StatisticsWork
from node.catalog.partners import SumPartners
from node.gate.gate import Admission, Gate, Membership, Sealed
from node.home import NodeHome
from node.work.statistics import ColumnCache, work_out


class SecureSum:
    """One secure sum under way. Its keys are in memory only: a restart ends it."""

    def __init__(
        self,
        home: NodeHome,
        gate: Gate,
        cache: ColumnCache,
        member: Membership,
        admission: Admission,
    ) -> None:
        self._home = home
        self._gate = gate
        self._cache = cache
        self._member = member
        self._admission = admission
        self._client: Client | None = None
        self._partners = ""

    def step(self, task: wire.Task) -> Sealed:
        """Take one of the five steps."""
        started = time.perf_counter()
        step = encoding.step(task.payload)
        kind = step.WhichOneof("step")
        if kind == "terms":
            answer: Answer = self._begin(step.terms)
            return self._seal(task, answer, None, started, self._partners)
        client = self._client
        if client is None:
            raise Refused("restarted", "This site forgot the keys of the secure sum.")
        match kind:
            case "keys":
                answer = tuple(client.share(encoding.introduction(step.keys)))
            case "shares":
                parts = self._parts(task.task)
                ask = self._work.ask
                filler = (lambda: secrets.randbits(64)) if self._work.small_sites else None
                vector = words.encode(parts, ask, self._admission.project, filler)
                masked = client.mask(encoding.shares(step.shares), vector)
                plain = forms.encode(parts).SerializeToString(deterministic=True)
                return self._seal(task, masked, plain, started)
            case "survivors":
                answer = client.confirm(Survivors(tuple(step.survivors.members)))
            case _:
                answer = client.unmask(encoding.confirmations(step.confirmations))
        return self._seal(task, answer, None, started)

    @property
    def _work(self) -> StatisticsWork:
        assert isinstance(self._admission.job.work, StatisticsWork)
        return self._admission.job.work

    def _begin(self, said: wire.SumTerms) -> Answer:
        if self._client is not None:
            raise Refused("out-of-order", "The secure sum was begun before.")
        admission = self._admission
        fewest = self._gate.policy().disclosure.minimum_sum_sites
        if said.minimum < fewest or len(said.sites) < fewest:
            raise Refused("too-few-sites", "The secure sum is over fewer sites than allowed here.")
        roster = self._member.trusted.current_roster(self._gate.clock())
        terms = sums.terms(
            admission.digest,
            admission.job,
            admission.project,
            roster,
            list(said.sites),
            said.minimum,
        )
        if self._work.small_sites:
            self._always_the_same(sorted(said.sites))
        self._client = Client(terms, self._member.key)
        return self._client.advertise()

    def _always_the_same(self, sites: list[str]) -> None:
        """Raise ``Refused`` unless this release was summed with these sites only.

        The difference of two sums, over other sites each, is what a few of them have.
        """
        said = json.dumps([self._member.consortium, *sites])
        partners = SumPartners(self._gate.catalog.engine)
        if partners.settle(self._admission.release.digest, said, self._gate.clock()) != said:
            raise Refused("other-sites", "This release was summed with other sites before.")
        self._partners = said

    def _parts(self, task: str) -> list[Part]:
        admission = self._admission
        found = work_out(
            self._home,
            admission.release,
            admission.project,
            self._work,
            self._cache,
            self._gate.policy_of(admission),
            admission.plan,
        )
        exact = [part for part in found if part is not None]
        if len(exact) != len(found):
            raise Refused("not-declared", "Only exact answers are summed securely.")
        return self._gate.withhold(self._member, admission, task, exact)

    def _seal(
        self,
        task: wire.Task,
        answer: Answer,
        plain: bytes | None,
        started: float,
        partners: str = "",
    ) -> Sealed:
        seconds = time.perf_counter() - started
        reply = encoding.encode_answer(answer)
        return self._gate.answer_step(
            self._member, self._admission, task.task, reply, plain, seconds, partners
        )
