"""Serving a console: one socket, with or without TLS, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from contract.errors import CertificateError, UsageError
from foundation.listening import is_loopback, listen
from foundation.web.guard import Access, allowed_hosts
from foundation.web.http import Http
from foundation.web.password import PasswordFile
from foundation.web.sessions import Sessions
from foundation.web.settings import ConsoleSettings


@dataclass(frozen=True)
class Tls:
    """A certificate (with its chain) and its key, as PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None) -> Tls | None:
        """Return both, or None without either; ``UsageError`` for one without the other."""
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise UsageError("--tls-cert and --tls-key go together.")
        return cls(certificate, key)


class _Server(uvicorn.Server):
    """A server that a signal ends with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    settings: ConsoleSettings,
    password: PasswordFile,
    tls: Tls | None,
    build: Callable[[Access], ASGIApp],
) -> None:
    """Serve what ``build`` makes of the access, until a signal. ``Unavailable``: port in use."""
    listener = listen(settings.host, settings.port)
    with listener:
        port = listener.getsockname()[1]
        access = Access(
            hosts=allowed_hosts(settings.host),
            password=password,
            sessions=Sessions(settings.session_minutes * 60, settings.idle_minutes * 60),
            cookie=f"wardgate-{port}",
            secure=tls is not None,
        )
        config = uvicorn.Config(
            build(access),
            http=Http,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Nobody may say by a header that he is somebody else: guesses are counted by peer.
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=100,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=3,
            ssl_certfile=None if tls is None else str(tls.certificate),
            ssl_keyfile=None if tls is None else str(tls.key),
        )
        try:
            config.load()
        except (ssl.SSLError, OSError):
            raise CertificateError(
                "The console's certificate or key can't be read, or they don't belong together."
            ) from None
        _announce(settings.host, port, tls)
        asyncio.run(_Server(config).serve([listener]))


def _announce(host: str, port: int, tls: Tls | None) -> None:
    if tls is None and not is_loopback(host):
        print(
            f"warning: {host} can be reached from other machines, and the password would cross "
            "the network unencrypted; give --tls-cert and --tls-key",
            file=sys.stderr,
        )
    name = f"[{host}]" if ":" in host else host
    print(f"console at {'https' if tls else 'http'}://{name}:{port}/", flush=True)
