"""The daemon's side of a SuperNode: its process started anew when it ends, its questions answered.

A message of the SuperLink is a task of the link that took another way: it is worked on only for a
job that the gate admitted as it admits every one, by the same worker, and its reply is what the
same gate sealed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError
from sqlalchemy.exc import OperationalError

from contract import wire_pb2 as wire
from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import DocumentError, StorageError, WardgateError
from contract.work import TrainingWork
from foundation.blobs import BlobFolder, is_digest
from foundation.files import private_folder
from foundation.frames import Frame, FrameError, Pipe, unpack
from foundation.superlink import OFFLINE, check_version
from foundation.transport import TransportIdentity
from node.gate.gate import Membership, Sealed
from node.work.desk import MAX_TASK_NAME, WorkDesk
from node.work.superlink.supernode import ANSWER, ASKED, NOTHING, START

log = logging.getLogger("wardgate.node")

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LOOK_SECONDS = 1.0


class SuperNode:
    """One consortium's SuperNode. ``run`` it in a thread of its own; ``stop`` ends it."""

    def __init__(
        self,
        member: Membership,
        address: str,
        identity: TransportIdentity,
        desk: WorkDesk,
        folder: Path,
        poll_seconds: float,
        was_welcomed: Callable[[], bool],
    ) -> None:
        self._member = member
        self._address = address
        self._identity = identity
        self._desk = desk
        self._folder = private_folder(folder)
        self._poll_seconds = poll_seconds
        self._was_welcomed = was_welcomed
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def consortium(self) -> str:
        """Whose SuperNode it is."""
        return self._member.consortium

    def run(self) -> None:
        """Keep a SuperNode's process up until stopped; without leave of the policy, none."""
        pause = FIRST_PAUSE_SECONDS
        try:
            check_version()
        except DocumentError as error:
            log.error("%s: no SuperNode: %s", self._member.consortium, error)
            return
        while not self._stopped.is_set():
            if not self._is_allowed():
                self._stopped.wait(LOOK_SECONDS)
                continue
            try:
                answered = self._one_life()
            except (OSError, WardgateError) as error:
                log.error("%s: the SuperNode: %s", self._member.consortium, error)
                answered = False
            if self._stopped.is_set():
                return
            pause = FIRST_PAUSE_SECONDS if answered else min(2 * pause, LONGEST_PAUSE_SECONDS)
            self._stopped.wait(random.uniform(0.5, 1.0) * pause)  # noqa: S311 (jitter)

    def stop(self) -> None:
        """End the process and the thread."""
        self._stopped.set()
        if (process := self._process) is not None:
            with suppress(ProcessLookupError):
                process.kill()

    def _is_allowed(self) -> bool:
        try:
            return self._desk.gate.policy().training.superlink
        except WardgateError:
            return False  # the policy can't be read: nothing is done

    def _one_life(self) -> bool:
        """Serve one process to its end; say whether it asked anything."""
        to_child, from_daemon = os.pipe()
        to_daemon, from_child = os.pipe()
        most = self._desk.gate.policy().training.max_reply_bytes
        log_file = self._folder / "supernode.log"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "FLWR_HOME": str(private_folder(self._folder / "flwr")),
            "HOME": str(self._folder),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **OFFLINE,
        }
        command = [sys.executable, "-m", "node.work.superlink.supernode"]
        try:
            with log_file.open("wb") as out:
                log_file.chmod(0o600)
                process = self._process = subprocess.Popen(
                    [*command, str(os.getpid()), str(to_child), str(from_child)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=self._folder,
                    pass_fds=(to_child, from_child),
                )
        except BaseException:
            os.close(to_daemon)
            os.close(from_daemon)
            raise
        finally:
            os.close(to_child)
            os.close(from_child)
        pipe = Pipe(to_daemon, from_daemon)
        asked = False
        try:
            start = {
                "address": self._address,
                "identity": str(self._identity.folder.absolute()),
                "poll_seconds": self._poll_seconds,
                "max_bytes": most,
            }
            pipe.send(START, json.dumps(start).encode())
            while not self._stopped.is_set() and self._is_allowed():
                if not _has_something(to_daemon):
                    continue
                frame = pipe.receive(most)
                asked = True
                sealed = self._answer(frame) if frame.kind == ASKED else None
                if sealed is None:
                    pipe.send(NOTHING)
                else:
                    pipe.send(ANSWER, sealed.message.SerializeToString(), [sealed.tensors])
        except FrameError:
            pass  # it ended, or sent what no SuperNode of ours sends
        finally:
            pipe.close()
            process.kill()
            process.wait()
        return asked

    # ---- one message ---------------------------------------------------------------------------

    def _answer(self, frame: Frame) -> Sealed | None:
        """Return what the gate says to one message; None for what isn't written down either."""
        try:
            about, message = unpack(frame.message)
            run = json.loads(about)
            task = wire.Task.FromString(message)
        except (ValueError, DecodeError):
            return None
        if not is_digest(task.job) or not 0 < len(task.task) <= MAX_TASK_NAME:
            return None
        gate, member = self._desk.gate, self._member
        while not self._stopped.is_set():
            if not self._was_welcomed():  # the coordinator may know another ledger than ours
                self._stopped.wait(LOOK_SECONDS)
                continue
            try:
                return self._decided(task, run, frame.body)
            except (StorageError, OperationalError) as error:
                log.error("%s: %s Trying again.", member.consortium, type(error).__name__)
                self._stopped.wait(LOOK_SECONDS)
            except Exception as error:
                # Its text might hold a patient's data, so only its type is logged.
                log.error("%s: unexpected %s", member.consortium, type(error).__name__)
                return gate.failure(member, task.job, task.task, "internal", "")
        return None

    def _decided(self, task: wire.Task, run: Mapping[str, object], tensors: bytes) -> Sealed | None:
        gate, member = self._desk.gate, self._member
        if gate.is_flood(member, task.job):
            return None
        if objection := self._objection(task, run):
            return gate.failure(member, task.job, task.task, objection, "")
        return self._desk.task(member, task, _Given(tensors))

    def _objection(self, task: wire.Task, run: Mapping[str, object]) -> str:
        """Return why a run isn't the admitted job that its message names, or nothing."""
        known = dict(self._desk.gate.asked.open_jobs(self._member.consortium)).get(task.job)
        if known is None:
            return "not-admitted"
        work = Job.read(Envelope.parse(known).body).work
        if not isinstance(work, TrainingWork) or work.engine != "superlink":
            return "engine"
        if run.get("bundle") != work.bundle:
            return "bundle"
        if not _same(run.get("config"), work.parameters):
            return "parameters"
        return ""


def _has_something(descriptor: int) -> bool:
    """Wait a little for something to read; say whether there is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(LOOK_SECONDS * 1000))


class _Given:
    """A task's tensors as they came with it, in place of a blob that is fetched."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __call__(self, job: str, blob: wire.BlobReference, folder: BlobFolder) -> None:
        """Put the blob into the folder; ``DocumentError`` when it is another."""
        if len(self._data) != blob.size or folder.store(self._data) != blob.digest:
            raise DocumentError("A task came with other tensors than it names.")


def _same(config: object, parameters: Mapping[str, object]) -> bool:
    """Say whether overrides are the signed parameters, to the type."""
    if not isinstance(config, dict) or set(config) != set(parameters):
        return False
    return all(
        type(config[name]) is type(value) and config[name] == value
        for name, value in parameters.items()
    )
