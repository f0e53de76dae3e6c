"""Sockets to listen on, and TLS for them."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl

from contract.errors import CertificateError, ConfigurationError, Unavailable
from node.config import ReceiveSettings, StowSettings

AEAD = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, what BCP 195 (RFC 9325 section 4.2) recommends; DICOM's profile is PS3.15 B.12."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; ``Unavailable`` when the address or port can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError:
        raise Unavailable(f"Nothing can listen on {host}: it is no address here.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"Port {port} on {host} is in use; choose another.") from None
        raise Unavailable(
            f"Nothing can listen on {host}, port {port}: {os.strerror(error.errno or 0)}."
        ) from None
    return listener


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


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
