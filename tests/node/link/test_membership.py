"""What a node believes outlives its restarts, and nothing that it refused is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import wire_pb2 as wire
from foundation.files import private_folder, write_durably
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.store import Catalog
from node.gate.gate import Membership
from node.home import NodeHome
from node.link.membership import load_membership, take_in
from tests.contract.world import NOW, SITES, YEAR, World, members

SITE = "kentucky"


class Node:
    """A node that joined and heard nothing yet; ``restart`` reads what is on its disk."""

    def __init__(self, home: NodeHome, catalog: Catalog, world: World) -> None:
        self.home, self.world = home, world
        self.asked = Asked(catalog.engine)
        identity = private_folder(home.identity(world.consortium))
        write_durably(identity / "site.key", world.sites[SITE].to_pem())
        self.asked.put_consortium(
            ConsortiumRow(world.consortium, SITE, "localhost:1", world.stewards[SITE].id, None), NOW
        )
        self.member = self.restart()

    def restart(self, now: object = NOW) -> Membership:
        row = self.asked.consortium(self.world.consortium)
        self.member = load_membership(self.home, self.asked, row, now)  # type: ignore[arg-type]
        return self.member

    def hear(self, roster: bytes = b"", *projects: bytes, now: object = NOW) -> list[str]:
        documents = wire.Documents(roster=roster, projects=projects)
        return take_in(self.asked, self.member, documents, now)  # type: ignore[arg-type]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    home = NodeHome(tmp_path / "node").create()
    with Catalog.open(home) as catalog:
        yield Node(home, catalog, World())


def test_what_was_believed_is_believed_after_a_restart(node: Node) -> None:
    assert node.hear(node.world.signed_roster(), node.world.signed_project()) == []
    member = node.restart()
    assert member.trusted.current_roster(NOW) == node.world.roster()
    assert member.trusted.job(node.world.signed_job(), NOW).document.project == "birth"


def test_a_roster_that_our_own_steward_did_not_sign_is_still_in_force_after_a_restart(
    node: Node,
) -> None:
    node.hear(node.world.signed_roster())
    assert node.hear(node.world.signed_roster(2, by=("minnesota", "new-york"))) == []
    assert node.restart().trusted.current_roster(NOW).version == 2


def test_an_expired_roster_stays_the_one_that_the_next_must_continue(node: Node) -> None:
    long_lived = node.world.signed_roster(1, expires_at=NOW + 9 * YEAR)
    node.hear(node.world.signed_roster(2))
    later = NOW + 2 * YEAR
    node.restart(later)
    assert "not newer" in node.hear(long_lived, now=later)[0]
    coup = node.world.signed_roster(3, by=(SITE,), threshold=1, expires_at=NOW + 9 * YEAR)
    assert "valid signatures" in node.hear(coup, now=later)[0]
    third = node.world.signed_roster(3, expires_at=NOW + 9 * YEAR)
    assert node.hear(third, now=later) == []
    assert node.restart(later).trusted.current_roster(later).version == 3


def test_nothing_that_is_refused_is_kept(node: Node) -> None:
    node.hear(node.world.signed_roster(), node.world.signed_project())
    kept = node.asked.consortium(node.world.consortium).roster
    objections = node.hear(
        node.world.signed_roster(2, by=(SITE,)),
        node.world.signed_project(2, by=()),
        node.world.signed_project(1, purpose="else"),
        b"{}",
        '{"payload":"é","payloadType":"","signatures":[]}'.encode(),
    )
    assert len(objections) == 5
    assert node.asked.consortium(node.world.consortium).roster == kept
    assert [p.version for p in node.asked.projects(node.world.consortium)] == [1]


def test_a_good_document_is_taken_in_beside_bad_ones(node: Node) -> None:
    objections = node.hear(node.world.signed_roster(), b"", node.world.signed_project())
    assert len(objections) == 1
    assert set(node.member.trusted.projects) == {"birth"}


def test_a_change_of_stewards_drops_their_projects_also_after_a_restart(node: Node) -> None:
    node.hear(node.world.signed_roster(), node.world.signed_project(by=("mississippi", "new-york")))
    stay = {name: node.world.stewards[name] for name in SITES[:2]}
    node.hear(node.world.signed_roster(2, stewards=members(stay)))
    assert node.member.trusted.projects == {}
    assert node.restart().trusted.projects == {}


def test_a_project_that_is_out_of_force_keeps_older_ones_out_after_a_restart(node: Node) -> None:
    world = node.world
    older = world.signed_project(1)
    short = world.signed_project(2, expires_at=NOW + YEAR / 365)
    assert node.hear(world.signed_roster(), short) == []
    later = NOW + YEAR / 100
    node.restart(later)
    assert node.member.trusted.projects == {}
    assert len(node.hear(b"", older, now=later)) == 1
    assert node.member.trusted.projects == {}
