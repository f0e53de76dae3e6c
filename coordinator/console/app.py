"""The coordinator's pages: sites, jobs, and one job; of models in ``models``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from google.protobuf.message import DecodeError
from sqlalchemy import Engine
from starlette.types import ASGIApp

from contract import wire_pb2 as wire
from contract.errors import NotFound
from coordinator.commands.options import Opened
from coordinator.console.models import add_models
from coordinator.jobs.store import JobStore
from coordinator.registry.members import MemberRow, Members
from foundation.transport import Role
from foundation.web.guard import Access, Guard
from foundation.web.pages import Pages, Place, application
from foundation.web.readonly import read_only
from foundation.web.sessions import Throttle

MISSED_HEARTBEATS = 3
NEWEST_JOBS = 100
NEWEST_EVENTS = 200
PLACES = (
    Place("/", "nav.sites"),
    Place("/jobs", "nav.jobs"),
    Place("/models", "nav.models"),
)
FOLDER = Path(__file__).parent
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class SiteLine:
    """A site as a line of the page."""

    member: MemberRow
    state: str
    releases: tuple[wire.Release, ...]


def console(opened: Opened, access: Access) -> ASGIApp:
    """Return the whole console. From here on, the database can only be read."""
    read_only(opened.engine)
    pages = Pages(FOLDER, PLACES, access, "console.name")
    app = application(pages, Throttle())
    _add_sites(app, pages, opened)
    _add_jobs(app, pages, opened.engine)
    add_models(app, pages, opened.engine)
    return Guard(app, access)


def _add_sites(app: FastAPI, pages: Pages, opened: Opened) -> None:
    patience = timedelta(seconds=MISSED_HEARTBEATS * opened.settings.link.heartbeat_seconds)
    members = Members(opened.engine)

    @app.get("/")
    def sites(request: Request) -> Response:
        now = datetime.now(UTC)
        lines = [site_line(member, now, patience) for member in members.all(Role.SITE)]
        return pages.render(
            request,
            "sites.html",
            consortium=opened.consortium,
            sites=lines,
            online=sum(line.state == "online" for line in lines),
            researchers=sum(m.revoked_at is None for m in members.all(Role.RESEARCHER)),
        )


def site_line(member: MemberRow, now: datetime, patience: timedelta) -> SiteLine:
    """Return a site's line: ``online`` when it was seen within ``patience``."""
    if member.revoked_at is not None:
        state = "revoked"
    elif member.seen_at is not None and now - member.seen_at <= patience:
        state = "online"
    else:
        state = "offline"
    try:
        told = wire.Releases.FromString(member.releases or b"")
    except DecodeError:
        told = wire.Releases()
    return SiteLine(member, state, tuple(told.releases))


def _add_jobs(app: FastAPI, pages: Pages, engine: Engine) -> None:
    store = JobStore(engine)

    @app.get("/jobs")
    def jobs(request: Request) -> Response:
        rows = [(row, store.sites(row.digest)) for row in store.newest(NEWEST_JOBS)]
        return pages.render(request, "jobs.html", jobs=rows, limit=NEWEST_JOBS)

    @app.get("/jobs/{digest}")
    def job(request: Request, digest: str) -> Response:
        if not _DIGEST.match(digest):
            raise HTTPException(404)
        try:
            row = store.get(digest)
        except NotFound:
            raise HTTPException(404) from None
        # A recipe's own log lines are left out: they are its author's text, and may be many.
        events = [e for e in store.events(digest) if e.kind != "log"]
        return pages.render(
            request,
            "job.html",
            job=row,
            sites=store.sites(digest),
            events=[(e, _time_of(e)) for e in events[: -NEWEST_EVENTS - 1 : -1]],
        )


def _time_of(event: wire.JobEvent) -> datetime | None:
    return datetime.fromtimestamp(event.time, UTC) if 0 < event.time < 2**33 else None
