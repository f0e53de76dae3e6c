"""The demo's federation, from empty folders to four nodes that serve a release each.

Its nodes use the profile ``open-research``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from contract.dictionary import Variable
from demo import data
from demo.processes import Processes, StepFailed, free_port

CONSORTIUM = "opt"
PROJECT = "preterm"
RESEARCHER = "ana"
RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "tabular"
AT_ONCE = 2


@dataclass
class Federation:
    """The demo's folders and commands."""

    root: Path
    processes: Processes
    intake: dict[str, str] = field(default_factory=dict)
    """What each hospital's intake said."""

    @property
    def coordinator(self) -> Path:
        """The coordinator's home."""
        return self.root / "coordinator"

    @property
    def researcher(self) -> Path:
        """The researcher's home."""
        return self.root / "researcher"

    def node(self, site: str) -> Path:
        """A hospital's home."""
        return self.root / site

    def on(self, site: str, *arguments: str | Path) -> str:
        """Run ``wardgate-node`` at a hospital."""
        return self.processes.run("wardgate-node", *arguments, "--home", self.node(site))

    def at_coordinator(self, *arguments: str | Path) -> str:
        """Run ``wardgate-coordinator``."""
        return self.processes.run("wardgate-coordinator", *arguments, "--home", self.coordinator)

    def everywhere(self, step: Callable[[str], object]) -> None:
        """Do something at each hospital, two at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(step, [h.name for h in data.HOSPITALS]):
                pass

    # ---- the steps -----------------------------------------------------------------------------

    def found(self) -> str:
        """Begin: the coordinator, its certificate authority, its port. Returns the address."""
        address = f"127.0.0.1:{free_port()}"
        said = self.at_coordinator("init", CONSORTIUM, "--address", address)
        found = re.search(r"\b[0-9a-f]{64}\b", said)
        if found is None:
            raise StepFailed("The coordinator printed no fingerprint.")
        self._fingerprint = found[0]
        self.processes.serve(
            "coordinator",
            ["wardgate-coordinator", "serve", "--verbose", "--home", self.coordinator],
            "serving",
        )
        # What the hospitals will agree to, and its dictionary, by which they make their releases.
        (self.root / "project.toml").write_text(project_text(data.dictionary()))
        (self.root / "dictionary.toml").write_text(dictionary_text(data.dictionary()))
        return address

    def join(self, site: str) -> None:
        """Invite one hospital and let it join; it compares the authority's fingerprint."""
        invitation = self.root / f"{site}.invitation"
        self.at_coordinator("invite", site, "--output", invitation)
        self.on(site, "join", invitation, "--ca-fingerprint", self._fingerprint)
        self.on(site, "policy", "use", "open-research")
        invitation.unlink()

    def join_researcher(self) -> None:
        """Invite the researcher and let her join."""
        invitation = self.root / f"{RESEARCHER}.invitation"
        self.at_coordinator("invite", RESEARCHER, "--researcher", "--output", invitation)
        self.processes.run(
            "wardgate",
            "join",
            invitation,
            "--ca-fingerprint",
            self._fingerprint,
            "--home",
            self.researcher,
        )
        invitation.unlink()

    def take_in(self, site: str, folder: Path) -> None:
        """Take a hospital's table and images in."""
        said = self.on(site, "ingest", folder / "trial.csv", "--schema", data.SCHEMA)
        # Looking for text in pixels would take longer than all the rest.
        said += self.on(site, "ingest", folder / "images", "--profile", "longitudinal")
        self.intake[site] = said.rstrip()

    def freeze(self, site: str) -> None:
        """Freeze a hospital's releases: the trial's table, and its images."""
        # By arm, and how long pregnancies lasted: what table 1 and the trial's result need.
        lasted = f"{data.LASTED}={','.join((*data.SURVIVAL, 'arm'))}"
        asked = ("--cells", "arm", "--analysis", lasted)
        dictionary = self.root / "dictionary.toml"
        self.on(
            site,
            "release",
            "create",
            "trial",
            "--table",
            "trial",
            "--dictionary",
            dictionary,
            *asked,
        )
        self.on(site, "release", "create", "images", "--all-assets")

    def agree(self) -> None:
        """Roster and project: proposed by the coordinator, decided on by each steward."""
        self.at_coordinator("roster", "propose")
        self.everywhere(lambda site: self.on(site, "roster", "sign", "--yes"))
        self.at_coordinator("project", "propose", self.root / "project.toml")
        self.everywhere(self._approve)

    def _approve(self, site: str) -> None:
        self.on(site, "recipe", "approve", RECIPE, "--yes")
        self.on(site, "project", "approve", PROJECT, "--release", "trial", "--yes")

    def serve(self, site: str) -> None:
        """Bring a node up."""
        self.processes.serve(
            site, ["wardgate-node", "serve", "--verbose", "--home", self.node(site)], "linked to"
        )

    def release_folders(self) -> Mapping[str, Path]:
        """Return the folders of the trial's releases: what only the demo may look into."""
        folders: dict[str, Path] = {}
        for hospital in data.HOSPITALS:
            for manifest in sorted((self.node(hospital.name) / "releases").glob("*/manifest.json")):
                if json.loads(manifest.read_text())["name"] == "trial":
                    folders[hospital.name] = manifest.parent
        return folders


