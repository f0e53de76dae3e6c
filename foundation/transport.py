"""Transport identity: ECDSA P-256 keys, certificates with a role in them, and mutual TLS for gRPC.

A certificate's role and name are its one subject alternative name of type URI,
``urn:wardgate:ROLE:NAME``. The coordinator's server certificate also carries the DNS name
``coordinator.wardgate``, which clients expect whatever address they dialled: only the consortium's
own authority can issue it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.errors import CertificateError
from foundation.files import read_bounded, write_durably

SERVER_NAME = "coordinator.wardgate"
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
MAX_PEM_BYTES = 64 * 1024

_COMMON_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
SERVER_OPTIONS: list[tuple[str, int | str]] = [
    *_COMMON_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.bdp_probe", 0),
]
CHANNEL_OPTIONS: list[tuple[str, int | str]] = [
    *_COMMON_OPTIONS,
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class Role(StrEnum):
    """What a certificate's holder is."""

    COORDINATOR = "coordinator"
    ENROL = "enrol"
    SITE = "site"
    RESEARCHER = "researcher"


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection, by its certificate."""

    role: Role
    name: str
    serial: str
    not_after: datetime


def role_uri(role: Role, name: str) -> x509.UniformResourceIdentifier:
    """Return the subject alternative name that says role and name."""
    return x509.UniformResourceIdentifier(f"urn:wardgate:{role.value}:{name}")


def peer_of(certificate_pem: bytes) -> Peer:
    """Return who a certificate (already verified by TLS) stands for."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError:
        raise CertificateError("A caller shows no certificate.") from None
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise CertificateError("A certificate carries no role.") from None
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        scheme, _, rest = uri.partition("urn:wardgate:")
        role, _, name = rest.partition(":")
        if not scheme and role in set(Role) and name:
            return Peer(
                Role(role), name, f"{certificate.serial_number:x}", certificate.not_valid_after_utc
            )
    raise CertificateError("A certificate carries no role.")


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on NIST P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 PEM, for a file of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 key; ``CertificateError`` when the PEM holds none."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("A transport key file holds no P-256 private key.")
    return key


def certificate_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Return a PKCS#10 request (DER). The authority decides what goes into the certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def fingerprint(certificate_pem: bytes) -> str:
    """Return the SHA-256 of a certificate's DER, 64 hexadecimal digits."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError:
        raise CertificateError("A certificate is not readable PEM.") from None
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


@dataclass(frozen=True)
class TransportIdentity:
    """A folder with ``tls.pem`` (certificate and private key) and ``ca.crt``.

    Key and certificate are one file, so that no crash leaves one without the other.
    """

    folder: Path

    @property
    def pair_file(self) -> Path:
        """The certificate and its private key, mode 0600."""
        return self.folder / "tls.pem"

    @property
    def authority_file(self) -> Path:
        """The certificate of the consortium's authority."""
        return self.folder / "ca.crt"

    def save(self, key_pem: bytes, certificate_pem: bytes, authority_pem: bytes) -> None:
        """Write both files durably."""
        write_durably(self.authority_file, authority_pem)
        write_durably(self.pair_file, certificate_pem.rstrip() + b"\n" + key_pem)

    def validity(self) -> tuple[datetime, datetime]:
        """When the certificate begins and ends."""
        pem = read_bounded(self.pair_file, MAX_PEM_BYTES)
        certificate = x509.load_pem_x509_certificate(pem)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    def check(self, now: datetime) -> None:
        """Raise ``CertificateError`` when the certificate has expired."""
        _, end = self.validity()
        if now >= end:
            raise CertificateError(
                f"The certificate expired at {end.isoformat()}; ask for a new invitation and join "
                "again."
            )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials for dialling the coordinator under mutual TLS."""
        return channel_credentials(
            read_bounded(self.authority_file, MAX_PEM_BYTES),
            read_bounded(self.pair_file, MAX_PEM_BYTES),
            read_bounded(self.pair_file, MAX_PEM_BYTES),
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials for serving; a client without a valid certificate is turned away."""
        pair = (
            read_bounded(self.pair_file, MAX_PEM_BYTES),
            read_bounded(self.pair_file, MAX_PEM_BYTES),
        )
        return grpc.ssl_server_credentials(
            [pair],
            root_certificates=read_bounded(self.authority_file, MAX_PEM_BYTES),
            require_client_auth=True,
        )


def channel_credentials(
    authority: bytes, key: bytes, certificate: bytes
) -> grpc.ChannelCredentials:
    """Return client credentials from PEM bytes."""
    return grpc.ssl_channel_credentials(
        root_certificates=authority, private_key=key, certificate_chain=certificate
    )
