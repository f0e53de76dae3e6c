"""Blobs over the link: up and down in chunks, from where the last attempt stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.errors import DocumentError
from foundation.blobs import BlobFolder, BlobReceiver
from foundation.transport import CHANNEL_OPTIONS, CHUNK_BYTES, TransportIdentity

Transfer = Callable[[wire_pb2_grpc.WardgateStub], Coroutine[Any, Any, None]]

UP = "up"
LARGE_BYTES = 4 * CHUNK_BYTES
"""From this size on a blob has a connection of its own. gRPC keeps some megabytes for a connection
that carried much until it ends, and a coordinator holds those of hundreds of sites."""


@asynccontextmanager
async def connection(
    address: str, identity: TransportIdentity
) -> AsyncIterator[wire_pb2_grpc.WardgateStub]:
    """Give a connection for one transfer."""
    credentials = identity.channel_credentials()
    async with grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
        yield wire_pb2_grpc.WardgateStub(channel)


async def carry(
    blob: wire.BlobReference,
    transfer: Transfer,
    link: wire_pb2_grpc.WardgateStub,
    address: str,
    identity: TransportIdentity,
) -> None:
    """Transfer a blob: a large one over a connection of its own, or else over the link's."""
    if blob.size >= LARGE_BYTES:
        try:
            async with connection(address, identity) as own:
                await transfer(own)
                return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
    await transfer(link)  # goes on where the first stopped


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
