"""A coordinator that owns the certificate authority makes up members, stewards and thresholds."""

from __future__ import annotations

import pytest

from contract.envelope import Envelope
from contract.errors import SignatureError
from contract.keys import SigningKey
from contract.receipts import Receipt
from contract.trust import TrustedDocuments
from tests.attacks.trust.conftest import Target
from tests.contract.world import NOW, World, members, sign
from tests.node.gate.conftest import SITE

TUF = "Samuel, Mathewson, Cappos and Dingledine 2010, Survivable Key Compromise"
ATTACKS = (
    (
        "Sybil researcher",
        "Douceur 2002, The Sybil Attack",
        "a threshold of stewards signs each roster",
        "test_a_researcher_whom_the_coordinator_minted_gets_nothing",
    ),
    (
        "Sybil sites",
        "Douceur 2002, The Sybil Attack",
        "a threshold of stewards signs each roster",
        "test_sites_that_the_coordinator_minted_are_nobody",
    ),
    (
        "Lowered threshold",
        TUF,
        "the former threshold of the former stewards passes a roster on",
        "test_a_roster_cannot_lower_the_threshold_for_itself",
    ),
    (
        "Rollback to a roster with the removed researcher",
        TUF,
        "a roster has a higher version than the one before",
        "test_an_older_roster_does_not_bring_a_removed_researcher_back",
    ),
    (
        "Rollback at a restart",
        TUF,
        "the roster that is believed is kept on disk",
        "test_a_restart_does_not_bring_a_removed_researcher_back",
    ),
    (
        "Stolen steward's key: a project of the thief's",
        TUF,
        "a threshold of stewards signs each project, and the hospital approves its digest",
        "test_one_stolen_stewards_key_makes_no_project_here",
    ),
)

Monkey = pytest.MonkeyPatch


def without_threshold(monkeypatch: Monkey) -> None:
    """Documents are believed whoever signed them."""
    monkeypatch.setattr(
        Envelope, "opened", lambda self, _kind, keys, _threshold: (self.signers(keys), self.body)
    )


def test_a_researcher_whom_the_coordinator_minted_gets_nothing(
    target: Target, monkeypatch: Monkey
) -> None:
    world, coordinator = target.world, SigningKey.generate()
    minted = {"ana": target.mallory, "ben": world.researchers["ben"]}
    roster = sign(world.roster(2, researchers=members(minted)), coordinator)

    with monkeypatch.context() as off, target.fooled():
        without_threshold(off)
        assert target.hear(roster) == []
        assert target.ask(target.job_by(target.mallory)) == ""

    assert target.hear(roster) != []
    assert target.ask(target.job_by(target.mallory)) == "bad-signature"
    assert target.ask(target.job_by(world.researchers["ana"])) == ""


def test_sites_that_the_coordinator_minted_are_nobody(monkeypatch: Monkey) -> None:
    world = World()
    sybils = {f"sybil-{n}": SigningKey.generate() for n in range(5)}
    crowd = world.roster(2, sites=members(world.sites | sybils))
    roster = sign(crowd, SigningKey.generate())
    receipt = receipt_of(sybils["sybil-0"])

    with monkeypatch.context() as off:
        without_threshold(off)
        fooled = world.settled(SITE)
        assert fooled.update_roster(roster, NOW)
        assert len(fooled.current_roster(NOW).sites) == 9
        assert Receipt.verify(receipt, fooled.current_roster(NOW)).site == "sybil-0"

    view = world.settled(SITE)
    with pytest.raises(SignatureError):
        view.update_roster(roster, NOW)
    assert len(view.current_roster(NOW).sites) == 4
    with pytest.raises(SignatureError):
        Receipt.verify(receipt, view.current_roster(NOW))


def receipt_of(key: SigningKey) -> bytes:
    world = World(sites={"sybil-0": key})
    return world.receipt("sybil-0", "0" * 64)


