"""A training run as the daemon sees it: a ServerApp's process, fed, watched and restarted.

Nothing of Flower is imported here. A thread of its own answers the process's questions
(``protocol``), since most of the time it waits for one; ``Exchange`` holds what was said. What the
process sends is a stranger's: it gets nothing but its job's own sites and blobs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import Job, Project, printable
from contract.errors import DocumentError, WardgateError
from contract.work import TrainingWork
from coordinator.work.training import protocol
from coordinator.work.training.exchange import LATE, Answers, Cancelled, Exchange
from coordinator.work.training.outgoing import Outgoing
from coordinator.work.training.room import Room
from coordinator.work.training.secure import Summing
from foundation import confinement, isolation
from foundation.bubblewrap import Bind, Limits
from foundation.bundle import Bundle
from foundation.confinement import Confined
from foundation.files import private_folder
from foundation.frames import Broken, Frame, FrameError, Socket, pack, unpack

LIMITS = Limits(memory_bytes=16 * 2**30, file_bytes=8 * 2**30)
PACKAGES = ("contract", "foundation", "learning", "coordinator")
MAX_METRICS = 4096
"""Of a round: a row of a cross-site evaluation has each metric of every site."""
MAX_LOG_LINES = 2000
MAX_LOG_LINE = 500
MAX_LIVES = 5
DYING_SECONDS = 10.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended: with a model (a serialised ``RecordDict``), or with a reason in one line.

    The model's tensors are ``blobs/DIGEST`` in the job's folder.
    """

    model: bytes | None
    reason: str = ""
    digest: str = ""


