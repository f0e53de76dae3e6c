"""The one public port of a SuperLink: the Fleet API's calls, for the consortium's sites alone.

Behind it the SuperLink listens on loopback. What comes through: POST to one of a closed list of
paths, under mutual TLS with a certificate of a site in good standing, of bounded size, signed by
the Flower key that this very site registered last. The Control API, by which runs are started and
nodes listed, and the Runtime API are not there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from contract.errors import CertificateError
from foundation.listening import listen
from foundation.transport import Peer, Role, TransportIdentity, peer_of
from foundation.web.http import Http

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

REGISTER = "/v1/fleet/register-node"
PATHS = frozenset(
    {
        REGISTER,
        "/v1/fleet/activate-node",
        "/v1/fleet/deactivate-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/send-node-heartbeat",
        "/v1/fleet/pull-messages",
        "/v1/fleet/push-messages",
        "/v1/fleet/get-run",
        "/v1/fleet/get-fab",
        "/v1/fleet/push-object",
        "/v1/fleet/pull-object",
        "/v1/fleet/confirm-message-received",
    }
)
STORED = frozenset({"/v1/fleet/push-messages", "/v1/fleet/push-object"})
"""What the SuperLink keeps: refused while the disk hasn't got the room."""
MAX_REQUEST_BYTES = 32 * 2**20
"""Flower's own pieces have 20 MiB."""
AT_ONCE = 16
"""Requests of one site whose bodies are in memory."""
KEY_HEADER = b"flwr-public-key"
HEADERS = frozenset(
    {
        b"accept",
        b"content-type",
        KEY_HEADER,
        b"flwr-signature",
        b"flwr-timestamp",
        b"flwr-package-name",
        b"flwr-package-version",
        b"flwr-component-name",
    }
)
"""What of a request's head reaches the SuperLink."""
UPSTREAM_SECONDS = 120.0

logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each question for work


class SiteKeys:
    """Which Flower key each site registered last. Every method may come from any thread."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def register(self, site: str, key: bytes) -> bool:
        """Take a site's new key in place of its old one; no two sites have one key."""
        with self._lock:
            if any(held == key and name != site for name, held in self._keys.items()):
                return False
            self._keys[site] = key
            return True

    def holds(self, site: str, key: bytes) -> bool:
        """Say whether the key is the site's."""
        with self._lock:
            return self._keys.get(site) == key

    def all(self) -> dict[str, bytes]:
        """Return each site's key."""
        with self._lock:
            return dict(self._keys)


class _Fleet(Http):
    """A connection that tells the application whose certificate it came under."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, "certificate": shown}


class Front:
    """The application behind the public port, and the port."""

    def __init__(
        self,
        address: str,
        check: Callable[[Peer], None],
        keys: SiteKeys,
        has_room: Callable[[int], bool],
    ) -> None:
        """``address``: the SuperLink's. ``has_room``: for so many bytes more on its disk."""
        self._base = f"http://{address}"
        self._check = check
        self._has_room = has_room
        self._keys = keys
        self._client: httpx.AsyncClient | None = None
        self._server: uvicorn.Server | None = None
        self._turns: dict[str, asyncio.Semaphore] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        status, content = 404, b""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        if scope["method"] == "POST" and scope["raw_path"].decode("ascii", "replace") in PATHS:
            site = await asyncio.to_thread(self._site, scope)
            size = headers.get(b"content-length", b"")
            if site is None or not self._is_its_key(site, scope["path"], headers):
                status = 401
            elif not size.isdigit() or int(size) > MAX_REQUEST_BYTES:
                status = 413
            elif scope["path"] in STORED and not self._has_room(int(size)):
                status = 507
            else:
                async with self._turns.setdefault(site, asyncio.Semaphore(AT_ONCE)):
                    body = await _read(receive, int(size))
                    if body is None:
                        return
                    status, content = await self._forward(scope["path"], headers, body)
        reply: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/protobuf"),
            (b"content-length", str(len(content)).encode()),
        ]
        if status in (413, 507):  # its body isn't read
            reply.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": reply})
        await send({"type": "http.response.body", "body": content})

    def _site(self, scope: Scope) -> str | None:
        """Return the site whose certificate the connection shows, if it is in good standing."""
        shown = scope.get("state", {}).get("certificate")
        if not shown:
            return None
        try:
            peer = peer_of(x509.load_der_x509_certificate(shown).public_bytes(Encoding.PEM))
            self._check(peer)
        except (CertificateError, ValueError):
            return None
        return peer.name if peer.role is Role.SITE else None

    def _is_its_key(self, site: str, path: str, headers: dict[bytes, bytes]) -> bool:
        try:
            key = base64.b64decode(headers.get(KEY_HEADER, b""), validate=True)
        except (binascii.Error, ValueError):
            return False
        if not key:
            return False
        # The SuperLink itself checks that the key signed, and that the node named is the key's.
        return self._keys.register(site, key) if path == REGISTER else self._keys.holds(site, key)

    async def _forward(
        self, path: str, headers: dict[bytes, bytes], body: bytes
    ) -> tuple[int, bytes]:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=UPSTREAM_SECONDS, follow_redirects=False, trust_env=False
            )
        passed = {name: value for name, value in headers.items() if name in HEADERS}
        try:
            got = await self._client.post(f"{self._base}{path}", content=body, headers=passed)
        except httpx.HTTPError:
            return 503, b""
        return got.status_code, got.content

    # ---- the port ------------------------------------------------------------------------------

    def serve(self, host: str, port: int, identity: TransportIdentity) -> int:
        """Listen, in a thread of its own, and return the port. ``Unavailable``: it is in use."""
        listener = listen(host, port)
        config = uvicorn.Config(
            self,
            http=_Fleet,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=2000,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
            ssl_certfile=str(identity.pair_file),
            ssl_ca_certs=str(identity.authority_file),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
        config.load()
        assert config.ssl is not None
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = uvicorn.Server(config)
        thread = threading.Thread(
            target=self._server.run, args=([listener],), name="superlink front", daemon=True
        )
        thread.start()
        return int(listener.getsockname()[1])

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.should_exit = True


async def _read(receive: Receive, size: int) -> bytes | None:
    """Return a request's body, of the size that it declared; None when it broke off."""
    pieces: list[bytes] = []
    held = 0
    while True:
        event: Any = await receive()
        if event["type"] != "http.request":
            return None
        held += len(event.get("body", b""))
        if held > size:
            return None
        pieces.append(event.get("body", b""))
        if not event.get("more_body"):
            return b"".join(pieces) if held == size else None
