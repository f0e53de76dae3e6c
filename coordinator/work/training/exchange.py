"""What a ServerApp asked and what its sites answered: the run's state, apart from its process.

Every answer comes from the journal while that lasts and is written to it afterwards, so that a
restarted ServerApp is led to where it was. Replies are kept on disk, one file for each task.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from coordinator.work.training import protocol
from coordinator.work.training.journal import Diverged, Journal
from foundation.confinement import make_readable
from foundation.files import private_folder, read_bounded, write_durably
from foundation.frames import MAX_MESSAGE_BYTES

_CODE = re.compile(r"^[a-z0-9][a-z0-9-]{0,63}$")
POLL_SECONDS = 0.02
WAITING_ASKS = 5
"""An app that asks more often in a row who is there, and sends nobody anything, waits for more."""
LATE = "timeout"
"""The code of a task whose site hasn't answered in time."""
Answers = list[tuple[str, str]]
"""Task and code: the code is empty when there is a ``reply``."""


@dataclass
class _Open:
    """A task that was sent and has no answer yet, or one that wasn't given to the app yet."""

    site: str
    task: wire.Task
    code: str | None = None  # None: no answer; empty: the reply is on disk
    answered_at: float = 0.0


class Cancelled(Exception):
    """The run was ended from outside."""


