"""The coordinator's pages of finished models: the registry, and one model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import ValidationError
from sqlalchemy import Engine

from contract import wire_pb2 as wire
from contract.cross_evaluation import read_cells
from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import DocumentError, NotFound
from contract.receipts import Receipt
from contract.records import decode_entry
from contract.work import TrainingWork
from coordinator.jobs.store import JobStore
from coordinator.registry.models import ModelRegistry
from foundation.web.pages import Pages

NEWEST_MODELS = 200
NEWEST_ROUNDS = 200
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Share:
    """What one site's receipts say that it let out for a model."""

    site: str
    release: str
    receipts: int
    payload_bytes: int
    rules: tuple[str, ...]


@dataclass(frozen=True)
class RoundLine:
    """One step of a round as a line of the page."""

    number: int
    step: str
    metrics: str


def add_models(app: FastAPI, pages: Pages, engine: Engine) -> None:
    """Add the list and the page of one model."""
    registry, store = ModelRegistry(engine), JobStore(engine)

    @app.get("/models")
    def models(request: Request) -> Response:
        found = [(model, _ended(model)) for model in registry.all()]
        return pages.render(
            request,
            "models.html",
            models=found[:NEWEST_MODELS],
            more=len(found) > NEWEST_MODELS,
            limit=NEWEST_MODELS,
        )

    @app.get("/models/{job}")
    def model(request: Request, job: str) -> Response:
        if not _DIGEST.match(job):
            raise HTTPException(404)
        try:
            found = registry.find(job)
        except NotFound:
            raise HTTPException(404) from None
        row = store.get(found.job)
        work = Job.read(Envelope.parse(row.envelope).body).work
        result = wire.JobResult.FromString(row.result or b"")
        metrics = [_metrics(event) for event in result.rounds]
        parents = _lineage(registry, found.start_from)
        return pages.render(
            request,
            "model.html",
            model=found,
            ended=_ended(found),
            work=work if isinstance(work, TrainingWork) else TrainingWork(bundle=found.bundle),
            settings={e.key: decode_entry(e) for e in found.strategy_settings},
            parents=parents,
            shares=shares(store.receipts(found.job)),
            rounds=_rounds(result.rounds)[-NEWEST_ROUNDS:],
            tables=read_cells(m for m, e in zip(metrics, result.rounds, strict=True)
                              if e.text == "evaluate"),
        )  # fmt: skip


def shares(envelopes: Sequence[bytes]) -> list[Share]:
    """Return what each site let out, by its receipts, which were checked when they came."""
    by_site: dict[str, list[Receipt]] = {}
    for data in envelopes:
        try:
            receipt = Receipt.model_validate_json(Envelope.parse(data).body)
        except (ValidationError, DocumentError):
            continue
        by_site.setdefault(receipt.site, []).append(receipt)
    return [
        Share(
            site,
            receipts[0].release,
            len(receipts),
            sum(r.payload_bytes for r in receipts),
            tuple(dict.fromkeys(rule for r in receipts for rule in r.rules)),
        )
        for site, receipts in sorted(by_site.items())
    ]


def _lineage(registry: ModelRegistry, start_from: str) -> list[tuple[str, str]]:
    """Return digest and job of the models before, the nearest first; an unknown one has no job."""
    line: list[tuple[str, str]] = []
    while start_from and start_from not in {digest for digest, _ in line}:
        try:
            parent = registry.find(start_from)
        except NotFound:
            return [*line, (start_from, "")]
        line.append((parent.digest, parent.job))
        start_from = parent.start_from
    return line


def _ended(model: wire.ModelRecord) -> datetime | None:
    return datetime.fromtimestamp(model.time, UTC) if 0 < model.time < 2**33 else None


def _metrics(event: wire.JobEvent) -> Mapping[str, float]:
    values = {entry.key: decode_entry(entry) for entry in event.metrics}
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float)}


def _rounds(events: Sequence[wire.JobEvent]) -> list[RoundLine]:
    lines: list[RoundLine] = []
    for event in events:
        figures = {k: v for k, v in _metrics(event).items() if k.count("/") < 2}
        if figures:
            shown = ", ".join(f"{k} {_figure(v)}" for k, v in figures.items())
            lines.append(RoundLine(event.round, event.text, shown))
    return lines


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.5g}"
