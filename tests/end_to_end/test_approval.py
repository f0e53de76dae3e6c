"""Approval between real processes: what waits is seen, outlives restarts, goes on when signed."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.errors import JobFailed
from contract.keys import SigningKey
from foundation.files import write_new
from node.catalog.inbox import Inbox
from node.catalog.store import Catalog
from node.gate.inbox.decisions import decide
from node.home import NodeHome
from researcher import Consortium, StatisticsAnswer, mean
from tests.end_to_end.federation import POLICY, PROJECT, SUBJECTS, Federation, project_text
from tests.end_to_end.hostile import now
from tests.end_to_end.processes import BIN, environment, eventually, run
from tests.end_to_end.test_models import clinics  # noqa: F401 (a fixture)

HOLD_JOBS = POLICY + '[approval]\nhold_jobs = ["statistics"]\n'
HOLD_OUTPUTS = POLICY + '[approval]\nhold_outputs = ["statistics", "training"]\n'


@dataclass
class Hook:
    """Takes the notices of both nodes."""

    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Iterator[Federation]:
    """Two sites under ``open-research``, which tell a hook what waits."""
    root = tmp_path_factory.mktemp("pair")
    federation = Federation(root / "opt", ("north", "south"))
    write_new(root / "hook.secret", b"a secret", 0o600)
    federation.settings |= {
        "WARDGATE_NODE_NOTICES__WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/wardgate",
        "WARDGATE_NODE_NOTICES__WEBHOOK_SECRET_FILE": str(root / "hook.secret"),
        "WARDGATE_NODE_NOTICES__EVERY_SECONDS": "1",
    }
    try:
        yield federation.bring_up()
    finally:
        federation.close()


@pytest.fixture
def at_north(pair: Federation) -> Iterator[Callable[[str], None]]:
    """Put a policy in force at north; afterwards the former one holds."""
    path = pair.home("north") / "policy.toml"

    def use(text: str) -> None:
        path.write_text(text)

    yield use
    path.write_text(POLICY)


class Asked(threading.Thread):
    """A question that is asked beside the test."""

    def __init__(self, federation: Federation, minimum: int = 2) -> None:
        super().__init__(daemon=True)
        self.federation = federation
        self.minimum = minimum
        self.waiting: list[Any] = []
        self.answer: StatisticsAnswer | None = None
        self.problem: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with Consortium.connect(self.federation.researcher_home("ana")) as ana:
                self.answer = ana.statistics(
                    PROJECT,
                    [mean("age")],
                    minimum_sites=self.minimum,
                    waiting=self.waiting.append,
                )
        except Exception as error:
            self.problem = error

    def held(self) -> str:
        """Wait until the researcher is told that a steward is to decide; the job."""
        eventually(lambda: self.waiting or self.problem, "a steward is waited for")
        assert self.waiting, self.problem
        status = self.waiting[0]
        states = {site.site: site.state for site in status.sites}
        assert states["north"] == "held", states
        return str(status.job)

    def done(self) -> StatisticsAnswer:
        self.join(60)
        assert self.answer is not None, self.problem
        return self.answer


def numbers(federation: Federation, what: str = "job", site: str = "north") -> list[str]:
    """What waits in a site's inbox."""
    with Catalog.open(NodeHome(federation.home(site))) as catalog:
        rows = Inbox(catalog.engine).rows("waiting")
    return [str(row.number) for row in rows if row.what == what]


def number(federation: Federation, what: str = "job", site: str = "north") -> str:
    """Wait until something waits in a site's inbox; its number."""
    found = eventually(lambda: numbers(federation, what, site), f"{what} waits at {site}", 0.2)
    return found[0]


def test_a_question_waits_for_the_steward_and_is_answered_once_it_is_approved(
    pair: Federation, at_north: Callable[[str], None], hook: Hook
) -> None:
    at_north(HOLD_JOBS)
    asked = Asked(pair)
    job = asked.held()
    one = number(pair)
    eventually(lambda: hook.bodies, "the steward is told")
    assert hook.bodies[0]["waiting"] == [
        {"what": "job", "consortium": "opt", "project": PROJECT, "kind": "statistics", "number": 1}
    ]
    listed = pair.on("north", "inbox").out
    assert re.search(rf"│ {one} +│ job +│ statistics │ {PROJECT}", listed), listed
    shown = pair.on("north", "inbox", "show", one)
    assert shown.code == 0
    for words in ("ana", "generated data", "mean and variance of age", "everybody", job):
        assert words in shown.out, shown.out
    assert pair.answers("north", job) == []
    done = pair.on("north", "inbox", "approve", one, "--yes")
    assert (done.code, done.errors) == (0, [])
    assert "approved" in done.out
    answer = asked.done()
    assert answer.answered == ("north", "south")
    assert answer[0].moments().n == 2 * SUBJECTS
    assert len(answer.receipts) == 2
    kinds = [e.kind for e in pair.entries("north") if e.body.get("job") == job]
    order = ["waiting", "steward-decided", "admitted", "answer"]
    assert [k for k in kinds if k in order] == order
    pair.nothing_is_stuck()
    pair.on("north", "inbox", "approve", one, "--yes").fails(2, "doesn't wait")