class TrainingRun:
    """One job's training. ``run`` it once; the other methods may be called from any thread."""

    def __init__(
        self,
        job_digest: str,
        job: Job,
        project: Project,
        folder: Path,
        bundle: Path,
        sites: Sequence[str],
        send: Callable[[str, wire.Task], Awaitable[None]],
        event: Callable[[wire.JobEvent], None],
        limits: Limits = LIMITS,
        start_from: bytes = b"",
        keys: Mapping[str, str] = {},
        keep_free_bytes: int = 0,
    ) -> None:
        """``start_from``: a finished model's message, whose blob is in the folder's ``blobs``.

        ``keys``: each site's key on the roster, for secure sums. ``keep_free_bytes``: of the disk;
        a round for whose replies there is no more room than that waits.
        """
        self._keys = keys
        self._start_from = start_from
        self._digest = job_digest
        self._job = job
        self._project = project
        self._minimum = max(project.minimum_sites, job.minimum_sites)
        self._folder = private_folder(folder)
        self._bundle = bundle
        self.sites = tuple(sites)
        self._send = send
        self._event = event
        self._limits = limits
        self._exchange = Exchange(folder, job_digest, sites)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outcome: Future[TrainingOutcome] = Future()
        self._confined: Confined | None = None
        self._ended_by = ""
        self._cancelled = False
        self._log_lines = 0
        self._coming: list[bytes] = []
        """What was told by MORE and waits for its PUSH."""
        self._coming_bytes = 0
        self._outgoing = Outgoing(folder / "outgoing", folder / "blobs", limits.file_bytes)
        # A SuperLink has each reply in its database until it is fetched.
        copies = (
            2 if isinstance(work := job.work, TrainingWork) and work.engine != "wardgate" else 1
        )
        self._room = Room(folder, keep_free_bytes, _free_bytes, self._say, copies)

    # ---- what the daemon calls -----------------------------------------------------------------

    async def run(self) -> TrainingOutcome:
        """Run the ServerApp to its end; a process that is killed is started again."""
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._work, name=f"run {self._digest[:8]}", daemon=True)
        thread.start()
        try:
            return await asyncio.wrap_future(self._outcome)
        finally:
            self.cancel()
            await asyncio.to_thread(thread.join)

    @property
    def pid(self) -> int | None:
        """The process id of the ServerApp's sandbox, while one runs."""
        return self._confined.process.pid if self._confined is not None else None

    def deliver(self, site: str, reply: wire.Reply) -> bool:
        """Keep a site's reply; when this returns it is durable and may be acknowledged. Blocks.

        Its blob must be complete in ``blobs``. Says whether the reply was still wanted.
        """
        return self._exchange.deliver(site, reply)

    def wants(self, site: str, task: str) -> bool:
        """Say whether a reply is still wanted, also by a ServerApp that has yet to come so far."""
        return self._exchange.wants(site, task)

    def fail(self, site: str, failed: wire.TaskFailed) -> bool:
        """Take note that a site gives no answer to a task; say whether that was wanted."""
        return self._exchange.fail(site, failed.task, failed.code)

    def sites_changed(self, online: set[str]) -> None:
        """Say which sites are online now."""
        self._exchange.sites_changed(online)

    def pending(self, site: str) -> list[wire.Task]:
        """Return the tasks that a site has still to answer, to be sent again when it is back."""
        return self._exchange.pending(site)

    def waits_for_sites(self) -> bool:
        """Say whether the ServerApp waits for more sites than are online."""
        return self._exchange.waits_for_sites()

    def waited_for(self) -> dict[str, float]:
        """Return who has not answered since half of the sites have, and seconds since then."""
        return self._exchange.waited_for(time.monotonic())

    def cancel(self) -> None:
        """End the run and its process; ``run`` then returns."""
        self._cancelled = True
        self._room.cancel()
        self._exchange.cancel()
        if (confined := self._confined) is not None:
            with suppress(ProcessLookupError):
                confined.process.kill()

    # ---- the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            outcome = self._to_the_end()
        except Cancelled:
            outcome = TrainingOutcome(None, "The job was cancelled.")
        except WardgateError as error:
            outcome = TrainingOutcome(None, str(error))
        except BaseException as error:
            outcome = TrainingOutcome(None, f"The run failed with {type(error).__name__}.")
        finally:
            self._exchange.journal.close()
        with suppress(InvalidStateError):  # nobody waits any more
            self._outcome.set_result(outcome)

    def _to_the_end(self) -> TrainingOutcome:
        isolation.ensure()
        self._exchange.show(wire.RecordDict.FromString(self._start_from).tensors.digest)
        start = self._prepare()
        for _ in range(MAX_LIVES):
            before = len(self._exchange.journal.entries)
            try:
                return self._one_life(start)
            except FrameError as error:
                if self._cancelled:
                    raise Cancelled from None
                if error.why is not Broken.CLOSED:
                    return TrainingOutcome(None, "The ServerApp's process sent too much at once.")
            if len(self._exchange.journal.entries) == before:
                break  # it would only end in the same place again
            self._exchange.restart()
        why = self._ended_by or "of memory or processor time it had too much"
        return TrainingOutcome(None, f"The ServerApp's process was killed: {why}.")

    def _prepare(self) -> bytes:
        """Unpack the bundle and drop what an earlier life left behind; return how to start."""
        work = self._job.work
        if not isinstance(work, TrainingWork):
            raise DocumentError("The job is no training job.")
        bundle = Bundle.load(self._bundle)
        if bundle.digest != work.bundle:
            raise DocumentError("The bundle on disk is not the one that the job names.")
        config = bundle.run_config(work.parameters)
        shutil.rmtree(self._folder / "app", ignore_errors=True)
        bundle.write(self._folder / "app")
        confinement.make_readable(self._folder / "app")
        start = {
            "job": self._digest,
            "server": bundle.server,
            "run_config": config,
            "sites": self.sites,
            "consortium": self._job.consortium,
            "minimum_sites": self._minimum,
            "seed": work.seed,
            "cross_evaluation": work.cross_evaluation,
            "summing": self._summing(work),
            "start_from": base64.b64encode(self._start_from).decode(),
            "run_id": int.from_bytes(hashlib.sha256(self._digest.encode()).digest()[:7], "big"),
        }
        return json.dumps(start).encode()

    def _summing(self, work: TrainingWork) -> dict[str, Any] | None:
        """Return what a secure job says of its sums, and nothing of any other."""
        if work.secure is None:
            return None
        grant = self._project.recipe(work.bundle)
        keys = {site: self._keys[site] for site in self.sites}
        return Summing(work.secure, grant.metric_ranges if grant else {}, keys).to_tell()

    def _one_life(self, start: bytes) -> TrainingOutcome:
        ours, theirs = socket.socketpair()
        connection = Socket(ours)
        try:
            self._confined = confinement.start(
                "coordinator.work.training.runner",
                [str(theirs.fileno())],
                packages=PACKAGES,
                binds=[
                    Bind(self._folder / "app", protocol.APP_FOLDER),
                    Bind(self._exchange.incoming, protocol.BLOBS_FOLDER),
                ],
                limits=self._limits,
                pass_fds=(theirs.fileno(),),
                over_a_socket=True,
            )
            theirs.close()
            output = self._confined.process.stdout
            assert output is not None
            logging = threading.Thread(target=self._follow, args=(output,), daemon=True)
            logging.start()
            if self._cancelled:
                raise Cancelled
            connection.send(protocol.START, start)
            outcome = self._converse(connection)
            with suppress(Exception):
                self._confined.process.wait(5)  # the last lines of its log
            logging.join(1)
            return outcome
        except FrameError:
            if self._confined is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._confined.process.wait(DYING_SECONDS)
                self._ended_by = self._confined.why_it_ended()
            raise
        finally:
            theirs.close()
            connection.close()
            if self._confined is not None:
                self._confined.kill()
                self._confined = None

    def _converse(self, connection: Socket) -> TrainingOutcome:
        self._coming, self._coming_bytes = [], 0
        while True:
            frame, descriptor = connection.receive()
            try:
                if frame.kind == protocol.FAILED:
                    reason = frame.message[:2000].decode(errors="replace")
                    return TrainingOutcome(None, printable(reason, 500))
                if frame.kind == protocol.MODEL:
                    return self._finish(frame.message)
                answer = self._answer(frame, descriptor)
            except (DecodeError, ValueError, IndexError, UnicodeDecodeError):
                raise DocumentError("The ServerApp's process sent something malformed.") from None
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            connection.send(protocol.ANSWER, pack(answer))

    def _answer(  # noqa: PLR0911
        self, frame: Frame, descriptor: int | None
    ) -> list[bytes]:
        exchange = self._exchange
        match frame.kind:
            case protocol.NODES:
                return [site.encode() for site in exchange.nodes()]
            case protocol.PEEK:
                return [site.encode() for site in exchange.peek()]
            case protocol.BLOB:
                reference = wire.BlobReference.FromString(frame.message)
                self._outgoing.store(reference, descriptor)
                return []
            case protocol.MORE:
                self._coming_bytes += len(frame.message)
                if self._coming_bytes > protocol.MAX_PUSH_BYTES:
                    raise DocumentError("The ServerApp sends out more than may be at once.")
                self._coming += unpack(frame.message)
                return []
            case protocol.PUSH:
                parts = [*self._coming, *unpack(frame.message)]
                self._coming, self._coming_bytes = [], 0
                sites = [site.decode() for site in parts[0::2]]
                tasks = [wire.Task.FromString(task) for task in parts[1::2]]
                for task in tasks:
                    task.job = self._digest
                if not exchange.journal.replaying and not self._room.make(tasks):
                    raise Cancelled
                for site, task in exchange.push(list(zip(sites, tasks, strict=True))):
                    self._dispatch(site, task)
                self._outgoing.drop_old(exchange.wanted_blobs())
                return []
            case protocol.WAIT:
                seconds, *asked = unpack(frame.message)
                limit = float(seconds) if seconds else None
                answers = exchange.wait([task.decode() for task in asked], limit)
                for site in exchange.gave_up_on():
                    self._failed(site, LATE)
                return _flat(answers)
            case protocol.PULL:
                return _flat(exchange.pull([t.decode() for t in unpack(frame.message)]))
            case protocol.REPLY:
                return [exchange.reply(frame.message.decode())]
            case protocol.ROUND:
                self._round(wire.JobEvent.FromString(frame.message))
                return []
            case protocol.OBJECT:
                said = wire.JobEvent.FromString(frame.message)
                if said.site in self.sites and not exchange.journal.replaying:
                    self._failed(said.site, printable(said.text, 64))
                return []
        raise DocumentError("The ServerApp's process asked something unknown.")

    def _dispatch(self, site: str, task: wire.Task) -> None:
        assert self._loop is not None

        async def send() -> None:
            await self._send(site, task)

        asyncio.run_coroutine_threadsafe(send(), self._loop)

    def _emit(self, event: wire.JobEvent) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._event, event)

    def _say(self, text: str) -> None:
        self._emit(wire.JobEvent(kind="log", text=text, time=time.time()))

    def _failed(self, site: str, code: str) -> None:
        """Name a site whose part of a round isn't in it, as ``TrainingJob.failed`` does."""
        event = wire.JobEvent(kind="site", site=site, text=f"failed: {code}", time=time.time())
        self._emit(event)

    def _round(self, said: wire.JobEvent) -> None:
        """Show a round, unless it was shown before a restart."""
        now = {"round": said.round, "text": printable(said.text, 100)}
        if self._exchange.journal.recall("round") is not None:
            return
        self._exchange.journal.append(now)
        event = wire.JobEvent(
            kind="round", round=said.round, text=printable(said.text, 100), time=time.time()
        )
        for entry in said.metrics[:MAX_METRICS]:
            entry.key = printable(entry.key, 100)
            event.metrics.append(entry)
        self._emit(event)

    def _follow(self, output: IO[bytes]) -> None:
        """Turn what the process prints into events; a replay's lines were shown before."""
        with output:
            while line := output.readline(64 * 1024):
                if self._exchange.journal.replaying or self._log_lines > MAX_LOG_LINES:
                    continue
                self._log_lines += 1
                text = _COLOURS.sub("", line.decode(errors="replace").rstrip())
                if self._log_lines > MAX_LOG_LINES:
                    text = "The log is cut here."
                if text:
                    text = printable(text.replace("\t", "  "), MAX_LOG_LINE)
                    self._emit(wire.JobEvent(kind="log", text=text, time=time.time()))

    def _finish(self, message: bytes) -> TrainingOutcome:
        model = wire.RecordDict.FromString(message)
        if not self._outgoing.keep(model.tensors.digest):
            return TrainingOutcome(None, "The ServerApp ended with an empty model.")
        self._exchange.journal.sync()
        return TrainingOutcome(message, "", model.tensors.digest)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _flat(answers: Answers) -> list[bytes]:
    return [part.encode() for answer in answers for part in answer]
