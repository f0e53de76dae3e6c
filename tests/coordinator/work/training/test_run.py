"""Training end to end without a network: a real ServerApp's process, and real workers."""

import asyncio
import hashlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.failures import with_meaning
from coordinator.work.training.exchange import Exchange
from foundation import isolation
from tests.coordinator.work.training.harness import SITES, Consortium, release_of
from tests.node.work.training.flower_apps import CLIENT, CONFIG, SERVER, bundle

NOISY = {"noise": 0.01, "rounds": 4}


@pytest.fixture
def consortium(tmp_path):
    made: list[Consortium] = []

    def make(data=None, parameters=None, name="c", **named):
        one = Consortium(tmp_path / name, data or bundle(), parameters or {}, **named)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def by_hand(folder, rounds, rate=0.1, sites=SITES):
    """FedAvg of one gradient step a round, computed directly."""
    w = np.zeros(3)
    data = [np.loadtxt(release_of(folder, site) / "rows.csv", delimiter=",") for site in sites]
    total = sum(len(d) for d in data)
    for _ in range(rounds):
        updates = [w - rate * d[:, :3].T @ (d[:, :3] @ w - d[:, 3]) / len(d) for d in data]
        w = sum(u * (len(d) / total) for u, d in zip(updates, data, strict=True))
    return w


def edit(reply, change):
    """Return a reply whose records were changed, as a hostile site would."""
    content = records.decode(reply.payload, reply.tensors)
    change(content)
    payload, tensors = records.encode(content)
    return replace(reply, payload=payload, tensors=tensors)


def test_federated_averaging_gives_what_arithmetic_gives(consortium):
    one = consortium()
    outcome = one.train()
    np.testing.assert_allclose(one.model(outcome)["w"], by_hand(one.folder, 3), rtol=1e-12)
    assert [e.round for e in one.rounds("train")] == [1, 2, 3]
    assert [e.round for e in one.rounds("evaluate")] == [1, 2, 3]
    assert one.rounds("evaluate")[0].metrics[0].key == "loss"
    assert "[ROUND 3/3]" in one.log()
    assert "row" not in one.log()


def killed_after(one, count):
    """Kill the ServerApp's process (-9) when a round's training was seen."""
    seen = threading.Event()

    def on_task(site, task):
        if int(task.task) > count and not seen.is_set():
            seen.set()
            os.kill(one.run.pid, 9)

    one.on_task = on_task
    return seen


