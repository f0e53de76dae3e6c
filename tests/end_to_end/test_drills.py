"""The runbook for stolen keys: every command of it is run, in order, and does what it is for."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from contract.documents import PROJECT_TYPE
from contract.errors import WardgateError
from contract.keys import SigningKey
from contract.trust import TrustedDocuments
from node.catalog.asked import Asked
from node.catalog.store import Catalog
from node.gate.inbox.decisions import decide, verdict
from node.gate.inbox.stewards import allowed_keys
from node.home import NodeHome
from node.link.membership import load_membership
from tests.docs.reading import ROOT
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.hostile import now
from tests.end_to_end.processes import BIN, environment, eventually

pytestmark = pytest.mark.slow
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


def test_the_drill_for_the_coordinators_keys(runbook: Runbook) -> None:
    federation = runbook.federation
    old = (federation.coordinator_home / "authority" / "ca.key").read_bytes()
    before = believed(federation, "north").roster
    runbook.run(runbook.section("The coordinator's keys"))
    assert runbook.ran >= 18
    assert (federation.coordinator_home / "authority" / "ca.key").read_bytes() != old
    # The hospitals' own documents went on unchanged.
    after = believed(federation, "north").roster
    assert before is not None
    assert after is not None
    assert after.digest == before.digest


def test_the_drill_for_a_stewards_key(runbook: Runbook) -> None:
    federation = runbook.federation
    if "FINGERPRINT" not in runbook.known:
        runbook.command("coordinator", "wardgate-coordinator authority show")
    home = NodeHome(federation.home("north"))
    thief = SigningKey.from_pem(home.steward_key.read_bytes())
    runbook.run(runbook.section("A steward's key"))
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


def _counts(federation: Federation, decision: bytes) -> object:
    """What a decision is worth at north."""
    with Catalog.open(NodeHome(federation.home("north"))) as catalog:
        anchor = Asked(catalog.engine).consortium("opt").anchor
    return verdict([decision], allowed_keys(anchor, []), "job", "0" * 64, ("opt", "north"), 1)
