"""Training over a stock Flower SuperLink: the same model, the same gate, no stranger."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from contract.errors import JobFailed
from node.catalog.inbox import Inbox
from node.catalog.store import Catalog
from node.home import NodeHome
from researcher.training import TrainingHandle, TrainingResult
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import eventually
from tests.ports import free_port

SITES = ("north", "south")
STEPS = {"rounds": 3, "noise": 0.1, "minimum": 2}


def over_superlink(root: Path, *sites: str) -> Federation:
    """Describe a federation whose sites have a SuperNode each."""
    port = free_port()
    federation = Federation(root / "opt", sites)
    federation.settings |= {
        "WARDGATE_COORDINATOR_SUPERLINK__ENABLED": "true",
        "WARDGATE_COORDINATOR_SUPERLINK__HOST": "127.0.0.1",
        "WARDGATE_COORDINATOR_SUPERLINK__PORT": str(port),
        "WARDGATE_NODE_SUPERNODE__SUPERLINKS": f"opt=127.0.0.1:{port}",
        "WARDGATE_NODE_SUPERNODE__POLL_SECONDS": "0.1",
    }
    return federation


def allow(federation: Federation, *, superlink: bool) -> None:
    """Let every site's policy have it, or not."""
    for site in federation.sites:
        policy = federation.home(site) / "policy.toml"
        lines = [x for x in policy.read_text().splitlines() if not x.startswith("superlink")]
        at = lines.index("[training]") + 1
        policy.write_text("\n".join([*lines[:at], f"superlink = {superlink}".lower(), *lines[at:]]))


def train(ana, **named) -> TrainingHandle:
    parameters = STEPS | named.pop("parameters", {})
    named = {"seed": 7, "minimum_sites": 2, "engine": "superlink"} | named
    return ana.train(PROJECT, "steps", parameters, **named)


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Sites under ``open-research`` whose training a SuperLink may carry."""
    federation = over_superlink(tmp_path_factory.mktemp("superlink"), *SITES)
    try:
        federation.bring_up(researchers=("ana",))
        allow(federation, superlink=True)
        yield federation
    finally:
        federation.close()


@pytest.fixture(scope="module")
def plain(linked: Federation) -> TrainingResult:
    """The model by the link, undisturbed."""
    with linked.connect() as ana:
        return train(ana, engine="wardgate").result()


def same(one: TrainingResult, other: TrainingResult) -> bool:
    return one.arrays.items.keys() == other.arrays.items.keys() and all(
        np.array_equal(array, other.arrays.items[key]) for key, array in one.arrays.items.items()
    )


def superlink_process(federation: Federation) -> int:
    """Return the stock program's process id."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            ours = str(federation.coordinator_home / "superlink" / "superlink.db")
            if ours in words and any(word.endswith("/flower-superlink") for word in words):
                return int(path.parent.name)
    return 0


def supernode_process(federation: Federation, site: str) -> int:
    """Return the process id of a site's SuperNode."""
    parent = str(federation.node(site).pid)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if "node.work.superlink.supernode" in words and parent in words:
                return int(path.parent.name)
    return 0


def everything_of_the_superlink(federation: Federation) -> bytes:
    """Return all that the SuperLink keeps and all that SuperNodes and coordinator logged."""
    places = [p for p in (federation.coordinator_home / "superlink").rglob("*") if p.is_file()]
    places += federation.root.glob("*/consortia/*/supernode/*.log")
    places += federation.root.glob("*.err")
    places += federation.root.glob("*.out")
    return b"".join(place.read_bytes() for place in places)


def test_the_same_seed_gives_the_same_model_on_both_engines(
    linked: Federation, plain: TrainingResult
) -> None:
    with linked.connect() as ana:
        carried = train(ana).result()
    assert carried.answered == plain.answered == SITES
    assert same(carried, plain)
    # The state that a site's app keeps over the rounds has come through too.
    assert [(r.number, r.step, dict(r.metrics)) for r in carried.rounds] == [
        (r.number, r.step, dict(r.metrics)) for r in plain.rounds
    ]
    # What went over the SuperLink is on the ledgers as what goes over the link is.
    for site in SITES:
        mine, other = (linked.answers(site, r.job) for r in (carried, plain))
        assert [e.body["payload"] for e in mine] == [e.body["payload"] for e in other]
    linked.ledgers_verify()
    linked.nothing_is_stuck()


def test_the_text_of_an_exception_reaches_neither_superlink_nor_any_log(
    linked: Federation,
) -> None:
    with linked.connect() as ana:
        job = train(ana, parameters={"shout": True, "rounds": 1})
        with pytest.raises(JobFailed):
            job.result()
        said = [e.text for e in job.events() if e.kind == "site" and "failed" in e.text]
    assert any("exception steps/client_app.py:" in text for text in said)
    secret = b"[1.0, -1.5, 0.0]"  # a row of a patient's, as the exception says it
    local = [p.read_bytes() for p in linked.home("north").glob("jobs/*/worker.log")]
    assert any(secret in log for log in local) or not local
    assert secret not in everything_of_the_superlink(linked)


