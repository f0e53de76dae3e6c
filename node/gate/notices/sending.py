"""Sending a notice: by SMTP with its certificate checked, and by a signed POST."""

from __future__ import annotations

import smtplib
import ssl
import stat
from datetime import datetime
from pathlib import Path

from contract.errors import ConfigurationError, Unavailable
from foundation.files import read_bounded
from node.gate.notices.message import Waiting, body, mail, signature
from node.gate.notices.settings import NoticeSettings

MAX_SECRET_BYTES = 4096


def send(waiting: Waiting, settings: NoticeSettings, now: datetime) -> None:
    """Tell everybody who is to be told. Raises ``Unavailable`` in one line when one can't be."""
    problems = []
    for wanted, way in ((settings.mail_to, send_mail), (settings.webhook_url, post)):
        if not wanted:
            continue
        try:
            way(waiting, settings, now)
        except Unavailable as problem:
            problems.append(str(problem))
    if problems:
        raise Unavailable(" ".join(problems))


def send_mail(waiting: Waiting, settings: NoticeSettings, now: datetime) -> None:
    """Send the notice by e-mail. A server without the STARTTLS that was asked for gets nothing."""
    message = mail(waiting, settings.mail_from, settings.mail_to, now)
    context = _context(settings)
    place = settings.smtp_host, settings.smtp_port
    try:
        with (
            smtplib.SMTP_SSL(*place, timeout=settings.timeout_seconds, context=context)
            if settings.smtp_security == "tls"
            else smtplib.SMTP(*place, timeout=settings.timeout_seconds)
        ) as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_user:
                password = _secret(settings.smtp_password_file).decode().strip()
                server.login(settings.smtp_user, password)
            refused = server.send_message(message)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        # Its text may hold the password's echo or anything else, so only its kind is told.
        raise Unavailable(
            f"The mail server {settings.smtp_host} can't be used ({type(error).__name__})."
        ) from None
    if refused:
        raise Unavailable(f"The mail server {settings.smtp_host} refused {len(refused)} addresses.")


def post(waiting: Waiting, settings: NoticeSettings, now: datetime) -> None:
    """POST the notice, signed. Redirections are not followed: they could lead anywhere."""
    import httpx

    data = body(waiting, now)
    headers = {
        "Content-Type": "application/json",
        "Wardgate-Signature": signature(_secret(settings.webhook_secret_file), data),
    }
    try:
        answer = httpx.post(
            settings.webhook_url,
            content=data,
            headers=headers,
            timeout=settings.timeout_seconds,
            follow_redirects=False,
            verify=_context(settings),
            trust_env=False,
        )
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise Unavailable(f"The webhook can't be reached ({type(error).__name__}).") from None
    if not answer.is_success:
        raise Unavailable(f"The webhook answered {answer.status_code}.")


def _context(settings: NoticeSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.tls_authority or None)
    except (OSError, ssl.SSLError):
        raise ConfigurationError("notices.tls_authority can't be read.") from None


def _secret(path: str) -> bytes:
    """Return a secret's bytes; refused when others can read its file."""
    place = Path(path).expanduser()
    data = read_bounded(place, MAX_SECRET_BYTES)
    if stat.S_IMODE(place.stat().st_mode) & 0o077:
        raise ConfigurationError(f"{place} can be read by others; its mode must be 0600.")
    return data
