"""However many sites there are, what daemon and ServerApp say to each other is in small frames."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from contract import records
from contract import wire_pb2 as wire
from contract.documents import Job, Project, new_nonce
from contract.errors import DocumentError
from contract.work import TrainingWork
from coordinator.work.training import flower, protocol
from coordinator.work.training.grid import WardgateGrid
from coordinator.work.training.run import TrainingRun
from foundation import frames, tensors
from foundation.frames import FrameError, Socket, pack
from tests.node.work.training.flower_apps import NOW

SITES = tuple(f"site{number:03d}" for number in range(120))
TIME = {"consortium": "north", "issued_at": NOW, "expires_at": NOW + timedelta(days=9)}
LARGEST_FRAME, PAGE = 16_000, 8_000


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=40))), st.integers(1, 60))
def test_pages_hold_all_parts_in_order_and_none_is_longer_than_it_must(
    pairs: list[tuple[bytes, bytes]], most: int
) -> None:
    parts = [part for pair in pairs for part in pair]
    made = list(protocol.pages(parts, most))
    assert [part for page in made for part in page] == parts
    assert made
    assert all(len(page) == 2 or sum(map(len, page)) <= most for page in made)


class Run(TrainingRun):
    """A run whose ServerApp is in this process, and whose sites answer at once."""

    def __init__(self, folder: Path) -> None:
        job = Job(
            **TIME,
            project="p",
            project_version=1,
            researcher="r",
            nonce=new_nonce(),
            releases=dict.fromkeys(SITES, "0" * 64),
            work=TrainingWork(bundle="0" * 64, parameters={}, seed=1),
        )
        project = Project(
            **TIME,
            name="p",
            version=1,
            title="t",
            purpose="t",
            ethics_reference="t",
            legal_basis="t",
            sites=SITES,
            researchers=("r",),
            minimum_sites=2,
            kinds=("training",),
        )
        super().__init__(
            "ab" * 32, job, project, folder, folder / "app", SITES, self.work, lambda event: None
        )

    async def work(self, site: str, task: wire.Task) -> None:
        """Reply with a kilobyte and more."""
        metrics = {f"{'m' * 50}{number}": 1.0 for number in range(15)}
        reply = {"metrics": records.Metrics({"num-examples": int(site[4:]) + 1, **metrics})}
        payload = tensors.encode(reply).message.SerializeToString()
        self.deliver(site, wire.Reply(task=task.task, payload=payload))

    @contextmanager
    def talking(self) -> Iterator[Socket]:
        """Yield the ServerApp's end of its socket, while a thread answers at the daemon's."""
        self._loop = asyncio.new_event_loop()
        looping = threading.Thread(target=self._loop.run_forever)
        looping.start()
        ours, theirs = (Socket(end) for end in socket.socketpair())

        def answer() -> None:
            try:
                self._converse(theirs)
            except (FrameError, DocumentError):
                theirs.close()

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            with closing(ours):
                yield ours
        finally:
            answering.join()
            self._loop.call_soon_threadsafe(self._loop.stop)
            looping.join()
            self._loop.close()
            self._exchange.journal.close()


def grid_over(ours: Socket, blobs: Path, page_bytes: int = PAGE) -> WardgateGrid:
    return WardgateGrid(
        ours,
        job="ab" * 32,
        run=flower.identify(1),
        sites=SITES,
        consortium="north",
        minimum_sites=2,
        observed=flower.Observed(),
        blobs=blobs,
        page_bytes=page_bytes,
    )


def ask_all(grid: WardgateGrid) -> list[Message]:
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.ones(1, "f"))}),
            "said": MetricRecord({"m" * 300: 1.0}),
        }
    )
    asked = [Message(content, node, "evaluate") for node in grid._ids.values()]
    return grid.send_and_receive(asked)


def test_a_round_of_many_sites_travels_in_frames_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", LARGEST_FRAME)
    run = Run(tmp_path / "job")
    with run.talking() as ours:
        replies = ask_all(grid_over(ours, tmp_path))
    weights = [reply.content["metrics"]["num-examples"] for reply in replies]
    assert weights == list(range(1, len(SITES) + 1))  # in roster order
    said = sum(path.stat().st_size for path in (tmp_path / "job" / "replies").iterdir())
    assert said > 5 * LARGEST_FRAME


def test_without_pages_the_same_round_is_larger_than_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", LARGEST_FRAME)
    run = Run(tmp_path / "job")
    with run.talking() as ours, pytest.raises(FrameError):
        ask_all(grid_over(ours, tmp_path, protocol.PAGE_BYTES))


def test_what_is_sent_out_together_is_bounded_over_all_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_PUSH_BYTES", 1_000)
    run = Run(tmp_path / "job")
    with run.talking() as ours:
        for _ in range(2):
            ours.send(protocol.MORE, pack([b"site000", bytes(400)]))
            assert ours.receive()[0].kind == protocol.ANSWER
        ours.send(protocol.MORE, pack([b"site000", bytes(400)]))
        with pytest.raises(FrameError):
            ours.receive()
