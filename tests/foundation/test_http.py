"""HTTP from strangers: heads that never end, and heads that never come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from foundation.listening import listen
from foundation.web.http import Http

Connect = Callable[[], socket.socket]
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class _Hasty(Http):
    head_seconds = 0.2


async def _answer(request: Request) -> Response:
    return PlainTextResponse("here")


@pytest.fixture
def connect() -> Iterator[Connect]:
    listener = listen("127.0.0.1", 0)
    app = Starlette(routes=[Route("/", _answer)])
    config = uvicorn.Config(app, http=_Hasty, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield lambda: socket.create_connection(listener.getsockname(), timeout=120)
    server.should_exit = True
    thread.join(10)
    listener.close()


def _rest(connection: socket.socket) -> bytes:
    """Return what comes until the other side ends the connection; a timeout fails the test."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize("sent", [b"", ASK[:-2], b"POST / HT"])
def test_a_connection_without_a_whole_request_is_closed(connect: Connect, sent: bytes) -> None:
    with connect() as connection:
        connection.sendall(sent)
        assert _rest(connection) == b""


def test_after_an_answer_the_next_request_has_the_same_time(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(ASK + ASK[:-2])
        assert _rest(connection).endswith(b"here")


def test_headers_without_an_end_are_not_kept(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ")
        try:
            for _ in range(64):
                connection.sendall(b"a" * 65536)
        except OSError:
            return  # cut off while we sent
        assert b"here" not in _rest(connection)
