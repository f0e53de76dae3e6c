"""A coordinator that owns every transport certificate, against a node that trusts it in nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.documents import new_nonce
from contract.envelope import Envelope
from contract.errors import DocumentError, JobFailed
from contract.keys import SigningKey
from contract.work import StatisticsWork, TrainingWork
from coordinator.home import CoordinatorHome
from foundation.bundle import Bundle
from node.gate.ledger import read_entries, verify
from researcher import mean
from tests.end_to_end.canaries import find, packed_singles, traces
from tests.end_to_end.federation import (
    PROJECT,
    SUBJECTS,
    Federation,
    bundle,
    canary,
    surname,
    weight,
)
from tests.end_to_end.hostile import SITE, HostileCoordinator, Victim, now
from tests.end_to_end.processes import Server, eventually

STEPS = Bundle.parse(bundle("steps")).digest


@dataclass
class Attack:
    """A node under attack: its keys' holder, its process, and the coordinator."""

    victim: Victim
    coordinator: HostileCoordinator
    server: Server

    def refused(self, envelope: bytes, code: str) -> None:
        """Check that a job is refused for this reason, in one sentence."""
        message = self.coordinator.offer(envelope)
        assert message.WhichOneof("body") == "decision", message
        assert (message.decision.accepted, message.decision.code) == (False, code)
        assert "\n" not in message.decision.sentence

    def answered(self, envelope: bytes) -> wire.Reply:
        message = self.coordinator.offer(envelope)
        assert message.WhichOneof("body") == "reply", message
        reply: wire.Reply = message.reply
        self.coordinator.say(wire.ToNode(received=wire.Received(job=reply.job, task=reply.task)))
        return reply


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    """A node under ``open-research`` with a coordinator that is hostile."""
    victim = Victim(tmp_path_factory.mktemp("victim")).build()
    first = victim.roster(victim.steward, victim.others[0])
    project = victim.project(victim.steward, victim.others[0])
    victim.approve(project)
    home = CoordinatorHome(victim.root / "coordinator")
    coordinator = HostileCoordinator(home, victim.port)
    coordinator.documents = wire.Documents(roster=first, projects=[project])
    server = victim.serve()
    try:
        server.start()
        coordinator.next("releases")
        yield Attack(victim, coordinator, server)
        # Last of all, whatever was tried: nothing of a patient is in anything that ever came.
        nothing_left(coordinator)
        verify(victim.home.ledger)
    finally:
        server.stop()
        coordinator.close()


def nothing_left(coordinator: HostileCoordinator) -> None:
    data = coordinator.all_bytes()
    assert data
    texts = [f(SITE, i) for f in (canary, surname) for i in range(SUBJECTS)]
    numbers = [weight(SITE, i) for i in range(SUBJECTS)]
    wanted = {**traces(["CANARY", "Quillfeather", *texts], numbers), **packed_singles(numbers)}
    assert not find(data, wanted)


def test_an_honest_job_is_answered(attack: Attack) -> None:
    asked = StatisticsWork(ask=(mean("age"), mean("weight")))
    reply = attack.answered(attack.victim.job(work=asked))
    answer = wire.StatisticsAnswer.FromString(reply.payload)
    assert answer.parts[0].groups[0].moments.n == SUBJECTS


def test_a_job_that_nobody_signed_or_a_stranger_is_refused(attack: Attack) -> None:
    victim = attack.victim
    stranger = SigningKey.generate()
    unsigned = json.loads(victim.job(stranger))
    attack.refused(json.dumps(unsigned).encode(), "bad-signature")
    unsigned["signatures"] = []
    attack.refused(json.dumps(unsigned).encode(), "bad-signature")
    attack.refused(victim.job(victim.ben), "bad-signature")  # names ana
    attack.refused(victim.job(victim.steward), "bad-signature")  # a steward is no researcher
    attack.refused(victim.job(victim.ben, researcher="ben"), "not-believed")  # not in the project


