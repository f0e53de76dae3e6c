"""Wardgate's Grid: a ServerApp's messages to the sites of its job, and their replies.

Every question goes to the daemon, one at a time, and is answered alike when the app is restarted.
What a site sends is checked before the app sees it. Replies come in roster order. Their arrays stay
on disk until they are wanted (``foundation.stored``), so that memory holds the array that is being
folded in and not every site's model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from contract import records
from contract import wire_pb2 as wire
from contract.errors import DocumentError, JobFailed
from contract.failures import with_meaning
from contract.node_ids import node_id_of
from coordinator.work.training import checks, flower, protocol
from foundation import tensors
from foundation.flower import from_flower, held_of, to_flower
from foundation.frames import Socket, pack, unpack
from foundation.stored import StoredArray, StoredRecords, read_stored

if TYPE_CHECKING:  # only for a secure job: it loads pydantic and cryptography
    from coordinator.work.training.secure import Answers, Question, SecureRounds, Summing

KEPT_BLOBS = 2
ASKS_FOR_PARAMETERS = "get_parameters"
"""The message by which an older app's server asks a client for the model to begin with."""
NAMED = 5
"""So many sites are named for one reason that a round failed."""
PATIENCE = 100
"""How often an app may ask who is there, with nobody missing, before it sends something."""

_Encoded = tuple[bytes, wire.BlobReference, records.Records]
"""A message's content: its structure, its arrays' blob, and both as the app gave them."""


class TooFewSites(JobFailed):
    """A round was left with fewer sites than the project asks for."""


@dataclass
class _Sent:
    """A message that went out: as which task, where to, and what it carried."""

    message: Message
    site: str
    content: records.Records


