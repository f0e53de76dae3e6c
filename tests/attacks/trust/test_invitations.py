"""An invitation that was read on its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from contract import wire_pb2 as wire
from contract.errors import InvitationError
from contract.keys import SigningKey
from coordinator import schema
from coordinator.commands import setup
from coordinator.commands.options import Opened, open_coordinator
from coordinator.registry import invitations
from coordinator.registry.authority import Authority
from coordinator.registry.members import Members
from foundation import transport
from foundation.invitations import Invitation
from foundation.transport import Peer, Role, peer_of
from tests.attacks.trust.conftest import Target
from tests.contract.world import members, sign

ATTACKS = (
    (
        "Stolen invitation, used again",
        "RFC 7030 (EST), 3.2.3: one-time enrolment secrets",
        "an invitation is used up in the transaction that gives the certificate",
        "test_an_invitation_that_was_used_gives_a_thief_nothing",
    ),
    (
        "Stolen invitation, used first",
        "RFC 7030 (EST), 3.2.3: one-time enrolment secrets",
        "a certificate is for transport; a roster of the stewards says whose key signs",
        "test_a_thief_who_joins_first_is_still_no_researcher",
    ),
)


@dataclass
class Registry:
    """A coordinator's registry, with one invitation that was made."""

    opened: Opened
    invitation: Invitation

    def enrol(self, key: SigningKey) -> Peer:
        """Join with the invitation, whoever holds it."""
        request = transport.certificate_request(transport.new_private_key(), "ana")
        authority = Authority.load(self.opened.home)
        issued = Members(self.opened.engine).enrol(
            authority,
            peer_of(self.invitation.certificate_pem.encode()),
            wire.EnrolRequest(
                token=bytes.fromhex(self.invitation.token),
                name="ana",
                csr=request,
                signing_key=key.public,
                proof=key.sign(request),
            ),
            setup.now(),
            timedelta(days=1),
        )
        return peer_of(issued.pem)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    home = tmp_path / "coordinator"
    setup.init("preterm", "127.0.0.1:1", home)
    opened = open_coordinator(home)
    made = invitations.invite(
        opened.engine,
        Authority.load(opened.home),
        "researcher",
        "ana",
        setup.now(),
        timedelta(hours=1),
    )
    yield Registry(opened, made)
    opened.engine.dispose()


def test_an_invitation_that_was_used_gives_a_thief_nothing(registry: Registry) -> None:
    ana, thief = SigningKey.generate(), SigningKey.generate()
    assert registry.enrol(ana).role is Role.RESEARCHER

    with registry.opened.engine.begin() as connection:  # off: it isn't used up
        connection.execute(update(schema.invitations).values(used_at=None))
    assert registry.enrol(thief).name == "ana"
    [member] = Members(registry.opened.engine).all(Role.RESEARCHER)
    assert member.signing_key == thief.public

    with pytest.raises(InvitationError, match="used already"):
        registry.enrol(thief)


def test_a_thief_who_joins_first_is_still_no_researcher(registry: Registry, target: Target) -> None:
    world = target.world
    assert registry.enrol(target.mallory).name == "ana"
    [member] = Members(registry.opened.engine).all(Role.RESEARCHER)
    assert member.signing_key == target.mallory.public
    # The roster that the coordinator proposes names the thief's key as ana's.
    proposed = world.roster(
        2, researchers=members({"ana": target.mallory, "ben": world.researchers["ben"]})
    )

    # Off: the stewards sign without comparing keys.
    with target.fooled():
        assert target.hear(sign(proposed, *world.stewards.values())) == []
        assert target.ask(target.job_by(target.mallory)) == ""

    assert target.hear(sign(proposed)) != []
    assert target.ask(target.job_by(target.mallory)) == "bad-signature"
