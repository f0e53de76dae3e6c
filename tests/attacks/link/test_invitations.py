"""An invitation that was read on its way, against a real coordinator over its own port."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, update

from contract.errors import InvitationError
from coordinator import schema
from coordinator.home import CoordinatorHome
from foundation.invitations import Invitation
from researcher.home import ResearcherHome, join
from tests.end_to_end.federation import Federation

ATTACKS = (
    (
        "Stolen invitation, used again",
        "RFC 7030 (EST), 3.2.3: one-time enrolment secrets",
        "an invitation is used up in the transaction that gives the certificate",
        "test_an_invitation_that_was_used_lets_no_thief_in",
    ),
)


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Federation]:
    """A coordinator that nobody has joined yet."""
    made = Federation(tmp_path / "opt", ())
    try:
        made.found()
        yield made
    finally:
        made.close()


def test_an_invitation_that_was_used_lets_no_thief_in(
    consortium: Federation, tmp_path: Path
) -> None:
    stolen = Invitation.read(consortium.invite("ana", researcher=True))

    def joins(who: str) -> ResearcherHome:
        home = ResearcherHome(tmp_path / who)
        join(home, stolen, None, datetime.now(UTC))
        return home

    joins("ana")
    # Off: nobody notes that it was used.
    engine = create_engine(f"sqlite:///{CoordinatorHome(consortium.coordinator_home).database}")
    with engine.begin() as connection:
        connection.execute(update(schema.invitations).values(used_at=None))
    engine.dispose()
    joins("thief")

    with pytest.raises(InvitationError, match="used already"):
        joins("another")
