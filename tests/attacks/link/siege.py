"""A real node, and around it a coordinator that owns its authority, the network and ana's key."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import MetricRange, ParameterRange, RecipeGrant
from contract.envelope import Envelope
from contract.statistics import forms
from contract.statistics.answers import Part
from contract.work import Statistic, StatisticsWork
from coordinator.home import CoordinatorHome
from foundation.bundle import Bundle
from foundation.flower import build
from node.commands import recipe
from node.gate.ledger import Entry, read_entries
from tests.end_to_end.federation import POLICY, SETTINGS
from tests.end_to_end.hostile import SITE, HostileCoordinator, Victim
from tests.end_to_end.processes import Server, eventually

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LEAKY = build(HERE / "apps" / "leaky")
AMPLE = """
[privacy]
epsilon_question = 2.0
epsilon_project = 1e6
epsilon_subject_year = 1e6
"""
"""An account that stops nobody: the defence in question is another."""
VARIABLES = (
    Variable(name="age", kind="number", whole=True, minimum=0, maximum=120, bins=4),
    Variable(name="weight", kind="number", minimum=0, maximum=200, bins=4),
    *(
        Variable(name=name, kind="category", levels=levels)
        for name, levels in (
            ("arm", ("A", "B")),
            ("outcome", ("no", "yes")),
            ("rare", ("no", "yes")),
        )
    ),
)
RECIPES = (
    RecipeGrant(
        name="leaky",
        bundle=Bundle.parse(LEAKY).digest,
        parameters={"hide": ParameterRange(choices=(True, False))},
        metrics=("num-examples", "loss"),
        metric_ranges={"loss": MetricRange(minimum=0, maximum=10)},
    ),
)


@dataclass
class Siege:
    """A node under ``open-research``, attacked over its link; ``off`` switches defences off."""

    root: Path
    coordinator: HostileCoordinator = field(init=False)
    server: Server = field(init=False)
    rosters: int = 0
    projects: int = 0
    agreed: bytes = b""
    """The newest project."""

    def __post_init__(self) -> None:
        self.victim = Victim(self.root).build()
        fab = self.root / "leaky.fab"
        fab.write_bytes(LEAKY)
        recipe.approve(fab, None, None, True, self.victim.home.root)
        self.victim.home.policy.write_text(POLICY + AMPLE)
        self.switches = self.root / "switches"
        self.switches.write_text("")
        home, path = str(self.victim.home.root), (str(ROOT), os.environ.get("PYTHONPATH", ""))
        self.server = Server(
            "besieged",
            ["python", str(HERE / "switchable.py"), str(self.switches), "serve", "--home", home],
            self.root,
            "serving",
            SETTINGS | {"PYTHONPATH": os.pathsep.join(path)},
        )
        self.listen()
        self.coordinator.documents = wire.Documents(roster=self.roster(), projects=[self.project()])

    # ---- the coordinator -----------------------------------------------------------------------

    def listen(self) -> None:
        """Let the coordinator serve the link."""
        self.coordinator = HostileCoordinator(
            CoordinatorHome(self.root / "coordinator"), self.victim.port
        )

    def start(self) -> Siege:
        """Bring the node up and wait for its link."""
        self.server.start()
        self.coordinator.next("releases")
        return self

    def restart(self) -> None:
        """Kill the node and bring it up again."""
        self.server.kill()
        self.start()

    def back_up(self) -> None:
        """Take a backup of the catalogue while the node runs."""
        with (
            closing(sqlite3.connect(self.victim.home.database)) as live,
            closing(sqlite3.connect(self.root / "backup.db")) as to,
        ):
            live.backup(to)

    def restore(self) -> None:
        """Kill the node, put the catalogue of the backup back, and bring the node up again."""
        self.server.kill()
        database = self.victim.home.database
        for path in database.parent.glob(f"{database.name}*"):
            path.unlink()
        shutil.copy(self.root / "backup.db", database)
        self.start()

    def close(self) -> None:
        """End both."""
        self.server.stop()
        self.coordinator.close()

    @contextmanager
    def off(self, *defences: str) -> Iterator[None]:
        """Switch defences off inside."""
        self.switches.write_text(" ".join(defences))
        try:
            yield
        finally:
            self.switches.write_text("")

    # ---- documents -----------------------------------------------------------------------------

    def roster(self, *signers: Any, **values: Any) -> bytes:
        """Return the next roster, signed by two of three stewards unless others are named."""
        self.rosters += 1
        victim = self.victim
        by = signers or (victim.steward, victim.others[0])
        return victim.roster(*by, version=self.rosters, **values)

    def project(self, **values: Any) -> bytes:
        """Return the next version of the project, which this hospital's steward approves."""
        self.projects += 1
        victim = self.victim
        made = victim.project(
            victim.steward,
            victim.others[0],
            version=self.projects,
            **{"variables": VARIABLES, "recipes": RECIPES} | values,
        )
        victim.approve(made, self.projects)
        self.agreed = made
        return made

    # ---- asking --------------------------------------------------------------------------------

    def job(self, *signers: Any, **values: Any) -> bytes:
        """Return a job of ana's under the newest project."""
        return self.victim.job(*signers, project_version=self.projects, **values)

    def question(self, *ask: Statistic, release: str = "", **terms: Any) -> bytes:
        """Return a question in statistics of ana's."""
        releases = {SITE: release or self.victim.release}
        return self.job(work=StatisticsWork(ask=ask, **terms), releases=releases)

    def offer(self, envelope: bytes) -> wire.FromNode:
        """Offer a job, and take what is said to it: an answer is received and its job closed."""
        message = self.coordinator.offer(envelope)
        if message.WhichOneof("body") == "reply":
            reply = message.reply
            received = wire.Received(job=reply.job, task=reply.task)
            self.coordinator.say(wire.ToNode(received=received))
            self.end(reply.job)
        return message

    def end(self, job: str) -> None:
        """Say that a job is over."""
        self.coordinator.say(wire.ToNode(close=wire.CloseJob(job=job)))

    def said(self, envelope: bytes) -> str:
        """Offer a job: "reply", "accepted", or the code that it is refused or fails with."""
        message = self.offer(envelope)
        kind = str(message.WhichOneof("body"))
        if kind == "decision":
            return "accepted" if message.decision.accepted else message.decision.code
        return message.failed.code if kind == "failed" else kind

    def parts(self, *ask: Statistic, release: str = "", **terms: Any) -> list[Part] | None:
        """Ask, and return the parts of the answer; None when there is none."""
        message = self.offer(self.question(*ask, release=release, **terms))
        if message.WhichOneof("body") != "reply":
            return None
        found = forms.decode(wire.StatisticsAnswer.FromString(message.reply.payload))
        return None if all(part.withheld for part in found) else found

    def task(
        self,
        job: str,
        name: str,
        payload: bytes = b"",
        message_type: str = "train",
        **tensors: Any,
    ) -> wire.FromNode:
        """Give a task of a job, and return what came of it."""
        self.coordinator.say(
            wire.ToNode(
                task=wire.Task(
                    job=job,
                    task=name,
                    message_type=message_type,
                    payload=payload,
                    tensors=wire.BlobReference(**tensors),
                )
            )
        )
        return self.coordinator.next("failed", "reply")

    # ---- what the node has ---------------------------------------------------------------------

    def entries(self, *kinds: str) -> list[Entry]:
        """Return the ledger's entries of some kinds, or all."""
        found = read_entries(self.victim.home.ledger)
        return [e for e in found if not kinds or e.kind in kinds]

    def eventually(self, what: Callable[[], object], why: str) -> None:
        """Wait until something is so."""
        eventually(what, why)


def digest(envelope: bytes) -> str:
    """Return the digest of a signed document."""
    return Envelope.parse(envelope).digest
