"""The consortium's certificate authority, for transport alone (RFC 5280)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contract.errors import AlreadyExists, CertificateError
from coordinator.home import CoordinatorHome
from foundation import transport
from foundation.files import read_bounded, write_new
from foundation.transport import Role

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Issued:
    """A certificate as issued: PEM, serial number (hexadecimal) and its end."""

    pem: bytes
    serial: str
    not_after: datetime


@dataclass(frozen=True)
class Authority:
    """The authority's key and certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, home: CoordinatorHome, consortium: str, now: datetime) -> Authority:
        """Make a new authority in ``home``; ``AlreadyExists`` when one is there."""
        if (home.authority / "ca.crt").exists():
            raise AlreadyExists(f"{home.root} holds a coordinator already and is not overwritten.")
        key = transport.new_private_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Wardgate {consortium}")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(certificate_sign=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        authority = cls(key, certificate)
        write_new(home.authority / "ca.key", transport.private_key_pem(key))
        server_key = transport.new_private_key()
        server = authority.issue(
            server_key.public_key(), Role.COORDINATOR, consortium, now, timedelta(days=SERVER_DAYS)
        )
        transport.TransportIdentity(home.server).save(
            transport.private_key_pem(server_key), server.pem, authority.pem
        )
        # The certificate is written last: it is what says that a home is initialised.
        write_new(home.authority / "ca.crt", authority.pem, 0o644)
        return authority

    @classmethod
    def load(cls, home: CoordinatorHome) -> Authority:
        """Read the authority of an initialised home."""
        home.require()
        key = transport.load_private_key(
            read_bounded(home.authority / "ca.key", transport.MAX_PEM_BYTES)
        )
        pem = read_bounded(home.authority / "ca.crt", transport.MAX_PEM_BYTES)
        return cls(key, x509.load_pem_x509_certificate(pem))

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        role: Role,
        name: str,
        now: datetime,
        life: timedelta,
    ) -> Issued:
        """Return a certificate that says ``role`` and ``name``, from five minutes ago on."""
        names: list[x509.GeneralName] = [transport.role_uri(role, name)]
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        if role is Role.COORDINATOR:
            names.append(x509.DNSName(transport.SERVER_NAME))
            usage = ExtendedKeyUsageOID.SERVER_AUTH
        end = now + life
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(certificate_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Issued(
            certificate.public_bytes(serialization.Encoding.PEM),
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc,
        )

    def issue_for_request(
        self, request: bytes, role: Role, name: str, now: datetime, life: timedelta
    ) -> Issued:
        """Return a certificate for the key of a PKCS#10 request; its wishes are ignored."""
        try:
            parsed = x509.load_der_x509_csr(request)
            valid = parsed.is_signature_valid
            key = parsed.public_key()
        except ValueError:
            raise CertificateError("A certificate request is not PKCS#10.") from None
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise CertificateError("A certificate request is not signed by its own P-256 key.")
        if not isinstance(key.curve, ec.SECP256R1):
            raise CertificateError("A certificate request's key is not on P-256.")
        return self.issue(key, role, name, now, life)


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        encipher_only=False,
        decipher_only=False,
    )
