"""A console's application: templates in the reader's language, login and logout.

A party adds its own pages to the ``FastAPI`` that ``application`` returns, and wraps it in
``guard.Guard``. Every form is read by ``Pages.form``, which checks its token first.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from foundation.web.guard import Access
from foundation.web.languages import LANGUAGES, Texts, load_texts, negotiate
from foundation.web.sessions import Session, Throttle

HERE = Path(__file__).parent
MAX_FORM_BYTES = 16 * 1024
_YEAR_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True)
class Place:
    """An entry of the navigation: its path, and the key of its text."""

    path: str
    text: str


class Pages:
    """Renders a console's pages, and reads its forms."""

    def __init__(self, folder: Path, places: tuple[Place, ...], access: Access, name: str) -> None:
        """``folder`` holds the party's ``templates`` and ``texts``; ``name`` is the title's key."""
        self.access = access
        self._texts = load_texts([HERE, folder])
        self._places = places
        self._name = name
        self._environment = Environment(
            loader=FileSystemLoader([folder / "templates", HERE / "templates"]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["number"] = lambda value: f"{value:,}"
        self._environment.filters["short"] = lambda digest: digest[:12]
        self._environment.filters["moment"] = _moment
        self._language_cookie = f"{access.cookie}-language"
        self._form_key = secrets.token_bytes(32)

    def render(
        self, request: Request, template: str, status: int = 200, **values: object
    ) -> HTMLResponse:
        """Return a page in the reader's language."""
        chosen = request.query_params.get("lang", "")
        texts = self.texts(request)
        session: Session | None = request.state.session
        html = self._environment.get_template(template).render(
            t=texts,
            languages=LANGUAGES,
            language_links={tag: _with_language(request, tag) for tag in LANGUAGES},
            places=self._places,
            name=self._name,
            here=request.url.path,
            session=session,
            now=datetime.now(UTC),
            **values,
        )
        response = HTMLResponse(html, status)
        response.headers["Vary"] = "Accept-Language, Cookie"
        response.headers["Content-Language"] = texts.language
        if chosen in LANGUAGES:
            response.set_cookie(
                self._language_cookie,
                chosen,
                max_age=_YEAR_SECONDS,
                path="/",
                secure=self.access.secure,
                httponly=True,
                samesite="strict",
            )
        return response

    def message(self, request: Request, status: int, key: str) -> HTMLResponse:
        """Return a page that says one thing: ``KEY.title`` and ``KEY.text``."""
        return self.render(request, "message.html", status, key=key)

    def texts(self, request: Request) -> Texts:
        """Return the texts that a reader gets: by link, by cookie, or by the browser's wish."""
        for chosen in (
            request.query_params.get("lang", ""),
            request.cookies.get(self._language_cookie, ""),
        ):
            if chosen in self._texts:
                return self._texts[chosen]
        return self._texts[negotiate(request.headers.get("accept-language", ""))]

    async def form(self, request: Request, csrf: str) -> dict[str, str]:
        """Return a form's fields; 403 unless its ``csrf`` is the one that was sent with it."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != (
            "application/x-www-form-urlencoded"
        ):
            raise HTTPException(415)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise HTTPException(413)
        try:
            fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
        except ValueError:
            raise HTTPException(400) from None
        given = fields.get("csrf", [""])[0]
        if not csrf or not hmac.compare_digest(given.encode("utf-8", "replace"), csrf.encode()):
            raise HTTPException(403)
        return {name: values[0] for name, values in fields.items()}

    def form_token(self, cookie: str) -> str:
        """Return the token of the login form that goes with a form cookie; empty without one."""
        if not cookie:
            return ""
        return hmac.new(
            self._form_key, cookie.encode("utf-8", "replace"), hashlib.sha256
        ).hexdigest()


def application(pages: Pages, throttle: Throttle) -> FastAPI:
    """Return an application that logs in and out, and to which pages can be added."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    _add_login(app, pages, throttle)

    @app.get("/health")
    def health() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        key = {403: "forbidden", 404: "missing"}.get(error.status_code, "mistaken")
        return pages.message(request, error.status_code, key)

    async def internal_error(request: Request, _error: Exception) -> Response:
        return pages.message(request, 500, "broken")

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, internal_error)
    return app


def _add_login(app: FastAPI, pages: Pages, throttle: Throttle) -> None:
    access = pages.access

    def login_page(request: Request, status: int, problem: str) -> HTMLResponse:
        cookie = request.cookies.get(access.form_cookie) or secrets.token_urlsafe(32)
        response = pages.render(
            request, "login.html", status, csrf=pages.form_token(cookie), problem=problem
        )
        access.set_cookie(response, access.form_cookie, cookie)
        return response

    @app.get("/login")
    def show_login(request: Request) -> Response:
        if request.state.session is not None:
            return RedirectResponse("/", 303)
        return login_page(request, 200, "")

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        cookie = request.cookies.get(access.form_cookie, "")
        fields = await pages.form(request, pages.form_token(cookie))
        peer = request.client.host if request.client else ""
        wait = throttle.attempt(peer, access.clock())
        if wait > 0:
            response = login_page(request, 429, "login.too_often")
            response.headers["Retry-After"] = str(int(wait) + 1)
            return response
        if not await run_in_threadpool(access.password.verify, fields.get("password", "")):
            return login_page(request, 403, "login.wrong")
        throttle.succeeded(peer)
        token = access.sessions.begin(access.password.mark(), access.clock())
        entered = RedirectResponse("/", 303)
        access.set_cookie(entered, access.session_cookie, token)
        entered.delete_cookie(access.form_cookie, secure=access.secure, httponly=True)
        return entered

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        session: Session = request.state.session
        await pages.form(request, session.csrf)
        access.sessions.end(request.cookies.get(access.session_cookie, ""))
        left = RedirectResponse("/login", 303)
        left.delete_cookie(access.session_cookie, secure=access.secure, httponly=True)
        return left


def page_number(request: Request) -> int:
    """Return the page that a list is asked for: 1 or more, 1 when it isn't a number."""
    text = request.query_params.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def _with_language(request: Request, language: str) -> str:
    kept = [(k, v) for k, v in request.query_params.multi_items() if k != "lang"]
    return f"?{urlencode([*kept, ('lang', language)])}"


def _moment(value: datetime | str) -> str:
    """Return a time as people read it, in UTC."""
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
