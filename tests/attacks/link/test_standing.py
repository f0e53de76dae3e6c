"""Who may ask, over the link of a node: minted members, old rosters, old jobs, changed questions.

Each attack first succeeds without its defence, at the same node, in the same test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.documents import Job, Member, Project, Roster
from contract.envelope import Envelope
from contract.errors import Refused
from contract.keys import SigningKey
from contract.secure_aggregation import Client, Server, encoding
from contract.secure_aggregation.messages import Advertisement
from contract.statistics import sums, words
from contract.statistics.answers import Part
from contract.work import Statistic, StatisticsWork, TrainingWork
from foundation.bundle import Bundle
from tests.attacks.link.siege import LEAKY, Siege, digest
from tests.end_to_end.hostile import now

ATTACKS = (
    (
        "Sybil researcher",
        "Douceur 2002, The Sybil Attack",
        "a threshold of stewards signs each roster",
        "test_a_researcher_whose_key_the_coordinator_made_asks_nothing",
    ),
    (
        "Sybil sites around one hospital",
        "Douceur 2002, The Sybil Attack; So et al., Securing secure aggregation, AAAI 2023",
        "a threshold of stewards signs each roster",
        "test_a_secure_sum_over_invented_sites_is_not_finished",
    ),
    (
        "Withheld revocation",
        "TUF specification 1.0, 1.5.2 (freeze, mix-and-match)",
        "a roster is believed for a bounded time (its expiry, and jobs.roster_days)",
        "test_a_roster_that_was_made_long_ago_lets_nobody_ask",
    ),
    (
        "Revocation in mid-round",
        "Samuel, Mathewson, Cappos and Dingledine 2010, Survivable Key Compromise",
        "the key that signed a job is looked up again before each reply",
        "test_a_round_that_is_under_way_ends_with_its_researchers_key",
    ),
    (
        "Replay after a restart, and after a restored backup",
        "Syverson 1994, A Taxonomy of Replay Attacks; Matetic et al. 2017, ROTE",
        "nonces are kept in the catalogue, and what was answered on the ledger too: off are both, "
        "as either stops a replay",
        "test_no_job_is_answered_again_after_a_restart_or_a_restored_catalogue",
    ),
    (
        "A question with a field stripped or added on its way",
        "CWE-347, improper verification of a cryptographic signature",
        "a job is the bytes that its researcher signed, and has no field but the known ones",
        "test_a_question_that_was_changed_on_its_way_is_none",
    ),
)
AGE = Statistic(kind="moments", variable="age")
SITES = ("north", "south", "west")


def members(*keys: SigningKey, names: tuple[str, ...]) -> tuple[Member, ...]:
    return tuple(Member(name=n, key=k.public) for n, k in zip(names, keys, strict=True))


def test_a_researcher_whose_key_the_coordinator_made_asks_nothing(siege: Siege) -> None:
    mallory = SigningKey.generate()
    ours = members(mallory, siege.victim.ben, names=("ana", "ben"))  # ana's key is swapped

    def question() -> bytes:
        return siege.job(mallory)

    with siege.off("thresholds"):
        siege.coordinator.publish(siege.roster(mallory, researchers=ours))
        assert siege.said(question()) == "reply"

    siege.coordinator.publish(siege.roster())  # what the stewards sign
    assert siege.said(question()) == "bad-signature"
    for signers in ((mallory,), (siege.victim.others[0],), (siege.victim.others[0], mallory)):
        siege.coordinator.publish(siege.roster(*signers, researchers=ours))
        assert siege.said(question()) == "bad-signature"
    assert siege.said(siege.job()) == "reply"


def test_a_secure_sum_over_invented_sites_is_not_finished(siege: Siege) -> None:
    """A total whose other parts are the coordinator's own, all zero, is the hospital's own part."""
    own = siege.parts(AGE, lane="exact")
    assert own is not None
    fakes = [SigningKey.generate(), SigningKey.generate()]
    ours = siege.roster(fakes[0], sites=members(siege.victim.site, *fakes, names=SITES))

    with siege.off("thresholds"):
        siege.coordinator.publish(ours)
        total = summed(siege, fakes, ours)
    assert isinstance(total, list)
    assert total[0].groups[""].n == own[0].groups[""].n
    assert total[0].groups[""].mean == pytest.approx(own[0].groups[""].mean)

    siege.coordinator.publish(siege.roster())
    siege.coordinator.publish(
        siege.roster(fakes[0], sites=members(siege.victim.site, *fakes, names=SITES))
    )
    assert summed(siege, fakes, ours) == "keys"


class Credulous(Server):
    """The attacker's own: it asks no site for a signature."""

    def advertised(self, message: Advertisement) -> None:
        self._advertised[message.sender] = message


