"""The settings of notices to the steward: ``[notices]`` in ``node.toml``."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from foundation import settings


def _listed(value: object) -> object:
    """An environment variable gives a list as words between commas."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


class NoticeSettings(settings.Settings):
    """Whom to tell that something waits, and how. Without an address nobody is told."""

    mail_to: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    """Addresses of stewards; empty: no e-mail."""
    mail_from: str = ""
    """The sender's address."""
    smtp_host: str = ""
    """The hospital's mail server."""
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """STARTTLS, TLS from the start, or none: on this machine only."""
    smtp_user: str = ""
    """The user to log in as; empty: no login."""
    smtp_password_file: str = ""
    """A file (mode 0600) with this user's password."""
    webhook_url: str = ""
    """Where to POST a notice: https, or http on this machine; empty: nowhere."""
    webhook_secret_file: str = ""
    """A file (mode 0600) whose bytes sign what is posted (HMAC-SHA256)."""
    tls_authority: str = ""
    """PEM of the authority of both servers; empty: the operating system's."""
    every_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Least time between two notices; what comes meanwhile is in the next one."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 20.0
    """How long a server may take."""

    @model_validator(mode="after")
    def _are_safe(self) -> Self:
        if self.mail_to and not (self.mail_from and self.smtp_host):
            raise ValueError("mail_to needs mail_from and smtp_host")
        if self.smtp_security == "none" and self.smtp_host and not is_here(self.smtp_host):
            raise ValueError("smtp_security = none is for a mail server on this machine only")
        if self.smtp_user and not self.smtp_password_file:
            raise ValueError("smtp_user needs smtp_password_file")
        if any(c in text for text in [self.mail_from, *self.mail_to] for c in "\r\n"):
            raise ValueError("an address holds a line break")
        if self.webhook_url:
            url = urlsplit(self.webhook_url)
            if url.scheme != "https" and not (url.scheme == "http" and is_here(url.hostname or "")):
                raise ValueError("webhook_url is https, or http on this machine")
            if not self.webhook_secret_file:
                raise ValueError("webhook_url needs webhook_secret_file")
        return self

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.mail_to or self.webhook_url)


def is_here(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
