"""Finished models as the coordinator's registry tells of them, checked against what was signed.

What is checked: the job is signed by its researcher and names bundle, parameters, seed, releases
and the model that training began with; each receipt is its site's, of this job and of the release
that the job names; each site that is said to be in the model receipted something. What nobody
signed, and is the coordinator's word: the rounds' metrics, the strategy's name, the time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.documents import JOB_TYPE, Job, Roster, printable
from contract.envelope import Envelope
from contract.errors import DocumentError, NotFound, SignatureError, UsageError
from contract.receipts import Receipt
from contract.records import Arrays, Value, decode_entry
from contract.trust import TrustedDocuments
from contract.work import TrainingWork
from foundation import model_files, rpc
from foundation.bundle import MAX_BUNDLE_BYTES, Bundle
from researcher.receipts import check_answered
from researcher.spending import Spent, spent
from researcher.training import CALL_SECONDS, Round, fetch_model

SHORTEST_PREFIX = 6


@dataclass(frozen=True)
class RegisteredModel:
    """A model of the registry, as the coordinator lists it."""

    digest: str
    """The SHA-256 of its safetensors file."""
    size: int
    job: str
    project: str
    project_version: int
    researcher: str
    finished_at: datetime
    recipe: str
    bundle: str
    bundle_name: str
    bundle_version: str
    strategy: str
    """As the recipe's own process said; empty when it said nothing."""
    settings: Mapping[str, Value]
    """The strategy's, likewise."""
    start_from: str
    """The digest of the model that training began with, or empty."""
    answered: tuple[str, ...]

    @classmethod
    def of(cls, record: wire.ModelRecord) -> RegisteredModel:
        """Read what the coordinator sent; its texts are made fit to be printed."""
        return cls(
            digest=printable(record.digest),
            size=record.size,
            job=printable(record.job),
            project=printable(record.project),
            project_version=record.project_version,
            researcher=printable(record.researcher),
            finished_at=_time(record.time),
            recipe=printable(record.recipe),
            bundle=printable(record.bundle),
            bundle_name=printable(record.bundle_name),
            bundle_version=printable(record.bundle_version),
            strategy=printable(record.strategy),
            settings={printable(e.key): decode_entry(e) for e in record.strategy_settings},
            start_from=printable(record.start_from),
            answered=tuple(printable(site) for site in record.answered),
        )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds if 0 <= seconds < 2**33 else 0, UTC)


@dataclass(frozen=True)
class SiteShare:
    """What one site's receipts say that it let out for a model."""

    site: str
    release: str
    receipts: int
    payload_bytes: int
    lanes: tuple[str, ...]
    rules: tuple[str, ...]
    digests: tuple[str, ...]
    """Of the payloads, in the order of the tasks."""
    spent: Spent
    """What its noise amounts to, where it tells."""


@dataclass(frozen=True)
class ModelHistory:
    """All that is known of a model. ``doubts`` says in one sentence each what can't be checked."""

    model: RegisteredModel
    signed: Job
    rounds: tuple[Round, ...]
    receipts: tuple[Receipt, ...]
    doubts: tuple[str, ...]
    message: bytes
    """The model's record, whose tensors are fetched apart."""

    @property
    def work(self) -> TrainingWork:
        """What the researcher asked for, under their signature."""
        work = self.signed.work
        assert isinstance(work, TrainingWork)
        return work

    def shares(self) -> list[SiteShare]:
        """Return what each site let out, by its receipts."""
        sites = sorted({receipt.site for receipt in self.receipts})
        return [
            _share(site, sorted((r for r in self.receipts if r.site == site), key=_by_task))
            for site in sites
        ]


def _by_task(receipt: Receipt) -> tuple[int, str]:
    return len(receipt.task), receipt.task


def _share(site: str, receipts: Sequence[Receipt]) -> SiteShare:
    return SiteShare(
        site=site,
        release=receipts[0].release,
        receipts=len(receipts),
        payload_bytes=sum(r.payload_bytes for r in receipts),
        lanes=tuple(sorted({r.lane for r in receipts})),
        rules=tuple(dict.fromkeys(rule for r in receipts for rule in r.rules)),
        digests=tuple(r.payload for r in receipts),
        spent=spent(receipts),
    )


def check_history(records: Iterable[wire.ModelRecord], trusted: TrustedDocuments) -> ModelHistory:
    """Return what the coordinator sent of a model, once its signatures were checked.

    Raises ``SignatureError`` for a signature that isn't its signer's, ``DocumentError`` where the
    coordinator's record says something else than the signed job.
    """
    if trusted.roster is None:
        raise DocumentError("No roster is known, so no model can be checked.")
    roster = trusted.roster.document
    whole = wire.ModelRecord()
    for part in records:
        whole.MergeFrom(part)
    model = RegisteredModel.of(whole)
    doubts: list[str] = []
    job = _signed_job(whole, roster, doubts)
    _compare(model, job)
    receipts = _receipts(whole.receipts, model.job, job, roster, doubts)
    gone = {site for site in model.answered if roster.site(site) is None}
    check_answered(receipts, [site for site in model.answered if site not in gone], model.job)
    if gone:
        doubts.append(f"Receipts can't be checked of who left the roster: {', '.join(gone)}.")
    return ModelHistory(
        model=model,
        signed=job,
        rounds=tuple(Round.of(event) for event in whole.rounds),
        receipts=tuple(receipts),
        doubts=tuple(doubts),
        message=whole.model,
    )