def summed(siege: Siege, fakes: list[SigningKey], roster: bytes) -> list[Part] | str:
    """Lead ana's secure sum with two sites of one's own; the total, or why there is none."""
    work = StatisticsWork(ask=(AGE,), secure=True, lane="exact")
    envelope = siege.job(work=work, releases=dict.fromkeys(SITES, siege.victim.release))
    assert siege.said(envelope) == "accepted"
    job = digest(envelope)
    project = Project.read(Envelope.parse(siege.agreed).body)
    terms = sums.terms(
        job,
        Job.read(Envelope.parse(envelope).body),
        project,
        Roster.read(Envelope.parse(roster).body),
        SITES,
        3,
    )
    server, clients = Credulous(terms), [Client(terms, key) for key in fakes]

    def step(number: int, said: wire.SumStep) -> Any:
        message = siege.task(job, str(number), said.SerializeToString())
        if message.HasField("failed"):
            raise Refused(message.failed.code, "")
        return encoding.answer(message.reply.payload, 0, terms.word)

    try:
        server.advertised(step(1, wire.SumStep(terms=wire.SumTerms(sites=SITES, minimum=3))))
        for client in clients:
            server.advertised(client.advertise())
        told = server.introductions()
        server.shared(0, step(2, encoding.encode_introduction(told[0])))
        for place, client in enumerate(clients, 1):
            server.shared(place, client.share(told[place]))
        sent = server.deliveries()
        server.masked(step(3, wire.SumStep(shares=encoding.encode_shares(sent[0]))))
        for place, client in enumerate(clients, 1):
            server.masked(client.mask(sent[place], np.zeros(terms.length, np.uint64)))
        survivors = server.survivors()
        server.confirmed(step(4, encoding.encode_survivors(survivors[0])))
        for place, client in enumerate(clients, 1):
            server.confirmed(client.confirm(survivors[place]))
        confirmed = server.confirmations()
        server.revealed(step(5, encoding.encode_confirmations(confirmed)))
        for client in clients:
            server.revealed(client.unmask(confirmed))
        return words.decode(server.total(), work.ask, project, len(SITES))[0]
    except Refused as refusal:
        return refusal.code
    finally:
        siege.end(job)


def test_a_roster_that_was_made_long_ago_lets_nobody_ask(siege: Siege) -> None:
    """The stewards took somebody off since; the coordinator shows the hospital what was before."""
    old = siege.roster(issued_at=now() - timedelta(days=400))
    siege.coordinator.publish(old)
    with siege.off("roster-age"):
        assert siege.said(siege.job()) == "reply"

    assert siege.said(siege.job()) == "roster-old"
    siege.coordinator.publish(siege.roster())
    assert siege.said(siege.job()) == "reply"


@contextmanager
def round_under_way(siege: Siege, *, hide: bool = False) -> Iterator[str]:
    """A training job that was let in; it is over afterwards."""
    work = TrainingWork(bundle=Bundle.parse(LEAKY).digest, parameters={"hide": hide})
    job = siege.job(work=work)
    assert siege.said(job) == "accepted"
    yield digest(job)
    siege.end(digest(job))


def weights(siege: Siege, size: int = 16) -> dict[str, object]:
    """Arrays to train from, as a task's payload and blob."""
    message, blob = records.encode({"arrays": records.Arrays({"w": np.ones(size, np.float32)})})
    siege.coordinator.blobs[hashlib.sha256(blob).hexdigest()] = blob
    return {
        "payload": message.SerializeToString(),
        "digest": message.tensors.digest,
        "size": message.tensors.size,
    }


def test_a_round_that_is_under_way_ends_with_its_researchers_key(siege: Siege) -> None:
    victim = siege.victim
    replaced = members(SigningKey.generate(), victim.ben, names=("ana", "ben"))
    with round_under_way(siege) as job:
        assert siege.task(job, "1", **weights(siege)).HasField("reply")
        with siege.off("signer"):
            siege.coordinator.publish(siege.roster(researchers=replaced))
            assert siege.said(siege.job()) == "bad-signature"  # the roster is known
            assert siege.task(job, "2", **weights(siege)).HasField("reply")
        assert siege.task(job, "3", **weights(siege)).failed.code == "revoked"
    siege.coordinator.publish(siege.roster())


def test_no_job_is_answered_again_after_a_restart_or_a_restored_catalogue(siege: Siege) -> None:
    before, after = siege.job(), siege.job()
    assert siege.said(before) == "reply"
    siege.eventually(lambda: siege.said(before) == "replay", "the node knows that it is over")
    siege.back_up()
    assert siege.said(after) == "reply"

    with siege.off("nonces", "memory"):
        siege.restore()
        assert [siege.said(before), siege.said(after)] == ["reply", "reply"]

    siege.restore()
    assert [siege.said(before), siege.said(after)] == ["replay", "replay"]
    answers = [e.body["job"] for e in siege.entries("answer")]
    assert answers.count(digest(after)) == 2  # of which the second was without defence
    assert siege.said(siege.job()) == "reply"


def changed(envelope: bytes, **fields: object) -> bytes:
    """Return a signed job with fields of its work changed; None strips one."""
    signed = json.loads(envelope)
    body = json.loads(base64.b64decode(signed["payload"]))
    for name, value in fields.items():
        if value is None:
            del body["work"][name]
        else:
            body["work"][name] = value
    signed["payload"] = base64.b64encode(json.dumps(body).encode()).decode()
    return json.dumps(signed).encode()


def test_a_question_that_was_changed_on_its_way_is_none(siege: Siege) -> None:
    """Its researcher wants an exact answer or none: without that, it spends of the account."""
    old = Cohort(variable="age", at_least=70)

    def question() -> bytes:
        return siege.question(AGE, cohort=old, lane="exact")

    assert siege.said(question()) == "not-declared"
    with siege.off("signatures"):
        message = siege.offer(changed(question(), lane=None))
        answer = wire.StatisticsAnswer.FromString(message.reply.payload)
        assert answer.account.spent > 0

    assert siege.said(changed(question(), lane=None)) == "bad-signature"
    assert siege.said(changed(question(), lane="exact", secure=True)) == "bad-signature"
    with siege.off("signatures"):  # nor is there a field that a node doesn't know
        assert siege.said(changed(question(), vector=[1, 0, 0])) == "not-believed"
