"""Who gets in, once; who stays out; and documents that stewards alone can publish."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from contract import wire_pb2 as wire
from contract.envelope import Envelope, Signature
from contract.errors import (
    AlreadyExists,
    CertificateError,
    InvitationError,
    NotFound,
    SignatureError,
    WardgateError,
)
from contract.keys import SigningKey
from coordinator import schema
from coordinator.database import HEAD, MIGRATIONS
from coordinator.home import CoordinatorHome
from coordinator.registry import invitations
from coordinator.registry.authority import Authority, Issued
from coordinator.registry.documents import DocumentShelf
from coordinator.registry.members import Members
from foundation import transport
from foundation.database import open_database
from foundation.invitations import Invitation
from foundation.transport import Peer, Role, peer_of
from tests.contract.world import NOW, YEAR, World

HOUR = timedelta(hours=1)


@dataclass
class Registry:
    """A coordinator's registry on disk."""

    home: CoordinatorHome
    engine: Engine
    authority: Authority

    @property
    def members(self) -> Members:
        return Members(self.engine)

    def invite(self, name: str = "kentucky", role: str = "site") -> Invitation:
        return invitations.invite(self.engine, self.authority, role, name, NOW, HOUR)  # type: ignore[arg-type]

    def join(self, invitation: Invitation, now: object = NOW, **changes: object) -> Issued:
        """Do what a node does with an invitation."""
        signing, steward = SigningKey.generate(), SigningKey.generate()
        csr = transport.certificate_request(transport.new_private_key(), invitation.name)
        values: dict[str, object] = {
            "token": bytes.fromhex(invitation.token),
            "name": invitation.name,
            "csr": csr,
            "signing_key": signing.public,
            "steward_key": steward.public,
            "proof": signing.sign(csr),
            "steward_proof": steward.sign(csr),
        }
        request = wire.EnrolRequest(**values | changes)  # type: ignore[arg-type]
        peer = peer_of(invitation.certificate_pem.encode())
        return self.members.enrol(self.authority, peer, request, now, timedelta(days=14))  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    home = CoordinatorHome(tmp_path / "home").create()
    engine = open_database(home.database, "", MIGRATIONS, HEAD)
    with engine.begin() as connection:
        connection.execute(
            schema.consortium.insert().values(name="preterm", address="localhost:1", created_at=NOW)
        )
    yield Registry(home, engine, Authority.create(home, "preterm", NOW))
    engine.dispose()


# ---- invitations and members -------------------------------------------------------------------


def test_an_invitation_lets_one_in_once(registry: Registry) -> None:
    invitation = registry.invite()
    peer = peer_of(registry.join(invitation).pem)
    assert (peer.role, peer.name) == (Role.SITE, "kentucky")
    registry.members.check(peer)
    with pytest.raises(InvitationError, match="used already"):
        registry.join(invitation)


def test_the_token_is_nowhere_on_the_coordinators_disk(registry: Registry) -> None:
    invitation = registry.invite()
    registry.join(invitation)
    registry.engine.dispose()
    token = bytes.fromhex(invitation.token)
    private = invitation.key_pem.splitlines()[1].encode()
    for path in registry.home.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for secret in (token, invitation.token.encode(), private):
                assert secret not in data, path


def test_an_expired_invitation_lets_nobody_in(registry: Registry) -> None:
    with pytest.raises(InvitationError, match="expired"):
        registry.join(registry.invite(), now=NOW + HOUR)


def test_an_invitation_is_for_its_name_and_token(registry: Registry) -> None:
    invitation, other = registry.invite(), registry.invite("minnesota")
    with pytest.raises(InvitationError, match="another name"):
        registry.join(invitation, name="minnesota")
    with pytest.raises(InvitationError, match="changed"):
        registry.join(invitation, token=bytes(32))
    with pytest.raises(InvitationError, match="changed"):
        registry.join(invitation, token=bytes.fromhex(other.token))
    registry.join(invitation)


@pytest.mark.parametrize(
    "changes", [{"proof": b""}, {"proof": bytes(64)}, {"steward_proof": bytes(64)},
                {"signing_key": "x"}, {"steward_key": ""}, {"csr": b"x"}],
)  # fmt: skip
def test_who_does_not_hold_the_keys_does_not_join_and_uses_nothing_up(
    registry: Registry, changes: dict[str, object]
) -> None:
    invitation = registry.invite()
    with pytest.raises(WardgateError):
        registry.join(invitation, **changes)
    assert registry.members.all(Role.SITE) == []
    assert registry.join(invitation)


def test_of_two_who_redeem_at_once_one_gets_in(registry: Registry) -> None:
    for _ in range(3):
        invitation = registry.invite()
        results: list[object] = []
        barrier = threading.Barrier(4)

        def race(invitation: Invitation = invitation, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                results.append(registry.join(invitation))  # noqa: B023
            except Exception as error:
                results.append(error)  # noqa: B023

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(r, Issued) for r in results) == 1
        assert sum(isinstance(r, InvitationError) for r in results) == 3


