"""One consortium's link: connect, stay, reconnect; hand messages to the desk and back.

It sends only what the gate sealed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar, TypeVarTuple

import grpc
from sqlalchemy.exc import OperationalError

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.errors import (
    CertificateError,
    DocumentError,
    LedgerError,
    Refused,
    StorageError,
    Unavailable,
    WardgateError,
)
from foundation import rpc
from foundation.blobs import BlobFolder, is_digest
from foundation.transport import CHANNEL_OPTIONS, TransportIdentity
from node.config import LinkSettings
from node.gate.deadline import wait_seconds
from node.gate.gate import Membership, Sealed
from node.link import blobs, renewal
from node.link.heads import HeadExchange
from node.link.membership import take_in
from node.work.desk import WorkDesk, offered_job

log = logging.getLogger("wardgate.node")

A = TypeVarTuple("A")
R = TypeVar("R")

PROTOCOL = 1
MAX_AT_ONCE = 256
"""Offers, and tasks, that are under way at once; more are dropped."""
WATCH_SECONDS = 1.0
FATAL = (CertificateError, LedgerError)
ENDING = (
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.PERMISSION_DENIED,
)
"""What a call says whose link is about to end, which then says why."""
MAX_TRIES = 3
INTERNAL = Refused("internal", "This site failed to work on it.")


class ConsortiumLink:
    """The link to one coordinator, for as long as the node serves."""

    def __init__(
        self,
        member: Membership,
        address: str,
        identity: TransportIdentity,
        desk: WorkDesk,
        settings: LinkSettings,
        pool: Executor,
        training: Executor,
    ) -> None:
        self._member = member
        self._address = address
        self._identity = identity
        self._desk = desk
        self._settings = settings
        self._pool = pool
        self._training = training
        pause = settings.head_seconds / 4  # for a site that sends its own as often, with room
        self._offer_heads_at = 0.0
        self._heads = HeadExchange(desk.gate, member, time.monotonic, pause)
        self._outbox: asyncio.Queue[Sealed | None] = asyncio.Queue()
        self._stub: wire_pb2_grpc.WardgateStub | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self._at_work: set[tuple[str, str]] = set()
        self._offers: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Keep the link up until cancelled. Raises the errors that trying again can't mend."""
        pause = self._settings.first_backoff_seconds
        away = False
        while True:
            problem: WardgateError | None = None
            try:
                self._identity.check(datetime.now(UTC))
                while await self._in_thread(self._desk.gate.is_flood, self._member):
                    await asyncio.sleep(self._settings.longest_backoff_seconds)
                await self._once()
            except FATAL:
                raise
            except grpc.RpcError as error:
                problem = rpc.error_from(error, self._address)
                # Only the coordinator's own word is final: whoever else answers at its address,
                # or breaks a handshake off, can't end the node.
                if isinstance(problem, CertificateError) and rpc.is_told(error):
                    raise problem from None
            except WardgateError as error:
                problem = error
            if self._was_up:
                pause, away = self._settings.first_backoff_seconds, False
            if problem is not None and not away:
                log.warning("%s: %s Trying again.", self._member.consortium, problem)
                away = True
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 (jitter)
            pause = min(pause * 2, self._settings.longest_backoff_seconds)

    _was_up = False

    def was_welcomed(self) -> bool:
        """Whether the coordinator's newest welcome agreed with our ledger; False before one."""
        return self._was_up

    async def _once(self) -> None:
        """Hold one connection until it breaks."""
        self._was_up = False
        self._outbox = asyncio.Queue()
        credentials = self._identity.channel_credentials()
        async with grpc.aio.secure_channel(
            self._address, credentials, options=CHANNEL_OPTIONS
        ) as channel:
            self._stub = wire_pb2_grpc.WardgateStub(channel)
            helpers: list[asyncio.Task[None]] = []
            try:
                hello = await self._in_thread(
                    self._desk.gate.hello, self._member, version("wardgate"), PROTOCOL
                )
                self._outbox.put_nowait(hello)
                stream = self._stub.Link(self._outgoing())
                welcome = await stream.read()
                if welcome is grpc.aio.EOF:
                    # The status says why; reading it raises the error of the call.
                    await _raise_status(stream)
                    raise Unavailable("The coordinator ended the link without a word.")
                await self._welcomed(welcome.welcome)
                self._was_up = True
                helpers = [
                    asyncio.create_task(self._heartbeats(welcome.welcome.heartbeat_seconds)),
                    asyncio.create_task(self._watch()),
                    asyncio.create_task(self._keep_fresh(self._stub)),
                    asyncio.create_task(self._exchange_heads()),
                ]
                while (message := await stream.read()) is not grpc.aio.EOF:
                    await self._take(message)
                await _raise_status(stream)
            finally:
                for task in [*helpers, *self._busy]:
                    task.cancel()
                self._outbox.put_nowait(None)

    async def _outgoing(self) -> AsyncIterator[wire.FromNode]:
        outbox = self._outbox
        while (sealed := await outbox.get()) is not None:
            yield sealed.message

    async def _in_thread(
        self, function: Callable[[*A], R], *arguments: *A, pool: Executor | None = None
    ) -> R:
        return await self._loop.run_in_executor(pool or self._pool, function, *arguments)

    async def _welcomed(self, welcome: wire.Welcome) -> None:
        """Check that our ledger holds the head that the coordinator saw last."""
        if welcome.HasField("ledger"):
            seen = welcome.ledger
            held = await self._in_thread(
                self._desk.gate.ledger.holds, seen.sequence, seen.hash.hex()
            )
            if not held:
                raise LedgerError(
                    f"The ledger doesn't hold entry {seen.sequence}, which consortium "
                    f"{self._member.consortium} has seen: it was cut or restored from a backup. "
                    "Nothing is answered until that is cleared up."
                )
        await self._in_thread(self._heads.check, welcome.head)
        await self._stored(self._believe, welcome.documents)
        if welcome.head:
            told = wire.Countersignatures(envelopes=[welcome.head])
            await self._stored(self._heads.countersigned, told)
        await self._in_thread(self._heads.linked)
        log.info("%s: linked to %s", self._member.consortium, self._address)

    def _believe(self, documents: wire.Documents) -> None:
        for objection in take_in(self._desk.gate.asked, self._member, documents, datetime.now(UTC)):
            if not self._desk.gate.is_flood(self._member):
                log.warning("%s: not believed: %s", self._member.consortium, objection)

    # ---- what comes in -------------------------------------------------------------------------

    async def _take(self, message: wire.ToNode) -> None:
        """Act on one message. Documents are believed before the next message is looked at."""
        match message.WhichOneof("body"):
            case "offer":
                self._take_offer(message.offer.job)
            case "task":
                await self._take_task(message.task)
            case "documents":
                await self._stored(self._believe, message.documents)
            case "head":
                self._start(self._countersign(message.head))
            case "countersigned":
                await self._stored(self._heads.countersigned, message.countersigned)
            case "received":
                received = message.received
                self._start(
                    self._stored(self._desk.received, self._member, received.job, received.task)
                )
            case "close":
                self._start(self._stored(self._desk.close, self._member, message.close.job))
            case _:
                pass

    def _take_offer(self, envelope: bytes) -> None:
        """Begin to decide on a job, unless that is under way; a flood of offers is not kept up."""
        digest = offered_job(envelope)
        if digest in self._offers:
            return
        if len(self._offers) >= MAX_AT_ONCE:
            if not self._desk.gate.is_flood(self._member):
                log.warning("%s: too many offers at once; one was dropped", self._member.consortium)
            return
        self._offers[digest] = self._start(self._offer(envelope))
        self._offers[digest].add_done_callback(lambda _: self._offers.pop(digest, None))

    async def _take_task(self, task: wire.Task) -> None:
        """Begin with a task, unless that is under way; a flood of tasks is not kept up with."""
        key = (task.job, task.task)
        # Only a digest names a job, and only names that are short are written down.
        if not is_digest(task.job) or key in self._at_work:
            return
        if await self._in_thread(self._desk.gate.is_flood, self._member, task.job):
            return
        if len(self._at_work) >= MAX_AT_ONCE:
            log.warning("%s: too many tasks at once; one was dropped", self._member.consortium)
            return
        self._at_work.add(key)
        self._start(self._task(task)).add_done_callback(lambda _: self._at_work.discard(key))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        task.add_done_callback(lambda _: work.close())  # the link may end before it has begun
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        consortium = self._member.consortium
        if isinstance(error, WardgateError):
            log.error("%s: %s", consortium, error)
        elif isinstance(error, grpc.RpcError):
            if error.code() not in ENDING:
                log.warning("%s: %s", consortium, rpc.error_from(error, self._address))
        else:
            # Its text might hold a patient's data, so only its type is logged.
            log.error("%s: unexpected %s", consortium, type(error).__name__)

    async def _offer(self, envelope: bytes) -> None:
        began = self._loop.time()
        gate, member = self._desk.gate, self._member

        def decided(decide: Callable[[], Sealed | None]) -> tuple[Sealed | None, float]:
            # The period first: what is decided, and in the ledger, must not fail to be sent by it.
            period = gate.period_seconds(member, envelope)
            return decide(), period

        try:
            offered = functools.partial(self._desk.offered, member, envelope)
            sealed, period = await self._stored(decided, offered)
        except Exception as error:
            self._report(error)
            failed = functools.partial(gate.decision, member, offered_job(envelope), INTERNAL)
            sealed, period = await self._stored(decided, failed)
        if sealed is not None:
            await asyncio.sleep(wait_seconds(began, self._loop.time(), period))
            self._send(sealed)

    async def _stored(
        self, function: Callable[[*A], R], *arguments: *A, pool: Executor | None = None
    ) -> R:
        """Call in a thread; while a disk is full or busy, wait and do it again."""
        pause = self._settings.first_backoff_seconds
        said = False
        while True:
            try:
                return await self._in_thread(function, *arguments, pool=pool)
            except StorageError as error:
                problem: Exception = error
            except OperationalError as error:
                # SQLite's words (SQLITE_FULL, SQLITE_BUSY); time doesn't mend what else goes wrong.
                words = str(error.orig)
                if "disk is full" not in words and "is locked" not in words:
                    raise
                problem = StorageError("The catalogue can't be written: its disk is full or busy.")
            if not said:
                log.error("%s: %s Trying again.", self._member.consortium, problem)
                said = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.longest_backoff_seconds)

    async def _task(self, task: wire.Task) -> None:
        if (offer := self._offers.get(task.job)) is not None:
            await asyncio.wait([offer])  # the job is being decided on; its tasks come after
        # Recipes have threads of their own: a long one must not keep questions waiting.
        stepped = task.job in self._desk.steps.sessions
        began = self._loop.time()
        period = self._desk.steps.period_seconds(task.job)
        try:
            sealed = await self._stored(
                self._desk.task,
                self._member,
                task,
                self._fetch,
                pool=self._pool if stepped else self._training,
            )
        except Exception as error:
            sealed = await self._failed(task, error)
        # What failed unexpectedly leaves at its time too: an exception may depend on the data.
        await asyncio.sleep(wait_seconds(began, self._loop.time(), period))
        if sealed.tensors:
            try:
                await self._upload(task.job, sealed)
            except Exception as error:
                sealed = await self._failed(task, error)
        self._send(sealed)

    async def _failed(self, task: wire.Task, error: Exception) -> Sealed:
        """Return what is said of a task that failed unexpectedly."""
        if isinstance(error, grpc.RpcError) and error.code() in ENDING:
            raise error  # the task comes again
        self._report(error)
        gate = self._desk.gate
        return await self._stored(
            gate.failure, self._member, task.job, task.task, INTERNAL.code, ""
        )

    async def _upload(self, job: str, sealed: Sealed) -> None:
        """Send a reply's tensors; a coordinator that has no room for them is asked again.

        So is one that held a part which has rotted: it dropped that part when it saw it.
        """
        blob, data = sealed.message.reply.tensors, sealed.tensors
        pause = self._settings.first_backoff_seconds
        tries = 0
        while True:
            tries += 1
            try:
                await self._carry(blob, lambda stub: blobs.upload(stub, job, blob, data))
                return
            except grpc.RpcError as error:
                full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                if error.code() in ENDING or (not full and tries > MAX_TRIES):
                    raise
                problem = rpc.error_from(error, self._address)
            if tries == 1:
                log.warning("%s: %s Trying again.", self._member.consortium, problem)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.longest_backoff_seconds)

    def _fetch(self, job: str, blob: wire.BlobReference, folder: BlobFolder) -> None:
        """Bring a blob in; called from a thread of the pool, done by the loop."""
        if self._stub is None:
            raise Unavailable("The link is down.")
        limit = self._desk.gate.policy().training.max_reply_bytes
        if blob.size > limit:
            raise DocumentError("A task's tensors are larger than the policy allows.")
        work = self._carry(blob, lambda stub: blobs.download(stub, job, blob, folder))
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _carry(self, blob: wire.BlobReference, transfer: blobs.Transfer) -> None:
        assert self._stub is not None
        await blobs.carry(blob, transfer, self._stub, self._address, self._identity)

    def _send(self, sealed: Sealed) -> None:
        self._outbox.put_nowait(sealed)

    # ---- what goes out by itself ---------------------------------------------------------------

    async def _heartbeats(self, seconds: int) -> None:
        while True:
            await asyncio.sleep(max(1, seconds))
            self._send(self._desk.gate.heartbeat())

    async def _watch(self) -> None:
        """Say what can be asked about here, and act on what stewards decided, once that changed."""
        gate, member = self._desk.gate, self._member
        seen: object = None
        told: tuple[object, ...] = ()
        acted_on: tuple[object, ...] = ()
        failing = False

        def look() -> tuple[tuple[object, ...], tuple[object, ...]]:
            return gate.listed(member), gate.situation()

        while True:
            try:
                changes = gate.changes()
                if changes != seen:
                    listed, situation = await self._in_thread(look)
                    if listed != told:
                        self._send(await self._stored(gate.releases, member))
                        told = listed
                    if situation != acted_on:
                        await self._act_on_inbox()
                        acted_on = situation
                    seen = changes
                failing = False
            except Exception as error:
                if not failing:
                    self._report(error)
                failing = True
            await asyncio.sleep(WATCH_SECONDS)

    async def _act_on_inbox(self) -> None:
        gate = self._desk.gate
        for envelope in await self._in_thread(gate.ready, self._member):
            self._take_offer(envelope)
        for row in await self._in_thread(gate.decided_outputs, self._member):
            sealed = await self._stored(self._desk.settle, self._member, row)
            if sealed.tensors:
                await self._upload(row.job, sealed)
            self._send(sealed)

    async def _exchange_heads(self) -> None:
        """Offer the ledger's newest head to the other sites, again whenever there is news."""
        held = await self._stored(self._heads.held)
        if held is not None:
            self._send(held)
        while True:
            # A link that breaks over and over must not call for a countersignature each time.
            await asyncio.sleep(max(0.0, self._offer_heads_at - self._loop.time()))
            self._offer_heads_at = self._loop.time() + self._settings.head_seconds
            try:
                sealed = await self._stored(self._heads.offer)
                if sealed is not None:
                    self._send(sealed)
            except WardgateError as error:
                log.error("%s: no head is offered: %s", self._member.consortium, error)

    async def _keep_fresh(self, stub: wire_pb2_grpc.WardgateStub) -> None:
        await renewal.keep_fresh(self._identity, self._member, self._address, stub)

    async def _countersign(self, offer: wire.HeadOffer) -> None:
        sealed = await self._stored(self._heads.countersign, offer)
        if sealed is not None:
            self._send(sealed)


async def _raise_status(stream: grpc.aio.StreamStreamCall) -> None:
    """Raise the error that a stream ended with, if it ended with one."""
    code = await stream.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code,
            await stream.initial_metadata(),
            await stream.trailing_metadata(),
            details=await stream.details(),
        )
