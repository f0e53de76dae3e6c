"""What the registry says of a model, put together at the end of its job."""

from __future__ import annotations

import logging
import mmap
from pathlib import Path

from contract import wire_pb2 as wire
from contract.documents import Job, Project, printable
from contract.envelope import Envelope
from contract.errors import NotFound, WardgateError
from contract.records import Arrays, Config, Records, encode_entry
from contract.work import TrainingWork
from coordinator.home import CoordinatorHome
from coordinator.jobs.states import JobState
from coordinator.jobs.store import JobStore
from coordinator.registry.documents import DocumentShelf
from coordinator.registry.models import ModelRegistry
from foundation import tensors
from foundation.blobs import BlobFolder
from foundation.bundle import Bundle
from foundation.model_files import digest_of

log = logging.getLogger("wardgate.coordinator")

STRATEGY = "strategy"
"""The record of a finished model's message in which the ServerApp's process says how it trained."""
MAX_SETTINGS = 100


def model_record(
    digest: str, job: Job, project: Project, home: CoordinatorHome, result: wire.JobResult
) -> wire.ModelRecord:
    """Return what is to be recorded of a job's result."""
    work = job.work
    assert isinstance(work, TrainingWork)
    message = wire.RecordDict.FromString(result.model)
    found = digest_of(_arrays(read_model(message, home.job(digest) / "blobs")).items)
    grant = project.recipe(work.bundle)
    bundle = Bundle.load(home.recipe(work.bundle))
    record = wire.ModelRecord(
        digest=found.digest,
        size=found.size,
        job=digest,
        project=job.project,
        project_version=job.project_version,
        researcher=job.researcher,
        recipe=grant.name if grant is not None else "",
        bundle=work.bundle,
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        start_from=work.start_from or "",
        answered=result.answered,
        model=result.model,
    )
    _add_strategy(record, message)
    return record


def read_model(message: wire.RecordDict, blobs: Path) -> Records:
    """Return a finished model's records, its arrays as views of its blob."""
    if not message.tensors.digest:
        return tensors.read(message, b"")
    with BlobFolder(blobs).path(message.tensors.digest).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return tensors.read(message, memoryview(mapped))


def _arrays(records: Records) -> Arrays:
    return next((r for r in records.values() if isinstance(r, Arrays)), Arrays())


def _add_strategy(record: wire.ModelRecord, message: wire.RecordDict) -> None:
    """Take over what the ServerApp's process said of its strategy: a stranger's text."""
    told = wire.RecordDict(records=[r for r in message.records if r.name == STRATEGY][:1])
    settings = tensors.read(told, b"").get(STRATEGY)
    if not isinstance(settings, Config):
        return
    items = dict(settings.items)
    record.strategy = printable(str(items.pop("name", "")), 200)
    for key, value in list(items.items())[:MAX_SETTINGS]:
        if isinstance(value, bool | int | float | str):
            text = printable(value, 200) if isinstance(value, str) else value
            record.strategy_settings.append(encode_entry(printable(key, 100), text))


def record_missing(home: CoordinatorHome, store: JobStore) -> None:
    """Record the models of jobs that finished before there was a registry."""
    registry, shelf = ModelRegistry(store.engine), DocumentShelf(store.engine)
    recorded = registry.recorded()
    for row in store.of_kind("training", JobState.FINISHED):
        if row.digest in recorded:
            continue
        try:
            job = Job.read(Envelope.parse(row.envelope).body)
            project = _project(shelf, job)
            result = wire.JobResult.FromString(row.result or b"")
            registry.record(model_record(row.digest, job, project, home, result))
        except (WardgateError, OSError, ValueError) as error:
            log.warning("job %s: its model is not recorded: %s", row.digest[:12], error)


def _project(shelf: DocumentShelf, job: Job) -> Project:
    for document in shelf.all():
        named = (document.kind, document.name, document.version)
        if named == ("project", job.project, job.project_version):
            return Project.read(document.envelope.body)
    raise NotFound(f"version {job.project_version} of project {job.project} is not here.")