def project_text(variables: tuple[Variable, ...]) -> str:
    """Return the demo's project as a coordinator would write it."""
    quoted = json.dumps
    lines = [
        f"name = {quoted(PROJECT)}",
        'title = "Preterm birth in the Obstetrics and Periodontal Therapy trial"',
        'purpose = "Estimate and predict preterm birth before 37 weeks"',
        'ethics_reference = "public teaching data; N Engl J Med 2006;355:1885"',
        'legal_basis = "public data"',
        f"sites = {quoted([h.name for h in data.HOSPITALS])}",
        f"researchers = {quoted([RESEARCHER])}",
        "minimum_sites = 2",
        "most_missing_share = 0.4  # so that what hospitals withhold is to be seen",
        'table = "trial"',
        'kinds = ["statistics", "training"]',
        "",
        "[[recipes]]",
        'name = "tabular"',
        f"path = {quoted(str(RECIPE))}",
        'metrics = ["train_loss", "eval_loss", "eval_brier", "num-examples"]',
        "max_reply_bytes = 1048576",
        "[recipes.parameters]",
        'table = { choices = ["trial"] }',
        'outcome = { choices = ["preterm"] }',
        'positive = { choices = ["Yes"] }',
        f"features = {{ choices = {quoted([','.join(data.FEATURES)])} }}",
        'means = { characters = "0123456789.,e+-", max_length = 2000 }',
        'standard-deviations = { characters = "0123456789.,e+-", max_length = 2000 }',
        "num-server-rounds = { minimum = 1, maximum = 100 }",
        "local-epochs = { minimum = 1, maximum = 20 }",
        "learning-rate = { minimum = 0.0001, maximum = 10 }",
        "weight-decay = { minimum = 0, maximum = 1 }",
        "minimum-nodes = { minimum = 2, maximum = 4 }",
    ]
    return "\n".join([*lines, *_variables(variables)]) + "\n"


def dictionary_text(variables: tuple[Variable, ...]) -> str:
    """Return the project's dictionary alone: what a hospital makes its release by."""
    lines = [f"name = {json.dumps(PROJECT)}", 'table = "trial"']
    return "\n".join([*lines, *_variables(variables)]) + "\n"


def _variables(variables: tuple[Variable, ...]) -> list[str]:
    lines = []
    for variable in variables:
        lines += ["", "[[variables]]"]
        for key, value in variable.model_dump(exclude_none=True, exclude_defaults=True).items():
            lines.append(f"{key} = {_toml(value)}")
    return lines


def _toml(value: object) -> str:
    """Return a value as TOML writes it on one line: what JSON does, but for tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(held)}" for key, held in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
