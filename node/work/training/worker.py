"""A worker as the node sees it: a confined process, kept warm, that is asked one task at a time.

Nothing of Flower or PyTorch is imported here. What the worker sends is a stranger's: lengths are
checked before they are read, and a failure is reduced to a code and to a line that the bundle has.
A payload that it returns is parsed but not yet checked; the gate does that.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, JobFailed
from contract.work import Scalar
from foundation import confinement
from foundation.bubblewrap import Bind, Limits
from foundation.confinement import Confined
from foundation.files import SECRET_MODE
from foundation.frames import Broken, Frame, FrameError, Pipe
from node.work.training.bundles import ApprovedRecipe
from node.work.training.drafts import Takes
from node.work.training.weights import FOLDER as WEIGHTS
from node.work.training.worker_main import DRAFT, FAILED, READY, REPLY, START, STATE, TASK

MAX_LOG_BYTES = 2**20
DYING_SECONDS = 10.0
PACKAGES = ("contract", "foundation", "learning", "node")
_LOCATION = re.compile(r"^(.{1,300}):(\d{1,7})$")


class WorkerFailed(JobFailed):
    """A task gave no answer.

    ``code``: ``exception`` (``location`` is a line of the recipe, or empty), ``timeout``,
    ``killed`` (by the kernel, for memory or processor time), ``malformed``, ``draft`` (one that it
    may not leave here) or ``too-large``.
    """

    def __init__(self, code: str, location: str = "") -> None:
        super().__init__(f"The recipe gave no answer: {code} {location}".rstrip() + ".")
        self.code = code
        self.location = location


@dataclass(frozen=True)
class WorkerReply:
    """A recipe's answer: structure, tensors, and the state to be handed in with the next task."""

    payload: wire.RecordDict
    tensors: bytes
    state: bytes


