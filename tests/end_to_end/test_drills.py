"""The runbook for stolen keys: every command of it is run, in order, and does what it is for."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from contract import wire_pb2 as wire
from contract.documents import PROJECT_TYPE, ROSTER_TYPE, Member
from contract.envelope import Signature, pre_authentication_encoding
from contract.errors import CertificateError, Unavailable, WardgateError
from contract.keys import SigningKey
from contract.trust import TrustedDocuments
from coordinator.home import CoordinatorHome
from coordinator.registry import authority
from coordinator.registry.authority import Authority
from foundation import rpc, transport
from foundation.invitations import Invitation
from foundation.transport import Role, TransportIdentity, peer_of
from node.catalog.asked import Asked
from node.catalog.store import Catalog
from node.gate.inbox.decisions import decide, verdict
from node.gate.inbox.stewards import allowed_keys
from node.home import NodeHome
from node.link.membership import load_membership
from researcher import mean
from researcher.home import ResearcherHome, join
from tests.docs.reading import ROOT
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.hostile import HostileCoordinator, now
from tests.end_to_end.processes import BIN, environment, eventually
from tests.end_to_end.test_kills import STEPS, wait_for_round

pytestmark = pytest.mark.slow
T = TypeVar("T")
SHOWN = {
    "authority show": ("FINGERPRINT", r"^([0-9a-f]{64})$"),
    "roster propose": ("ROSTER", r"^fingerprint ([0-9a-f]{64})$"),
}
"""What a command shows that later ones are given, as ``$NAME``."""
RUNBOOK = ROOT / "docs" / "tutorials" / "drills.md"


@dataclass
class Runbook:
    """Runs the runbook's blocks at the places that they name."""

    federation: Federation
    known: dict[str, str] = field(default_factory=dict)
    ran: int = 0

    def section(self, heading: str) -> str:
        """The text under a heading."""
        return RUNBOOK.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]

    def run(self, text: str) -> None:
        """Run every command of a text."""
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            lines = [line.strip() for line in block.splitlines() if line.strip()]
            where = lines[0].removeprefix("# at ").removeprefix("the ")
            for line in lines[1:]:
                assert line.startswith("$ "), line
                self.command(where, line[2:])
                self.ran += 1

    def command(self, where: str, command: str) -> None:
        """Run one command at a place."""
        service = re.fullmatch(r"systemctl (stop|start) wardgate-\w+", command)
        if service is not None:
            server = self.federation.servers[where]
            server.stop() if service[1] == "stop" else server.start()
            return
        federation = self.federation
        homes = {
            "WARDGATE_COORDINATOR_HOME": federation.coordinator_home,
            "WARDGATE_NODE_HOME": federation.home(where),
            "WARDGATE_HOME": federation.researcher_home(where),
        }
        if command.startswith(("wardgate sites", "wardgate statistics")):
            federation.wait_for_sites()
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=federation.home(where) if command.startswith("mv ") else federation.root,
            env=environment(**{k: str(v) for k, v in homes.items()}, **self.known)
            | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (where, command, done.stdout, done.stderr)
        for said, (name, pattern) in SHOWN.items():
            if said in command:
                found = re.search(pattern, done.stdout, re.MULTILINE)
                assert found is not None, done.stdout
                self.known[name] = found[1]


@pytest.fixture(scope="module")
def runbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runbook]:
    federation = Federation(tmp_path_factory.mktemp("drill") / "opt", ("north", "south", "west"))
    try:
        federation.bring_up(researchers=("ana",))
        yield Runbook(federation)
    finally:
        federation.close()


def believed(federation: Federation, site: str) -> TrustedDocuments:
    """What a site believes, from its disk."""
    home = NodeHome(federation.home(site))
    with Catalog.open(home) as catalog:
        asked = Asked(catalog.engine)
        return load_membership(home, asked, asked.consortium("opt"), now()).trusted


