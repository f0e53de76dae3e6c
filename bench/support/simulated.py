"""Sites that are no nodes: they speak the link, accept a job, and answer a task with made-up bytes.

Hundreds of them run in one process of little memory, so that what a coordinator needs for a round
can be measured on one machine. Each site's update is another: the last value differs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
from sqlalchemy import Engine, insert

from bench.support.federation import CONSORTIUM, PROJECT
from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.envelope import Envelope
from contract.keys import SigningKey
from contract.receipts import Receipt
from coordinator import schema
from coordinator.commands.options import open_coordinator
from coordinator.registry.authority import Authority
from coordinator.registry.documents import DocumentShelf
from foundation import transport
from foundation.files import private_folder
from foundation.transport import CHANNEL_OPTIONS, CHUNK_BYTES, Role, TransportIdentity
from node.link.blobs import connection

RELEASE = "5e" * 32
SILENCE_SECONDS = 300.0
"""A link on which the coordinator doesn't even answer heartbeats is begun anew."""


def register(root: Path, sites: Sequence[str]) -> None:
    """Make members of so many sites, by the coordinator's own registry; the first is steward."""
    opened = open_coordinator(root / "coordinator")
    authority = Authority.load(opened.home)
    for site in sites:
        _register(opened.engine, authority, root / site, site)


def _register(engine: Engine, authority: Authority, home: Path, site: str) -> None:
    now, life = datetime.now(UTC), timedelta(days=1)
    key, steward, tls = SigningKey.generate(), SigningKey.generate(), transport.new_private_key()
    issued = authority.issue(tls.public_key(), Role.SITE, site, now, life)
    with engine.begin() as connection:
        connection.execute(
            insert(schema.members).values(
                role=Role.SITE,
                name=site,
                signing_key=key.public,
                steward_key=steward.public,
                joined_at=now,
            )
        )
        connection.execute(
            insert(schema.certificates).values(
                serial=issued.serial,
                role=Role.SITE,
                name=site,
                issued_at=now,
                not_after=issued.not_after,
            )
        )
    private_folder(home)
    TransportIdentity(home).save(transport.private_key_pem(tls), issued.pem, authority.pem)
    (home / "site.key").write_bytes(key.to_pem())
    (home / "steward.key").write_bytes(steward.to_pem())


def publish(root: Path, steward: str) -> None:
    """Sign what is proposed, as one steward."""
    key = SigningKey.from_pem((root / steward / "steward.key").read_bytes())
    shelf = DocumentShelf(open_coordinator(root / "coordinator").engine)
    for document in shelf.all("proposed"):
        shelf.sign(document.envelope.sign(key).to_bytes(), datetime.now(UTC))