def test_a_killed_serverapp_resumes_to_the_same_bits(consortium):
    undisturbed = consortium(parameters=NOISY, name="a")
    model = undisturbed.model(undisturbed.train())["w"]
    disturbed = consortium(parameters=NOISY, name="b")
    seen = killed_after(disturbed, 12)
    outcome = disturbed.train()
    assert seen.is_set()
    assert disturbed.model(outcome)["w"].tobytes() == model.tobytes()
    assert [e.round for e in disturbed.rounds("train")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_restarted_coordinator_resumes_to_the_same_bits(consortium):
    undisturbed = consortium(parameters={**NOISY, "fraction": 0.7}, name="a")
    model = undisturbed.model(undisturbed.train())["w"]
    one = consortium(parameters={**NOISY, "fraction": 0.7}, name="b")
    asked: list[str] = []

    async def first_life():
        running = asyncio.ensure_future(one.run.run())
        while len(one.rounds("train")) < 2:
            await asyncio.sleep(0.005)
        one.answer = lambda site, task: False  # the tasks of this moment are lost with us
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(first_life())
    one.answer = lambda site, task: True
    one.on_task = lambda site, task: asked.append(task.task)
    one.new_run()
    outcome = one.train()
    assert one.model(outcome)["w"].tobytes() == model.tobytes()
    assert "000001" not in asked
    assert [e.round for e in one.rounds("train")] == [1, 2, 3, 4]


def test_an_app_that_is_not_deterministic_fails_clearly(consortium):
    server = SERVER.replace("np.zeros(3)", "np.frombuffer(__import__('os').urandom(3), 'u1') / 1.0")
    one = consortium(bundle(server=server))
    killed_after(one, 6)
    outcome = one.train()
    assert outcome.model is None
    assert "not deterministic" in outcome.reason


def only(site, kind, change):
    def apply(who, task, reply):
        match = who == site and task.message_type == kind
        return edit(reply, change) if match else reply

    return apply


def test_an_app_that_waits_for_more_sites_than_there_are_is_told(consortium):
    server = SERVER.replace("def main(grid, context):", "def main(grid, context):\n    wait(grid)")
    server += """

def wait(grid):
    while len(list(grid.get_node_ids())) < 4:
        pass
"""
    outcome = consortium(bundle(server=server)).train()
    assert outcome.model is None
    assert "waits for more sites than the 3" in outcome.reason


def nan(content):
    content["arrays"].items["w"] = np.array([1.0, float("nan"), 0.0])


def infinite(content):
    content["arrays"].items["w"] = np.array([1.0, float("inf"), 0.0])


def weight(value):
    def change(content):
        content["metrics"].items["num-examples"] = value

    return change


def renamed(content):
    content["arrays"].items["v"] = content["arrays"].items.pop("w")


def reshaped(content):
    content["arrays"].items["w"] = np.zeros((3, 1))


def retyped(content):
    content["arrays"].items["w"] = content["arrays"].items["w"].astype("f4")


def odd_metric(content):
    content["metrics"].items["extra"] = 1.0


@pytest.mark.slow
def test_an_unsound_update_counts_as_that_sites_failure(consortium):
    changes = [nan, infinite, renamed, reshaped, retyped]
    changes += [weight(v) for v in (-1, 2e9, float("nan"), float("inf"), [3])]
    one = consortium(parameters={"rounds": len(changes)})

    def apply(site, task, reply):
        if site != "birch" or task.message_type != "train":
            return reply
        turn = (int(task.task) - 1) // 6
        return edit(reply, changes[turn])

    one.change = apply
    outcome = one.train()
    expected = by_hand(one.folder, len(changes), sites=("alder", "cedar"))
    np.testing.assert_allclose(one.model(outcome)["w"], expected, rtol=1e-12)
    assert one.log().count("aggregate_train: Received 2 results and 1 failures") == len(changes)
    named = [(e.site, e.text) for e in one.events if e.kind == "site"]
    codes = ["not-finite"] * 2 + ["unlike-instruction"] * 3 + ["bad-weight"] * 5
    assert named == [("birch", f"failed: {code}") for code in codes]


def test_a_metric_that_one_site_has_is_not_told_but_that_it_has_it_and_its_update_counts(
    consortium,
):
    one = consortium(parameters={"rounds": 2})

    def apply(site, task, reply):
        odd = site == "birch" and task.message_type == "train"
        return edit(reply, odd_metric) if odd else reply

    one.change = apply
    outcome = one.train()
    np.testing.assert_allclose(one.model(outcome)["w"], by_hand(one.folder, 2), rtol=1e-12)
    rounds = [event for event in one.events if event.kind == "round"]
    said = [{m.key: records.decode_entry(m) for m in event.metrics} for event in rounds]
    apart = [found for found in said if "extra" in found]
    assert not apart
    assert [found["extra-sites"] for found in said if "extra-sites" in found] == [1, 1]


def as_bytes(make):
    """Return a change that puts other bytes, truly declared, in the place of a reply's tensors."""

    def change(reply):
        tensors = make(reply.tensors)
        payload = wire.RecordDict.FromString(reply.payload.SerializeToString())
        payload.tensors.digest = hashlib.sha256(tensors).hexdigest()
        payload.tensors.size = len(tensors)
        return replace(reply, payload=payload, tensors=tensors)

    return change


@pytest.mark.slow
def test_garbage_of_the_right_size_or_shape_counts_as_that_sites_failure(consortium):
    changes = [
        as_bytes(lambda data: bytes(len(data))),
        as_bytes(lambda data: np.random.default_rng(1).bytes(len(data))),
        as_bytes(lambda data: data[:-8]),
        as_bytes(lambda data: data + bytes(8)),
        as_bytes(lambda data: data[:-24] + b"\xff" * 24),  # the last three values are NaN
        as_bytes(lambda data: data.replace(b"F64", b"I64")),
    ]
    one = consortium(parameters={"rounds": len(changes)})

    def apply(site, task, reply):
        if site != "birch" or task.message_type != "train":
            return reply
        return changes[(int(task.task) - 1) // 6](reply)

    one.change = apply
    outcome = one.train()
    expected = by_hand(one.folder, len(changes), sites=("alder", "cedar"))
    np.testing.assert_allclose(one.model(outcome)["w"], expected, rtol=1e-12)
    assert one.log().count("aggregate_train: Received 2 results and 1 failures") == len(changes)


def test_a_reply_that_comes_while_the_app_is_restarted_is_kept(tmp_path):
    exchange = Exchange(tmp_path / "job", "ab" * 32, SITES)
    sent = [(site, wire.Task(task=f"{n:06}")) for n, site in enumerate(SITES, 1)]
    assert exchange.push(sent) == sent
    exchange.restart()  # and the app hasn't come to its messages again
    assert exchange.wants("cedar", "000003")
    assert not exchange.wants("alder", "000003")
    assert exchange.deliver("cedar", wire.Reply(task="000003", payload=b"kept"))
    assert not exchange.wants("cedar", "000003")
    assert exchange.push(sent) == sent[:2]  # nobody is asked twice
    exchange.fail("alder", "000001", "late")
    exchange.fail("birch", "000002", "late")
    answers = exchange.wait([task.task for _, task in sent], None)
    assert [code for _, code in answers] == ["late", "late", ""]
    assert wire.Reply.FromString(exchange.reply("000003")).payload == b"kept"


def test_who_holds_a_round_up_is_known_once_half_have_answered(consortium):
    one = consortium(parameters={"rounds": 1})
    seen = {}

    def wait(site, task):
        if site == "cedar" and task.task == "000003":
            while len(one.run.pending("alder")) + len(one.run.pending("birch")):
                time.sleep(0.01)
            seen.update(one.run.waited_for())
        return True

    one.answer = wait
    assert one.run.waited_for() == {}
    assert one.train().model is not None
    assert list(seen) == ["cedar"]
    assert seen["cedar"] >= 0


def test_a_run_ends_when_too_few_sites_are_left(consortium):
    one = consortium(minimum_sites=3)
    one.change = only("birch", "train", nan)
    outcome = one.train()
    assert outcome.model is None
    said = "Only 2 of 3 sites gave a usable answer, and the project needs 3. "
    assert outcome.reason == f"{said}birch: {with_meaning('not-finite')}"


def test_a_site_that_fails_or_is_too_late_is_left_out_of_the_round(consortium):
    one = consortium(parameters={"timeout": 1.0, "rounds": 2})
    one.answer = lambda site, task: not (site == "cedar" and task.task == "000003")
    outcome = one.train()
    assert outcome.model is not None
    assert one.log().count("Received 2 results and 1 failures") == 1
    assert [(e.site, e.text) for e in one.events if e.kind == "site"] == [
        ("cedar", "failed: timeout")
    ]


def test_open_tasks_are_known_for_a_site_that_comes_back(consortium):
    one = consortium()
    held: list[wire.Task] = []

    def answer(site, task):
        if site == "cedar" and task.task == "000003" and not held:
            held.append(task)
            return False
        return True

    one.answer = answer

    async def later():
        running = asyncio.ensure_future(one.run.run())
        while not held:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        pending = one.run.pending("cedar")
        assert [task.task for task in pending] == ["000003"]
        assert not one.run.deliver("alder", wire.Reply(task="000003"))
        assert not one.run.deliver("cedar", wire.Reply(task="000099"))
        for task in pending:
            await one.send("cedar", task)
        return await running

    outcome = asyncio.run(later())
    np.testing.assert_allclose(one.model(outcome)["w"], by_hand(one.folder, 3), rtol=1e-12)


def test_a_cancelled_run_ends_at_once_and_leaves_no_process(consortium):
    one = consortium()
    one.answer = lambda site, task: False

    async def cancelled():
        running = asyncio.ensure_future(one.run.run())
        while not one.run.pending("alder"):
            await asyncio.sleep(0.01)
        pid = one.run.pid
        one.run.cancel()
        outcome = await asyncio.wait_for(running, 60)  # nobody would ever answer
        assert not Path(f"/proc/{pid}").exists()
        return outcome

    assert asyncio.run(cancelled()).model is None


HOSTILE_SERVER = """\
import os, socket
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    for path in ("/etc/passwd", "/root/.bashrc", "/home"):
        try:
            os.listdir(path) if os.path.isdir(path) else open(path).read()
            print("READ", path)
        except OSError:
            pass
    for path in ("/blobs/x", "/recipe/app/x"):
        try:
            open(path, "w"); print("WROTE", path)
        except OSError:
            pass
    try:
        socket.create_connection(("127.0.0.1", 22), 1); print("CONNECTED")
    except OSError:
        pass
    print("done")
    raise KeyError("x")
"""


def test_a_serverapp_is_confined_and_its_failure_is_one_line(consortium):
    one = consortium(bundle(server=HOSTILE_SERVER))
    outcome = one.train()
    assert outcome.model is None
    line = HOSTILE_SERVER[: HOSTILE_SERVER.index("raise KeyError")].count("\n") + 1
    assert outcome.reason.startswith(
        f"The ServerApp failed with KeyError at tiny/server_app.py:{line}"
    )
    log = one.log()
    assert "done" in log
    assert not any(word in log for word in ("READ", "WROTE", "CONNECTED"))


def test_no_serverapp_runs_where_the_sandbox_does_not_hold(consortium, monkeypatch):
    one = consortium(bundle())
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(isolation, "_holds", False)
    outcome = one.train()
    assert outcome.model is None
    assert "apt-get install bubblewrap" in outcome.reason


FORBIDDEN_SERVER = """\
import ctypes
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
"""


def test_a_serverapp_that_the_sandbox_ended_is_told_so(consortium):
    outcome = consortium(bundle(server=FORBIDDEN_SERVER)).train()
    assert outcome.model is None
    assert outcome.reason.endswith("killed: it made a system call that the sandbox forbids.")


RAW_SERVER = """\
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    w = np.zeros(3)
    for _ in range(3):
        content = RecordDict({"arrays": ArrayRecord({"w": Array(w)})})
        ids = grid.push_messages([Message(content, n, "train") for n in grid.get_node_ids()])
        replies = []
        while len(replies) < len(ids):
            replies += grid.pull_messages(ids)
        replies.sort(key=lambda r: r.metadata.src_node_id)
        w = np.mean([r.content["arrays"]["w"].numpy() for r in replies], axis=0)
    context.state["model"] = ArrayRecord({"w": Array(w)})
"""
SENT_LAST = """\
    nodes = grid.get_node_ids()
    content = [RecordDict({"arrays": ArrayRecord({"w": Array(w)})}) for _ in nodes]
    to = zip(content, nodes)
    grid.send_and_receive([Message(c, n, "evaluate") for c, n in to])
    print("saving", w)
"""


def test_an_app_without_a_strategy_leaves_its_model_in_its_state_or_sends_it_out_last(consortium):
    one = consortium(bundle(server=RAW_SERVER), name="a")
    model = one.model(one.train())["w"]
    assert model.shape == (3,)
    learning, _, _ = RAW_SERVER.partition("    context.state")
    disturbed = consortium(bundle(server=learning + SENT_LAST), name="b")
    killed_after(disturbed, 6)
    assert disturbed.model(disturbed.train())["w"].tobytes() == model.tobytes()
    assert "What it sent to its sites last is taken for it." in disturbed.log()


LEGACY_CLIENT = """\
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    def __init__(self, path):
        self.data = np.loadtxt(path + "/rows.csv", delimiter=",")

    def get_parameters(self, config):
        return [np.zeros(3)]

    def fit(self, parameters, config):
        w, x, y = parameters[0], self.data[:, :3], self.data[:, 3]
        return [w - 0.1 * x.T @ (x @ w - y) / len(y)], len(y), {"loss": 0.5}

    def evaluate(self, parameters, config):
        return 0.25, len(self.data), {"accuracy": 0.5}


app = ClientApp(client_fn=lambda context: Client(context.node_config["data-path"]).to_client())
"""

LEGACY_SERVER = """\
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp


def server_fn(context):
    return ServerAppComponents(
        strategy=FedAvg(
            min_fit_clients=3,
            min_evaluate_clients=3,
            min_available_clients=3,
            initial_parameters=ndarrays_to_parameters([np.zeros(3)]),
        ),
        config=ServerConfig(num_rounds=context.run_config["rounds"]),
    )


app = ServerApp(server_fn=server_fn)
"""


def test_an_app_of_the_older_kind_runs_and_resumes(consortium):
    data = bundle(client=LEGACY_CLIENT, server=LEGACY_SERVER)
    one = consortium(data)
    killed_after(one, 8)
    outcome = one.train()
    [model] = one.model(outcome).values()
    np.testing.assert_allclose(model, by_hand(one.folder, 3), rtol=1e-12)
    assert [e.round for e in one.rounds("train")] == [1, 2, 3]


def test_a_bundle_that_is_not_the_jobs_is_refused(consortium):
    one = consortium()
    one.bundle.write_bytes(bundle(client=CLIENT + "\n"))
    assert "not the one that the job names" in one.train().reason


def test_the_config_of_the_tests_is_that_of_the_app():
    assert set(CONFIG) == {"rate", "noise", "rounds", "fraction", "timeout"}
