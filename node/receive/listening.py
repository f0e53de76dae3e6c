"""TLS for what the receiver listens on, and for associations of its own."""

from __future__ import annotations

import ssl

from contract.errors import CertificateError, ConfigurationError
from foundation.listening import is_loopback
from node.config import ReceiveSettings, StowSettings

AEAD = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, what BCP 195 (RFC 9325 section 4.2) recommends; DICOM's profile is PS3.15 B.12."""


def dicom_tls(settings: ReceiveSettings) -> ssl.SSLContext | None:
    """Return the TLS context of the DICOM port, or None without a certificate."""
    if not settings.tls_certificate:
        if settings.tls_key or settings.tls_authority:
            raise ConfigurationError("receive.tls_key and tls_authority need tls_certificate.")
        return None
    context = _server_context(settings.tls_certificate, settings.tls_key)
    if settings.tls_authority:
        try:
            context.load_verify_locations(settings.tls_authority)
        except (ssl.SSLError, OSError):
            raise CertificateError("receive.tls_authority can't be read.") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def calling_tls(settings: ReceiveSettings) -> ssl.SSLContext | None:
    """Return the TLS context for associations of our own, or None without a certificate."""
    if not settings.tls_certificate:
        return None
    context = ssl.create_default_context(cafile=settings.tls_authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(AEAD)
    _load(context, settings.tls_certificate, settings.tls_key)
    return context


def web_tls(settings: StowSettings) -> ssl.SSLContext | None:
    """Return the TLS context of STOW-RS; without one, only this machine may be listened to."""
    if settings.tls_certificate:
        return _server_context(settings.tls_certificate, settings.tls_key)
    if not is_loopback(settings.host):
        raise ConfigurationError(
            "receive.web.host is reached from other machines: set tls_certificate and tls_key."
        )
    return None


def _server_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(AEAD)
    _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key or None, password=_no_password)
    except (ssl.SSLError, OSError):
        raise CertificateError(
            "A certificate or key of the receiver can't be read, or they don't belong together."
        ) from None


def _no_password() -> str:
    # Otherwise OpenSSL asks on the terminal, and a service would wait for ever.
    return ""