class Update:
    """One model's bytes, of which each site's differ in the last value."""

    def __init__(self, tensors: int, values: int) -> None:
        size = values // tensors
        ends = [4 * size * i for i in range(tensors + 1)]
        header = {
            str(i): {"dtype": "F32", "shape": [size], "data_offsets": ends[i : i + 2]}
            for i in range(tensors)
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        body = np.random.default_rng(0).standard_normal(size * tensors, np.float32).tobytes()
        self._head = len(text).to_bytes(8, "little") + text + body[:-4]
        self._hash = hashlib.sha256(self._head)
        self.specs = [
            wire.ArraySpec(key=str(i), dtype="float32", shape=[size]) for i in range(tensors)
        ]

    def of(self, number: float) -> tuple[wire.RecordDict, bytes]:
        """Return the message of an update that ends so, and the last bytes of its blob."""
        tail = np.float32(number).tobytes()
        digest = self._hash.copy()
        digest.update(tail)
        message = wire.RecordDict()
        message.records.add(name="arrays", kind=wire.Record.ARRAYS).arrays.extend(self.specs)
        metrics = message.records.add(name="metrics", kind=wire.Record.METRICS)
        metrics.entries.add(key="num-examples").scalar.integer = 1000
        message.tensors.digest = digest.hexdigest()
        message.tensors.size = len(self._head) + len(tail)
        return message, tail

    def chunks(self, job: str, blob: wire.BlobReference, tail: bytes) -> AsyncIterator[object]:
        """Yield the blob's chunks."""

        async def each() -> AsyncIterator[object]:
            view = memoryview(self._head)
            for start in range(0, len(view), CHUNK_BYTES):
                data = bytes(view[start : start + CHUNK_BYTES])
                yield wire.BlobChunk(job=job, blob=None if start else blob, offset=start, data=data)
            yield wire.BlobChunk(offset=len(view), data=tail)

        return each()


class Site:
    """One site over one connection."""

    def __init__(self, root: Path, site: str, number: int, update: Update) -> None:
        self._identity = TransportIdentity(root / site)
        self._key = SigningKey.from_pem((root / site / "site.key").read_bytes())
        self._site = site
        self._number = number
        self._update = update
        self._outbox: asyncio.Queue[wire.FromNode] = asyncio.Queue()

    async def run(self, address: str) -> None:
        """Hold the link for good: what is cut is begun anew, and its tasks are sent again."""
        while True:
            with suppress(grpc.aio.AioRpcError):
                await self._hold(address)
            await asyncio.sleep(1)

    async def _hold(self, address: str) -> None:
        """Hold one stream until it ends, or an answer to a task fails."""
        self._outbox = asyncio.Queue()
        credentials = self._identity.channel_credentials()
        async with grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as it:
            stub = wire_pb2_grpc.WardgateStub(it)
            self._say(hello=wire.Hello(protocol=1, version="0"))
            stream = stub.Link(self._outgoing())
            work: set[asyncio.Task[None]] = set()

            def ended(task: asyncio.Task[None]) -> None:
                work.discard(task)
                if not task.cancelled() and task.exception() is not None:
                    stream.cancel()

            beating = asyncio.create_task(self._beat())
            release = wire.Release(name="table", digest=RELEASE, projects=[PROJECT], table="table")
            try:
                while (message := await asyncio.wait_for(stream.read(), SILENCE_SECONDS)) is not (
                    grpc.aio.EOF
                ):
                    match message.WhichOneof("body"):
                        case "welcome":
                            self._say(releases=wire.Releases(releases=[release]))
                        case "offer":
                            job = Envelope.parse(message.offer.job).digest
                            self._say(decision=wire.Decision(job=job, accepted=True))
                        case "task":
                            task = asyncio.create_task(self._answer(address, message.task))
                            work.add(task)
                            task.add_done_callback(ended)
            except (TimeoutError, asyncio.CancelledError):
                pass  # silent, or cancelled by an answer that failed
            finally:
                for one in (beating, *work):
                    one.cancel()

    def _say(self, **body: object) -> None:
        self._outbox.put_nowait(wire.FromNode(**body))  # type: ignore[arg-type]

    async def _outgoing(self) -> AsyncIterator[wire.FromNode]:
        while True:
            yield await self._outbox.get()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(10)
            self._say(heartbeat=wire.Empty())

    async def _answer(self, address: str, task: wire.Task) -> None:
        """Answer a task, over connections as a node's."""
        request = wire.BlobRequest(job=task.job, blob=task.tensors)
        got = 0
        async with connection(address, self._identity) as stub:
            async for chunk in stub.Download(request):
                got += len(chunk.data)
        if got != task.tensors.size:
            raise SystemExit("a model came cut")
        message, tail = self._update.of(self._number + 1000 * int(task.task))
        blob = message.tensors
        async with connection(address, self._identity) as stub:
            state = await stub.BlobState(wire.BlobRequest(job=task.job, blob=blob))
            if not state.complete:
                await stub.Upload(self._update.chunks(task.job, blob, tail))
        payload = message.SerializeToString()
        receipt = Receipt(
            consortium=CONSORTIUM,
            site=self._site,
            job=task.job,
            task=task.task,
            release=RELEASE,
            payload=hashlib.sha256(payload).hexdigest(),
            payload_bytes=len(payload) + blob.size,
            rules=("simulated",),
            ledger_sequence=int(task.task),
            ledger_head="00" * 32,
            time=datetime.now(UTC),
        ).sign(self._key)
        self._say(
            reply=wire.Reply(
                job=task.job, task=task.task, payload=payload, tensors=blob, receipt=receipt
            )
        )


async def serve(root: Path, address: str, sites: Sequence[str], tensors: int, values: int) -> None:
    """Hold every site's link until cancelled."""
    update = Update(tensors, values)
    running = [Site(root, site, number, update).run(address) for number, site in enumerate(sites)]
    await asyncio.gather(*running)


if __name__ == "__main__":
    folder, where, count, tensors, values = sys.argv[1:]
    names = [f"s{i:03}" for i in range(int(count))]
    asyncio.run(serve(Path(folder), where, names, int(tensors), int(values)))
