"""What every request to a console passes first, so that no page can forget it.

1. The ``Host`` is one that this console is known by: a page elsewhere that points its own name at
   127.0.0.1 (DNS rebinding) gets nothing.
2. Whoever isn't logged in gets the login page, its style and the health check, and nothing else.
3. Every answer carries the headers that forbid scripts, frames, caches and referrers.
4. An error in a page is named in the log by its type alone: a traceback may quote data.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundation.web.password import PasswordFile
from foundation.web.sessions import Session, Sessions

log = logging.getLogger("wardgate.console")

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPEN_PATHS = frozenset({"/login", "/health"})
STATIC = "/static/"
_HOST = re.compile(r"^(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?$")


def allowed_hosts(configured: str) -> frozenset[str]:
    """Return the names that a request may call the console by; never a wildcard address."""
    names = {"localhost", "127.0.0.1", "[::1]"}
    try:
        address = ipaddress.ip_address(configured)
    except ValueError:
        return frozenset(names | {configured.lower()})
    if not address.is_unspecified:
        names.add(f"[{address}]" if address.version == 6 else str(address))
    return frozenset(names)


@dataclass(frozen=True)
class Access:
    """Who may come in: by which host names, with which password, for how long."""

    hosts: frozenset[str]
    password: PasswordFile
    sessions: Sessions
    cookie: str
    """Begins the names of this console's cookies. A browser sends them to every port of a host,
    so each port's console has names of its own."""
    secure: bool
    """Whether the console is served over TLS."""
    clock: Callable[[], float] = field(default=time.monotonic)

    @property
    def session_cookie(self) -> str:
        """Name of the cookie that holds a session's token."""
        return f"{'__Host-' if self.secure else ''}{self.cookie}-session"

    @property
    def form_cookie(self) -> str:
        """Name of the cookie that ties the login form to the browser that it was sent to."""
        return f"{'__Host-' if self.secure else ''}{self.cookie}-form"

    def session(self, request: Request) -> Session | None:
        """Return the session of a request, or None."""
        token = request.cookies.get(self.session_cookie, "")
        if not token:
            return None
        return self.sessions.find(token, self.password.mark(), self.clock())

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """Set a cookie that no script reads and no other site sends; it ends with the browser."""
        response.set_cookie(
            name, value, path="/", secure=self.secure, httponly=True, samesite="strict"
        )


class Guard:
    """An ASGI application around a console's own."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, answer it here or hand it on, and set the answer's headers."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _set_headers(message, scope["path"])
            await send(message)

        try:
            answer = self._objection(request, scope) or self._app
            await answer(scope, receive, sending)
        except Exception as error:
            if os.environ.get("WARDGATE_TRACEBACK") == "1":
                raise
            log.error("unexpected %s in a page", type(error).__name__)
            if not started:
                await PlainTextResponse("Internal error.\n", 500)(scope, receive, sending)

    def _objection(self, request: Request, scope: Scope) -> Response | None:
        named = _HOST.match(request.headers.get("host", ""))
        if named is None or named.group(1).lower() not in self._access.hosts:
            return PlainTextResponse("This console is not known by that name.\n", 400)
        path: str = scope["path"]
        session = None if path.startswith(STATIC) else self._access.session(request)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["session"] = session
        if session is not None or path in OPEN_PATHS or path.startswith(STATIC):
            return None
        if request.method in ("GET", "HEAD"):
            return RedirectResponse("/login", 303)
        return PlainTextResponse("Log in first.\n", 403)


def _set_headers(message: Message, path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    headers["Cache-Control"] = "no-cache" if path.startswith(STATIC) else "no-store"