def test_a_job_that_was_changed_after_signing_is_refused(attack: Attack) -> None:
    signed = json.loads(attack.victim.job())
    body = json.loads(base64.b64decode(signed["payload"]))
    body["work"]["ask"][0]["variable"] = "weight"
    signed["payload"] = base64.b64encode(json.dumps(body).encode()).decode()
    attack.refused(json.dumps(signed).encode(), "bad-signature")
    # The signature of a job under another payload type is none for it.
    signed = json.loads(attack.victim.job())
    signed["payloadType"] = "application/vnd.wardgate.project+json"
    attack.refused(json.dumps(signed).encode(), "not-believed")


def test_a_job_out_of_its_time_or_place_is_refused(attack: Attack) -> None:
    job = attack.victim.job
    over = {"issued_at": now() - timedelta(hours=2), "expires_at": now() - timedelta(hours=1)}
    attack.refused(job(**over), "not-believed")
    early = {"issued_at": now() + timedelta(hours=1), "expires_at": now() + timedelta(hours=2)}
    attack.refused(job(**early), "not-believed")
    attack.refused(job(consortium="other"), "not-believed")
    attack.refused(job(project="other"), "not-believed")
    attack.refused(job(project_version=2), "not-believed")


def test_a_job_is_answered_once_and_its_nonce_is_used_up(attack: Attack) -> None:
    nonce = new_nonce()
    envelope = attack.victim.job(nonce=nonce)
    reply = attack.answered(envelope)
    digest = Envelope.parse(envelope).digest
    eventually(
        lambda: attack.coordinator.say(wire.ToNode(close=wire.CloseJob(job=digest))) is None,
        "it is closed",
    )
    attack.coordinator.next("heartbeat")
    attack.coordinator.next("heartbeat")
    attack.refused(envelope, "replay")
    attack.refused(attack.victim.job(nonce=nonce), "replay")
    again = Envelope.parse(envelope)
    twice = again.with_signatures(again.sign(SigningKey.generate()).signatures).to_bytes()
    attack.refused(twice, "replay")
    entries = list(read_entries(attack.victim.home.ledger))
    left = [e for e in entries if e.kind == "answer" and e.body["job"] == reply.job]
    assert len(left) == 1


def test_what_the_hospital_did_not_grant_is_refused(attack: Attack) -> None:
    job = attack.victim.job
    attack.refused(job(releases={SITE: "0" * 64}), "release-not-granted")
    attack.refused(job(releases={"south": attack.victim.release}), "release-not-granted")
    attack.refused(job(work=StatisticsWork(ask=(mean("outcome"),))), "not-in-dictionary")
    attack.refused(job(work=StatisticsWork(ask=(mean("name"),))), "not-in-dictionary")
    attack.refused(job(work=TrainingWork(bundle="0" * 64)), "recipe-not-approved")
    for parameters in ({"rate": 2.0}, {"rate": "0.1"}, {"pause": 1.0}, {"rate": True}):
        work = TrainingWork(bundle=STEPS, parameters=parameters)
        attack.refused(job(work=work), "parameter")


@pytest.mark.parametrize(
    "junk",
    [b"", b"{}", b"\xff" * 100, b"[" * 50_000, b'{"payload":"x","payloadType":"y","signatures":0}'],
    ids=["nothing", "empty", "binary", "deep", "wrong types"],
)
def test_what_is_no_job_at_all_is_refused(attack: Attack, junk: bytes) -> None:
    attack.refused(junk, "not-believed")