@dataclass
class Thief:
    """Whoever copied the coordinator's whole home, and knows the certificates that went around."""

    federation: Federation
    home: CoordinatorHome

    @classmethod
    def of(cls, federation: Federation) -> Thief:
        """Copy all of it."""
        copied = federation.root / "stolen"
        shutil.copytree(federation.coordinator_home, copied)
        return cls(federation, CoordinatorHome(copied))

    def poses(self, visitors: Callable[[HostileCoordinator], T]) -> T:
        """Serve at the coordinator's address by a certificate of the stolen key, meanwhile.

        Whoever has a certificate of the old or the new authority is let in.
        """
        federation = self.federation
        federation.coordinator.stop()
        stolen, key = Authority.load(self.home), transport.new_private_key()
        made = stolen.issue(
            key.public_key(), Role.COORDINATOR, federation.name, now(), timedelta(days=1)
        )
        newest = Authority.load(CoordinatorHome(federation.coordinator_home))
        TransportIdentity(self.home.server).save(
            transport.private_key_pem(key), made.pem, stolen.pem + newest.pem
        )
        port = int(federation.address.rpartition(":")[2])
        impostor = HostileCoordinator(self.home, port)
        try:
            return visitors(impostor)
        finally:
            impostor.close()
            federation.coordinator.start()

    def mints(self, role: Role, name: str, registered: TransportIdentity) -> TransportIdentity:
        """Make a member's certificate of the stolen key, with the serial number that is registered.

        The coordinator is known by its newest authority, whose certificate is no secret.
        """
        serial = int(peer_of(registered.pair_file.read_bytes()).serial, 16)
        stolen, key = Authority.load(self.home), transport.new_private_key()
        with pytest.MonkeyPatch.context() as forging:
            forging.setattr(authority.x509, "random_serial_number", lambda: serial)
            made = stolen.issue(key.public_key(), role, name, now(), timedelta(days=1))
        minted = TransportIdentity(self.federation.root / f"minted-{name}-{serial:x}")
        minted.folder.mkdir(mode=0o700)
        newest = Authority.load(CoordinatorHome(self.federation.coordinator_home))
        minted.save(transport.private_key_pem(key), made.pem, newest.pem)
        return minted

    def gets_in(self) -> dict[str, bool]:
        """Say as whom of a site and a researcher the coordinator lets the thief call it."""
        federation = self.federation
        home = NodeHome(federation.home("north")).identity(federation.name)
        members = {
            "north": (Role.SITE, TransportIdentity(home)),
            "ana": (Role.RESEARCHER, ResearcherHome(federation.researcher_home("ana")).identity),
        }
        return {
            name: _is_served(federation.address, self.mints(role, name, identity))
            for name, (role, identity) in members.items()
        }


def _is_served(address: str, identity: TransportIdentity) -> bool:
    """Say whether a call with this certificate is answered."""
    try:
        with rpc.calling(address, identity.channel_credentials()) as stub:
            return bool(stub.GetDocuments(wire.DocumentsRequest()).roster)
    except WardgateError:
        return False


def _tell(federation: Federation, impostor: HostileCoordinator, *rosters: bytes) -> set[str]:
    """Say who tells an impostor something: any node, of which north begins anew, and ana."""
    impostor.documents = wire.Documents(roster=b"".join(rosters))
    north = federation.node("north")
    north.stop()
    north.start()
    eventually(
        lambda: impostor.bytes or any("Trying again" in line for line in north.errors),
        "north tries to link to it",
    )
    found = {"a node"} if impostor.bytes else set()
    for _ in rosters:
        eventually(
            lambda: any("not believed" in line for line in north.errors), "north hears the roster"
        )
    ana = ResearcherHome(federation.researcher_home("ana")).identity
    try:
        with rpc.calling(federation.address, ana.channel_credentials()) as stub:
            stub.BlobState(wire.BlobRequest())
    except (CertificateError, Unavailable):
        return found
    return found | {"ana"}


def _forged(federation: Federation, thief: Thief) -> list[bytes]:
    """Make rosters by the authority's key: under the stewards' names, and with a new steward."""
    view = believed(federation, "north").roster
    assert view is not None
    roster = view.document
    next_one = roster.model_copy(update={"version": roster.version + 1})
    sealed = next_one.seal(ROSTER_TYPE)
    signed = pre_authentication_encoding(ROSTER_TYPE, sealed.body)
    raw = Authority.load(thief.home).key.sign(signed, ec.ECDSA(hashes.SHA256()))
    by_authority = [
        Signature(keyid=keyid, sig=base64.b64encode(raw).decode()) for keyid in roster.steward_keys
    ]
    own = SigningKey.generate()
    usurped = next_one.model_copy(
        update={"stewards": (Member(name="thief", key=own.public),), "threshold": 1}
    )
    return [
        sealed.with_signatures(by_authority).to_bytes(),
        usurped.seal(ROSTER_TYPE).sign(own).to_bytes(),
    ]