def test_who_was_revoked_is_out_and_does_not_come_back_by_an_older_invitation(
    registry: Registry,
) -> None:
    first, second = registry.invite(), registry.invite()
    peer = peer_of(registry.join(first).pem)
    registry.members.revoke(Role.SITE, "kentucky", NOW)
    with pytest.raises(CertificateError, match="revoked"):
        registry.members.check(peer)
    with pytest.raises(CertificateError, match="revoked"):
        csr = transport.certificate_request(transport.new_private_key(), "kentucky")
        registry.members.renew(registry.authority, peer, csr, NOW, HOUR)
    with pytest.raises(InvitationError, match="revoked"):
        registry.join(second)
    assert registry.members.revoked() == {(Role.SITE, "kentucky")}


def test_joining_anew_ends_the_certificate_of_before(registry: Registry) -> None:
    old = peer_of(registry.join(registry.invite()).pem)
    new = peer_of(registry.join(registry.invite(), now=NOW + HOUR / 2).pem)
    registry.members.check(new)
    with pytest.raises(CertificateError, match="replaced"):
        registry.members.check(old)


def test_a_certificate_of_the_authority_that_was_never_registered_is_of_no_member(
    registry: Registry,
) -> None:
    key = transport.new_private_key().public_key()
    unknown = peer_of(registry.authority.issue(key, Role.SITE, "mallory", NOW, HOUR).pem)
    with pytest.raises(CertificateError, match="no member"):
        registry.members.check(unknown)
    registry.join(registry.invite())
    minted = peer_of(registry.authority.issue(key, Role.SITE, "kentucky", NOW, HOUR).pem)
    with pytest.raises(CertificateError):
        registry.members.check(minted)


def test_a_site_is_no_researcher_of_the_same_name(registry: Registry) -> None:
    peer = peer_of(registry.join(registry.invite()).pem)
    with pytest.raises(CertificateError):
        registry.members.check(Peer(Role.RESEARCHER, peer.name, peer.serial, peer.not_after))


def test_a_renewed_certificate_is_as_good_as_the_first(registry: Registry) -> None:
    first = peer_of(registry.join(registry.invite()).pem)
    csr = transport.certificate_request(transport.new_private_key(), "else")
    renewed = peer_of(registry.members.renew(registry.authority, first, csr, NOW, HOUR).pem)
    assert (renewed.role, renewed.name) == (first.role, first.name)
    registry.members.check(renewed)


def test_a_head_of_a_ledger_is_kept_for_its_site(registry: Registry) -> None:
    registry.join(registry.invite())
    registry.members.note_ledgers({"kentucky": wire.LedgerHead(sequence=7, hash=b"h" * 32)})
    registry.members.seen(["kentucky", "nobody"], NOW + HOUR)
    found = registry.members.find(Role.SITE, "kentucky")
    assert found is not None
    assert (found.ledger_sequence, found.ledger_hash, found.seen_at) == (7, b"h" * 32, NOW + HOUR)
    older, newer = wire.LedgerHead(sequence=6, hash=b"o" * 32), wire.LedgerHead(sequence=9)
    registry.members.note_ledgers({"kentucky": older, "nobody": newer})
    assert registry.members.find(Role.SITE, "kentucky") == found


def test_an_authority_is_made_once(registry: Registry) -> None:
    with pytest.raises(AlreadyExists):
        Authority.create(registry.home, "preterm", NOW)
    assert (registry.home.authority / "ca.key").stat().st_mode & 0o777 == 0o600


# ---- documents ---------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def shelf(registry: Registry) -> DocumentShelf:
    return DocumentShelf(registry.engine)


def propose(shelf: DocumentShelf, world: World, version: int = 1) -> Envelope:
    envelope = Envelope.parse(world.signed_roster(version, by=()))
    shelf.propose("roster", "preterm", version, envelope, NOW)
    return envelope


def publish(shelf: DocumentShelf, world: World, version: int = 1) -> Envelope:
    envelope = propose(shelf, world, version)
    for name in ("kentucky", "minnesota"):
        shelf.sign(envelope.sign(world.stewards[name]).to_bytes(), NOW)
    return envelope


def test_a_roster_is_published_at_the_threshold_and_not_before(
    shelf: DocumentShelf, world: World
) -> None:
    envelope = propose(shelf, world)
    one = shelf.sign(envelope.sign(world.stewards["kentucky"]).to_bytes(), NOW)
    assert one.state == "proposed"
    assert shelf.message("published") == wire.Documents()
    same = shelf.sign(envelope.sign(world.stewards["kentucky"]).to_bytes(), NOW)
    assert same.state == "proposed"
    two = shelf.sign(envelope.sign(world.stewards["minnesota"]).to_bytes(), NOW)
    assert two.state == "published"
    assert world.view().update_roster(shelf.message("published").roster, NOW)
    third = shelf.sign(envelope.sign(world.stewards["new-york"]).to_bytes(), NOW)
    assert (third.state, len(third.envelope.signatures)) == ("published", 3)


