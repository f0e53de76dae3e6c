"""Notices to the steward: real servers, checked certificates, counts and names and nothing else."""

from __future__ import annotations

import email
import hashlib
import hmac
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email import policy as email_policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from contract.errors import ConfigurationError, Unavailable
from node.gate.notices.bell import Bell
from node.gate.notices.message import Waiting, lines
from node.gate.notices.sending import post, send, send_mail
from node.gate.notices.settings import NoticeSettings
from node.gate.policy import ApprovalSettings, Policy
from node.gate.rules import Waits
from tests.contract.world import NOW
from tests.node.gate.conftest import Hospital
from tests.ports import free_port

WAITING: Waiting = Waiting({("job", "preterm", "birth", "training"): 2})
PASSWORD = "correct horse"


# ---- servers -------------------------------------------------------------------------------------


@dataclass
class Certificates:
    """A certificate for localhost that is its own authority."""

    authority: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = made.add_extension(names, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = made.sign(key, hashes.SHA256())
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, private)
    return Certificates(pem, context)


@dataclass
class Post:
    """A mail server's handler: keeps what came, and who logged in."""

    mails: list[Any] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 OK"

    def authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        self.logins.append(data.password)
        return AuthResult(success=data.password == PASSWORD.encode())


@pytest.fixture
def mail_server() -> Iterator[Callable[..., tuple[Post, int]]]:
    running: list[Controller] = []

    def start(**more: Any) -> tuple[Post, int]:
        handler = Post()
        if more.get("auth_required"):
            more["authenticator"] = handler.authenticate
        port = free_port()
        controller = Controller(handler, hostname="127.0.0.1", port=port, ready_timeout=60, **more)
        controller.start()
        running.append(controller)
        return handler, port

    yield start
    for controller in running:
        controller.stop(no_assert=True)


@dataclass
class Hook:
    """A web server that takes webhooks."""

    port: int
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    answer: int = 204


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.headers.append(self.headers)
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(found.answer)
            if found.answer == 302:
                self.send_header("Location", f"http://127.0.0.1:{found.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


def secret(tmp_path: Path, text: str = "a secret", mode: int = 0o600) -> str:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def by_mail(port: int, **more: Any) -> NoticeSettings:
    values = {
        "mail_to": ["steward@hospital.example"],
        "mail_from": "node@hospital.example",
        "smtp_host": "localhost",
        "smtp_port": port,
        "timeout_seconds": 10,
    }
    return NoticeSettings(**values | more)


def by_hook(hook: Hook, tmp_path: Path, **more: Any) -> NoticeSettings:
    values = {
        "webhook_url": f"http://127.0.0.1:{hook.port}/wardgate",
        "webhook_secret_file": secret(tmp_path),
        "timeout_seconds": 10,
    }
    return NoticeSettings(**values | more)


# ---- e-mail --------------------------------------------------------------------------------------


def test_a_mail_says_how_much_waits_and_nothing_else(
    mail_server: Callable[..., tuple[Post, int]],
) -> None:
    handler, port = mail_server()
    send_mail(WAITING, by_mail(port, smtp_security="none"), NOW)
    [envelope] = handler.mails
    message = email.message_from_bytes(envelope.content, policy=email_policy.default)
    assert message["Subject"] == "Wardgate: 2 wait for a steward"
    assert message["To"] == "steward@hospital.example"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().splitlines() == [
        "2 jobs of training wait: preterm, project birth", "", "wardgate-node inbox list",
    ]  # fmt: skip


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_over_tls_with_the_login(
    mail_server: Callable[..., tuple[Post, int]],
    certificates: Certificates,
    tmp_path: Path,
    security: str,
) -> None:
    more = (
        {"tls_context": certificates.context, "require_starttls": True}
        if security == "starttls"
        else {"ssl_context": certificates.context, "auth_require_tls": False}
    )
    handler, port = mail_server(auth_required=True, **more)
    settings = by_mail(
        port,
        smtp_security=security,
        smtp_user="node",
        smtp_password_file=secret(tmp_path, PASSWORD + "\n"),
        tls_authority=str(certificates.authority),
    )
    send_mail(WAITING, settings, NOW)
    assert len(handler.mails) == 1
    assert handler.logins == [PASSWORD.encode()]


def test_a_certificate_of_an_unknown_authority_gets_no_mail_and_no_password(
    mail_server: Callable[..., tuple[Post, int]], certificates: Certificates, tmp_path: Path
) -> None:
    handler, port = mail_server(tls_context=certificates.context, auth_required=True)
    settings = by_mail(port, smtp_user="node", smtp_password_file=secret(tmp_path, PASSWORD))
    with pytest.raises(Unavailable, match="SSLCertVerificationError"):
        send_mail(WAITING, settings, NOW)
    assert (handler.mails, handler.logins) == ([], [])


def test_a_server_that_offers_no_starttls_gets_nothing(
    mail_server: Callable[..., tuple[Post, int]], tmp_path: Path
) -> None:
    handler, port = mail_server()  # as whoever strips STARTTLS on the way would look
    settings = by_mail(port, smtp_user="node", smtp_password_file=secret(tmp_path, PASSWORD))
    with pytest.raises(Unavailable):
        send_mail(WAITING, settings, NOW)
    assert (handler.mails, handler.logins) == ([], [])


def test_a_wrong_password_is_a_line_without_the_password(
    mail_server: Callable[..., tuple[Post, int]], certificates: Certificates, tmp_path: Path
) -> None:
    _, port = mail_server(tls_context=certificates.context, auth_required=True)
    settings = by_mail(
        port,
        smtp_user="node",
        smtp_password_file=secret(tmp_path, "mistaken"),
        tls_authority=str(certificates.authority),
    )
    with pytest.raises(Unavailable) as caught:
        send_mail(WAITING, settings, NOW)
    assert "mistaken" not in str(caught.value)


def test_a_secret_that_others_can_read_is_not_used(hook: Hook, tmp_path: Path) -> None:
    settings = by_hook(hook, tmp_path)
    (tmp_path / "secret").chmod(0o640)
    with pytest.raises(ConfigurationError, match="0600"):
        post(WAITING, settings, NOW)
    assert hook.bodies == []


# ---- webhook -------------------------------------------------------------------------------------


def test_a_webhook_gets_a_signed_body_without_anything_of_the_job(
    hook: Hook, tmp_path: Path
) -> None:
    post(WAITING, by_hook(hook, tmp_path), NOW)
    [body] = hook.bodies
    assert json.loads(body) == {
        "time": "2026-03-01T12:00:00+00:00",
        "waiting": [
            {"what": "job", "consortium": "preterm", "project": "birth", "kind": "training",
             "number": 2},
        ],
    }  # fmt: skip
    wanted = hmac.new(b"a secret", body, hashlib.sha256).hexdigest()
    assert hook.headers[0]["Wardgate-Signature"] == f"sha256={wanted}"


def test_a_redirection_is_not_followed(hook: Hook, tmp_path: Path) -> None:
    hook.answer = 302
    with pytest.raises(Unavailable, match="302"):
        post(WAITING, by_hook(hook, tmp_path), NOW)
    assert len(hook.bodies) == 1


def test_one_way_that_fails_keeps_the_other_from_nothing(
    mail_server: Callable[..., tuple[Post, int]], hook: Hook, tmp_path: Path
) -> None:
    handler, port = mail_server()
    hook.answer = 500
    hooked = by_hook(hook, tmp_path).model_dump(exclude_defaults=True)
    with pytest.raises(Unavailable, match="500"):
        send(WAITING, by_mail(port, smtp_security="none", **hooked), NOW)
    assert len(handler.mails) == len(hook.bodies) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"webhook_url": "http://hooks.example/x", "webhook_secret_file": "x"},
        {"webhook_url": "https://hooks.example/x"},
        {"webhook_url": "file:///etc/passwd", "webhook_secret_file": "x"},
        {"mail_to": ["a@b"], "mail_from": "c@d"},
        {"mail_to": ["a@b"], "mail_from": "c@d", "smtp_host": "mail.example",
         "smtp_security": "none"},
        {"mail_to": ["a@b\r\nBcc: x@y"], "mail_from": "c@d", "smtp_host": "mail.example"},
        {"smtp_user": "x"},
    ],
)  # fmt: skip
def test_settings_that_would_send_in_clear_or_by_half_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NoticeSettings(**values)


