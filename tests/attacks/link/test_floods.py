"""A coordinator that would fill a hospital's disk with what it needs no signature for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from contract import wire_pb2 as wire
from contract.keys import SigningKey
from node.gate.floods import BOUGHT
from tests.attacks.link.siege import AMPLE, Siege, digest
from tests.end_to_end.federation import POLICY

ATTACKS = (
    (
        "Filling the ledger: unsigned offers, replays, tasks of unknown jobs",
        "CWE-779, logging of excessive data; CWE-400, uncontrolled resource consumption",
        "a limit of what is written down without a new signature (jobs.unsigned_per_hour)",
        "test_no_flood_is_written_down",
    ),
    (
        "Filling the ledger by size: a job's name of half a megabyte",
        "CWE-779, logging of excessive data",
        "a task names a job by its digest, or nothing is made of it; off with it: the limit of "
        "what is written down unsigned",
        "test_a_task_with_an_endless_name_leaves_no_trace",
    ),
)
PER_HOUR = 100
MANY = 160
REPLAYS = 20


@pytest.fixture(scope="module")
def limited(siege: Siege) -> Iterator[Siege]:
    """The node under a policy that has a low limit."""
    policy = siege.victim.home.policy
    before = policy.read_text()
    policy.write_text(POLICY + f"unsigned_per_hour = {PER_HOUR}\nanswer_ms = 0\n" + AMPLE)
    yield siege
    policy.write_text(before)
    siege.restart()  # what was spent is forgotten: the next test begins with the whole number


def tasks() -> list[wire.ToNode]:
    """Tasks of a job that nobody signed."""
    return [wire.ToNode(task=wire.Task(job="0" * 64, task=str(n))) for n in range(MANY)]


def offers(siege: Siege) -> list[wire.ToNode]:
    """Jobs that a stranger signed."""
    stranger = SigningKey.generate()
    return [wire.ToNode(offer=wire.Offer(job=siege.job(stranger))) for _ in range(MANY)]


def written(siege: Siege, messages: list[wire.ToNode], more_than: int = 0) -> int:
    """Send messages, and a question of ana's; how many entries are on the ledger then.

    That question is answered, flood or no flood. It waits until there are ``more_than`` so many.
    """
    before = len(siege.entries())
    for message in messages:
        siege.coordinator.say(message)
    question = siege.job()
    siege.coordinator.say(wire.ToNode(offer=wire.Offer(job=question)))
    while siege.coordinator.next("reply", "failed", "decision").reply.job != digest(question):
        continue
    siege.eventually(lambda: len(siege.entries()) - before > more_than, "all of it is written down")
    size = -1
    while size != (size := len(siege.entries())):
        time.sleep(0.5)  # what was begun before the question is done
    siege.coordinator.forget()
    return size - before


def test_no_flood_is_written_down(limited: Siege) -> None:
    replayed = limited.job()
    assert limited.said(replayed) == "reply"
    limited.eventually(lambda: limited.said(replayed) == "replay", "its job is over")
    with limited.off("floods"):
        assert [limited.said(replayed) for _ in range(REPLAYS)] == ["replay"] * REPLAYS
        assert written(limited, offers(limited) + tasks(), 3 * MANY) > 3 * MANY

    limited.restart()
    bought = BOUGHT["statistics"]
    assert written(limited, offers(limited) + tasks()) <= 2 * (PER_HOUR + bought) + 10
    written(limited, tasks())  # what ana's questions paid for is used up

    def refused() -> int:
        return sum(e.body["code"] == "replay" for e in limited.entries("refused"))

    before = refused()
    for _ in range(REPLAYS):
        limited.coordinator.say(wire.ToNode(offer=wire.Offer(job=replayed)))
    written(limited, [])
    assert refused() - before < REPLAYS / 2


def test_a_task_with_an_endless_name_leaves_no_trace(limited: Siege) -> None:
    endless = wire.ToNode(task=wire.Task(job="x" * 2**19, task="1"))
    ledger = limited.victim.home.ledger / "ledger.jsonl"

    def grown(entries: int = 0) -> int:
        before = ledger.stat().st_size
        written(limited, [endless], entries)
        return ledger.stat().st_size - before

    with limited.off("floods", "digests"):
        assert grown(1) > 2**19
    with limited.off("floods"):
        assert grown() < 2**14