def test_a_coordinator_cannot_mint_members(attack: Attack) -> None:
    victim, coordinator = attack.victim, attack.coordinator
    mallory = SigningKey.generate()
    fakes = [SigningKey.generate(), SigningKey.generate()]
    own = {"researchers": ("ana", "mallory"), "version": 2}
    for roster in (
        victim.roster(version=2, minted=mallory),
        victim.roster(mallory, *fakes, version=2, minted=mallory),
        victim.roster(victim.others[0], version=2, minted=mallory),  # one of the two it needs
        victim.roster(victim.others[0], victim.others[0], version=2, minted=mallory),
        victim.roster(
            *fakes,
            version=2,
            minted=mallory,
            threshold=1,
            stewards=victim_stewards(fakes),
        ),
        victim.roster(
            victim.steward, victim.others[0], version=2, minted=mallory, consortium="other"
        ),
    ):
        coordinator.publish(roster, victim.project(*fakes, **own))
        attack.refused(victim.job(mallory, researcher="mallory"), "bad-signature")
        attack.refused(
            victim.job(mallory, researcher="mallory", project_version=2), "bad-signature"
        )
    assert attack.answered(victim.job()).payload


def victim_stewards(keys: list[SigningKey]):
    from contract.documents import Member

    return tuple(Member(name=f"s{i}", key=k.public) for i, k in enumerate(keys))


def test_a_project_that_our_steward_did_not_approve_is_refused(attack: Attack) -> None:
    victim, coordinator = attack.victim, attack.coordinator
    wider = victim.project(*victim.others, version=2, researchers=("ana", "ben"))
    assert Envelope.parse(wider).signers({k.id: k.public for k in victim.others})
    coordinator.publish(b"", wider)  # two stewards signed it, so it is in force elsewhere
    attack.refused(victim.job(project_version=2), "project-not-approved")
    attack.refused(victim.job(victim.ben, researcher="ben", project_version=2),
                   "project-not-approved")  # fmt: skip
    attack.refused(victim.job(), "not-believed")  # the older version isn't in force any more


def test_a_recipe_that_fails_tells_a_line_of_itself_and_no_more(attack: Attack) -> None:
    victim, coordinator = attack.victim, attack.coordinator
    newest = victim.project(victim.steward, victim.others[0], version=3)
    victim.approve(newest, 3)
    coordinator.publish(b"", newest)
    work = TrainingWork(bundle=STEPS, parameters={"shout": True})
    envelope = victim.job(work=work, project_version=3)
    digest = Envelope.parse(envelope).digest
    decision = coordinator.offer(envelope).decision
    assert decision.accepted, decision
    weights = {"arrays": records.Arrays({"w": np.zeros(3, np.float32)})}
    message, blob = records.encode(weights)
    coordinator.blobs[hashlib.sha256(blob).hexdigest()] = blob
    task = wire.Task(
        job=digest,
        task="000001",
        message_type="train",
        payload=message.SerializeToString(),
        tensors=message.tensors,
    )
    coordinator.say(wire.ToNode(task=task))
    failed = coordinator.next("failed", "reply").failed
    assert failed.code == "exception"
    assert failed.location.startswith("steps/client_app.py:")
    assert len(failed.SerializeToString()) < 200
    # A job that was never admitted, and a task with a path for a name, get nothing.
    for name, job in (("000002", "0" * 64), ("../../../../tmp/x", digest)):
        other = wire.Task()
        other.CopyFrom(task)
        other.job, other.task = job, name
        coordinator.say(wire.ToNode(task=other))
        assert coordinator.next("failed", "reply").WhichOneof("body") == "failed"
    coordinator.say(wire.ToNode(close=wire.CloseJob(job=digest)))