def test_the_drill_for_the_coordinators_keys(runbook: Runbook) -> None:
    federation = runbook.federation
    old = (federation.coordinator_home / "authority" / "ca.key").read_bytes()
    before = believed(federation, "north").roster
    assert before is not None
    thief = Thief.of(federation)
    unused = Invitation.read(federation.invite("late", researcher=True))
    # Before the drill the stolen key does what the runbook says that it can, and no more.
    for roster in _forged(federation, thief):
        told = thief.poses(lambda impostor, r=roster: _tell(federation, impostor, r))  # type: ignore[misc]
        assert told == {"a node", "ana"}
    federation.wait_for_sites()
    assert thief.gets_in() == {"north": True, "ana": True}
    for site in federation.sites:
        assert believed(federation, site).roster == before

    ran = runbook.ran
    runbook.run(runbook.section("The coordinator's keys"))
    assert runbook.ran - ran >= 18
    assert (federation.coordinator_home / "authority" / "ca.key").read_bytes() != old
    # The hospitals' own documents went on unchanged.
    after = believed(federation, "north").roster
    assert after is not None
    assert after.digest == before.digest
    # The stolen key is worth nothing to the coordinator, a node and a researcher.
    assert thief.gets_in() == {"north": False, "ana": False}
    assert thief.poses(lambda impostor: _tell(federation, impostor)) == set()
    with pytest.raises(WardgateError):
        join(ResearcherHome(federation.root / "late"), unused, None, now())
    federation.wait_for_sites()


def test_the_drill_for_a_stewards_key(runbook: Runbook) -> None:
    federation = runbook.federation
    if "FINGERPRINT" not in runbook.known:
        runbook.command("coordinator", "wardgate-coordinator authority show")
    home = NodeHome(federation.home("north"))
    thief, accomplice = (
        SigningKey.from_pem(home.steward_key.read_bytes()),
        SigningKey.generate(),
    )
    added = federation.on("north", "steward", "add", "mallory", accomplice.public)
    assert added.code == 0, added.errors
    first, number, rest = runbook.section("A steward's key").partition("\n2. ")
    _check_that_it_stops_at_once(runbook, first)
    runbook.run(number + rest)
    listed = federation.on("north", "steward", "list").out
    assert re.search(r"mallory.*doesn't count", listed), listed
    for site in federation.sites:
        eventually(
            lambda site=site: believed(federation, site).roster.document.version == 2,  # type: ignore[union-attr]
            f"{site} believes the new roster",
        )
        roster = believed(federation, site).roster
        assert roster is not None
        assert thief.id not in roster.document.steward_keys
    # The thief signs a project with one honest steward's help, and a decision: both are nothing.
    south = SigningKey.from_pem((federation.home("south") / "steward.key").read_bytes())
    view = believed(federation, "west")
    document = view.projects[PROJECT].document.model_copy(update={"version": 9})
    envelope = document.seal(PROJECT_TYPE).sign(thief).sign(south)
    with pytest.raises(WardgateError, match="1 valid signatures of the 2"):
        view.update_project(envelope.to_bytes(), now())
    decision = decide(thief, "job", "0" * 64, ("opt", "north"), now())
    assert _counts(federation, decision) is None


def _check_that_it_stops_at_once(runbook: Runbook, text: str) -> None:
    """Run the first step while a job is under way: north works on nothing more, the others do."""
    federation = runbook.federation
    federation.wait_for_sites()
    with federation.connect() as ana:
        handle = ana.train(
            PROJECT, "steps", STEPS | {"minimum": 2, "pause": 2.0}, seed=1, minimum_sites=2
        )
        wait_for_round(handle, 2)
        with federation.node("south").work_stopped():
            runbook.run(text)
        before = len(federation.answers("north", handle.digest))
        eventually(lambda: not federation.node("north").confined(), "north's worker ends")
        assert handle.result().answered
        assert len(federation.answers("north", handle.digest)) == before
        with pytest.raises(WardgateError):
            ana.statistics(PROJECT, [mean("age")], minimum_sites=3)


def _counts(federation: Federation, decision: bytes) -> object:
    """What a decision is worth at north."""
    with Catalog.open(NodeHome(federation.home("north"))) as catalog:
        anchor = Asked(catalog.engine).consortium("opt").anchor
    return verdict([decision], allowed_keys(anchor, []), "job", "0" * 64, ("opt", "north"), 1)