class WardgateGrid(Grid):  # type: ignore[misc]  # Flower is untyped here
    """The Grid of one job. May be called from any thread; answers are in order only for one."""

    def __init__(
        self,
        socket: Socket,
        *,
        job: str,
        run: Any,
        sites: Sequence[str],
        consortium: str,
        minimum_sites: int,
        observed: flower.Observed,
        blobs: Path = Path(protocol.BLOBS_FOLDER),
        summing: Summing | None = None,
        page_bytes: int = protocol.PAGE_BYTES,
    ) -> None:
        """``summing`` is given for a job whose sites' replies are summed securely."""
        self._socket = socket
        self._job = job
        self._run = run
        self._ids = {site: node_id_of(consortium, site) for site in sites}
        self._sites = {node: site for site, node in self._ids.items()}
        self._order = {site: index for index, site in enumerate(sites)}
        self._minimum = minimum_sites
        self._observed = observed
        self._blobs = blobs
        self._page_bytes = page_bytes
        self._asking = threading.RLock()
        self._count = 0
        self._sent: dict[str, _Sent] = {}
        self._fresh = ""
        """The blob that was given to the daemon just now."""
        self._trained: set[int] = set()
        self._answered: set[int] = set()
        self._waited = 0
        self.asked_queries_only = True
        self.sent_last: records.Records = {}
        """What an app that starts no strategy sent out last with arrays, the same to all."""
        self.of_some_sites: dict[str, float] = {}
        """Metrics that not all sites of the last replies had alike: ``checks.set_apart``."""
        self._secure: SecureRounds | None = None
        if summing is not None:
            from coordinator.work.training.secure import SecureRounds

            self._secure = SecureRounds(self._exchange, blobs, job, summing, minimum_sites)
        self._encoded: dict[tuple[object, ...], tuple[object, wire.RecordDict, int]] = {}

    def ask(self, kind: bytes, message: bytes = b"", descriptor: int | None = None) -> list[bytes]:
        """Put one question to the daemon and return the parts of its answer."""
        with self._asking:
            if kind == protocol.PUSH:
                self._waited = 0
            self._socket.send(kind, message, descriptor)
            frame, _ = self._socket.receive()
            return unpack(frame.message)

    def _tell(self, parts: Sequence[bytes]) -> None:
        """Send out tasks, however many, in frames of bounded size."""
        *first, last = protocol.pages(parts, self._page_bytes)
        for page in first:
            self.ask(protocol.MORE, pack(page))
        self.ask(protocol.PUSH, pack(last))

    def _answers(self, kind: bytes, message: bytes) -> list[bytes]:
        """Ask for answers; return task, code and reply of each. Replies come one in a frame."""
        told = self.ask(kind, message)
        answers: list[bytes] = []
        for task, code in zip(told[0::2], told[1::2], strict=True):
            answers += [task, code, b"" if code else self.ask(protocol.REPLY, task)[0]]
        return answers

    @property
    def number_of_sites(self) -> int:
        """How many sites the job has, online or not."""
        return len(self._ids)

    def name_of(self, node: int) -> str:
        """Return the site that is a node."""
        return self._sites.get(node, str(node))

    # ---- Flower's Grid -------------------------------------------------------------------------

    def set_run(self, run: Any) -> None:
        """Flower's: the run is set already."""

    @property
    def run(self) -> Any:
        """The run, as Flower describes one."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the nodes that are online, in roster order.

        Raises ``TooFewSites`` for an app that goes on waiting when all of its job are.

        What other threads than the main one are told isn't kept for a replay: when they ask, and
        how often, is chance.
        """
        main = threading.current_thread() is threading.main_thread()
        sites = self.ask(protocol.NODES if main else protocol.PEEK)
        self._waited = self._waited + 1 if main and len(sites) == len(self._ids) else 0
        if self._waited > PATIENCE:
            raise TooFewSites(
                f"The ServerApp waits for more sites than the {len(sites)} that take part."
            )
        return [self._ids[site.decode()] for site in sites]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages, in roster order of the sites, and return their task ids."""
        if self._secure is not None:
            raise DocumentError("In a secure job, messages go by send_and_receive.")
        with self._asking:
            return self._push(list(messages), None)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that came, each once."""
        wanted = [task for task in message_ids if task in self._sent]
        if not wanted:
            return []
        answer = self._answers(protocol.PULL, pack([task.encode() for task in wanted]))
        return self._replies(answer)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and wait for the replies, which come in roster order of the sites.

        A site that fails, or hasn't answered in time, gives a message with an error. Raises
        ``TooFewSites`` when that leaves fewer than the project's minimum.
        In a secure job there is one reply, of the sum of all.
        """
        if self._secure is not None:
            with self._asking:
                return self._summed(self._secure, list(messages), timeout)
        with self._asking:
            tasks = self._push(list(messages), timeout)
            if not tasks:
                return []
            seconds = b"" if timeout is None else repr(float(timeout)).encode()
            told = pack([seconds, *(t.encode() for t in tasks)])
            answer = self._answers(protocol.WAIT, told)
            replies = self._replies(answer)
        good = sum(reply.has_content() for reply in replies)
        # Cyclic strategies ask one site after another: the minimum is then the whole run's.
        if good < self._minimum <= len(replies):
            raise TooFewSites(
                f"Only {good} of {len(replies)} sites gave a usable answer, "
                f"and the project needs {self._minimum}. {self._reasons(replies)}"
            )
        return replies

    def _reasons(self, replies: Sequence[Message]) -> str:
        """Return why sites gave no answer, those with one reason together."""
        why: dict[str, list[str]] = {}
        for reply in replies:
            if reply.has_error():
                site = self.name_of(reply.metadata.src_node_id)
                why.setdefault(reply.error.reason, []).append(site)
        said = [
            f"{', '.join(sites[:NAMED])}{' and others' if len(sites) > NAMED else ''}: "
            f"{with_meaning(code)}"
            for code, sites in why.items()
        ]
        return "; ".join(said)

    # ---- secure sums ---------------------------------------------------------------------------

    def _summed(
        self, secure: SecureRounds, messages: list[Message], timeout: float | None
    ) -> list[Message]:
        """Return one reply, with the mean over the sites; a strategy takes it for a site's."""
        from coordinator.work.training.secure import KINDS, Question

        if not messages:
            return []
        if self._observed.single_updates:
            raise DocumentError(f"The job is secure. {self._observed.single_updates}")
        if self._observed.weights - checks.WEIGHTS:
            raise DocumentError("A secure job weighs its sites by num-examples.")
        if {_category(m) for m in messages} - set(KINDS):
            raise DocumentError("A secure job's sites answer training and evaluation only.")
        messages = self._in_order(messages)
        content = messages[0].content
        payload, blob, held = self._encode(content)
        self._note_sent(messages[0], [(payload, blob, held)])
        self._fresh = blob.digest
        for message in messages[1:]:
            same = message.content is content or self._encode(message.content)[0] == payload
            if not same or message.metadata.message_type != messages[0].metadata.message_type:
                raise DocumentError("In a secure job, all sites of a round are told the same.")
        ttl = min(m.metadata.ttl for m in messages)
        questions = [
            Question(self._site(m), m.metadata.message_type, m.metadata.group_id, payload, blob)
            for m in messages
        ]
        seconds = ttl if timeout is None else min(ttl, timeout)
        task, site, reply = secure.round(questions, held, seconds)
        self.of_some_sites = secure.of_some_sites
        [message] = [m for m in messages if self._site(m) == site]
        flower.call(message, task)
        return [flower.reply_to(message, task, to_flower(reply))]

    def _exchange(self, questions: Sequence[Question], seconds: float) -> tuple[list[str], Answers]:
        """Send tasks, wait for all, and return the tasks' names and the answers."""
        parts: list[bytes] = []
        site_of: dict[str, str] = {}
        if (wanted := questions[0].tensors.digest) and wanted != self._fresh:
            # A round that is trained again: the daemon has dropped its blob meanwhile.
            for _, structure, descriptor in self._encoded.values():
                if structure.tensors.digest == wanted:
                    self.ask(protocol.BLOB, structure.tensors.SerializeToString(), descriptor)
        self._fresh = ""
        for question in questions:
            self._count += 1
            task = f"{self._count:06d}"
            out = wire.Task(
                job=self._job,
                task=task,
                message_type=question.message_type,
                group=question.group,
                ttl_seconds=seconds,
                payload=question.payload,
                tensors=question.tensors,
            )
            parts += [question.site.encode(), out.SerializeToString()]
            site_of[task] = question.site
        self._tell(parts)
        waited = pack([repr(float(seconds)).encode(), *(task.encode() for task in site_of)])
        answer = self._answers(protocol.WAIT, waited)
        answers: Answers = {}
        for named, code, data in zip(answer[0::3], answer[1::3], answer[2::3], strict=True):
            reply = None if code else wire.Reply.FromString(data)
            answers[site_of[named.decode()]] = (code.decode(), reply)
        return list(site_of), answers

    def _site(self, message: Message) -> str:
        site = self._sites.get(message.metadata.dst_node_id)
        if site is None:
            raise DocumentError("The ServerApp addressed a node that is not in its job.")
        if message.metadata.message_type == ASKS_FOR_PARAMETERS:
            raise DocumentError(
                "The strategy has no initial parameters, and no site is asked for them here: give "
                "it initial_parameters."
            )
        return site

    def _in_order(self, messages: list[Message]) -> list[Message]:
        return sorted(messages, key=lambda m: self._order[self._site(m)])

    # ---- sending -------------------------------------------------------------------------------

    def _push(self, messages: list[Message], timeout: float | None) -> list[str]:
        parts: list[bytes] = []
        tasks: list[str] = []
        encoded: dict[int, _Encoded] = {}
        messages.sort(key=lambda m: self._order.get(self._sites.get(m.metadata.dst_node_id, ""), 0))
        for message in messages:
            site = self._site(message)
            content = message.content
            if id(content) not in encoded:
                encoded[id(content)] = self._encode(content)
            payload, blob, held = encoded[id(content)]
            self._count += 1
            task = f"{self._count:06d}"
            ttl = message.metadata.ttl
            out = wire.Task(
                job=self._job,
                task=task,
                message_type=message.metadata.message_type,
                group=message.metadata.group_id,
                ttl_seconds=ttl if timeout is None else min(ttl, timeout),
                payload=payload,
                tensors=blob,
            )
            flower.call(message, task)
            self._sent[task] = _Sent(message, site, held)
            self.asked_queries_only &= _category(message) == "query"
            parts += [site.encode(), out.SerializeToString()]
            tasks.append(task)
        if tasks:
            self._note_sent(messages[0], list(encoded.values()))
            self._tell(parts)
        return tasks

    def _note_sent(self, message: Message, sent: Sequence[_Encoded]) -> None:
        """Keep what may be the model, should the app neither start a strategy nor leave one."""
        alike = len({blob.digest for _, blob, _ in sent}) == 1 and sent[0][1].digest
        if alike and not self._observed.strategy and _category(message) != "query":
            self.sent_last = sent[0][2]

    def _encode(self, content: RecordDict) -> _Encoded:
        """Encode what a message holds; its arrays only if they aren't those of a moment ago."""
        held = from_flower(content)
        groups: records.Records = {n: r for n, r in held.items() if isinstance(r, records.Arrays)}
        arrays_in = [
            (name, array_key, held_of(array))
            for name, group in content.array_records.items()
            for array_key, array in group.items()
        ]
        # The same bytes objects and arrays, which are never changed, are the same blob.
        key = tuple(
            (name, array_key, kept if isinstance(kept, StoredArray) else id(kept))
            for name, array_key, kept in arrays_in
        )
        if key not in self._encoded:
            encoded = tensors.encode(groups)
            structure, descriptor = encoded.message, _memory_file(encoded)
            self._encoded[key] = (arrays_in, structure, descriptor)
            while len(self._encoded) > KEPT_BLOBS:
                _, _, old = self._encoded.pop(next(iter(self._encoded)))
                if old >= 0:
                    os.close(old)
        _, structure, descriptor = self._encoded[key]
        if descriptor >= 0:
            self.ask(protocol.BLOB, structure.tensors.SerializeToString(), descriptor)
        arrays = iter(structure.records)
        message = wire.RecordDict(tensors=structure.tensors)
        for name, record in held.items():
            other = None if name in groups else tensors.encode({name: record}).message.records[0]
            message.records.append(other or next(arrays))
        return message.SerializeToString(), structure.tensors, held

    def deliver_model(self, model: records.Records) -> None:
        """Give the finished model to the daemon; the last thing that is said.

        Raises ``TooFewSites`` when fewer sites than the project's minimum took part in training, or
        in the queries of an app that doesn't train.
        """
        if not self._count:
            raise TooFewSites("The ServerApp ended without having asked any site.")
        taken_part = self._trained or self._answered
        if self._secure is None and len(taken_part) < self._minimum:
            what = "took part in training" if self._trained else "gave a usable answer"
            raise TooFewSites(
                f"Only {len(taken_part)} sites {what}, and the project needs {self._minimum}."
            )
        encoded = tensors.encode(model)
        descriptor = _memory_file(encoded)
        if descriptor >= 0:
            self.ask(protocol.BLOB, encoded.message.tensors.SerializeToString(), descriptor)
        self._socket.send(protocol.MODEL, encoded.message.SerializeToString())

    # ---- receiving -----------------------------------------------------------------------------

    def _replies(self, answer: list[bytes]) -> list[Message]:
        tasks = [part.decode() for part in answer[0::3]]
        codes = [part.decode() for part in answer[1::3]]
        found: list[StoredRecords | None] = []
        said_by_sites = list(codes)
        for index, data in enumerate(answer[2::3]):
            content: StoredRecords | None = None
            if not codes[index]:
                try:
                    content = self._open(wire.Reply.FromString(data))
                    codes[index] = self._objection(tasks[index], content)
                except (DocumentError, OSError, ValueError):
                    codes[index] = "malformed"
            found.append(content)
        good = [i for i, code in enumerate(codes) if not code]
        if self._observed.uniform:
            weights = checks.WEIGHTS | self._observed.weights
            for odd in checks.odd_ones([checks.layout(found[i] or {}, weights) for i in good]):
                codes[good[odd]] = "unlike-the-others"
            self.of_some_sites = checks.set_apart(
                [found[i] or {} for i in good if not codes[i]], weights, self._minimum
            )
        messages: list[Message] = []
        for task, code, said, content in zip(tasks, codes, said_by_sites, found, strict=True):
            sent = self._sent.pop(task)
            if code != said:
                event = wire.JobEvent(kind="site", site=sent.site, text=code)
                self.ask(protocol.OBJECT, event.SerializeToString())
            if code:
                messages.append(flower.error_to(sent.message, task, code))
            else:
                body = to_flower(content or {})
                messages.append(flower.reply_to(sent.message, task, body))
                self._answered.add(sent.message.metadata.dst_node_id)
                if _category(sent.message) == "train":
                    self._trained.add(sent.message.metadata.dst_node_id)
        return messages

    def _objection(self, task: str, reply: StoredRecords) -> str:
        sent = self._sent[task]
        return checks.objection(
            sent.content,
            reply,
            train=_category(sent.message) == "train",
            weights=checks.WEIGHTS | self._observed.weights,
            trees=self._observed.trees,
        )

    def _open(self, reply: wire.Reply) -> StoredRecords:
        message = wire.RecordDict.FromString(reply.payload)
        name = message.tensors.digest
        if message.tensors.size and not name.isalnum():
            raise DocumentError("A blob's name is not a SHA-256.")
        return read_stored(message, self._blobs / name)


def _memory_file(encoded: tensors.Encoded) -> int:
    """Return a file in memory that holds a blob, or -1 when there is none."""
    if not encoded.pieces:
        return -1
    descriptor = os.memfd_create("blob")
    for piece in encoded.pieces:
        left = memoryview(piece)
        while left:
            left = left[os.write(descriptor, left) :]
    return descriptor


def _category(message: Message) -> str:
    category: str = message.metadata.message_type.partition(".")[0]
    return category
