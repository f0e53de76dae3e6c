"""A whole consortium for tests: a coordinator, nodes and researchers as real processes.

Homes are made by the functions behind the commands, in this process, so that a test doesn't wait
for forty interpreters; what a test is about it does by real commands. Unless a fixture says
otherwise, nodes are under ``POLICY``: the profile ``open-research`` with cohorts of ten.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from contract.errors import Unavailable
from coordinator.commands import documents as coordinator_documents
from coordinator.commands import setup
from coordinator.home import CoordinatorHome
from foundation.flower import build
from foundation.invitations import Invitation
from node.catalog.asked import Asked
from node.catalog.store import Catalog
from node.commands import consortium as node_consortium
from node.commands import documents as node_documents
from node.commands import recipe as node_recipe
from node.commands import release as node_release
from node.commands.ingest import ingest
from node.config import create_home
from node.gate.ledger import Entry, Head, read_entries, verify
from node.home import NodeHome
from researcher import Consortium
from researcher.home import ResearcherHome, join
from tests.end_to_end.processes import Done, Server, eventually, run
from tests.node.homes import new_home
from tests.ports import free_port

APPS = Path(__file__).parent / "apps"
PROJECT = "trial"
SUBJECTS = 60
FEW = 3
"""How many have the rare finding at the last site: too few to be told."""

SCHEMA = """
table = "trial"
subject = "patient"
[[columns]]
name = "name"
type = "text"
[[columns]]
name = "age"
type = "number"
unit = "years"
minimum = 0
maximum = 120
[[columns]]
name = "weight"
type = "number"
unit = "kg"
[[columns]]
name = "arm"
type = "category"
levels = ["A", "B"]
[[columns]]
name = "outcome"
type = "category"
levels = ["no", "yes"]
[[columns]]
name = "rare"
type = "category"
levels = ["no", "yes"]
"""

POLICY = """
profile = "open-research"
[disclosure]
minimum_cohort = 10
minimum_sum_sites = 3
minimum_cell = 5
[training]
minimum_subjects = 30
[jobs]
per_hour = 100000
"""

RANGES = (
    "[recipes.metric_ranges]",
    "calls = { minimum = 0, maximum = 1000 }",
    "loss = { minimum = 0, maximum = 1000 }",
)
GRANTS = {
    "conventional": ('metrics = ["num-examples", "train_loss", "eval_loss", "own"]',),
    "analytics": (
        'metrics = ["age", "age_count"]',
        "metric_lengths = { age = 4 }",
        'metric_records = ["query_results"]',
    ),
    "plain": (
        'metrics = ["num-examples", "same", "parts"]',
        "metric_lengths = { parts = 3 }",
        'num_examples = "other"',
    ),
    "trees": ('metrics = ["num-examples", "auc"]', "max_model_bytes = 1000000"),
    "strategies": (
        'metrics = ["num-examples", "train_loss", "size", "norm_bit"]',
        "max_model_bytes = 1000000",
    ),
    "unruly": ('metrics = ["num-examples", "loss"]',),
}
"""What may come out of an app, where it isn't what comes out of most."""

SETTINGS = {
    "WARDGATE_COORDINATOR_LINK__HEARTBEAT_SECONDS": "1",
    "WARDGATE_COORDINATOR_JOBS__OFFLINE_GRACE_SECONDS": "60",
    "WARDGATE_NODE_LINK__FIRST_BACKOFF_SECONDS": "0.1",
    "WARDGATE_NODE_LINK__LONGEST_BACKOFF_SECONDS": "0.5",
}


@cache
def bundle(app: str) -> bytes:
    """Return the bundle of one of the test apps."""
    return build(APPS / app)


def canary(site: str, number: int) -> str:
    """The identifier of one subject as the hospital knows it."""
    return f"CANARY-{site}-{number:04d}"


def surname(site: str, number: int) -> str:
    """The name of one subject."""
    return f"Zebediah{number:04d} Quillfeather-{site}"


