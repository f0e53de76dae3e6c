"""Certificates with a role in them, invitations, and errors that cross the wire whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.errors import (
    CertificateError,
    InvitationError,
    NotFound,
    Refused,
    StorageError,
    Unavailable,
    WardgateError,
    exit_codes,
)
from coordinator.home import CoordinatorHome
from coordinator.registry.authority import Authority
from foundation import rpc, transport
from foundation.invitations import Invitation
from foundation.transport import Role, TransportIdentity, peer_of

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorHome:
    made = CoordinatorHome(tmp_path_factory.mktemp("coordinator")).create()
    Authority.create(made, "preterm", NOW)
    return made


@pytest.fixture(scope="module")
def authority(home: CoordinatorHome) -> Authority:
    return Authority.load(home)


def identity(
    folder: Path, authority: Authority, role: Role = Role.SITE, life: timedelta = DAY
) -> TransportIdentity:
    key = transport.new_private_key()
    folder.mkdir(exist_ok=True)
    issued = authority.issue(key.public_key(), role, "kentucky", NOW, life)
    made = TransportIdentity(folder)
    made.save(transport.private_key_pem(key), issued.pem, authority.pem)
    return made


def certificate(*names: x509.GeneralName) -> bytes:
    key = transport.new_private_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site:kentucky")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(NOW).not_valid_after(NOW + DAY)
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# ---- roles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_a_certificate_says_role_name_serial_and_end(authority: Authority, role: Role) -> None:
    issued = authority.issue(transport.new_private_key().public_key(), role, "kentucky", NOW, DAY)
    peer = peer_of(issued.pem)
    assert (peer.role, peer.name, peer.serial) == (role, "kentucky", issued.serial)
    assert peer.not_after == issued.not_after == NOW + DAY


@pytest.mark.parametrize(
    "uri",
    ["urn:wardgate:site", "urn:wardgate:site:", "urn:wardgate:root:x", "urn:wardgate::x",
     "x-urn:wardgate:site:x", "urn:WARDGATE:site:x", "https://site:x", "urn:wardgate:SITE:x"],
)  # fmt: skip
def test_a_name_of_another_form_gives_no_role(uri: str) -> None:
    with pytest.raises(CertificateError, match="no role"):
        peer_of(certificate(x509.UniformResourceIdentifier(uri)))


def test_a_certificate_without_a_role_is_nobodys_whatever_its_subject_says() -> None:
    for pem in (certificate(), certificate(x509.DNSName("urn:wardgate:site:kentucky"))):
        with pytest.raises(CertificateError, match="no role"):
            peer_of(pem)


def test_the_authority_decides_what_is_in_a_certificate_and_not_the_request(
    authority: Authority,
) -> None:
    key = transport.new_private_key()
    wish = x509.SubjectAlternativeName([transport.role_uri(Role.COORDINATOR, "mallory")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")]))
        .add_extension(wish, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    issued = authority.issue_for_request(request, Role.SITE, "kentucky", NOW, DAY)
    found = x509.load_pem_x509_certificate(issued.pem)
    assert (peer_of(issued.pem).role, peer_of(issued.pem).name) == (Role.SITE, "kentucky")
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == []


@pytest.mark.parametrize("request_", [b"", b"x", b"\x30\x00"])
def test_a_request_that_is_none_is_refused(authority: Authority, request_: bytes) -> None:
    with pytest.raises(CertificateError):
        authority.issue_for_request(request_, Role.SITE, "kentucky", NOW, DAY)


def test_a_request_whose_signature_is_not_its_keys_is_refused(authority: Authority) -> None:
    request = bytearray(transport.certificate_request(transport.new_private_key(), "kentucky"))
    request[-1] ^= 1
    with pytest.raises(CertificateError):
        authority.issue_for_request(bytes(request), Role.SITE, "kentucky", NOW, DAY)


def test_an_expired_certificate_is_noticed_before_it_is_used(
    tmp_path: Path, authority: Authority
) -> None:
    own = identity(tmp_path, authority)
    own.check(NOW)
    with pytest.raises(CertificateError, match="expired"):
        own.check(NOW + DAY)


def test_an_identitys_files_are_its_owners_alone(tmp_path: Path, authority: Authority) -> None:
    own = identity(tmp_path, authority)
    assert own.pair_file.stat().st_mode & 0o777 == 0o600


# ---- invitations -------------------------------------------------------------------------------


@pytest.fixture
def invitation(authority: Authority) -> Invitation:
    key = transport.new_private_key()
    issued = authority.issue(key.public_key(), Role.ENROL, "id", NOW, DAY)
    return Invitation(
        consortium="preterm",
        role="site",
        name="kentucky",
        address="localhost:7443",
        expires_at=NOW + DAY,
        token="ab" * 32,
        authority_pem=authority.pem.decode(),
        certificate_pem=issued.pem.decode(),
        key_pem=transport.private_key_pem(key).decode(),
    )


def test_an_invitation_comes_back_from_its_file(tmp_path: Path, invitation: Invitation) -> None:
    path = tmp_path / "kentucky.invitation"
    path.write_text(invitation.model_dump_json(indent=1))
    assert Invitation.read(path) == invitation


@pytest.mark.parametrize(
    "change",
    [{"more": 1}, {"role": "steward"}, {"name": "../x"}, {"version": 2}, {"consortium": "A"},
     {"expires_at": "2026-01-01T00:00:00"}, {"token": None}],
)  # fmt: skip
def test_a_changed_invitation_is_none(
    tmp_path: Path, invitation: Invitation, change: dict[str, object]
) -> None:
    import json

    path = tmp_path / "kentucky.invitation"
    path.write_text(json.dumps(json.loads(invitation.model_dump_json()) | change))
    with pytest.raises(InvitationError):
        Invitation.read(path)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 1000])
def test_a_file_of_another_kind_is_no_invitation(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(InvitationError):
        Invitation.read(path)


def test_the_authority_is_known_by_its_whole_fingerprint(invitation: Invitation) -> None:
    print_ = invitation.authority_fingerprint
    invitation.check_authority(print_)
    invitation.check_authority(":".join(print_[i : i + 2] for i in range(0, 64, 2)).upper())
    for wrong in (
        "",
        print_[:16],
        "0" * 64,
        print_[:-1] + ("0" if print_[-1] != "0" else "1"),
        "é",
    ):
        with pytest.raises(CertificateError, match="another fingerprint"):
            invitation.check_authority(wrong)


def test_an_invitation_of_another_authority_has_another_fingerprint(
    tmp_path: Path, invitation: Invitation
) -> None:
    other = Authority.create(CoordinatorHome(tmp_path).create(), "preterm", NOW)
    swapped = invitation.model_copy(update={"authority_pem": other.pem.decode()})
    with pytest.raises(CertificateError):
        swapped.check_authority(invitation.authority_fingerprint)


# ---- errors over gRPC: a real server, real TLS -------------------------------------------------


class Failing(wire_pb2_grpc.WardgateServicer):
    """Fails every Submit with the error that the test chose."""

    error: WardgateError

    async def Submit(
        self, request: wire.SubmitRequest, context: grpc.aio.ServicerContext
    ) -> wire.JobStatus:
        await rpc.abort(context, self.error)


def raised(home: CoordinatorHome, client: TransportIdentity, error: WardgateError) -> WardgateError:
    service = Failing()
    service.error = error

    async def run() -> WardgateError:
        server = grpc.aio.server()
        wire_pb2_grpc.add_WardgateServicer_to_server(service, server)
        own = TransportIdentity(home.server)
        port = server.add_secure_port("127.0.0.1:0", own.server_credentials())
        await server.start()
        address = f"127.0.0.1:{port}"

        def call() -> WardgateError:
            try:
                with rpc.calling(address, client.channel_credentials()) as stub:
                    stub.Submit(wire.SubmitRequest(), timeout=60)
            except WardgateError as found:
                return found
            raise AssertionError("nothing was raised")

        try:
            return await asyncio.to_thread(call)
        finally:
            await server.stop(0)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", [k for k in exit_codes().values() if k is not Refused])
def test_an_error_at_the_server_is_the_same_one_at_the_client(
    home: CoordinatorHome, authority: Authority, tmp_path: Path, kind: type[WardgateError]
) -> None:
    found = raised(home, identity(tmp_path, authority), kind("It is so."))
    assert type(found) is kind
    assert found.exit_code == kind.exit_code
    if kind is StorageError:  # whose text names a path of the server's machine
        assert "disk is full" in str(found)
        assert "It is so." not in str(found)
    else:
        assert str(found) == "It is so."


def test_a_refusal_keeps_its_class_and_exit_code_too(
    home: CoordinatorHome, authority: Authority, tmp_path: Path
) -> None:
    found = raised(home, identity(tmp_path, authority), Refused("rate", "Too often."))
    assert type(found) is Refused
    assert (found.exit_code, str(found)) == (8, "Too often.")


def test_a_client_without_a_certificate_of_the_authority_is_turned_away(
    home: CoordinatorHome, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority.create(CoordinatorHome(tmp_path / "other").create(), "preterm", NOW)
    (tmp_path / "mixed").mkdir()
    mixed = identity(tmp_path / "mixed", stranger)
    mixed.authority_file.write_bytes(authority.pem)  # it believes us; we don't know it
    found = raised(home, mixed, NotFound("never said"))
    assert isinstance(found, CertificateError | Unavailable)
    assert "never said" not in str(found)


def test_a_server_of_another_authority_is_not_spoken_to(
    authority: Authority, tmp_path: Path
) -> None:
    other = CoordinatorHome(tmp_path / "other").create()
    Authority.create(other, "preterm", NOW)
    (tmp_path / "own").mkdir()
    found = raised(other, identity(tmp_path / "own", authority), NotFound("never said"))
    assert isinstance(found, CertificateError)


def test_a_site_cannot_stand_in_for_the_coordinator(
    home: CoordinatorHome, authority: Authority, tmp_path: Path
) -> None:
    impostor = CoordinatorHome(tmp_path / "impostor").create()
    identity(impostor.server, authority, Role.SITE)
    (tmp_path / "own").mkdir()
    found = raised(impostor, identity(tmp_path / "own", authority), NotFound("never said"))
    assert isinstance(found, CertificateError | Unavailable)
    assert "never said" not in str(found)


def test_a_port_where_nobody_listens_is_unavailable(authority: Authority, tmp_path: Path) -> None:
    own = identity(tmp_path, authority)
    with (
        pytest.raises(Unavailable, match="can't be reached"),
        rpc.calling("127.0.0.1:1", own.channel_credentials()) as stub,
    ):
        stub.Submit(wire.SubmitRequest(), timeout=60)