def test_a_roster_cannot_lower_the_threshold_for_itself(
    target: Target, monkeypatch: Monkey
) -> None:
    world = target.world
    coup = world.roster(
        2,
        threshold=1,
        stewards=members({"mallory": target.mallory}),
        researchers=members({"ana": SigningKey.generate()}),
    )
    roster = sign(coup, target.mallory)

    with monkeypatch.context() as off:
        off.setattr(TrustedDocuments, "_check_succession", lambda *_: None)
        fooled = world.settled(SITE)
        assert fooled.update_roster(roster, NOW)
        assert fooled.current_roster(NOW).threshold == 1

    assert "0 valid signatures of the 2" in target.hear(roster)[0]
    assert target.hospital.trusted.current_roster(NOW).threshold == 2


def without(target: Target, name: str) -> bytes:
    """The next roster, without a researcher."""
    left = {n: k for n, k in target.world.researchers.items() if n != name}
    return target.world.signed_roster(2, researchers=members(left))


def test_an_older_roster_does_not_bring_a_removed_researcher_back(
    target: Target, monkeypatch: Monkey
) -> None:
    world = target.world
    ana = world.researchers["ana"]
    old, project = world.signed_roster(1), world.signed_project()
    assert target.hear(without(target, "ana")) == []

    with monkeypatch.context() as off:
        off.setattr(TrustedDocuments, "_check_succession", lambda *_: None)
        fooled = world.view(SITE)
        fooled.update_roster(without(target, "ana"), NOW)
        assert fooled.update_roster(old, NOW)
        fooled.update_project(project, NOW)
        assert fooled.job(target.job_by(ana), NOW)

    assert "not newer" in target.hear(old, project)[0]
    assert target.ask(target.job_by(ana)) == "bad-signature"


def test_a_restart_does_not_bring_a_removed_researcher_back(
    target: Target, monkeypatch: Monkey
) -> None:
    world, asked = target.world, target.hospital.gate.asked
    ana = world.researchers["ana"]
    documents = world.signed_roster(1), approved(target)
    kept = asked.consortium(world.consortium).roster
    assert kept is not None

    # Nothing is kept on disk: at the restart the coordinator tells what was first once more.
    row = asked.consortium(world.consortium)
    assert target.hear(without(target, "ana")) == []
    asked.put_roster(world.consortium, None)  # type: ignore[arg-type]
    target.restart()
    assert target.hear(*documents) == []
    assert target.ask(target.job_by(ana)) == ""

    assert target.hear(without(target, "ana")) == []
    target.restart()
    assert target.hear(*documents) != []
    assert target.ask(target.job_by(ana)) == "bad-signature"
    assert row.anchor == world.stewards[SITE].id


def approved(target: Target) -> bytes:
    """The project as this hospital's steward approved it."""
    rows = target.hospital.gate.asked.projects(target.world.consortium)
    return rows[0].envelope


def test_one_stolen_stewards_key_makes_no_project_here(target: Target, monkeypatch: Monkey) -> None:
    """The thief has our own steward's key, and the coordinator."""
    world = target.world
    thief = world.stewards[SITE]
    wide = world.signed_project(2, by=(SITE,), purpose="anything", researchers=("ana", "ben"))
    job = world.signed_job(
        project_version=2, researcher="ben", releases={SITE: target.hospital.release()}
    )

    with monkeypatch.context() as off:
        without_threshold(off)
        fooled = world.settled(SITE)
        assert fooled.update_project(wide, NOW)
        assert fooled.job(job, NOW)

    assert "1 valid signatures of the 2" in target.hear(b"", wide)[0]
    assert target.ask(job) == "not-believed"
    # With a second steward's help it is believed, and still wants this hospital's approval.
    both = world.signed_project(2, by=(SITE, "minnesota"), researchers=("ana", "ben"))
    assert target.hear(b"", both) == []
    assert target.ask(world.signed_job(
        project_version=2, researcher="ben", releases={SITE: target.hospital.release()}
    )) == "project-not-approved"  # fmt: skip
    # The other stewards take the key out; from then on it signs nothing.
    others = {n: k for n, k in world.stewards.items() if n != SITE} | {SITE: SigningKey.generate()}
    roster = world.roster(2, stewards=members(others))
    assert target.hear(sign(roster, *others.values())) == []
    with pytest.raises(SignatureError):
        target.hospital.trusted.update_project(
            sign(world.project(3), thief, world.stewards["minnesota"]), NOW
        )