def test_nothing_is_answered_under_an_expired_roster_and_an_older_one_is_not_taken(
    attack: Attack,
) -> None:
    victim, coordinator = attack.victim, attack.coordinator
    short = now() + timedelta(seconds=4)
    # South and west sign, as they may: this hospital's own steward isn't asked every time.
    coordinator.publish(victim.roster(*victim.others, version=5, expires_at=short))
    job = {"project_version": 3}
    assert attack.answered(victim.job(**job)).payload
    eventually(lambda: now() > short, "the roster expires")
    attack.refused(victim.job(**job), "no-roster")
    # After a restart it's no first roster again: the former stewards still decide.
    attack.server.kill()
    attack.server.start()
    coordinator.next("releases")
    attack.refused(victim.job(**job), "no-roster")
    mallory = SigningKey.generate()
    for roster in (
        victim.roster(victim.steward, victim.others[0], version=4),
        victim.roster(victim.steward, victim.others[0], version=1),
        victim.roster(
            victim.steward,
            version=6,
            minted=mallory,
            threshold=1,
            stewards=victim_stewards([victim.steward]),
        ),
    ):
        coordinator.publish(roster)
        attack.refused(victim.job(**job), "no-roster")
        attack.refused(victim.job(mallory, researcher="mallory", **job), "no-roster")
    # Another document under a version that was known is not taken; the next version is.
    other, newest = (
        victim.project(victim.steward, victim.others[0], version=version) for version in (3, 4)
    )
    coordinator.publish(victim.roster(*victim.others, version=6), other)
    attack.refused(victim.job(**job), "not-believed")
    coordinator.publish(b"", newest)
    attack.refused(victim.job(project_version=4), "project-not-approved")
    nothing_left(coordinator)


def test_the_true_coordinator_refuses_the_same_before_any_site_is_asked(
    trio: Federation,
) -> None:
    def asked() -> dict[str, int]:
        """How much is on each ledger, but what sites tell one another of heads by themselves."""
        return {
            site: sum(entry.kind != "notice" for entry in trio.entries(site)) for site in trio.sites
        }

    before = asked()
    with trio.connect() as ana, trio.connect("ben") as ben:
        work = StatisticsWork(ask=(mean("age"),))
        job, envelope = ana.sign(PROJECT, work)
        changed = json.loads(envelope)
        changed["signatures"][0]["sig"] = base64.b64encode(b"\0" * 64).decode()
        for forged in (
            json.dumps(changed).encode(),
            job.model_copy(update={"project_version": 7}).seal(Envelope.parse(envelope).payloadType)
            .sign(ana._key).to_bytes(),
            job.model_copy(update={"releases": {"nobody": "0" * 64}})
            .seal(Envelope.parse(envelope).payloadType).sign(ana._key).to_bytes(),
            b"nothing",
        ):  # fmt: skip
            with pytest.raises(Exception) as refused:
                ana._submit(forged)
            assert refused.value.__class__.__module__ == "contract.errors", refused.value
        with pytest.raises(Exception, match="somebody else"):
            ben._submit(envelope)
        assert asked() == before
        digest = ana._submit(envelope)
        ana._wait(digest)
        answers = {site: len(trio.answers(site, digest)) for site in trio.sites}
        assert ana._submit(envelope) == digest  # the same job again is the same answer
        assert tuple(ana._wait(digest).answered) == trio.sites
        assert {site: len(trio.answers(site, digest)) for site in trio.sites} == answers
        reused = job.model_copy(update={"minimum_sites": 2})
        with pytest.raises(DocumentError, match="nonce"):
            ana._submit(reused.seal(Envelope.parse(envelope).payloadType).sign(ana._key).to_bytes())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rate=5.0", "outside"),
        pytest.param("rounds=1000", "outside", marks=pytest.mark.slow),
        pytest.param("colour=1", "outside", marks=pytest.mark.slow),
    ],
)
def test_a_parameter_outside_its_range_is_refused_by_every_site_in_one_line(
    trio: Federation, setting: str, words: str
) -> None:
    done = trio.as_researcher("ana", "train", "steps", "-p", PROJECT, "--set", setting)
    done.fails(16, words)


def test_a_release_that_is_taken_back_is_refused(trio: Federation) -> None:
    with trio.connect() as ana:
        wrong = {"north": "1" * 64, "south": "2" * 64}
        with pytest.raises(JobFailed, match="not granted"):
            ana.statistics(PROJECT, [mean("age")], releases=wrong)