class Exchange:
    """Questions of one ServerApp and answers of its sites. Every method may come from any thread.

    Folder: ``journal``, ``replies/TASK``, and ``incoming/DIGEST``, links to replies' ``blobs``.
    """

    def __init__(self, folder: Path, job: str, sites: Sequence[str]) -> None:
        self._replies = private_folder(folder / "replies")
        self._blobs = private_folder(folder / "blobs")
        self.incoming = private_folder(folder / "incoming")
        self.journal = Journal(folder / "journal", job)
        self._sites = list(sites)
        self._changed = threading.Condition()
        self._online: set[str] = set()
        self._open: dict[str, _Open] = {}
        self._cancelled = False
        self._asked = 0
        self._expected: dict[str, str] = {}
        self._answered: set[str] = set()
        self._gave_up_on: list[str] = []
        self._read_journal()
        make_readable(self.incoming)

    def _read_journal(self) -> None:
        for entry in self.journal.entries:
            if "task" in entry:
                self._expected[entry["task"]] = entry["site"]
            self._answered |= set(entry.get("answers", {}))

    # ---- the sites' side -----------------------------------------------------------------------

    def sites_changed(self, online: set[str]) -> None:
        """Take note of who is online."""
        with self._changed:
            self._online = set(online)
            self._changed.notify_all()

    def deliver(self, site: str, reply: wire.Reply) -> bool:
        """Keep a reply durably; say whether it is an answer that is still wanted.

        Its blob must be in ``blobs`` and durable before.
        """
        if not self.wants(site, reply.task):
            return False
        if reply.tensors.digest:
            self._take_in(reply.tensors.digest)
        write_durably(self._replies / reply.task, reply.SerializeToString())
        self._settle(site, reply.task, "")
        return True

    def show(self, digest: str) -> None:
        """Show a blob to the ServerApp that no reply brought; does nothing without a digest."""
        if digest:
            self._take_in(digest)

    def _take_in(self, digest: str) -> None:
        """Show a blob to the ServerApp's process: a link in the one folder that it sees."""
        place = self.incoming / digest
        with suppress(FileExistsError):
            os.link(self._blobs / digest, place)
        make_readable(place)

    def fail(self, site: str, task: str, code: str) -> bool:
        """Take note that a site gives no answer to a task; say whether that was wanted."""
        with self._changed:
            if task not in self._open or not self._wanted(site, task):
                return False
        self._settle(site, task, code if _CODE.match(code) else "failed")
        return True

    def wants(self, site: str, task: str) -> bool:
        """Say whether a reply is still wanted.

        A ServerApp that was restarted may not have come as far as a task that was open before.
        """
        with self._changed:
            return self._wanted(site, task)

    def _wanted(self, site: str, task: str) -> bool:
        if task in self._open:
            return self._open[task].site == site and self._open[task].code is None
        expected = self._expected.get(task) == site and task not in self._answered
        return expected and not (self._replies / task).exists()

    def _settle(self, site: str, task: str, code: str) -> None:
        with self._changed:
            if task in self._open and self._open[task].code is None:
                self._open[task].code = code
                self._open[task].answered_at = time.monotonic()
            self._changed.notify_all()

    def pending(self, site: str) -> list[wire.Task]:
        """Return the tasks that a site has still to answer."""
        with self._changed:
            return [o.task for o in self._open.values() if o.site == site and o.code is None]

    def waited_for(self, now: float) -> dict[str, float]:
        """Return the sites that hold the rest up: they have not answered, and half of all have.

        With each, the seconds since then.
        """
        with self._changed:
            tasks = list(self._open.values())
        answered = sorted(one.answered_at for one in tasks if one.code is not None)
        half = (len(tasks) + 1) // 2
        if not tasks or len(answered) < half:
            return {}
        return {one.site: now - answered[half - 1] for one in tasks if one.code is None}

    def cancel(self) -> None:
        """End every wait, now and later."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    # ---- the ServerApp's side ------------------------------------------------------------------

    def restart(self) -> None:
        """Begin again: the ServerApp's process was started anew."""
        with self._changed:
            self._read_journal()
            self._open.clear()
            self._asked = 0
            self.journal.rewind()

    def peek(self) -> list[str]:
        """Return the sites that are online, in roster order."""
        with self._changed:
            return [site for site in self._sites if site in self._online]

    def nodes(self) -> list[str]:
        """As ``peek``, and remember the answer."""
        if (entry := self.journal.recall("nodes")) is not None:
            return list(entry["nodes"])
        online = self.peek()
        self.journal.append({"nodes": online})
        self._asked += 1
        return online

    def waits_for_sites(self) -> bool:
        """Say whether the ServerApp waits for more sites than are online."""
        return self._asked > WAITING_ASKS

    def push(self, messages: Sequence[tuple[str, wire.Task]]) -> list[tuple[str, wire.Task]]:
        """Open tasks; return those that are to be sent.

        ``Diverged`` when they aren't those of before; ``DocumentError`` for a task that is
        addressed to nobody or opened twice.
        """
        to_send: list[tuple[str, wire.Task]] = []
        self._asked = 0
        for site, task in messages:
            if site not in self._sites or task.task in self._open or not task.task.isdigit():
                raise DocumentError("The ServerApp's messages are malformed.")
            digest = digest_of(site, task)
            entry = self.journal.recall("task")
            now = {"task": task.task, "site": site, "digest": digest}
            if entry is None:
                self.journal.append(now)
            elif entry != now:
                raise Diverged(f"message {task.task} to {site}")
            replied = entry is not None and (self._replies / task.task).exists()
            answered = entry is not None and task.task in self._answered
            with self._changed:
                self._open[task.task] = _Open(site, task, "" if replied else None)
            if not replied and not answered:
                to_send.append((site, task))
        self.journal.sync()
        return to_send

    def wait(self, tasks: Sequence[str], seconds: float | None) -> Answers:
        """Return every task's answer; a site that hasn't answered in time gets ``timeout``."""
        return self._answer(tasks, seconds, everything=True)

    def gave_up_on(self) -> list[str]:
        """Return, once, the sites that ``wait`` waited for in vain."""
        sites, self._gave_up_on = self._gave_up_on, []
        return sites

    def pull(self, tasks: Sequence[str]) -> Answers:
        """Return the answers that are there. Having none is not remembered: apps ask in a loop."""
        if self.journal.replaying and not set(self.journal.ahead().get("answers", "?")) <= set(
            tasks
        ):
            return []
        return self._answer(tasks, POLL_SECONDS, everything=False)

    def _answer(self, tasks: Sequence[str], seconds: float | None, *, everything: bool) -> Answers:
        entry = self.journal.recall("answers")
        if entry is None:
            codes = self._await(tasks, seconds, everything=everything)
            if codes or everything:
                self.journal.append({"answers": codes})
        else:
            codes = entry["answers"]
            if not set(codes) <= set(tasks) or (everything and set(codes) != set(tasks)):
                raise Diverged("the order of its questions")
        with self._changed:
            self._answered |= set(codes)
            for task in codes:
                self._open.pop(task, None)
        return list(codes.items())

    def _await(
        self, tasks: Sequence[str], seconds: float | None, *, everything: bool
    ) -> dict[str, str]:
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            asked = {task: self._open[task] for task in tasks if task in self._open}
            while any(one.code is None for one in asked.values()):
                left = None if deadline is None else deadline - time.monotonic()
                if self._cancelled:
                    raise Cancelled
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            late = LATE if everything else None
            found = {task: late if one.code is None else one.code for task, one in asked.items()}
            if everything:
                self._gave_up_on += [one.site for one in asked.values() if one.code is None]
        return {task: code for task, code in found.items() if code is not None}

    def reply(self, task: str) -> bytes:
        """Return the reply to a task that was answered without a code."""
        with self._changed:
            if task not in self._answered:
                raise DocumentError("The ServerApp's process asked for a reply that isn't there.")
        return read_bounded(self._replies / task, MAX_MESSAGE_BYTES - protocol.ROOM_BYTES)

    def wanted_blobs(self) -> set[str]:
        """Return the digests of the blobs that open tasks refer to."""
        with self._changed:
            return {one.task.tensors.digest for one in self._open.values()}


def digest_of(site: str, task: wire.Task) -> str:
    """Return the SHA-256 of what makes a message what it is: all but the time it may take."""
    same = wire.Task()
    same.CopyFrom(task)
    same.ttl_seconds = 0
    return hashlib.sha256(site.encode() + b"\0" + same.SerializeToString()).hexdigest()
