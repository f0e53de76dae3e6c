"""Training at this node: a job's warm worker, and each of its tasks through the gate.

Everything here blocks and is called from threads.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import DocumentError, Refused
from contract.node_ids import node_id_of
from contract.records import Arrays
from contract.work import Scalar, TrainingWork
from foundation.blobs import BlobFolder
from foundation.files import private_folder, write_durably
from foundation.tensors import read
from node.catalog.inbox import InboxRow
from node.config import NodeSettings
from node.gate.gate import Admission, Gate, Membership, Sealed
from node.gate.rules import TrainingOutput
from node.home import NodeHome

if TYPE_CHECKING:
    from node.work.training.drafts import Takes
    from node.work.training.secure import SecureRounds
    from node.work.training.worker import Worker

log = logging.getLogger("wardgate.node")

STATE_FILE = "state"
NEXT_STATE_FILE = "state.next"
SUM_STEP, IN_SUMS = "sum", ("train", "evaluate")
"""Types of a secure job's tasks: a step of a sum, and what is summed."""
Fetch = Callable[[str, wire.BlobReference, BlobFolder], None]
"""Brings a blob of a job into a folder; blocks."""


@dataclass
class TrainingSession:
    """One training job at this node: what was admitted, and its warm worker."""

    member: Membership
    admission: Admission
    worker: Worker
    drafts: Takes | None = None
    """What it leaves here, where that is allowed."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    secure: SecureRounds | None = None
    """Where its replies go if they leave in secure sums only."""


@dataclass
class TrainingDesk:
    """The training jobs of one node, over all its consortia."""

    home: NodeHome
    gate: Gate
    settings: NodeSettings
    sessions: dict[str, TrainingSession] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, member: Membership, admission: Admission, work: TrainingWork) -> None:
        """Start the job's worker, unless it runs already."""
        from foundation import isolation
        from foundation.bubblewrap import Limits
        from node.work.training import weights
        from node.work.training.bundles import find
        from node.work.training.drafts import Room, Takes
        from node.work.training.secure import SecureRounds
        from node.work.training.worker import Worker

        engine = self.gate.catalog.engine
        with self._lock:
            if admission.digest in self.sessions:
                return
            isolation.ensure()
            recipe = find(engine, self.home, work.bundle)
            if recipe is None:
                raise Refused("recipe-not-approved", "The recipe is not approved at this site.")
            policy = self.gate.policy().training
            grant = admission.project.recipe(work.bundle)
            reply_bytes = min(policy.max_reply_bytes, grant.max_reply_bytes if grant else 0)
            named = weights.named(work.parameters, grant.weights if grant else ())
            drafts = None
            if grant is not None and grant.drafts and policy.drafts:
                drafts = Takes(
                    engine,
                    self.home,
                    job=admission.digest,
                    release=admission.release.digest,
                    recipe=work.bundle,
                    room=Room(policy.draft_bytes, policy.draft_files),
                )
                drafts.resume(
                    functools.partial(self._is_decided, admission.digest),
                    self.gate.ledger,
                    self.gate.clock(),
                )
            asked = [s for s in admission.project.sites if s in admission.job.releases]
            told: Mapping[str, Scalar] = {
                **self.settings.training.node_config,  # never over what follows
                "data-path": "/release",
                "dataset-path": "/release",
                "partition-id": asked.index(member.site),
                "num-partitions": len(asked),
            }
            folder = private_folder(self.home.jobs / admission.digest)
            worker = Worker.start(
                recipe=recipe,
                release=self.home.release(admission.release.digest),
                job=admission.digest,
                parameters=work.parameters,
                seed=work.seed,
                run_id=int(admission.digest[:15], 16),
                node_id=node_id_of(member.consortium, member.site),
                node_config=told,
                limits=Limits(
                    memory_bytes=policy.memory_bytes,
                    cpu_seconds=policy.cpu_seconds,
                    processes=policy.processes,
                    tmp_bytes=policy.temporary_bytes,
                    message_seconds=policy.message_seconds,
                    reply_bytes=reply_bytes,
                    threads=self.settings.work.worker_threads,
                    gpus=policy.gpus,
                ),
                log=folder / "worker.log",
                weights=weights.find(engine, self.home, named) if named else None,
                drafts=drafts,
            )
            session = TrainingSession(member, admission, worker, drafts)
            if work.secure is not None:
                session.secure = SecureRounds(self.gate, member, admission, folder)
            self.sessions[admission.digest] = session

    def task(self, member: Membership, task: wire.Task, fetch: Fetch) -> Sealed:
        """Run one task of an admitted job; an answer made before is sent again."""
        try:
            session = self.sessions.get(task.job) or self._reopen(member, task.job)
        except Refused as refusal:
            return self.gate.failure(member, task.job, task.task, refusal.code, "")
        except DocumentError:
            return self.gate.failure(member, task.job, task.task, "worker", "")
        if session is None or session.admission.job.consortium != member.consortium:
            return self.gate.failure(member, task.job, task.task, "not-admitted", "")
        with session.lock:
            return self._task(member, session, task, fetch)

    def _reopen(self, member: Membership, digest: str) -> TrainingSession | None:
        """Take up a job that was admitted before a restart, through the gate again."""
        known = dict(self.gate.asked.open_jobs(member.consortium)).get(digest)
        if known is None:
            return None
        admission = self.gate.admit(member, known)
        if isinstance(admission.job.work, TrainingWork):
            self.open(member, admission, admission.job.work)
        return self.sessions.get(digest)

    def _task(
        self, member: Membership, session: TrainingSession, task: wire.Task, fetch: Fetch
    ) -> Sealed:
        from node.work.training.worker import WorkerFailed

        try:
            return self._work_on(member, session, task, fetch)
        except WorkerFailed as error:
            objection = self._objection(session)  # which may be why it was ended
            code = error.code if objection is None else objection.code
            location = error.location if objection is None else ""
            return self.gate.failure(member, task.job, task.task, code, location)
        except Refused as refusal:
            return self.gate.failure(member, task.job, task.task, refusal.code, "")
        except (DocumentError, DecodeError):
            return self.gate.failure(member, task.job, task.task, "malformed", "")
        finally:
            if session.drafts is not None:
                session.drafts.drop()

    def _work_on(
        self, member: Membership, session: TrainingSession, task: wire.Task, fetch: Fetch
    ) -> Sealed:
        folder = self.home.jobs / task.job
        outbox = BlobFolder(folder / "out")
        started = time.perf_counter()
        self.gate.check_still_allowed(member, session.admission)
        before = self._made_before(task, outbox)
        if before is not None:
            return before
        held = self.gate.inbox.held(task.job, task.task)
        if held is not None:
            return self.settle_held(member, session.admission, held)
        secure = session.secure
        if secure is not None and task.message_type == SUM_STEP:
            return secure.step(task, outbox.store)
        if secure is not None and task.message_type.partition(".")[0] not in IN_SUMS:
            raise Refused("secure-only", "A secure job answers training and evaluation only.")
        message = wire.RecordDict.FromString(task.payload)
        tensors = self._tensors(task, message, folder, fetch)
        kept = self._state(folder, task.job)
        received = read(message, tensors)
        if task.message_type.startswith("train"):
            self.gate.check_received(member, session.admission, task.task, received)
        reply = session.worker.handle(task, tensors, kept)
        self.gate.check_still_allowed(member, session.admission)
        drafts = session.drafts
        if drafts is not None:
            drafts.note(task.task)
        work = session.admission.job.work
        assert isinstance(work, TrainingWork)
        grant = session.admission.project.recipe(work.bundle)
        assert grant is not None
        output = TrainingOutput(
            task.message_type,
            read(reply.payload, reply.tensors),  # its digest is checked on the way out
            _form(message),
            grant,
            {name: r.items for name, r in received.items() if isinstance(r, Arrays)},
            _question(session.admission, task),
        )
        if reply.state != kept:
            write_durably(folder / NEXT_STATE_FILE, task.task.encode() + b"\n" + reply.state)
        if secure is not None:
            sealed = secure.seal_in(task, output, started)
        else:
            sealed = self.gate.answer_task(
                member,
                session.admission,
                task.task,
                output,
                reply.payload,
                reply.tensors,
                time.perf_counter() - started,
                outbox.store,
            )
        if drafts is not None:
            drafts.keep(task.task, self.gate.ledger, self.gate.clock())
        return sealed

    def settle_held(self, member: Membership, admission: Admission, row: InboxRow) -> Sealed:
        """Return a held output as the stewards decided, with its tensors."""
        tensors = b""
        if row.tensors_digest:
            blobs = BlobFolder(self.home.jobs / row.job / "out")
            if not blobs.has(row.tensors_digest):
                raise Refused("data", "What was held is not there any more.")
            tensors = blobs.path(row.tensors_digest).read_bytes()
        return self.gate.settle_held(member, admission, row, tensors)

    # ---- what a kill left behind ---------------------------------------------------------------

    def tidy(self) -> None:
        """Settle drafts that were noted; delete files of no draft, and what is left of ended jobs.

        At a node's start, before any job is at work: a kill in the midst of a task, or of a job's
        end, leaves such files, and nobody would come back to them. What the catalogue knows nothing
        of stays: it may be one that was turned back.
        """
        from node.work.training import drafts

        asked, engine = self.gate.asked, self.gate.catalog.engine
        under_way = {
            digest: (row.site, envelope)
            for row in asked.consortia()
            for digest, envelope in asked.open_jobs(row.name, "accepted", "waiting")
        }
        folders = [path for path in self.home.jobs.iterdir() if path.is_dir()]
        over = asked.over([path.name for path in folders])
        for folder in folders:
            if folder.name in under_way:
                self._settle_note(folder.name, *under_way[folder.name])
            elif folder.name not in over:
                continue
            drafts.sweep(engine, self.home, folder.name)
            if folder.name in over:
                shutil.rmtree(folder, ignore_errors=True)

    def _settle_note(self, digest: str, site: str, envelope: bytes) -> None:
        """Keep or drop the drafts that an open job noted before a kill."""
        from node.work.training.drafts import Room, Takes

        job = Job.read(Envelope.parse(envelope).body)
        Takes(
            self.gate.catalog.engine,
            self.home,
            job=digest,
            release=job.releases.get(site, ""),
            recipe=job.work.bundle if isinstance(job.work, TrainingWork) else "",
            room=Room(0, 0),
        ).resume(functools.partial(self._is_decided, digest), self.gate.ledger, self.gate.clock())

    # ---- what ends a job -----------------------------------------------------------------------

    def drop_disallowed(self) -> None:
        """End the workers of jobs that rest on what was taken back since."""
        for digest, session in list(self.sessions.items()):
            objection = self._objection(session)
            if objection is not None:
                log.warning("job %s: stopped: %s", digest[:12], objection)
                with self._lock:
                    self.sessions.pop(digest, None)
                session.worker.close()

    def _objection(self, session: TrainingSession) -> Refused | None:
        """Return what forbids an admitted job by now, or None."""
        try:
            self.gate.check_still_allowed(session.member, session.admission)
        except Refused as refusal:
            return refusal
        return None

    def received(self, job: str, task: str) -> None:
        """Drop the tensors of an answer that needn't be sent again."""
        row = self.gate.asked.answer(job, task)
        if row is not None and row.tensors_digest:
            path = BlobFolder(self.home.jobs / job / "out").path(row.tensors_digest)
            path.unlink(missing_ok=True)

    def close(self, job: str) -> None:
        """End a job's worker and drop its spool."""
        with self._lock:
            session = self.sessions.pop(job, None)
        if session is not None:
            session.worker.close()
        if (self.home.jobs / job).exists():
            shutil.rmtree(self.home.jobs / job, ignore_errors=True)

    def stop(self) -> None:
        """End every worker; the jobs stay open and are taken up at the next start."""
        for session in list(self.sessions.values()):
            session.worker.close()
        self.sessions.clear()

    # ---- what is kept between tasks ------------------------------------------------------------

    def _state(self, folder: Path, job: str) -> bytes:
        """Return the app's state after the last task that was answered.

        The state after a task waits in a file of its own until the task's answer is recorded, so
        that a crash in between doesn't count the task twice.
        """
        state, coming = folder / STATE_FILE, folder / NEXT_STATE_FILE
        if coming.exists():
            task, _, data = coming.read_bytes().partition(b"\n")
            if self._is_decided(job, task.decode(errors="replace")):
                write_durably(state, data)
            coming.unlink()
        return state.read_bytes() if state.exists() else b""

    def _is_decided(self, job: str, task: str) -> bool:
        """Say whether the gate let a task's answer go, or holds it for the stewards."""
        held = self.gate.inbox.held(job, task)
        return held is not None or self.gate.asked.answer(job, task) is not None

    def _made_before(self, task: wire.Task, outbox: BlobFolder) -> Sealed | None:
        row = self.gate.asked.answer(task.job, task.task)
        if row is None:
            return None
        if not row.tensors_digest:
            return self.gate.again(task.job, task.task)
        if outbox.has(row.tensors_digest):
            tensors = outbox.path(row.tensors_digest).read_bytes()
            return self.gate.again(task.job, task.task, tensors)
        # The coordinator has the tensors. Nothing is worked out a second time: that would be a
        # second answer to one question.
        return self.gate.again(task.job, task.task)

    def _tensors(
        self, task: wire.Task, message: wire.RecordDict, folder: Path, fetch: Fetch
    ) -> bytes:
        if not message.tensors.digest:
            return b""
        inbox = BlobFolder(private_folder(folder / "in"))
        if not inbox.has(message.tensors.digest):
            for old in inbox.folder.iterdir():
                if not old.name.startswith(message.tensors.digest):
                    old.unlink(missing_ok=True)
            fetch(task.job, message.tensors, inbox)
        return inbox.path(message.tensors.digest).read_bytes()


def _question(admission: Admission, task: wire.Task) -> bytes:
    """Return a digest of what a task asks, the same under whatever job or name it is asked."""
    said = hashlib.sha256()
    for part in (
        admission.release.digest.encode(),
        admission.job.work.model_dump_json(exclude={"engine"}).encode(),
        task.message_type.encode(),
        task.payload,
    ):
        said.update(len(part).to_bytes(8, "little"))
        said.update(part)
    return said.digest()


def _form(message: wire.RecordDict) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Return names, dtypes and shapes of the arrays that a task carries."""
    return {
        record.name: {spec.key: (spec.dtype, tuple(spec.shape)) for spec in record.arrays}
        for record in message.records
        if record.kind == wire.Record.ARRAYS
    }
