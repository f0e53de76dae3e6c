"""A blob goes up from wherever it was broken off, the very end included."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from contract import wire_pb2 as wire
from coordinator.link.training import TrainingTraffic
from foundation.blobs import BlobFolder, BlobReceiver
from foundation.transport import CHUNK_BYTES, Peer, Role
from node.link import blobs

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