def weight(site: str, number: int) -> float:
    """A weight that no other subject and no mean has."""
    return 50 + number * 0.5 + sum(site.encode()) * 1e-3 + 0.000123457 * (number + 1)


def records(site: str, shift: int, *, few: bool) -> list[dict[str, object]]:
    """Return a hospital's rows, the same each time."""
    rare = FEW if few else 15
    return [
        {
            "patient": canary(site, i),
            "name": surname(site, i),
            "age": 20 + (i * 7 + shift * 3) % 60,
            "weight": repr(weight(site, i)),
            "arm": "AB"[i % 2],
            "outcome": "yes" if i % 3 == 0 else "no",
            "rare": "yes" if i < rare else "no",
        }
        for i in range(SUBJECTS)
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows with their header."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_schema(folder: Path) -> Path:
    """Write the table's schema."""
    path = folder / "schema.toml"
    path.write_text(SCHEMA)
    return path


def take_in(home: Path, table: Path, schema: Path) -> None:
    """Take a table in."""
    ingest([table], schema=schema, home=home)


def make_node(home: Path, site: str, shift: int = 0, *, few: bool = False) -> NodeHome:
    """Make a node under ``POLICY`` (``open-research``), with a table and a release ``trial``."""
    place = create_home(new_home(home))
    place.policy.write_text(POLICY)
    table = write_csv(home.parent / f"{site}.csv", records(site, shift, few=few))
    take_in(home, table, write_schema(home.parent))
    node_release.create("trial", table="trial", home=home)
    return place


def project_text(
    sites: Iterable[str], researchers: Iterable[str], apps: Mapping[str, Path], minimum: int = 2
) -> str:
    """Return a project as a coordinator would write it."""
    quoted = json.dumps
    lines = [
        f"name = {quoted(PROJECT)}",
        'title = "a trial"',
        'purpose = "tests"',
        'ethics_reference = "none"',
        'legal_basis = "generated data"',
        f"sites = {quoted(list(sites))}",
        f"researchers = {quoted(list(researchers))}",
        f"minimum_sites = {minimum}",
        "most_missing_share = 0.4",
        'table = "trial"',
        'kinds = ["statistics", "training"]',
    ]
    for name, path in apps.items():
        lines += [
            "[[recipes]]",
            f"name = {quoted(name)}",
            f"path = {quoted(str(path))}",
            *GRANTS.get(name, ('metrics = ["num-examples", "calls", "loss"]',)),
            "cross_evaluation = true",
            *(() if name in GRANTS else RANGES),
            "[recipes.parameters]",
            "rounds = { minimum = 1, maximum = 50 }",
            "rate = { minimum = 0.001, maximum = 1.0 }",
            "noise = { minimum = 0.0, maximum = 1.0 }",
            "pause = { minimum = 0.0, maximum = 30.0 }",
            "size = { minimum = 3, maximum = 50000000 }",
            "minimum = { minimum = 1, maximum = 10 }",
            "shout = { choices = [true, false] }",
            "initial = { choices = [true, false] }",
            "summed = { choices = [true, false] }",
            'strategy = { choices = ["scaffold", "cyclic"] }',
            'amiss = { choices = ["unsound", "broken"] }',
            "place = { minimum = 0, maximum = 9 }",
        ]
    for name, meaning in (("age", "minimum = 0\nmaximum = 120\nbins = 4"), ("weight", "")):
        lines += ["[[variables]]", f"name = {quoted(name)}", 'kind = "number"', meaning]
    for name, levels in (("arm", ["A", "B"]), ("outcome", ["no", "yes"]), ("rare", ["no", "yes"])):
        lines += ["[[variables]]", f"name = {quoted(name)}", 'kind = "category"']
        lines += [f"levels = {quoted(levels)}"]
    return "\n".join(lines) + "\n"


@dataclass
class Federation:
    """One consortium. ``close`` ends every process of it."""

    root: Path
    sites: tuple[str, ...]
    name: str = "opt"
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    homes: dict[str, Path] = field(default_factory=dict)
    """Homes of nodes that are in other consortia too."""
    servers: dict[str, Server] = field(default_factory=dict)
    address: str = ""

    # ---- places --------------------------------------------------------------------------------

    @property
    def coordinator_home(self) -> Path:
        """The coordinator's folder."""
        return self.root / "coordinator"

    def home(self, site: str) -> Path:
        """A node's folder."""
        return self.homes.get(site, self.root / site)

    def researcher_home(self, name: str) -> Path:
        """A researcher's folder."""
        return self.root / f"researcher-{name}"

    @property
    def coordinator(self) -> Server:
        """The coordinator's process."""
        return self.servers["coordinator"]

    def node(self, site: str) -> Server:
        """A node's process."""
        return self.servers[site]

    # ---- commands ------------------------------------------------------------------------------

    def on(self, site: str, *arguments: str | Path, **settings: str) -> Done:
        """Run ``wardgate-node`` at a site."""
        return run("wardgate-node", *arguments, "--home", self.home(site), **settings)

    def at_coordinator(self, *arguments: str | Path, **settings: str) -> Done:
        """Run ``wardgate-coordinator``."""
        home = self.coordinator_home
        return run("wardgate-coordinator", *arguments, "--home", home, **settings)

    def as_researcher(self, name: str, *arguments: str | Path) -> Done:
        """Run ``wardgate``."""
        return run("wardgate", *arguments, "--home", self.researcher_home(name))

    def connect(self, name: str = "ana") -> Consortium:
        """Return a researcher's connection."""
        return Consortium.connect(self.researcher_home(name))

    # ---- from nothing to a consortium that answers ---------------------------------------------

    def free_address(self) -> str:
        """Return where the coordinator is to listen."""
        return f"127.0.0.1:{free_port()}"

    def found(self) -> None:
        """Make the coordinator and bring it up."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.address = self.free_address()
        setup.init(self.name, self.address, self.coordinator_home)
        self.servers["coordinator"] = Server(
            f"{self.name}-coordinator",
            ["wardgate-coordinator", "serve", "--verbose", "--home", str(self.coordinator_home)],
            self.root,
            "serving consortium",
            self.settings,
        ).start()

    def invite(self, name: str, *, researcher: bool = False) -> Path:
        """Return a new invitation's file."""
        number = len(list(self.root.glob(f"{name}.*.invitation")))
        path = self.root / f"{name}.{number}.invitation"
        setup.invite(name, researcher, None, path, self.coordinator_home)
        return path

    def join(self, site: str) -> None:
        """Let a node join."""
        node_consortium.join(self.invite(site), None, None, None, True, self.home(site))

    def join_researcher(self, name: str) -> None:
        """Let a researcher join."""
        offered = Invitation.read(self.invite(name, researcher=True))
        join(ResearcherHome(self.researcher_home(name)), offered, None, datetime.now(UTC))

    def agree_on_roster(self, signers: Sequence[str] = (), days: int = 90) -> None:
        """Propose a roster of all members and let the sites sign it."""
        coordinator_documents.propose_roster(None, days, False, self.coordinator_home)
        for site in signers or self.sites:
            node_documents.sign_roster(self.name, None, None, True, self.home(site))

    def agree_on_project(
        self,
        researchers: Sequence[str] = ("ana", "ben"),
        apps: Sequence[str] = ("steps",),
        minimum: int = 2,
        wheelhouse: Path | None = None,
    ) -> None:
        """Propose the project and let every site approve it, with its recipes."""
        bundles = {app: self.root / f"{app}.fab" for app in apps}
        for app, path in bundles.items():
            path.write_bytes(bundle(app))
        text = project_text(self.sites, researchers, bundles, minimum)
        file = self.root / "project.toml"
        file.write_text(text)
        coordinator_documents.propose_project(file, False, self.coordinator_home)
        for site in self.sites:
            for path in bundles.values():
                node_recipe.approve(path, wheelhouse, None, True, self.home(site))
            node_documents.approve_project(
                PROJECT, ["trial"], self.name, None, True, self.home(site)
            )

    def add_node_server(self, site: str) -> Server:
        """Describe a node's process, without starting it."""
        self.servers[site] = Server(
            f"{self.name}-{site}",
            ["wardgate-node", "serve", "--home", str(self.home(site))],
            self.root,
            "serving",
            self.settings,
        )
        return self.servers[site]

    def serve_nodes(self) -> None:
        """Bring every node up and wait until each tells what can be asked."""
        for site in self.sites:
            self.add_node_server(site).launch()
        self.wait_for_sites()

    def wait_for_sites(self, *sites: str) -> None:
        """Wait until these sites (all without any) are online and tell their releases."""
        wanted = set(sites or self.sites)

        def there() -> bool:
            try:
                with self.connect() as consortium:
                    found = {s.name for s in consortium.sites() if s.online and s.releases}
            except Unavailable:  # the coordinator comes up
                return False
            return wanted <= found

        eventually(there, f"{sorted(wanted)} are online", pause=0.2)

    def bring_up(
        self,
        researchers: Sequence[str] = ("ana", "ben"),
        apps: Sequence[str] = ("steps",),
        minimum: int = 2,
        wheelhouse: Path | None = None,
    ) -> Federation:
        """Do all of it. The last site has too few of the rare finding, if there are three."""
        self.found()
        for number, site in enumerate(self.sites):
            if site not in self.homes:
                make_node(self.home(site), site, number, few=number == 2)
            self.join(site)
        for name in researchers:
            self.join_researcher(name)
        self.agree_on_roster()
        self.agree_on_project(researchers, apps, minimum, wheelhouse)
        self.serve_nodes()
        return self

    def close(self) -> None:
        """End every process."""
        for server in self.servers.values():
            if server.process is not None and server.process.poll() is None:
                server.process.terminate()
        for server in self.servers.values():
            server.stop()

    # ---- what is looked at ---------------------------------------------------------------------

    def entries(self, site: str) -> list[Entry]:
        """Return a site's ledger."""
        return list(read_entries(self.home(site) / "ledger"))

    def answers(self, site: str, job: str) -> list[Entry]:
        """Return what left a site for a job, by its ledger."""
        return [e for e in self.entries(site) if e.kind == "answer" and e.body["job"] == job]

    def ledgers_verify(self) -> dict[str, Head]:
        """Check every ledger's chain and payloads."""
        return {site: verify(self.home(site) / "ledger") for site in self.sites}

    def open_jobs(self, site: str) -> list[str]:
        """Return the jobs that a node still holds open."""
        with Catalog.open(NodeHome(self.home(site))) as catalog:
            return [digest for digest, _ in Asked(catalog.engine).open_jobs(self.name)]

    def nothing_is_stuck(self) -> None:
        """Check that no job is open at any site, once they have heard of its end."""
        for site in self.sites:
            if self.node(site).process is not None and self.node(site).process.poll() is None:
                eventually(lambda site=site: not self.open_jobs(site), f"{site} closes its jobs")

    def authority(self) -> CoordinatorHome:
        """Return the coordinator's home, which holds the certificate authority."""
        return CoordinatorHome(self.coordinator_home)


def mount(path: Path, size: str) -> str | None:
    """Put a small disk at ``path``; return why that can't be done here, or None."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr.strip() or "mount is not permitted"


def unmount(path: Path) -> None:
    """Take the small disk away again."""
    subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk of ``folder`` up to ``leave`` bytes and return the file that does it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * piece)
            except OSError:
                continue
    if leave:
        with ballast.open("r+b") as file:
            file.truncate(max(0, ballast.stat().st_size - leave))
    return ballast
