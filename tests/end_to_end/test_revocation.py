"""Revoked sites, expired and renewed certificates, and a roster that ran out."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from contract import wire_pb2 as wire
from contract.errors import JobFailed
from coordinator.home import CoordinatorHome
from coordinator.registry.authority import Authority
from foundation import rpc, transport
from foundation.transport import Role, TransportIdentity
from node.home import NodeHome
from researcher import mean
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import eventually, run
from tests.end_to_end.test_kills import STEPS, wait_for_round

Make = Callable[..., Federation]
ROUNDS = 6
SLOWLY = STEPS | {"minimum": 2, "pause": 2.0, "rounds": ROUNDS}
"""So that there are rounds left when the first is seen to be over, on a busy machine too."""


def identity_of(federation: Federation, site: str) -> TransportIdentity:
    return TransportIdentity(NodeHome(federation.home(site)).identity(federation.name))


def test_a_revoked_site_is_cut_off_at_once_and_training_goes_on_while_enough_are_left(
    federations: Make,
) -> None:
    one = federations("north", "south", "west").bring_up(researchers=("ana",))
    identity = identity_of(one, "west")
    with one.connect() as ana:
        handle = ana.train(PROJECT, "steps", SLOWLY, seed=1, minimum_sites=2)
        wait_for_round(handle, 2)
        with one.node("north").work_stopped():
            revoked = one.at_coordinator("site", "revoke", "west")
            assert revoked.code == 0, revoked.errors
            one.node("west").ended().fails(5, "west was revoked")
        result = handle.result()
        assert {r.number for r in result.rounds} == set(range(1, ROUNDS + 1))
        # What it sent before it was revoked is in the model, and that is said.
        assert result.answered == ("north", "south", "west")
        states = {s.site: s.state for s in handle.status().sites}
        assert states == {"north": "answered", "south": "answered", "west": "revoked"}

        # It can't come back: not with its certificate, not with a fresh one, not by joining.
        one.node("west").launch().ended().fails(5, "west was revoked")
        request = transport.certificate_request(transport.new_private_key(), "west")
        credentials = identity.channel_credentials()
        with (
            pytest.raises(Exception, match="west was revoked"),
            rpc.calling(one.address, credentials) as stub,
        ):
            stub.Renew(wire.RenewRequest(csr=request), timeout=60)
        home = one.root / "west-again"
        invitation = one.invite("west")
        again = run("wardgate-node", "join", invitation, "--yes", "--home", home)
        again.fails(4, "west was revoked")
        answer = ana.statistics(PROJECT, [mean("age")])
        assert answer.answered == ("north", "south")

        # With one site more gone, too few are left, and the reason says so.
        handle = ana.train(PROJECT, "steps", SLOWLY, seed=1, minimum_sites=2)
        wait_for_round(handle, 2)
        with one.node("north").work_stopped():
            assert one.at_coordinator("site", "revoke", "south").code == 0
            one.node("south").ended().fails(5, "south was revoked")
        with pytest.raises(JobFailed, match="1 of 2 sites") as failed:
            handle.result()
        assert "\n" not in str(failed.value)
        assert "revoked" in str(failed.value)
    eventually(lambda: not one.open_jobs("north"), "north closes its jobs")
    one.ledgers_verify()
    assert "Traceback" not in one.coordinator.log


def test_a_certificate_is_renewed_in_time_and_its_successor_is_used(federations: Make) -> None:
    # Two minutes of life: from the start in the last third of it, counting from five minutes ago.
    one = federations(
        "north", WARDGATE_COORDINATOR_CERTIFICATES__LIFETIME_DAYS=str(120 / 86400)
    ).bring_up(researchers=("ana",), minimum=1)
    identity = identity_of(one, "north")
    joined = identity.pair_file.read_bytes()
    one.node("north").kill()
    first = identity.pair_file.read_bytes()
    one.node("north").start()
    eventually(lambda: identity.pair_file.read_bytes() != first, "it is renewed")
    assert identity.pair_file.read_bytes() != joined
    one.coordinator.kill()
    one.coordinator.start()
    one.wait_for_sites()
    with one.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == ("north",)

    # An expired one is said to be so: at the node, and at the researcher.
    authority = Authority.load(CoordinatorHome(one.coordinator_home))
    one.node("north").kill()
    long_ago = datetime.now(UTC) - timedelta(days=2)
    for target, role, name in (
        (identity, Role.SITE, "north"),
        (TransportIdentity(one.researcher_home("ana")), Role.RESEARCHER, "ana"),
    ):
        key = transport.new_private_key()
        issued = authority.issue(key.public_key(), role, name, long_ago, timedelta(days=1))
        target.save(transport.private_key_pem(key), issued.pem, authority.pem)
    one.node("north").launch().ended().fails(5, "certificate expired")
    one.as_researcher("ana", "sites").fails(5, "certificate expired")


@pytest.mark.slow
def test_a_node_outlives_whoever_answers_falsely_at_its_coordinators_address(
    federations: Make,
) -> None:
    from coordinator.commands import setup

    one = federations("north").bring_up(researchers=("ana",), minimum=1)
    one.coordinator.kill()
    setup.init("elsewhere", one.address, one.root / "elsewhere")
    theirs = TransportIdentity(one.root / "elsewhere" / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.pair_file)
    context.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", int(one.address.rsplit(":", 1)[1]))) as server:
        tries = 0
        while tries < 6:
            connection, _ = server.accept()
            tries += 1
            if tries % 2:  # breaks the handshake off, as a coordinator does that is killed
                connection.close()
                continue
            with suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass
    assert one.node("north").process.poll() is None
    one.coordinator.start()
    one.wait_for_sites()


@pytest.mark.slow
def test_an_expired_roster_stops_all_work_and_can_be_renewed(federations: Make) -> None:
    one = federations("north", "south").bring_up(researchers=("ana",))
    now = datetime.now(UTC)
    _expire_roster(one, now + timedelta(seconds=5))
    with one.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == ("north", "south")
    eventually(lambda: datetime.now(UTC) > now + timedelta(seconds=5), "the roster expires")
    one.as_researcher("ana", "statistics", "-p", PROJECT, "--mean", "age").fails(
        7, "roster expired"
    )
    # Also after a restart of everybody: the way to a new roster must stay open.
    for server in one.servers.values():
        server.kill()
    for server in one.servers.values():
        server.start()
    one.agree_on_roster()

    def answered() -> bool:
        with one.connect() as ana:
            try:
                found = ana.statistics(PROJECT, [mean("age")]).answered
            except Exception:
                return False
        return found == ("north", "south")

    eventually(answered, "the new roster is in force", pause=0.5)
    assert "Traceback" not in one.coordinator.log


def _expire_roster(federation: Federation, end: datetime) -> None:
    """Let the sites sign a roster that ends soon."""
    from contract.documents import ROSTER_TYPE, Roster
    from coordinator.commands.options import open_coordinator
    from coordinator.registry.documents import DocumentShelf
    from node.commands import documents

    opened = open_coordinator(federation.coordinator_home)
    shelf = DocumentShelf(opened.engine)
    [current] = [d for d in shelf.all("published") if d.kind == "roster"]
    roster = Roster.read(current.envelope.body)
    short = roster.model_copy(update={"version": roster.version + 1, "expires_at": end})
    shelf.propose("roster", opened.consortium, short.version, short.seal(ROSTER_TYPE), end)
    for site in federation.sites:
        documents.sign_roster(federation.name, None, None, True, federation.home(site))