class Worker:
    """One recipe at work on one release for one job. Its methods may be called from any thread."""

    def __init__(
        self,
        recipe: ApprovedRecipe,
        release: Path,
        start: bytes,
        limits: Limits,
        log: Path,
        weights: Bind | None = None,
        drafts: Takes | None = None,
    ) -> None:
        self._recipe = recipe
        self._release = release
        self._weights = weights
        self._drafts = drafts
        self._start = start
        self._limits = limits
        self._log = log
        self._busy = threading.Lock()
        self._confined: Confined | None = None
        self._pipe: Pipe | None = None
        self._fresh = True
        self._closed = False

    @classmethod
    def start(
        cls,
        *,
        recipe: ApprovedRecipe,
        release: Path,
        job: str,
        parameters: Mapping[str, Scalar],
        seed: int,
        run_id: int,
        node_id: int,
        node_config: Mapping[str, Scalar],
        limits: Limits,
        log: Path,
        weights: Path | None = None,
        drafts: Takes | None = None,
    ) -> Worker:
        """Start a worker and return at once; it imports in the background.

        It sees ``weights``, an approved file, under its own name. ``drafts`` takes the files that
        it leaves in ``/drafts``, a folder that there is only with it.
        Raises ``DocumentError`` for parameters that the recipe doesn't have, ``SandboxError``
        without bubblewrap. ``log`` may come to hold patients' data: it is local, mode 0600.
        """
        order = {
            "job": job,
            "client": recipe.client,
            "run_config": recipe.bundle_file.run_config(parameters),
            "node_config": dict(node_config),
            "seed": seed,
            "run_id": run_id,
            "node_id": node_id,
        }
        confinement.make_readable(recipe.folder)
        confinement.make_readable(release)
        bound = None
        if weights is not None:
            confinement.make_readable(weights)
            bound = Bind(weights, f"{WEIGHTS}/{weights.name}")
        room = 0 if drafts is None else max(1, drafts.bytes_left)
        limits = replace(limits, drafts_bytes=room)
        worker = cls(recipe, release, json.dumps(order).encode(), limits, log, bound, drafts)
        with worker._busy:
            worker._launch()
        return worker

    @property
    def pid(self) -> int | None:
        """The process id of the sandbox, while one runs."""
        return self._confined.process.pid if self._confined is not None else None

    def handle(self, task: wire.Task, tensors: bytes, state: bytes) -> WorkerReply:
        """Run one task and return the answer; blocks.

        ``state`` is that of the last reply, or empty; it is sent only to a process that doesn't
        have it. Raises ``WorkerFailed``; a worker that died is replaced at the next call.
        """
        with self._busy:
            if self._closed:
                raise WorkerFailed("killed")
            seconds = self._limits.message_seconds
            if task.ttl_seconds > 0:
                seconds = min(seconds, task.ttl_seconds)
            deadline = time.monotonic() + seconds
            if self._pipe is None:
                self._launch()
            assert self._pipe is not None
            try:
                return self._ask(self._pipe, task, tensors, state, deadline)
            except FrameError as error:
                if error.why is Broken.CLOSED:
                    self._log_why()
                self._stop()
                raise WorkerFailed(_CODES[error.why]) from None
            except WorkerFailed as error:
                if error.code in ("malformed", "too-large", "draft"):
                    self._stop()
                raise

    def _ask(
        self, pipe: Pipe, task: wire.Task, tensors: bytes, state: bytes, deadline: float
    ) -> WorkerReply:
        if self._fresh:
            if pipe.receive(0, deadline).kind != READY:
                raise WorkerFailed("malformed")
            if state:
                pipe.send(STATE, b"", [state], deadline)
            self._fresh = False
        pipe.send(TASK, task.SerializeToString(), [tensors], deadline)
        frame = self._receive(pipe, deadline)
        if frame.kind == FAILED:
            raise self._failure(frame)
        if frame.kind != REPLY:
            raise WorkerFailed("malformed")
        kept = pipe.receive(self._limits.reply_bytes, deadline)
        try:
            payload = wire.RecordDict.FromString(frame.message)
        except DecodeError:
            raise WorkerFailed("malformed") from None
        if kept.kind != STATE or payload.tensors.size != len(frame.body):
            raise WorkerFailed("malformed")
        return WorkerReply(payload, frame.body, kept.body)

    def _receive(self, pipe: Pipe, deadline: float) -> Frame:
        """Return the answer to a task; what comes before it are drafts."""
        if self._drafts is None:
            return pipe.receive(self._limits.reply_bytes, deadline)
        while True:
            most = max(self._limits.reply_bytes, self._drafts.bytes_left)
            frame = pipe.receive(most, deadline)
            if frame.kind != DRAFT:
                if len(frame.body) > self._limits.reply_bytes:
                    raise WorkerFailed("too-large")
                return frame
            try:
                self._drafts.take(frame.message.decode(errors="replace"), frame.body)
            except DocumentError:
                raise WorkerFailed("draft") from None

    def _failure(self, frame: Frame) -> WorkerFailed:
        """Reduce what the worker says of a failure to what the bundle itself contains."""
        try:
            said = wire.TaskFailed.FromString(frame.message)
        except DecodeError:
            return WorkerFailed("malformed")
        found = _LOCATION.match(said.location)
        content = self._recipe.bundle_file.files.get(found[1]) if found else None
        if found and content is not None and 1 <= int(found[2]) <= content.count(b"\n") + 1:
            return WorkerFailed("exception", f"{found[1]}:{int(found[2])}")
        return WorkerFailed("malformed" if said.code == "malformed" else "exception")

    def close(self) -> None:
        """End the process, also while it works. May be called twice."""
        self._closed = True
        confined = self._confined
        if confined is not None:
            confined.kill()
        with self._busy:
            self._stop()

    def _launch(self) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        binds = [
            Bind(self._recipe.folder / "app", "/recipe/app"),
            Bind(self._release, "/release"),
        ]
        if (self._recipe.folder / "site-packages").is_dir():
            binds.append(Bind(self._recipe.folder / "site-packages", "/recipe/site-packages"))
        if self._weights is not None:
            binds.append(self._weights)
        pipe = Pipe(ours_in, ours_out)
        try:
            confined = confinement.start(
                "node.work.training.worker_main",
                [str(theirs_in), str(theirs_out)],
                packages=PACKAGES,
                binds=binds,
                limits=self._limits,
                pass_fds=(theirs_in, theirs_out),
            )
        except BaseException:
            pipe.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._confined, self._pipe, self._fresh = confined, pipe, True
        threading.Thread(target=_keep_log, args=(confined, self._log), daemon=True).start()
        with suppress(FrameError):  # the next handle() reports a process that is dead already
            pipe.send(START, self._start, deadline=time.monotonic() + 5)

    def _log_why(self) -> None:
        """Write into the log what ended a process that is about to be gone."""
        confined = self._confined
        if confined is None:
            return
        with suppress(subprocess.TimeoutExpired):
            confined.process.wait(DYING_SECONDS)
        if why := confined.why_it_ended():
            with suppress(OSError), _open_log(self._log) as file:
                file.write(f"The worker was ended: {why}.\n".encode())

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._confined is not None:
            self._confined.kill()
        self._pipe = self._confined = None


_CODES = {Broken.CLOSED: "killed", Broken.OVERDUE: "timeout", Broken.TOO_LARGE: "too-large"}


def _keep_log(confined: Confined, log: Path) -> None:
    """Append what the worker prints to ``log``, as long as that stays within its limit."""
    output = confined.process.stdout
    assert output is not None
    with output, suppress(OSError), _open_log(log) as file:
        left = MAX_LOG_BYTES - os.fstat(file.fileno()).st_size
        while chunk := os.read(output.fileno(), 65536):
            if left > 0:
                file.write(chunk[:left])
                left -= len(chunk)


def _open_log(log: Path) -> io.FileIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(log, flags, SECRET_MODE), "ab", 0)
