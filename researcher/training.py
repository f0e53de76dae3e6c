"""A training job as its researcher sees it: live rounds, the model, its receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.documents import Job
from contract.errors import DocumentError, JobFailed
from contract.receipts import Receipt
from contract.records import NOTHING, Arrays, decode, decode_entry
from contract.trust import TrustedDocuments
from foundation import rpc
from foundation.files import write_durably
from foundation.model_files import digest_of, pieces
from researcher.ending import explain
from researcher.receipts import check_answered, verify_receipts

CALL_SECONDS = 30.0
MAX_MODEL_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Round:
    """One step of one round: ``train`` or ``evaluate``, and the aggregated metrics."""

    number: int
    step: str
    metrics: dict[str, float]

    @classmethod
    def of(cls, event: wire.JobEvent) -> Round:
        """Read a round's event."""
        metrics: dict[str, float] = {}
        for entry in event.metrics:
            value = decode_entry(entry)
            if isinstance(value, int | float):
                metrics[entry.key] = float(value)
        return cls(event.round, event.text, metrics)


@dataclass(frozen=True)
class TrainingResult:
    """What training gave: the model's arrays by name, the rounds, who took part, receipts."""

    job: str
    arrays: Arrays
    rounds: tuple[Round, ...]
    answered: tuple[str, ...]
    receipts: tuple[Receipt, ...]

    @property
    def model(self) -> str:
        """The digest by which the registry calls the model: the SHA-256 of its safetensors."""
        return digest_of(self.arrays.items).digest

    @property
    def has_model(self) -> bool:
        """Whether there is a model: an app that only asks queries leaves one empty array."""
        return {name: a.size for name, a in self.arrays.items.items()} != {NOTHING: 0}

    def safetensors(self) -> bytes:
        """Return the model as safetensors; the same model gives the same bytes."""
        return b"".join(pieces(self.arrays.items))

    def save(self, path: Path) -> None:
        """Write the model as safetensors, for use within the consortium."""
        write_durably(path, self.safetensors(), 0o644)


class TrainingHandle:
    """A handle on a training job: follow it, wait for it, stop it."""

    def __init__(
        self,
        digest: str,
        job: Job | None,
        stub: wire_pb2_grpc.WardgateStub,
        address: str,
        trusted: Callable[[], TrustedDocuments],
    ) -> None:
        self.digest = digest
        self.job = job
        self._stub = stub
        self._address = address
        self._trusted = trusted

    @contextmanager
    def _calling(self) -> Iterator[wire_pb2_grpc.WardgateStub]:
        try:
            yield self._stub
        except grpc.RpcError as error:
            raise rpc.error_from(error, self._address) from None

    def events(self) -> Iterator[wire.JobEvent]:
        """Yield the job's events, past and coming, until it has ended."""
        with self._calling() as stub:
            yield from stub.Watch(wire.JobRequest(job=self.digest))

    def progress(self) -> Iterator[Round]:
        """Yield the rounds as they come."""
        for event in self.events():
            if event.kind == "round":
                yield Round.of(event)

    def status(self) -> wire.JobStatus:
        """Return where the job and its sites are."""
        with self._calling() as stub:
            result = stub.Result(wire.JobRequest(job=self.digest), timeout=CALL_SECONDS)
        status: wire.JobStatus = result.status
        return status

    def cancel(self) -> None:
        """Stop the job."""
        with self._calling() as stub:
            stub.Cancel(wire.JobRequest(job=self.digest), timeout=CALL_SECONDS)

    def result(self) -> TrainingResult:
        """Wait for the end and return the model. ``JobFailed`` when there is none."""
        with self._calling() as stub:
            result = stub.Wait(wire.JobRequest(job=self.digest))
        if result.status.state != "finished":
            raise JobFailed(explain(result.status))
        receipts = verify_receipts(result.receipts, self._trusted())
        check_answered(receipts, result.answered, self.digest)
        with self._calling() as stub:
            arrays = fetch_model(stub, self.digest, result.model)
        return TrainingResult(
            job=self.digest,
            arrays=arrays,
            rounds=tuple(Round.of(e) for e in result.rounds),
            answered=tuple(result.answered),
            receipts=tuple(receipts),
        )


def fetch_model(stub: wire_pb2_grpc.WardgateStub, job: str, model: bytes) -> Arrays:
    """Return a finished model's arrays, whose record is ``model``; its tensors are downloaded."""
    message = wire.RecordDict.FromString(model)
    records = decode(message, _download(stub, job, message.tensors))
    arrays = [record for record in records.values() if isinstance(record, Arrays)]
    if len(arrays) != 1:
        raise DocumentError("The finished model is not one record of arrays.")
    return arrays[0]


def _download(stub: wire_pb2_grpc.WardgateStub, job: str, blob: wire.BlobReference) -> bytes:
    if not blob.digest:
        return b""
    if blob.size > MAX_MODEL_BYTES:
        raise DocumentError("The finished model is larger than 8 GiB.")
    received = bytearray()
    for chunk in stub.Download(wire.BlobRequest(job=job, blob=blob)):
        received += chunk.data
        if len(received) > blob.size:
            raise DocumentError("The finished model is larger than it was declared.")
    return bytes(received)