def test_signatures_of_strangers_are_dropped(shelf: DocumentShelf, world: World) -> None:
    envelope = propose(shelf, world)
    strangers = (world.coordinator, world.sites["kentucky"], world.researchers["ana"])
    crowd = envelope
    for key in strangers:
        crowd = crowd.sign(key)
        with pytest.raises(SignatureError):
            shelf.sign(envelope.sign(key).to_bytes(), NOW)
    row = shelf.sign(crowd.sign(world.stewards["kentucky"]).to_bytes(), NOW)
    assert [s.keyid for s in row.envelope.signatures] == [world.stewards["kentucky"].id]


def test_a_false_signature_never_takes_a_true_ones_place(
    shelf: DocumentShelf, world: World
) -> None:
    envelope = publish(shelf, world)
    good = envelope.sign(world.stewards["kentucky"])
    false = Signature(keyid=good.signatures[0].keyid, sig="AAAA")
    # Both under one key id, the true one first.
    raw = good.model_copy(update={"signatures": (*good.signatures, false)}).to_bytes()
    for attempt in (raw, envelope.with_signatures([false]).to_bytes()):
        with pytest.raises(WardgateError):
            shelf.sign(attempt, NOW)
    assert world.view().update_roster(shelf.message("published").roster, NOW)


def test_only_what_is_proposed_can_be_signed(shelf: DocumentShelf, world: World) -> None:
    propose(shelf, world)
    with pytest.raises(NotFound):
        shelf.sign(world.signed_roster(2), NOW)


def test_a_later_roster_needs_the_former_threshold_and_supersedes(
    shelf: DocumentShelf, world: World
) -> None:
    first = publish(shelf, world)
    second = publish(shelf, world, 2)
    states = {d.digest: d.state for d in shelf.all()}
    assert states == {first.digest: "superseded", second.digest: "published"}
    with pytest.raises(NotFound):
        shelf.sign(first.sign(world.stewards["new-york"]).to_bytes(), NOW)


def test_a_new_proposal_withdraws_the_one_before(shelf: DocumentShelf, world: World) -> None:
    old = propose(shelf, world)
    propose(shelf, world, 2)
    with pytest.raises(NotFound):
        shelf.sign(old.sign(world.stewards["kentucky"]).to_bytes(), NOW)


def test_a_project_is_published_by_stewards_of_the_published_roster(
    shelf: DocumentShelf, world: World
) -> None:
    envelope = Envelope.parse(world.signed_project(by=()))
    shelf.propose("project", "birth", 1, envelope, NOW)
    with pytest.raises(SignatureError):  # there is no roster yet
        shelf.sign(envelope.sign(world.stewards["kentucky"]).to_bytes(), NOW)
    publish(shelf, world)
    for name, state in (("kentucky", "proposed"), ("minnesota", "published")):
        row = shelf.sign(envelope.sign(world.stewards[name]).to_bytes(), NOW)
        assert row.state == state
    trusted = shelf.trusted("preterm", NOW)
    assert trusted.job(world.signed_job(), NOW).document.project == "birth"


def test_an_expired_roster_stops_jobs_and_not_the_coordinator(
    shelf: DocumentShelf, world: World
) -> None:
    publish(shelf, world)
    later = NOW + 2 * YEAR
    trusted = shelf.trusted("preterm", later)  # a restart: it must still carry the next roster
    with pytest.raises(WardgateError, match="roster expired"):
        trusted.job(world.signed_job(), later)
    envelope = Envelope.parse(world.signed_roster(2, by=(), expires_at=later + YEAR))
    shelf.propose("roster", "preterm", 2, envelope, later)
    for name in ("kentucky", "minnesota"):
        row = shelf.sign(envelope.sign(world.stewards[name]).to_bytes(), later)
    assert row.state == "published"
    assert shelf.trusted("preterm", later).current_roster(later).version == 2


def test_a_project_that_begins_later_is_believed_once_it_begins(
    shelf: DocumentShelf, world: World
) -> None:
    publish(shelf, world)
    envelope = Envelope.parse(world.signed_project(by=(), issued_at=NOW + HOUR))
    shelf.propose("project", "birth", 1, envelope, NOW)
    for name in ("kentucky", "minnesota"):
        shelf.sign(envelope.sign(world.stewards[name]).to_bytes(), NOW)
    assert shelf.trusted("preterm", NOW).projects == {}
    assert set(shelf.trusted("preterm", NOW + HOUR).projects) == {"birth"}


def test_no_table_keeps_a_private_key_or_a_token(registry: Registry) -> None:
    registry.join(registry.invite())
    with registry.engine.connect() as connection:
        row = connection.execute(select(schema.invitations)).one()
    assert set(row._mapping) == {"id", "role", "name", "token_hash", "expires_at", "used_at"}


def test_a_project_that_holds_later_is_looked_at_again(shelf: DocumentShelf, world: World) -> None:
    publish(shelf, world)
    begin = NOW + timedelta(hours=1)
    proposed = Envelope.parse(world.signed_project(by=(), issued_at=begin))
    shelf.propose("project", "birth", 1, proposed, NOW)
    shelf.sign(world.signed_project(issued_at=begin), NOW)
    assert not shelf.trusted("preterm", NOW).projects
    assert list(shelf.trusted("preterm", NOW + timedelta(hours=2)).projects) == ["birth"]