def _signed_job(record: wire.ModelRecord, roster: Roster, doubts: list[str]) -> Job:
    envelope = Envelope.parse(record.signed_job)
    if envelope.digest != record.job:
        raise SignatureError("The coordinator shows another job than the model's.")
    job = Job.read(envelope.body)
    member = roster.researcher(job.researcher)
    if member is None:
        doubts.append(f"The job's signature can't be checked: {job.researcher} left the roster.")
    else:
        envelope.open(JOB_TYPE, {member.key_id: member.key}, 1)
    if not isinstance(job.work, TrainingWork):
        raise DocumentError("The model's job is no training job.")
    return job


def _compare(model: RegisteredModel, job: Job) -> None:
    work = job.work
    assert isinstance(work, TrainingWork)
    said = {
        "project": (model.project, job.project),
        "project's version": (model.project_version, job.project_version),
        "researcher": (model.researcher, job.researcher),
        "bundle": (model.bundle, work.bundle),
        "origin": (model.start_from, work.start_from or ""),
    }
    for what, (told, signed) in said.items():
        if told != signed:
            raise DocumentError(f"The coordinator's record has another {what} than the signed job.")
    strangers = sorted(set(model.answered) - set(job.releases))
    if strangers:
        raise DocumentError(f"The coordinator counts sites that were not asked: {strangers[0]}.")


def _receipts(
    envelopes: Sequence[bytes], digest: str, job: Job, roster: Roster, doubts: list[str]
) -> list[Receipt]:
    keys = {member.key_id for member in roster.sites}
    found: list[Receipt] = []
    strange = 0
    for data in envelopes:
        if not {s.keyid for s in Envelope.parse(data).signatures} & keys:
            strange += 1
            continue
        receipt = Receipt.verify(data, roster)
        if receipt.job != digest or receipt.release != job.releases.get(receipt.site):
            raise SignatureError("A receipt is of another job or release than the model's.")
        found.append(receipt)
    if strange:
        doubts.append(f"{strange} receipts are signed by keys that are not on the roster.")
    return found


def choose(models: Sequence[RegisteredModel], name: str) -> RegisteredModel:
    """Return the model that ``name`` begins, its digest's or its job's; else ``NotFound``."""
    if len(name) < SHORTEST_PREFIX:
        raise UsageError(f"A model is called by at least {SHORTEST_PREFIX} digits of its digest.")
    found = [m for m in models if m.digest.startswith(name) or m.job.startswith(name)]
    if not found:
        raise NotFound(f"No model of your projects begins with {printable(name, 64)}.")
    if len({m.digest for m in found}) > 1:
        raise NotFound(f"{len(found)} models begin with {printable(name, 64)}; give more of it.")
    return found[0]


class Registry:
    """The registry of a consortium, as one researcher sees it: the models of their projects."""

    def __init__(
        self,
        stub: wire_pb2_grpc.WardgateStub,
        address: str,
        trusted: Callable[[], TrustedDocuments],
    ) -> None:
        self._stub = stub
        self._address = address
        self._trusted = trusted

    @contextmanager
    def _calling(self) -> Iterator[wire_pb2_grpc.WardgateStub]:
        try:
            yield self._stub
        except grpc.RpcError as error:
            raise rpc.error_from(error, self._address) from None

    def models(self, project: str | None = None) -> list[RegisteredModel]:
        """Return the models of a project, or of all of ours, the newest first; unchecked."""
        request = wire.ModelsRequest(project=project or "")
        with self._calling() as stub:
            listed = stub.Models(request, timeout=CALL_SECONDS)
        return [RegisteredModel.of(record) for record in listed.models]

    def history(self, name: str) -> ModelHistory:
        """Return all of a model, checked; ``name`` begins its digest or its job's."""
        found = choose(self.models(), name)
        # By its job: another researcher's job may have given the same model.
        asked = found.job if found.job.startswith(name) else found.digest
        with self._calling() as stub:
            records = list(stub.Model(wire.ModelRequest(model=asked)))
        history = check_history(records, self._trusted())
        if asked not in (history.model.digest, history.model.job):
            raise DocumentError("The coordinator sent another model than the one asked for.")
        return history

    def lineage(self, history: ModelHistory) -> list[str]:
        """Return the digests of the models that it was started from, the nearest first.

        Each step is checked as ``history`` is; the line ends where a model can't be seen.
        """
        line: list[str] = []
        while (parent := history.work.start_from) is not None and parent not in line:
            line.append(parent)
            try:
                history = self.history(parent)
            except NotFound:
                break
        return line

    def arrays(self, history: ModelHistory) -> Arrays:
        """Return a model's arrays; ``DocumentError`` unless they are those of its digest."""
        with self._calling() as stub:
            arrays = fetch_model(stub, history.model.job, history.message)
        if model_files.digest_of(arrays.items).digest != history.model.digest:
            raise DocumentError("The model that the coordinator sent has another digest.")
        return arrays

    def bundle(self, digest: str) -> Bundle:
        """Return a recipe's bundle, checked against the digest."""
        request = wire.BlobRequest(blob=wire.BlobReference(digest=digest))
        received = bytearray()
        with self._calling() as stub:
            for chunk in stub.Download(request):
                received += chunk.data
                if len(received) > MAX_BUNDLE_BYTES:
                    raise DocumentError("The recipe is larger than a bundle may be.")
        bundle = Bundle.parse(bytes(received))
        if bundle.digest != digest:
            raise DocumentError("The recipe that the coordinator sent has another digest.")
        return bundle

    def digest_of(self, model: str | Path) -> str:
        """Return a model's whole digest, by the beginning of it or by the model's file."""
        path = Path(model)
        if isinstance(model, Path) or path.suffix or path.is_file():
            if not path.is_file():
                raise NotFound(f"{path} does not exist.")
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if re.fullmatch(r"[0-9a-f]{64}", model):
            return model
        return choose(self.models(), model).digest
