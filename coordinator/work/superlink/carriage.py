"""A job's tasks over a SuperLink: pushed while they are wanted, and what came back handed on.

The loop compares what the run waits for with what was sent, so that whatever happened between
(another SuperLink process, another run, a SuperNode that began anew) is mended by sending again: a
node answers a task that it answered before with the same reply.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import wire_pb2 as wire
from contract.errors import DocumentError, StorageError, Unavailable
from contract.work import Scalar
from coordinator.work.superlink.service import SuperLink
from foundation.blobs import BlobFolder
from foundation.superlink import MAX_INLINE_BYTES, TENSORS, pack, unpack, with_tensors

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from coordinator.work.superlink.flower import Came, HeldRun

log = logging.getLogger("wardgate.coordinator")

POLL_SECONDS = 0.2
BEAT_SECONDS = 10.0
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
HELD_SECONDS = 60.0


@dataclass(frozen=True)
class _Sent:
    site: str
    task: str
    node: int


@dataclass(frozen=True)
class _Pause:
    """Until when a task isn't sent again, and how long the next pause is."""

    until: float
    next_seconds: float


@dataclass(frozen=True)
class Ends:
    """Where a carriage gets its tasks and leaves its answers. Called from its thread."""

    pending: Callable[[], Mapping[str, list[wire.Task]]]
    """By site, what is still to be answered."""
    came: Callable[[str, wire.FromNode], None]
    """Takes a site's answer; its tensors are in ``blobs``."""
    absent: Callable[[str], None]
    """Is told that a site with open tasks has had no SuperNode for long."""


