"""Serving a console: one socket, with or without TLS, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from contract.errors import CertificateError, Unavailable, UsageError
from foundation.web.guard import Access, allowed_hosts
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
    listener = _listen(settings.host, settings.port)
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


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError:
        raise Unavailable(f"The console can't listen on {host}: it is no address here.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"Port {port} on {host} is in use; choose another with --port."
            ) from None
        raise Unavailable(
            f"The console can't listen on {host}, port {port}: {os.strerror(error.errno or 0)}."
        ) from None
    return listener


def _announce(host: str, port: int, tls: Tls | None) -> None:
    if tls is None and not _is_local(host):
        print(
            f"warning: {host} can be reached from other machines, and the password would cross "
            "the network unencrypted; give --tls-cert and --tls-key",
            file=sys.stderr,
        )
    name = f"[{host}]" if ":" in host else host
    print(f"console at {'https' if tls else 'http'}://{name}:{port}/", flush=True)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
