"""Blobs over the link: up and down in chunks, from where the last attempt stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.errors import DocumentError
from foundation.blobs import BlobFolder, BlobReceiver
from foundation.transport import CHUNK_BYTES

UP = "up"


async def upload(
    stub: wire_pb2_grpc.WardgateStub, job: str, blob: wire.BlobReference, data: bytes
) -> None:
    """Send a blob, beginning where the coordinator says it has not got it yet.

    One that it has all of, and was killed before it gave it its name, is finished by no bytes more.
    """
    state = await stub.BlobState(wire.BlobRequest(job=job, blob=blob))
    if state.complete:
        return

    async def chunks() -> AsyncIterator[wire.BlobChunk]:
        view = memoryview(data)
        first = True
        for start in range(state.offset, max(len(data), state.offset + 1), CHUNK_BYTES):
            chunk = wire.BlobChunk(offset=start, data=bytes(view[start : start + CHUNK_BYTES]))
            if first:
                chunk.job = job
                chunk.blob.CopyFrom(blob)
                first = False
            yield chunk

    status = await stub.Upload(chunks())
    if not status.complete:
        raise DocumentError("The coordinator did not get the whole blob.")


async def download(
    stub: wire_pb2_grpc.WardgateStub, job: str, blob: wire.BlobReference, folder: BlobFolder
) -> None:
    """Fetch a blob into ``folder``, beginning where an earlier attempt stopped."""
    if folder.has(blob.digest):
        return
    offset = folder.offset(blob.digest, blob.size, UP)
    receiver = await asyncio.to_thread(BlobReceiver, folder, blob.digest, blob.size, UP, offset)
    try:
        request = wire.BlobRequest(job=job, blob=blob, offset=offset)
        async for chunk in stub.Download(request):
            await asyncio.to_thread(receiver.write, chunk.data)
        await asyncio.to_thread(receiver.finish)
    finally:
        receiver.close()