class Carriage:
    """One job's way over a SuperLink. ``run`` it in a thread; ``stop`` ends it."""

    def __init__(
        self,
        link: SuperLink,
        job: str,
        bundle: bytes,
        parameters: Mapping[str, Scalar],
        blobs: BlobFolder,
        ends: Ends,
        absence_seconds: float,
        max_reply_bytes: int,
    ) -> None:
        self._link = link
        self._job = job
        self._bundle = bundle
        self._parameters = parameters
        self._blobs = blobs
        self._ends = ends
        self._absence_seconds = absence_seconds
        self._max_reply_bytes = max_reply_bytes
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._sent: dict[str, _Sent] = {}
        self._seen_at: dict[str, float] = {}
        self._packed: dict[str, RecordDict] = {}
        self._pauses: dict[str, _Pause] = {}
        self._beaten = 0.0
        self._told_of_room = False

    def wake(self) -> None:
        """Say that there is something to send."""
        self._wake.set()

    def stop(self) -> None:
        """End the loop, and the run with it."""
        self._stopped.set()
        self._wake.set()

    @property
    def stopped(self) -> bool:
        """Whether it was ended."""
        return self._stopped.is_set()

    def run(self) -> None:
        """Carry until stopped; a run that the SuperLink lost is begun anew."""
        from coordinator.work.superlink.flower import RunOver

        said = False
        while not self._stopped.is_set():
            try:
                self._one_run()
                return
            except RunOver:
                log.warning("job %s: its run on the SuperLink is over; begun anew", self._job[:12])
            except (Unavailable, StorageError) as error:
                if not said:
                    log.warning("job %s: %s Trying again.", self._job[:12], error)
                said = True
            except Exception as error:
                log.error("job %s: unexpected %s", self._job[:12], type(error).__name__)
            self._stopped.wait(PAUSE_SECONDS)

    def _one_run(self) -> None:
        from coordinator.work.superlink.flower import RunOver

        run = self._link.open_run(self._bundle, self._parameters)
        self._sent.clear()
        lost = 0.0
        self._beaten = time.monotonic()
        try:
            while not self._stopped.is_set():
                try:
                    self._beat(run)
                    self._send_what_is_wanted(run)
                    self._take_what_came(run)
                    lost = 0.0
                except Unavailable:
                    # It is being started again, with its database: the run goes on.
                    if not lost:
                        log.warning("job %s: the SuperLink is away", self._job[:12])
                        lost = time.monotonic()
                    self._stopped.wait(PAUSE_SECONDS)
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()
            run.finish()
        except RunOver:
            if not self._stopped.is_set():
                raise
        except Unavailable:
            pass  # stopped; the run ends with its heartbeats
        finally:
            run.close()

    def _beat(self, run: HeldRun) -> None:
        """Say that the run is still held, if that is due."""
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            run.beat()
            self._beaten = time.monotonic()

    def _send_what_is_wanted(self, run: HeldRun) -> None:
        pending = self._ends.pending()
        wanted = {task.task: (site, task) for site, tasks in pending.items() for task in tasks}
        for message, sent in list(self._sent.items()):
            if sent.task not in wanted:
                del self._sent[message]
        if not wanted:
            return
        nodes = self._nodes(run)
        now = time.monotonic()
        for site in pending:
            if site in nodes or site not in self._seen_at:
                self._seen_at[site] = now
            elif pending[site] and now - self._seen_at[site] > self._absence_seconds:
                self._ends.absent(site)
        under_way = {(sent.task, sent.node) for sent in self._sent.values()}
        for site, task in wanted.values():
            node = nodes.get(site)
            pause = self._pauses.get(task.task)
            if node is None or (task.task, node) in under_way or (pause and now < pause.until):
                continue
            if not self._link.has_room(task.tensors.size):
                self._put_off(task.task, PAUSE_SECONDS)
                if not self._told_of_room:
                    self._told_of_room = True
                    log.warning("job %s: waits: the SuperLink's disk is full", self._job[:12])
                continue
            self._beat(run)
            try:
                name = run.push(node, task.message_type, task.group, self._content(task))
            except Unavailable:
                self._put_off(task.task, PAUSE_SECONDS)  # no node keeps the others' waiting
                raise
            self._sent[name] = _Sent(site, task.task, node)
        self._pauses = {k: v for k, v in self._pauses.items() if k in wanted}
        blobs = {task.tensors.digest for _, task in wanted.values()}
        self._packed = {k: v for k, v in self._packed.items() if k in blobs}

    def _nodes(self, run: HeldRun) -> dict[str, int]:
        """Return the nodes that are there, by site."""
        assert self._link.keys is not None
        by_key = run.nodes()
        held = self._link.keys.all()
        return {site: by_key[key] for site, key in held.items() if key in by_key}

    def _content(self, task: wire.Task) -> RecordDict:
        """Return a task as it travels; the arrays are made once for all sites."""
        sent = wire.Task()
        sent.CopyFrom(task)
        sent.job = self._job
        said, digest = sent.SerializeToString(), task.tensors.digest
        if task.tensors.size <= MAX_INLINE_BYTES:
            return pack(said, self._blobs.path(digest).read_bytes() if digest else b"")
        if digest not in self._packed:
            self._packed[digest] = pack(b"", self._blobs.path(digest).read_bytes())
        large = self._packed[digest][TENSORS]
        return with_tensors(said, large)

    def _take_what_came(self, run: HeldRun) -> None:
        for came in run.pull(list(self._sent), self._max_reply_bytes):
            sent = self._sent.pop(came.message, None)
            if sent is not None:
                self._take(sent, came)
            del came  # before the next is fetched: an answer may be a model

    def _take(self, sent: _Sent, came: Came) -> None:
        from coordinator.work.superlink.flower import read_answer

        if came.content is None and not came.too_large:  # the SuperNode is gone, or refused
            self._put_off(sent.task, PAUSE_SECONDS)
            return
        try:
            if came.content is None:
                raise DocumentError("An answer is too large.")
            message, tensors = unpack(came.content)
            answer = read_answer(message)
            self._keep(answer, tensors)
        except DocumentError:
            failed = wire.TaskFailed(job=self._job, task=sent.task, code="malformed")
            answer = wire.FromNode(failed=failed)
        if answer.WhichOneof("body") == "decision":
            self._put_off(sent.task, HELD_SECONDS)  # its stewards are to decide
        self._ends.came(sent.site, answer)

    def _put_off(self, task: str, seconds: float) -> None:
        """Send a task again later, each time after a longer pause."""
        before = self._pauses.get(task)
        pause = seconds if before is None else max(seconds, before.next_seconds)
        doubled = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._pauses[task] = _Pause(time.monotonic() + pause, doubled)

    def _keep(self, answer: wire.FromNode, tensors: bytes) -> None:
        """Put an answer's tensors where those of an upload are."""
        named = answer.reply.tensors if answer.WhichOneof("body") == "reply" else None
        if not tensors:
            return
        if named is None or named.size != len(tensors):
            raise DocumentError("An answer came with other tensors than it names.")
        if self._blobs.store(tensors) != named.digest:
            raise DocumentError("An answer came with other tensors than it names.")
