"""A blob goes up from wherever it was broken off, the very end included."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from coordinator.home import CoordinatorHome
from coordinator.link.training import TrainingTraffic
from coordinator.registry.authority import Authority
from foundation.blobs import BlobFolder, BlobReceiver
from foundation.transport import (
    CHUNK_BYTES,
    Peer,
    Role,
    TransportIdentity,
    new_private_key,
    private_key_pem,
)
from node.link import blobs

NOW = datetime.now(UTC).replace(microsecond=0)
JOB = "a" * 64
PEER = Peer(Role.SITE, "north", "1", datetime(2030, 1, 1, tzinfo=UTC))


class Traffic(TrainingTraffic):
    """The coordinator's half, of one job that this site is in."""

    folder: BlobFolder

    def _job_blobs(self, peer: Peer, digest: str) -> BlobFolder:
        assert (peer, digest) == (PEER, JOB)
        return self.folder

    def _reply_limit(self, digest: str) -> int:
        return 10**9


class Stub:
    """Calls the coordinator's half as the link would."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    async def BlobState(self, request: wire.BlobRequest) -> wire.BlobStatus:
        return await self._traffic.state(PEER, request)

    async def Upload(self, chunks: AsyncIterator[wire.BlobChunk]) -> wire.BlobStatus:
        return await self._traffic.take(PEER, chunks)


@pytest.mark.parametrize("held", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_an_upload_goes_on_where_a_killed_coordinator_left_it(tmp_path: Path, held: int) -> None:
    data = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"the end"
    digest = hashlib.sha256(data).hexdigest()
    folder = BlobFolder(tmp_path / "blobs")
    before = BlobReceiver(folder, digest, len(data), PEER.name, 0)
    before.write(data[:held])
    before.close()  # killed: what came is there, and has no name yet
    traffic = Traffic(cast("Any", None), cast("Any", None), lambda _: set())
    traffic.folder = folder
    blob = wire.BlobReference(digest=digest, size=len(data))
    asyncio.run(blobs.upload(cast("Any", Stub(traffic)), JOB, blob, data))
    assert folder.path(digest).read_bytes() == data


class Service(wire_pb2_grpc.WardgateServicer):
    """The coordinator's half behind real calls; it keeps who called over which connection."""

    def __init__(self, folder: BlobFolder) -> None:
        traffic = Traffic(cast("Any", None), cast("Any", None), lambda _: set())
        traffic.folder = folder
        self._stub = Stub(traffic)
        self.connections: set[str] = set()

    async def BlobState(
        self, request: wire.BlobRequest, context: grpc.aio.ServicerContext
    ) -> wire.BlobStatus:
        self.connections.add(context.peer())
        return await self._stub.BlobState(request)

    async def Upload(
        self, requests: AsyncIterator[wire.BlobChunk], context: grpc.aio.ServicerContext
    ) -> wire.BlobStatus:
        self.connections.add(context.peer())
        return await self._stub.Upload(requests)


@pytest.mark.parametrize(
    ("size", "reachable", "connections"),
    [(1000, True, 1), (blobs.LARGE_BYTES, True, 2), (blobs.LARGE_BYTES, False, 1)],
)
def test_a_large_blob_has_a_connection_of_its_own_where_there_can_be_one(
    tmp_path: Path, size: int, *, reachable: bool, connections: int
) -> None:
    coordinator = CoordinatorHome(tmp_path / "coordinator").create()
    authority = Authority.create(coordinator, "preterm", NOW)
    key = new_private_key()
    issued = authority.issue(key.public_key(), Role.SITE, "north", NOW, timedelta(days=1))
    (tmp_path / "north").mkdir()
    identity = TransportIdentity(tmp_path / "north")
    identity.save(private_key_pem(key), issued.pem, authority.pem)
    service = Service(BlobFolder(tmp_path / "blobs"))
    data = bytes(size)
    blob = wire.BlobReference(digest=hashlib.sha256(data).hexdigest(), size=size)

    async def run() -> None:
        server = grpc.aio.server()
        wire_pb2_grpc.add_WardgateServicer_to_server(service, server)
        own = TransportIdentity(coordinator.server).server_credentials()
        address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', own)}"
        await server.start()
        async with blobs.connection(address, identity) as link:
            await link.BlobState(wire.BlobRequest(job=JOB, blob=blob))
            await blobs.carry(
                blob,
                lambda stub: blobs.upload(stub, JOB, blob, data),
                link,
                address if reachable else "127.0.0.1:1",
                identity,
            )
        await server.stop(0)

    asyncio.run(run())
    assert service._stub._traffic.folder.path(blob.digest).read_bytes() == data
    assert len(service.connections) == connections