def test_who_has_no_certificate_of_a_site_reaches_nothing_at_the_public_port(
    linked: Federation,
) -> None:
    port = linked.settings["WARDGATE_COORDINATOR_SUPERLINK__PORT"]
    authority = linked.coordinator_home / "authority" / "ca.crt"

    def status(path: str, pair: Path | None, method: str = "POST") -> int:
        context = ssl.create_default_context(cafile=str(authority))
        context.check_hostname = False
        if pair is not None:
            context.load_cert_chain(str(pair))
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.request(method, f"https://127.0.0.1:{port}{path}").status_code

    for path in ("/v1/fleet/register-node", "/v1/control/list-nodes", "/health"):
        with pytest.raises(httpx.HTTPError):
            status(path, None)
    site = linked.home("north") / "consortia" / "opt" / "tls.pem"
    researcher = next(linked.researcher_home("ana").rglob("tls.pem"))
    assert status("/v1/fleet/register-node", researcher) == 401
    assert status("/v1/fleet/register-node", site) == 401  # without a signed key
    for path in (
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/runtime/pull-messages",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/start-run",
        "/docs",
        "/health",
    ):
        assert status(path, site) == 404, path
    assert status("/v1/fleet/get-run", site, "GET") == 404


def test_the_superlink_listens_on_loopback_alone_and_its_secret_is_no_argument(
    linked: Federation,
) -> None:
    pid = eventually(lambda: superlink_process(linked), "the SuperLink is up")

    def listening() -> list[str]:
        inodes = set()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(path.readlink()))
        return [
            line.split()[1]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in inodes
        ]

    found = eventually(listening, "the SuperLink listens")
    assert all(address.startswith("0100007F:") for address in found)
    secret = linked.coordinator_home / "superlink" / "superexec.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert secret.read_bytes() not in path.read_bytes()


def test_a_site_whose_policy_has_it_off_refuses_the_engine_and_dials_nothing(
    linked: Federation,
) -> None:
    allow(linked, superlink=False)
    try:
        with linked.connect() as ana:
            job = train(ana)
            with pytest.raises(JobFailed):
                job.result()
            assert {s.code for s in job.status().sites} == {"engine"}
        for site in SITES:
            eventually(
                lambda site=site: not supernode_process(linked, site), f"{site} has no SuperNode"
            )
    finally:
        allow(linked, superlink=True)


@pytest.mark.slow
def test_tensors_in_many_pieces_give_the_same_model_too(linked: Federation) -> None:
    large = {"size": 3_000_000, "rounds": 1}  # 12 MB: an object of its own
    with linked.connect() as ana:
        one, other = (
            train(ana, engine=engine, parameters=large).result()
            for engine in ("wardgate", "superlink")
        )
    assert same(one, other)


@pytest.mark.slow
def test_an_update_that_the_steward_holds_leaves_only_when_it_is_released(
    linked: Federation,
) -> None:
    policy = linked.home("north") / "policy.toml"
    before = policy.read_text()
    policy.write_text(before + '\n[approval]\nhold_outputs = ["training"]\n')
    try:
        with linked.connect() as ana:
            job = train(ana, parameters={"rounds": 1})
            for number in range(2):  # the round's update, and its evaluation
                one = eventually(lambda: waiting(linked, "north"), "an output waits", pause=0.3)
                assert len(linked.answers("north", job.digest)) == number
                assert linked.on("north", "inbox", "release", one, "--yes").code == 0
            assert job.result().answered == SITES
    finally:
        policy.write_text(before)
    linked.nothing_is_stuck()
    linked.ledgers_verify()


def waiting(federation: Federation, site: str) -> str:
    """Return the number of an output that waits in a site's inbox, if one does."""
    with Catalog.open(NodeHome(federation.home(site))) as catalog:
        rows = Inbox(catalog.engine).rows("waiting")
    return next((str(row.number) for row in rows if row.what == "output"), "")


def wait_for_round(handle: TrainingHandle, number: int) -> None:
    """Return in the middle of a round."""
    for event in handle.events():
        if event.kind == "round" and event.round == number - 1 and event.text == "evaluate":
            return
    raise AssertionError(f"the job ended before round {number}: {handle.status()}")


@pytest.mark.slow
@pytest.mark.parametrize("who", ["superlink", "supernode", "node", "coordinator"])
def test_whoever_is_killed_in_a_round_the_model_is_the_undisturbed_one(
    linked: Federation, plain: TrainingResult, who: str
) -> None:
    with linked.connect() as ana:
        # A worker that is started anew draws its random numbers of the task anew, all the same.
        job = train(ana, parameters={"pause": 0.5})
        wait_for_round(job, 2)
        if who == "superlink":
            os.kill(superlink_process(linked), signal.SIGKILL)
        elif who == "supernode":
            os.kill(supernode_process(linked, "north"), signal.SIGKILL)
        else:
            server = linked.coordinator if who == "coordinator" else linked.node("north")
            server.kill()
            server.start()
            linked.wait_for_sites()
        digest = job.digest
    with linked.connect() as ana:
        assert same(ana.job(digest).result(), plain)
    linked.nothing_is_stuck()
    linked.ledgers_verify()
