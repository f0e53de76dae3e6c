"""Answers that come over a SuperLink are taken one after another, each before the next is read."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

from flwr.app import RecordDict

from contract import wire_pb2 as wire
from coordinator.work.superlink.carriage import Carriage, Ends, _Sent
from coordinator.work.superlink.flower import Came
from foundation.blobs import BlobFolder
from foundation.superlink import pack

JOB = "ab" * 32
SITES = [f"site{number}" for number in range(12)]


class Held:
    """A run whose answers are made when they are fetched, and that counts those still held."""

    def __init__(self) -> None:
        self.alive: list[weakref.ref[RecordDict]] = []
        self.most = 0

    def pull(self, messages: Collection[str], max_bytes: int) -> Iterator[Came]:
        assert max_bytes == 10**6
        for name in messages:
            tensors = name.encode() * 1000
            digest = hashlib.sha256(tensors).hexdigest()
            reply = wire.Reply(job=JOB, task=name)
            reply.tensors.digest, reply.tensors.size = digest, len(tensors)
            content = pack(wire.FromNode(reply=reply).SerializeToString(), tensors)
            self.alive.append(weakref.ref(content))
            self.most = max(self.most, sum(one() is not None for one in self.alive))
            came = Came(name, content)
            del content
            yield came
            del came


def test_one_answer_is_in_memory_at_a_time_and_all_are_kept(tmp_path: Path) -> None:
    came: list[str] = []
    ends = Ends(dict, lambda site, answer: came.append(f"{site} {answer.reply.task}"), print)
    blobs = BlobFolder(tmp_path)
    carriage = Carriage(cast("Any", None), JOB, b"", {}, blobs, ends, 9.0, 10**6)
    carriage._sent = {f"m{site}": _Sent(site, f"m{site}", 1) for site in SITES}
    run = Held()
    carriage._take_what_came(cast("Any", run))
    assert came == [f"{site} m{site}" for site in SITES]
    assert run.most == 1
    assert carriage._sent == {}
    assert all(blobs.has(hashlib.sha256(f"m{s}".encode() * 1000).hexdigest()) for s in SITES)