# ---- the bell ------------------------------------------------------------------------------------


def waiting_job(hospital: Hospital) -> None:
    hospital.policy = Policy(approval=ApprovalSettings(hold_jobs=["statistics"]))
    with pytest.raises(Waits):
        hospital.gate.admit(hospital.member, hospital.job(hospital.release()))


def bell(hospital: Hospital, settings: NoticeSettings, told: list[Waiting] | None = None) -> Bell:
    def tell(waiting: Waiting, *_: Any) -> None:
        assert told is not None
        told.append(waiting)

    more = {"tell": tell} if told is not None else {}
    return Bell(hospital.gate.inbox, hospital.gate.ledger, settings, lambda: hospital.now, **more)  # type: ignore[arg-type]


def test_the_steward_is_told_once_of_each_and_not_too_often(hospital: Hospital) -> None:
    told: list[Waiting] = []
    one = bell(hospital, by_mail(1, every_seconds=60), told)
    assert not one.ring()
    waiting_job(hospital)
    assert one.ring()
    assert not one.ring()
    waiting_job(hospital)
    waiting_job(hospital)
    assert not one.ring()
    hospital.now += timedelta(seconds=60)
    assert one.ring()
    assert [sum(w.values()) for w in told] == [1, 2]
    assert lines(told[0]) == ["1 job of statistics waits: preterm, project birth"]
    assert [e.body["number"] for e in hospital.entries("steward-told")] == [1, 2]


def test_a_server_that_is_down_is_tried_again_later_and_logged_once(
    hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    waiting_job(hospital)
    one = bell(hospital, by_mail(1, smtp_security="none", every_seconds=10))
    with caplog.at_level(logging.WARNING, "wardgate.node"):
        for _ in range(5):
            assert not one.ring()
            hospital.now += timedelta(hours=1)
    assert len(caplog.records) == 1
    assert hospital.gate.inbox.untold()
    assert hospital.entries("steward-told") == []
    # The job isn't touched by any of it.
    assert hospital.gate.inbox.count_waiting() == 1


def test_after_a_restart_nobody_is_told_twice(hospital: Hospital) -> None:
    told: list[Waiting] = []
    waiting_job(hospital)
    assert bell(hospital, by_mail(1), told).ring()
    hospital.reopen()
    assert not bell(hospital, by_mail(1), told).ring()
    assert len(told) == 1