@pytest.mark.slow
def test_policy_check_says_what_would_wait_and_what_would_be_held(
    pair: Federation, at_north: Callable[[str], None], tmp_path: Path
) -> None:
    job = tmp_path / "job.json"
    question = ("statistics", "-p", PROJECT, "--mean", "age", "--dry-run", job)
    assert pair.as_researcher("ana", *question).code == 0

    def written() -> list[str]:
        """What the node wrote down but for notices, which it sends as its policy changes."""
        return [entry.kind for entry in pair.entries("north") if entry.kind != "notice"]

    before = written()
    at_north(HOLD_JOBS + 'people = 2\nhold_outputs = ["statistics"]\n')
    said = pair.on("north", "policy", "check", job)
    assert said.code == 0
    for words in ("waits for the steward", "2 stewards must approve", "releases them"):
        assert words in said.out
    limits = f'[projects.{PROJECT}]\nresearchers = ["ben"]\n'
    at_north(POLICY + limits)
    pair.on("north", "policy", "check", job).fails(8, "doesn't answer this researcher")
    assert written() == before


@pytest.mark.slow
def test_what_waits_outlives_the_death_of_coordinator_and_node(
    pair: Federation, at_north: Callable[[str], None]
) -> None:
    at_north(HOLD_JOBS)
    asked = Asked(pair)
    job = asked.held()
    one = number(pair)
    pair.coordinator.kill()
    pair.node("north").kill()
    # The steward decides while nothing runs.
    assert pair.on("north", "inbox", "approve", one, "--yes").code == 0
    pair.coordinator.start()
    pair.node("north").start()
    with pair.connect() as ana:
        eventually(lambda: ana.job(job).status().state == "finished", "the job finishes", pause=0.2)
    # The one who asked lost the connection; the answer is there for whoever asks for it.
    done = pair.as_researcher("ana", "answer", job)
    assert done.code == 0, done.errors
    assert "2 receipts verified" in done.out
    assert len(pair.answers("north", job)) == 1


@pytest.mark.slow
def test_a_refusal_is_told_by_its_reason_and_the_others_are_the_answer(
    pair: Federation, at_north: Callable[[str], None]
) -> None:
    at_north(HOLD_JOBS)
    asked = Asked(pair, minimum=1)
    asked.held()
    words = "the head of clinic objects"
    done = pair.on("north", "inbox", "refuse", number(pair), "--reason", words)
    assert done.code == 0
    asked.join(60)
    # The project wants two sites, so there is no answer, and the reason is the closed list's.
    assert isinstance(asked.problem, JobFailed)
    assert "steward declined" in str(asked.problem)
    assert "clinic" not in str(asked.problem)


@pytest.mark.slow
def test_the_researchers_command_says_for_whom_it_waits_and_does_not_end(
    pair: Federation, at_north: Callable[[str], None], tmp_path: Path
) -> None:
    at_north(HOLD_JOBS)
    errors = tmp_path / "errors"
    with errors.open("wb") as file:
        command = [
            str(BIN / "wardgate"), "statistics", "-p", PROJECT, "--mean", "age",
            "--home", str(pair.researcher_home("ana")),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, env=environment(), text=True
        )
    eventually(lambda: "waits for its steward" in errors.read_text(), "it says so", pause=0.2)
    assert process.poll() is None
    job = re.search(r"job ([0-9a-f]{64})", errors.read_text())
    assert job is not None
    shown = pair.as_researcher("ana", "job", job[1])
    assert "held" in shown.out
    assert "has not decided" in shown.out
    assert pair.on("north", "inbox", "approve", number(pair), "--yes").code == 0
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "2 receipts verified" in out


def test_a_held_answer_is_seen_by_the_steward_and_leaves_when_released(
    pair: Federation, at_north: Callable[[str], None]
) -> None:
    at_north(HOLD_OUTPUTS)
    asked = Asked(pair)
    job = asked.held()
    one = number(pair, "output")
    shown = pair.on("north", "inbox", "show", one).out
    assert f"n: {SUBJECTS}" in shown
    assert pair.answers("north", job) == []
    # The node dies and comes back: nothing is worked out again, and it still waits.
    pair.node("north").kill()
    pair.node("north").start()
    pair.wait_for_sites()
    assert number(pair, "output") == one
    pair.on("north", "inbox", "approve", one, "--yes").fails(2, "inbox release")
    assert pair.on("north", "inbox", "release", one, "--yes").code == 0
    assert asked.done().answered == ("north", "south")
    assert len([e for e in pair.entries("north") if e.kind == "held" and e.body["job"] == job]) == 1
    assert len(pair.answers("north", job)) == 1


