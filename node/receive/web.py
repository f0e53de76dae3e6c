"""The DICOMweb service: STOW-RS behind bearer tokens, as a process of the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from foundation.web.http import Http
from node.config import ReceiveSettings
from node.home import NodeHome
from node.intake.landing import Landing
from node.multipart import Malformed, Multipart, related
from node.receive.command import is_uid
from node.receive.listening import web_tls
from node.receive.pace import Pace
from node.receive.room import Room
from node.receive.stow import Storing
from node.receive.tokens import Tokens
from node.receive.worker import UP, configure_logging, room_of

log = logging.getLogger("node.receive")

STUDIES = "/dicom-web/studies"
JSON = "application/dicom+json"
RETRY_SECONDS = "30"
AT_ONCE = 1024 * 1024
"""Bytes that are gathered before a thread is asked to write them."""


@dataclass(frozen=True)
class Web:
    """What the service works with."""

    settings: ReceiveSettings
    landing: Landing
    room: Room
    tokens: Tokens


def application(web: Web) -> FastAPI:
    """Return the service: all studies or one, and one method."""
    app = FastAPI(title="Wardgate STOW-RS", openapi_url=None, docs_url=None, redoc_url=None)
    slots = asyncio.Semaphore(web.settings.web.max_requests)

    @app.post(STUDIES)
    @app.post(STUDIES + "/{study}")
    async def store(request: Request, study: str = "") -> Response:
        who = await run_in_threadpool(web.tokens.who, request.headers.get("authorization", ""))
        if who is None:
            return _said(401, "a bearer token is needed", {"www-authenticate": "Bearer"})
        if study and not is_uid(study):
            return _said(400, "the study is not named by a UID")
        refusal = _refusal(request, web)
        if refusal is not None:
            log.warning("STOW-RS of %r: refused with %d", who, refusal.status_code)
            return refusal
        if slots.locked():
            return _said(503, "too many requests at once", {"retry-after": RETRY_SECONDS})
        async with slots:
            return await _store(request, web, who, study)

    return app


def _refusal(request: Request, web: Web) -> Response | None:
    """Return the answer to a request whose body need not be read."""
    accepted = request.headers.get("accept", "*/*").lower()
    if not any(kind in accepted for kind in ("*/*", "application/*", "json")):
        return _said(406, f"answers are {JSON}")
    try:
        kind, boundary = related(request.headers.get("content-type", ""))
        Multipart(boundary)
    except Malformed:
        return _said(415, "multipart/related with a boundary is expected")
    if kind != "application/dicom":
        return _said(415, "parts of type application/dicom are expected")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > web.settings.web.max_request_bytes:
        return _said(413, "the request is larger than this service takes")
    reason = web.room.refuses()
    if reason is not None:
        return _said(503, reason, {"retry-after": RETRY_SECONDS})
    return None


async def _store(request: Request, web: Web, who: str, study: str) -> Response:
    _, boundary = related(request.headers["content-type"])
    parser, storing = Multipart(boundary), Storing(web.landing, web.room, study)
    total, gathered = 0, bytearray()

    def write(chunk: bytes) -> None:
        storing.take(parser.feed(chunk))

    stream = request.stream()
    pace = Pace(web.settings.idle_seconds, web.settings.least_bytes_per_second)
    try:
        while True:
            began = time.monotonic()
            try:
                chunk = await asyncio.wait_for(anext(stream), max(pace.left_seconds, 0))
            except StopAsyncIteration:
                break
            pace.came(len(chunk), time.monotonic() - began)
            total += len(chunk)
            if total > web.settings.web.max_request_bytes:
                return _said(413, "the request is larger than this service takes")
            gathered += chunk
            if len(gathered) >= AT_ONCE:
                await run_in_threadpool(write, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(write, bytes(gathered))
        if not parser.is_whole:
            return _said(400, "the body ends before its last boundary")
    except Malformed:
        return _said(400, "the body is not multipart/related")
    except (ClientDisconnect, TimeoutError):
        return _said(408, "the body did not come")
    finally:
        await run_in_threadpool(storing.close)
        failed = sum(1 for part in storing.outcome.parts if part.failure)
        level = logging.WARNING if failed else logging.INFO
        stored = len(storing.outcome.parts) - failed
        log.log(level, "STOW-RS of %r: %d stored, %d refused", who, stored, failed)
    outcome = storing.outcome
    if not outcome.parts:
        return _said(400, "the body has no parts")
    content = json.dumps(outcome.body())
    return Response(content, outcome.status, media_type=JSON)


def _said(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    # What of the body was not read must not be taken for the next request.
    extra = {"connection": "close", **(headers or {})}
    return Response(why + "\n", status, headers=extra, media_type="text/plain")


@dataclass(frozen=True)
class WebOrder:
    """What the process is told at its start."""

    home: NodeHome
    settings: ReceiveSettings
    verbose: bool


def web_work(order: WebOrder, control: socket.socket, listener: socket.socket) -> None:
    """Serve on ``listener`` until ``control`` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(verbose=order.verbose)
    landing = Landing(order.home)
    web = Web(
        order.settings,
        landing,
        room_of(order.settings, landing),
        Tokens(order.home.receive_tokens),
    )
    chosen = order.settings.web
    config = uvicorn.Config(
        application(web),
        http=Http,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=4 * chosen.max_requests + 16,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        ssl_certfile=chosen.tls_certificate or None,
        ssl_keyfile=chosen.tls_key or None,
    )
    config.load()
    # Our own choice of versions and ciphers, not uvicorn's.
    config.ssl = web_tls(chosen)
    server = _Server(config)
    threading.Thread(target=_stop_with, args=(control, server), daemon=True).start()
    control.send(UP)
    asyncio.run(server.serve([listener]))


class _Server(uvicorn.Server):
    """A server that the accepting process ends, and no signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the accepting process."""
        yield


def _stop_with(control: socket.socket, server: uvicorn.Server) -> None:
    control.recv(1)
    server.should_exit = True
