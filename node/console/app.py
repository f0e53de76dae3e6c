"""The node's pages: overview, inbox, releases, cohorts, jobs, weights, drafts and ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from contract.errors import WardgateError
from foundation.web.guard import Access, Guard
from foundation.web.pages import Pages, Place, application, page_number
from foundation.web.readonly import read_only
from foundation.web.sessions import Throttle
from node.catalog.asked import Asked
from node.catalog.inbox import Inbox
from node.catalog.store import Catalog
from node.console import cohorts
from node.console.drafts import NEWEST_JOBS as DRAFT_JOBS
from node.console.drafts import drafts_lines
from node.console.record import LedgerReader
from node.console.weights import weights_lines
from node.gate.ledger import Entry
from node.gate.policy import Policy, load_policy
from node.home import NodeHome

NEWEST_JOBS = 200
ENTRIES_A_PAGE = 50
PLACES = (
    Place("/", "nav.overview"),
    Place("/inbox", "nav.inbox"),
    Place("/releases", "nav.releases"),
    Place("/cohorts", "nav.cohorts"),
    Place("/jobs", "nav.jobs"),
    Place("/weights", "nav.weights"),
    Place("/drafts", "nav.drafts"),
    Place("/ledger", "nav.ledger"),
)
FOLDER = Path(__file__).parent
_NAMED = ("what", "verdict", "work", "project", "researcher", "name", "steward", "code", "task")
_DIGESTS = ("release", "bundle", "weights", "draft", "subject")


def console(home: NodeHome, catalog: Catalog, access: Access) -> ASGIApp:
    """Return the whole console. From here on, ``catalog`` can only be read."""
    read_only(catalog.engine)
    pages = Pages(FOLDER, PLACES, access, "console.name")
    app = application(pages, Throttle())
    ledger = LedgerReader(home.ledger)
    asked = Asked(catalog.reading)
    _add_overview(app, pages, home, catalog, asked, ledger)
    _add_lists(app, pages, catalog, asked)
    _add_cohorts(app, pages, home, catalog, asked)
    _add_weights(app, pages, catalog, asked)
    _add_drafts(app, pages, catalog)
    _add_ledger(app, pages, ledger)
    return Guard(app, access)


def _add_overview(
    app: FastAPI,
    pages: Pages,
    home: NodeHome,
    catalog: Catalog,
    asked: Asked,
    ledger: LedgerReader,
) -> None:
    @app.get("/")
    def overview(request: Request) -> Response:
        policy, policy_problem = _policy(home)
        consortia = [
            (row, projects, sum(p.approved_digest is not None for p in projects))
            for row in asked.consortia()
            for projects in (asked.projects(row.name),)
        ]
        releases = catalog.list_releases()
        return pages.render(
            request,
            "overview.html",
            consortia=consortia,
            policy=policy,
            policy_problem=policy_problem,
            record=ledger.read(),
            valid_releases=sum(r.revoked_at is None for r in releases),
            revoked_releases=sum(r.revoked_at is not None for r in releases),
            assets=catalog.assets_by_modality(),
            tables=len(catalog.list_tables()),
            waiting=len(Inbox(catalog.reading).rows("waiting")),
            job_states=Counter(row.state for row in asked.newest_jobs(NEWEST_JOBS)),
        )


def _add_lists(app: FastAPI, pages: Pages, catalog: Catalog, asked: Asked) -> None:
    @app.get("/inbox")
    def inbox(request: Request) -> Response:
        rows = Inbox(catalog.reading).rows("waiting")
        return pages.render(request, "inbox.html", waiting=rows)

    @app.get("/releases")
    def releases(request: Request) -> Response:
        rows = [(row, catalog.grants_of(row.digest)) for row in catalog.list_releases()]
        return pages.render(request, "releases.html", releases=rows)

    @app.get("/jobs")
    def jobs(request: Request) -> Response:
        rows = asked.newest_jobs(NEWEST_JOBS)
        return pages.render(request, "jobs.html", jobs=rows, limit=NEWEST_JOBS)


def _add_cohorts(
    app: FastAPI, pages: Pages, home: NodeHome, catalog: Catalog, asked: Asked
) -> None:
    counting = cohorts.Cohorts(home, asked)

    def page(
        request: Request,
        chosen: str = "",
        where: str = "",
        counted: cohorts.Counted | None = None,
        problem: str = "",
    ) -> Response:
        choices = cohorts.choices(catalog)
        return pages.render(
            request,
            "cohorts.html",
            choices=choices,
            variables=counting.variables(choices),
            most=cohorts.MAX_TEXT,
            chosen=chosen,
            where=where,
            counted=counted,
            problem=problem,
        )

    @app.get("/cohorts")
    def show(request: Request) -> Response:
        return page(request)

    @app.post("/cohorts")
    async def count(request: Request) -> Response:
        form = await pages.form(request, request.state.session.csrf)
        key, text = form.get("release", ""), form.get("where", "")
        choice = next((c for c in cohorts.choices(catalog) if c.key == key), None)
        policy, problem = _policy(home)
        counted, why = await run_in_threadpool(
            cohorts.tried, counting, choice, text, policy, problem
        )
        return page(request, chosen=key, where=text, counted=counted, problem=why)


def _add_weights(app: FastAPI, pages: Pages, catalog: Catalog, asked: Asked) -> None:
    @app.get("/weights")
    def page(request: Request) -> Response:
        lines = weights_lines(catalog, asked)
        return pages.render(request, "weights.html", weights=lines)

    @app.get("/weights.json")
    def as_json() -> Response:
        return JSONResponse(jsonable_encoder(weights_lines(catalog, asked)))


def _add_drafts(app: FastAPI, pages: Pages, catalog: Catalog) -> None:
    @app.get("/drafts")
    def page(request: Request) -> Response:
        lines = drafts_lines(catalog)
        return pages.render(request, "drafts.html", drafts=lines, limit=DRAFT_JOBS)

    @app.get("/drafts.json")
    def as_json() -> Response:
        return JSONResponse(jsonable_encoder(drafts_lines(catalog)))


def _add_ledger(app: FastAPI, pages: Pages, ledger: LedgerReader) -> None:
    @app.get("/ledger")
    def entries(request: Request) -> Response:
        record = ledger.read()
        last = max(1, -(-record.entries // ENTRIES_A_PAGE))
        page = min(page_number(request), last)
        return pages.render(
            request,
            "ledger.html",
            record=record,
            entries=[(e, _what(e)) for e in record.page(page, ENTRIES_A_PAGE)],
            page=page,
            last=last,
        )


def _policy(home: NodeHome) -> tuple[Policy | None, str]:
    """Return the policy in force, or none and why: a policy that can't be read stops all work."""
    try:
        return load_policy(home.policy), ""
    except WardgateError as error:
        return None, str(error)


def _what(entry: Entry) -> list[str]:
    """Return what an entry is about, in the ledger's own words; if it has none, by its digest."""
    body: Mapping[str, Any] = entry.body
    words = [str(body[key]) for key in _NAMED if body.get(key)]
    found = words or [str(body[key])[:12] for key in _DIGESTS if body.get(key)]
    return list(dict.fromkeys(found))