@pytest.mark.slow
def test_two_people_must_sign_and_one_person_twice_is_not_two(
    pair: Federation, at_north: Callable[[str], None], tmp_path: Path
) -> None:
    at_north(HOLD_JOBS + "people = 2\n")
    second = tmp_path / "second.key"
    shown = run("wardgate-node", "steward", "key", second).out
    public = re.search(r"public (\S+)", shown)
    assert public is not None
    asked = Asked(pair)
    asked.held()
    one = number(pair)
    # Before the first steward registered them, the second decides nothing.
    stranger = pair.on("north", "inbox", "approve", one, "--yes", "--steward-key", second)
    stranger.fails(6, "no steward's")
    assert pair.on("north", "steward", "add", "jo", public[1]).code == 0
    for _ in range(2):
        done = pair.on("north", "inbox", "approve", one, "--yes")
        assert "1 of 2" in done.out, done.out
    time.sleep(2)
    assert asked.answer is None
    done = pair.on("north", "inbox", "approve", one, "--yes", "--steward-key", second)
    assert "approved" in done.out
    assert asked.done().answered == ("north", "south")
    # Only the first steward registers others.
    other = SigningKey.generate().public
    pair.on("north", "steward", "add", "eve", other, "--steward-key", second).fails(6, "Only")
    assert pair.on("north", "steward", "remove", "jo").code == 0


@pytest.mark.slow
def test_a_recipe_that_is_new_here_waits_shows_what_is_new_and_trains_once_approved(
    pair: Federation, tmp_path: Path
) -> None:
    """The project's second version names another digest of the same recipe."""
    from coordinator.commands import documents as coordinator_documents
    from foundation.flower import build
    from node.commands import documents as node_documents
    from tests.end_to_end.federation import APPS

    app = tmp_path / "steps"
    subprocess.run(["cp", "-r", str(APPS / "steps"), str(app)], check=True)
    client = app / "steps" / "client_app.py"
    client.write_text(client.read_text() + "\nimport socket  # to be seen\n")
    fab = tmp_path / "new.fab"
    fab.write_bytes(build(app))
    file = tmp_path / "project.toml"
    file.write_text(project_text(pair.sites, ("ana", "ben"), {"steps": fab}))
    coordinator_documents.propose_project(file, False, pair.coordinator_home)
    for site in pair.sites:
        node_documents.approve_project(PROJECT, ["trial"], "opt", None, True, pair.home(site))
    with pair.connect() as ana:
        eventually(lambda: ana.refresh().projects[PROJECT].document.version == 2, "version 2")
        handle = ana.train(PROJECT, "steps", {"rounds": 1}, minimum_sites=2)
        eventually(
            lambda: {s.state for s in handle.status().sites} == {"held"}, "both wait", pause=0.2
        )
        for site in pair.sites:
            one = number(pair, site=site)
            shown = pair.on(site, "inbox", "show", one, "--code").out
            for words in (
                "differs from", "+import socket  # to be seen", "network: import socket",
                "steps/client_app.py:", "nobody here has approved it",
            ):  # fmt: skip
                assert words in shown, shown
            assert pair.on(site, "inbox", "approve", one, "--yes").code == 0
        result = handle.result()
    assert result.answered == pair.sites
    assert result.receipts


@pytest.mark.slow
def test_a_held_reply_of_a_round_keeps_the_round_open_until_it_is_released(
    pair: Federation, at_north: Callable[[str], None]
) -> None:
    at_north(HOLD_OUTPUTS)
    with pair.connect() as ana:
        handle = ana.train(PROJECT, "steps", {"rounds": 1}, minimum_sites=2)
        done = threading.Event()
        released: list[str] = []

        def release() -> None:
            while not done.is_set():
                for one in numbers(pair, "output"):
                    released.append(pair.on("north", "inbox", "show", one).out)
                    pair.on("north", "inbox", "release", one, "--yes")
                time.sleep(0.2)

        helper = threading.Thread(target=release)
        helper.start()
        try:
            result = handle.result()
        finally:
            done.set()
            helper.join()
    assert result.answered == pair.sites
    assert released
    assert any("norm" in shown for shown in released)


@pytest.mark.slow
def test_a_fit_waits_for_the_release_of_each_step_and_is_the_same(
    clinics: Federation,  # noqa: F811 (a fixture)
) -> None:
    ask = {"project": PROJECT, "formula": "outcome ~ age + arm", "family": "logistic"}
    home = NodeHome(clinics.home("north"))
    key = SigningKey.from_pem(home.steward_key.read_bytes())
    done = threading.Event()
    released: list[str] = []

    def release() -> None:
        with Catalog.open(home) as catalog:
            inbox = Inbox(catalog.engine)
            while not done.wait(0.2):
                for row in inbox.rows("waiting"):
                    if row.subject not in released:
                        made = decide(key, "output", row.subject, ("opt", "north"), now())
                        inbox.add_decision(row.subject, key.id, made, now())
                        released.append(row.subject)

    with clinics.connect() as ana:
        plain = ana.model(**ask, analysis="main")
        home.policy.write_text(HOLD_OUTPUTS)
        helper = threading.Thread(target=release, daemon=True)
        helper.start()
        try:
            held = ana.model(**ask, analysis="main")
        finally:
            done.set()
            helper.join()
            home.policy.write_text(POLICY)
    assert len(released) > 1
    assert held.answered == plain.answered == ("north", "south", "west")
    assert list(held.fit.coefficients) == list(plain.fit.coefficients)
