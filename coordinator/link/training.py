"""What training has sent and fetched over the link: blobs of its jobs, bundles, models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from contract import wire_pb2 as wire
from contract.errors import DocumentError, NotFound
from coordinator.home import CoordinatorHome
from coordinator.jobs.desk import JobDesk
from coordinator.link.transfers import Slot, Transfers
from coordinator.registry.models import ModelRegistry
from foundation.blobs import BlobFolder, BlobReceiver
from foundation.transport import CHUNK_BYTES, Peer, Role

RECEIPTS_AT_ONCE = 1000


@dataclass
class TrainingTraffic:
    """What callers whose role was looked at may send and fetch."""

    home: CoordinatorHome
    desk: JobDesk
    projects_of: Callable[[str], set[str]]
    """Projects in force that a researcher is in."""
    _transfers: Transfers = field(default_factory=Transfers)

    # ---- blobs ---------------------------------------------------------------------------------

    async def state(self, peer: Peer, request: wire.BlobRequest) -> wire.BlobStatus:
        """Return how much of a blob is held."""
        blobs = self._job_blobs(peer, request.job)
        if not blobs.has(request.blob.digest):
            # Its sender waits here, where it has sent nothing yet.
            await self._transfers.reserve(peer.name)
        offset = blobs.offset(request.blob.digest, request.blob.size, peer.name)
        return wire.BlobStatus(offset=offset, complete=blobs.has(request.blob.digest))

    async def take(self, peer: Peer, requests: AsyncIterator[wire.BlobChunk]) -> wire.BlobStatus:
        """Take a blob of a job in."""
        first = await anext(requests, None)
        if first is None:
            raise DocumentError("A blob came without a chunk.")
        blobs = self._job_blobs(peer, first.job)
        limit = self._reply_limit(first.job)
        if first.blob.size > limit:
            raise DocumentError(f"A blob is larger than the {limit} bytes that may be sent.")
        if blobs.has(first.blob.digest):
            return wire.BlobStatus(offset=first.blob.size, complete=True)
        async with self._transfers.slot(peer.name) as slot:
            receiver = await self._receive(first, requests, blobs, peer.name, slot)
        return wire.BlobStatus(offset=receiver.held, complete=blobs.has(first.blob.digest))

    async def _receive(
        self,
        first: wire.BlobChunk,
        more: AsyncIterator[wire.BlobChunk],
        blobs: BlobFolder,
        sender: str,
        slot: Slot,
    ) -> BlobReceiver:
        """Write a blob as it comes, and give it its name when it is whole."""
        receiver = await asyncio.to_thread(
            BlobReceiver, blobs, first.blob.digest, first.blob.size, sender, first.offset
        )
        try:
            await asyncio.to_thread(receiver.write, first.data)
            async for chunk in more:
                await asyncio.to_thread(receiver.write, chunk.data)
                slot.moved(len(chunk.data))
            if receiver.held == first.blob.size:
                await asyncio.to_thread(receiver.finish)
        finally:
            receiver.close()
        return receiver

    async def send(self, peer: Peer, request: wire.BlobRequest) -> AsyncIterator[wire.BlobChunk]:
        """Send a blob: of a job, or a recipe's bundle."""
        if request.job:
            blobs = self._blobs_for(peer, request)
            chunks = blobs.read(request.blob.digest, request.offset)
        else:
            BlobFolder(self.home.recipes).path(request.blob.digest)
            chunks = _read_bundle(self.home, request.blob.digest, request.offset)
        offset = request.offset
        async with self._transfers.slot() as slot:
            while (data := await asyncio.to_thread(next, chunks, None)) is not None:
                yield wire.BlobChunk(offset=offset, data=data)
                offset += len(data)
                slot.moved(len(data))

    def _blobs_for(self, peer: Peer, request: wire.BlobRequest) -> BlobFolder:
        """Return where a blob is that the caller may have: of a job, or a finished model."""
        if peer.role is not Role.RESEARCHER:
            return self._job_blobs(peer, request.job)
        try:
            return self._job_blobs(peer, request.job)
        except NotFound:
            model = self._registry.find(request.job, self.projects_of(peer.name))
            held = wire.RecordDict.FromString(model.model).tensors.digest
            if request.job != model.job or request.blob.digest != held:
                raise
            return BlobFolder(self.home.job(request.job) / "blobs")

    def _job_blobs(self, peer: Peer, digest: str) -> BlobFolder:
        if peer.role is Role.RESEARCHER:
            self.desk.own(digest, peer.name)
        elif peer.name not in {site.site for site in self.desk.store.sites(digest)}:
            raise NotFound("There is no such job for this site.")
        return BlobFolder(self.home.job(digest) / "blobs")

    def _reply_limit(self, digest: str) -> int:
        active = self.desk.active.get(digest)
        work = active.job.work if active is not None else None
        if active is None or work is None or work.kind != "training":
            raise NotFound("There is no such training job under way.")
        grant = active.project.recipe(work.bundle)
        return grant.max_reply_bytes if grant is not None else 0

    # ---- models --------------------------------------------------------------------------------

    def models(self, peer: Peer, request: wire.ModelsRequest) -> wire.ModelList:
        """Return the models of a project of the caller's, or of all of them."""
        projects = self.projects_of(peer.name)
        if request.project:
            projects &= {request.project}
        models = self._registry.all(projects)
        for model in models:
            model.ClearField("model")
        return wire.ModelList(models=models)

    def model(self, peer: Peer, request: wire.ModelRequest) -> Iterator[wire.ModelRecord]:
        """Return all that is known of one model; its receipts in pieces."""
        record = self._registry.find(request.model, self.projects_of(peer.name))
        row = self.desk.store.get(record.job)
        record.signed_job = row.envelope
        record.rounds.extend(wire.JobResult.FromString(row.result or b"").rounds)
        yield record
        receipts = self.desk.store.receipts(record.job)
        for start in range(0, len(receipts), RECEIPTS_AT_ONCE):
            yield wire.ModelRecord(receipts=receipts[start : start + RECEIPTS_AT_ONCE])

    @property
    def _registry(self) -> ModelRegistry:
        return ModelRegistry(self.desk.store.engine)


def _read_bundle(home: CoordinatorHome, bundle: str, offset: int) -> Iterator[bytes]:
    path = home.recipe(bundle)
    if not path.exists():
        raise NotFound("There is no such recipe at this coordinator.")
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
