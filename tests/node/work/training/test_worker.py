# ruff: noqa: E501
"""What a hostile recipe can't do, and what an honest one gets, in the real sandbox."""

import ast
import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.errors import DocumentError
from foundation.bubblewrap import Limits
from node.work.training.worker import Worker, WorkerFailed
from tests.node.work.training.flower_apps import approved, bundle

CANARY = "MRN-84417-CANARY"

HOSTILE = """\
import os, socket, sys, threading
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


class MrnError(Exception):
    pass


def tried(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


def connect(family, address):
    with socket.socket(family) as s:
        s.settimeout(2)
        s.connect(address)


def fork_bomb():
    count = 0
    try:
        while count < 5000:
            if os.fork() == 0:
                import time
                time.sleep(3600)
                os._exit(0)
            count += 1
    except OSError:
        pass
    return count


def fill(path):
    written = 0
    try:
        with open(path, "wb") as file:
            while written < 10**9:
                written += file.write(bytes(1 << 16))
                file.flush()
    except OSError:
        pass
    return written


def status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1], 16)


@app.query()
def query(message, context):
    do = message.content["config"]["do"]
    patient = Path("/release/patient").read_text()
    out = {}
    if do == "network":
        out["ipv4"] = tried(lambda: connect(socket.AF_INET, ("127.0.0.1", int(context.run_config["port"]))))
        out["outside"] = tried(lambda: connect(socket.AF_INET, ("8.8.8.8", 53)))
        out["ipv6"] = tried(lambda: connect(socket.AF_INET6, ("::1", int(context.run_config["port"]))))
        out["unix"] = tried(lambda: connect(socket.AF_UNIX, context.run_config["unix"]))
        out["abstract"] = tried(lambda: connect(socket.AF_UNIX, "\\0" + context.run_config["abstract"]))
    elif do == "files":
        for name, path in (("passwd", "/etc/passwd"), ("shadow", "/etc/shadow"), ("root", "/root/.bashrc"),
                           ("home", "/home"), ("other", context.run_config["other"]), 
                           ("checkout", context.run_config["checkout"])):
            out[name] = tried(lambda: os.listdir(path) if os.path.isdir(path) else open(path, "rb").read())
        for name, path in (("w-release", "/release/x"), ("w-recipe", "/recipe/app/x"), ("w-slash", "/x"), ("w-dev", "/dev/x")):
            out[name] = tried(lambda: open(path, "wb"))
        try:
            out["environ"] = int(not Path("/proc/1/environ").read_bytes())
        except OSError:
            out["environ"] = 1
        out["w-patient"] = tried(lambda: open("/release/patient", "ab"))
        out["chmod"] = tried(lambda: os.chmod("/release/patient", 0o777))
        out["w-tmp"] = tried(lambda: open("/tmp/x", "wb"))
    elif do == "privileges":
        for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            out[key] = status(key)
        out["nnp"] = status("NoNewPrivs")
        out["uid"] = os.getuid()
        out["setuid"] = tried(lambda: os.setuid(0))
        out["seccomp"] = status("Seccomp")
    elif do == "mount":
        import ctypes
        ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
    elif do == "fork":
        out["forks"] = fork_bomb()
    elif do == "disk":
        out["tmp"] = fill("/tmp/fill")
        out["shm"] = fill("/dev/shm/fill")
    elif do == "memory":
        hold = []
        while True:
            hold.append(bytearray(1 << 26))
    elif do == "cpu":
        while True:
            pass
    elif do == "sleep":
        threading.Event().wait()
    elif do == "exit":
        os._exit(0)
    elif do == "sysexit":
        sys.exit(patient)
    elif do == "print":
        print(patient * 1000)
        sys.stderr.write(patient)
        os.write(1, b"\\x00\\xff" * 100000)
        for _ in range(40):
            os.write(2, b"garbage " * 10000)
    elif do == "protocol":
        for fd in range(3, 8192):
            try:
                os.write(fd, b"R\\xff\\xff\\xff\\xff" + b"\\xff" * 4000)
            except OSError:
                pass
    elif do == "raise":
        raise MrnError(patient)
    elif do == "type":
        raise type(patient.strip(), (Exception,), {})(patient)
    elif do == "filename":
        exec(compile("raise ValueError", "/recipe/app/" + patient.strip() + ".py", "exec"))
    elif do == "line":
        exec(compile("\\n" * 84416 + "raise ValueError", "/recipe/app/tiny/client_app.py", "exec"))
    elif do == "object":
        return Message(content=RecordDict({"a": ArrayRecord({"x": Array(
            "object", (1,), "cloudpickle", patient.encode())})}), reply_to=message)
    elif do == "nothing":
        return None
    content = RecordDict({"out": MetricRecord(out)})
    if do == "huge":
        content["a"] = ArrayRecord({"x": Array(np.zeros(5_000_000))})
    if do == "echo":
        for name, record in message.content.items():
            content[name] = record
        content["seen"] = ConfigRecord({
            "types": [type(v).__name__ for v in message.content["config"].values()],
            "src": message.metadata.src_node_id, "dst": message.metadata.dst_node_id,
            "id": message.metadata.message_id, "node": context.node_id, "run": context.run_id,
            "group": message.metadata.group_id, "path": sys.path[-2:], "home": os.environ["HOME"],
            "threads": os.environ["OMP_NUM_THREADS"], "random": float(np.random.random())})
    return Message(content=content, reply_to=message)
"""

LIMITS = Limits(
    memory_bytes=2**30,
    processes=64,
    tmp_bytes=8 * 2**20,
    message_seconds=120,
    reply_bytes=10 * 2**20,
    threads=2,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A release with one patient, another release, and sockets that listen."""
    import socket

    folder = tmp_path_factory.mktemp("hostile")
    for name in ("release", "other"):
        (folder / name).mkdir(mode=0o700)
        patient = folder / name / "patient"
        patient.write_text(CANARY + "\n")
        patient.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0wardgate-test")
        unix.listen()
        config = {
            "port": tcp.getsockname()[1],
            "abstract": "wardgate-test",
            "unix": str(folder / "unix"),
            "other": str(folder / "other"),
            "checkout": str(Path(__file__).parents[4] / "tests"),
        }
        recipe = approved(folder / "home", bundle(client=HOSTILE, config=config))
        yield folder, recipe


def start(place, *, limits=LIMITS, log="log", seed=1, node_id=17):
    folder, recipe = place
    return Worker.start(
        recipe=recipe,
        release=folder / "release",
        job="job",
        parameters={},
        seed=seed,
        run_id=5,
        node_id=node_id,
        node_config={"data-path": "/release"},
        limits=limits,
        log=folder / log,
    )


@pytest.fixture(scope="module")
def worker(place):
    one = start(place)
    yield one
    one.close()


def task(do, ttl=0.0, extra=None):
    content = {"config": records.Config({"do": do}), **(extra or {})}
    payload, blob = records.encode(content)
    out = wire.Task(
        job="job",
        task="000001",
        message_type="query",
        group="3",
        ttl_seconds=ttl,
        payload=payload.SerializeToString(),
        tensors=payload.tensors,
    )
    return out, blob


def run(worker, do, ttl=0.0, state=b""):
    reply = worker.handle(*task(do, ttl), state)
    return records.decode(reply.payload, reply.tensors)["out"].items


def fails(worker, do, ttl=0.0):
    with pytest.raises(WorkerFailed) as caught:
        worker.handle(*task(do, ttl), b"")
    error = caught.value
    for text in (str(error), repr(error), error.code, error.location):
        assert CANARY not in text
        assert "Mrn" not in text
        assert base64.b64encode(CANARY.encode()).decode()[:12] not in text
    return error.code, error.location


def line_of(text):
    return HOSTILE[: HOSTILE.index(text)].count("\n") + 1


def test_the_network_is_out_of_reach(worker):
    assert all(run(worker, "network").values())


def test_nothing_outside_can_be_read_and_nothing_given_be_written(worker):
    out = run(worker, "files")
    assert out.pop("w-tmp") == 0
    assert all(out.values()), out


def test_no_privilege_is_left(worker):
    out = run(worker, "privileges")
    assert [out[f"Cap{c}"] for c in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
    assert out["nnp"] == 1
    assert out["uid"] != 0
    assert out["setuid"]
    assert out["seccomp"] == 2


def test_a_forbidden_system_call_ends_the_worker_and_the_log_says_so(place, worker):
    assert fails(worker, "mount") == ("killed", "")
    assert "system call that the sandbox forbids" in (place[0] / "log").read_text(errors="replace")


def test_a_disk_can_be_filled_no_further_than_its_bound(worker):
    out = run(worker, "disk")
    assert max(out.values()) <= LIMITS.tmp_bytes


def test_what_is_printed_stays_in_a_bounded_local_log(place, worker):
    run(worker, "print")
    log = place[0] / "log"
    deadline = time.monotonic() + 60
    while CANARY not in log.read_text(errors="replace") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert CANARY in log.read_text(errors="replace")
    assert log.stat().st_size <= 2**20
    assert log.stat().st_mode & 0o777 == 0o600


def test_an_exception_is_a_line_of_the_recipe_and_nothing_else(worker):
    where = f"tiny/client_app.py:{line_of('raise MrnError')}"
    assert fails(worker, "raise") == ("exception", where)
    where = f"tiny/client_app.py:{line_of('raise type(patient')}"
    assert fails(worker, "type") == ("exception", where)
    assert fails(worker, "sysexit")[0] == "exception"


def test_a_forged_line_says_no_more_than_the_bundle_holds(worker):
    assert fails(worker, "filename") == ("exception", "")
    assert fails(worker, "line") == ("exception", "")


def test_an_answer_that_cannot_travel_is_malformed(worker):
    assert fails(worker, "object")[0] == "malformed"
    assert fails(worker, "nothing")[0] == "malformed"


def test_garbage_on_the_protocols_own_pipe_is_malformed_or_too_large(worker):
    assert fails(worker, "protocol")[0] in ("malformed", "too-large")


def test_a_huge_answer_is_refused_before_it_is_read(worker):
    assert fails(worker, "huge") == ("too-large", "")


def test_an_endless_loop_ends_at_the_tasks_time(worker):
    run(worker, "print")
    assert fails(worker, "cpu", ttl=0.5) == ("timeout", "")
    run(worker, "privileges")
    assert fails(worker, "sleep", ttl=0.5) == ("timeout", "")


def test_memory_is_bounded(worker):
    assert fails(worker, "memory")[0] in ("exception", "killed")


def test_a_fork_bomb_is_bounded_and_dies_with_its_worker(worker):
    assert run(worker, "fork")["forks"] < LIMITS.processes
    pid = worker.pid
    assert fails(worker, "sleep", ttl=0.3)[0] == "timeout"
    assert not Path(f"/proc/{pid}").exists()


def test_a_worker_that_dies_is_replaced(worker):
    assert fails(worker, "exit") == ("killed", "")
    assert run(worker, "privileges")["uid"] != 0


def test_processor_time_is_bounded(place):
    worker = start(place, limits=Limits(cpu_seconds=2, message_seconds=120), log="cpu")
    try:
        assert fails(worker, "cpu") == ("killed", "")
    finally:
        worker.close()


def test_a_message_arrives_whole_and_as_from_flower(worker):
    extra = {
        "config": records.Config({"do": "echo", "i": 1, "f": 1.0, "b": True, "s": "x", "y": b"\0"}),
        "lists": records.Config({"n": [1, 2], "empty": [], "flags": [True]}),
        "metrics": records.Metrics({"nan": float("nan"), "z": 3, "a": 2.0}),
        "arrays": records.Arrays(
            {"b": np.arange(6, dtype="f4").reshape(2, 3), "a": np.array(5, dtype="i8")}
        ),
    }
    reply = worker.handle(*task("", extra=extra), b"")
    back = records.decode(reply.payload, reply.tensors)
    assert list(back) == ["out", "config", "lists", "metrics", "arrays", "seen"]
    assert repr(back["metrics"]) == repr(extra["metrics"])
    assert back["config"] == extra["config"]
    assert back["lists"] == extra["lists"]
    assert list(back["arrays"].items) == ["b", "a"]
    assert back["arrays"].items["b"].tobytes() == extra["arrays"].items["b"].tobytes()
    assert back["arrays"].items["a"].shape == ()
    seen = back["seen"].items
    assert seen["types"] == ["str", "int", "float", "bool", "str", "bytes"]
    assert (seen["src"], seen["dst"], seen["node"], seen["run"]) == (1, 17, 17, 5)
    assert (seen["id"], seen["group"]) == ("000001", "3")
    assert seen["path"] == ["/recipe/app", "/recipe/site-packages"]
    assert (seen["home"], seen["threads"]) == ("/tmp", "2")


def test_random_numbers_follow_the_seed_and_the_node(place):
    def first(seed, node_id):
        worker = start(place, log="seed", seed=seed, node_id=node_id)
        try:
            reply = worker.handle(*task("echo"), b"")
            return records.decode(reply.payload, reply.tensors)["seen"].items["random"]
        finally:
            worker.close()

    with ThreadPoolExecutor(3) as threads:
        one, again, other = threads.map(first, (1, 1, 1), (17, 17, 18))
    assert one == again != other


# ---- an honest app -------------------------------------------------------------------------------


def train(worker, state=b"", kind="train"):
    payload, blob = records.encode(
        {"arrays": records.Arrays({"w": np.zeros(3)}), "config": records.Config({"lr": 0.1})}
    )
    message = wire.Task(task="000002", message_type=kind, payload=payload.SerializeToString())
    reply = worker.handle(message, blob, state)
    return records.decode(reply.payload, reply.tensors), reply.state


@pytest.fixture
def honest(tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    np.savetxt(release / "rows.csv", np.arange(12.0).reshape(3, 4), delimiter=",")
    recipe = approved(tmp_path / "home", bundle())
    started: list[Worker] = []

    def begin(**parameters):
        worker = Worker.start(
            recipe=recipe, release=release, job="j", parameters=parameters, seed=1, run_id=1,
            node_id=2, node_config={"data-path": "/release"}, limits=Limits(),
            log=tmp_path / "log",
        )  # fmt: skip
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.close()


def test_state_outlives_a_killed_worker(honest):
    worker = honest()
    _, state = train(worker)
    reply, state = train(worker, state)
    assert reply["metrics"].items["calls"] == 2
    os.kill(worker.pid, 9)
    worker._confined.process.wait()
    with pytest.raises(WorkerFailed, match="killed"):
        for _ in range(1000):  # what was inside dies a moment after
            train(worker, state)
    reply, state = train(worker, state)
    assert reply["metrics"].items["calls"] == 3


def test_a_wrong_parameter_is_refused_before_anything_runs(honest):
    with pytest.raises(DocumentError, match="'nothing'"):
        honest(nothing=1)


def test_the_parameters_reach_the_app(honest):
    slow, _ = train(honest(rate=0.01))
    fast, _ = train(honest(rate=0.02))
    np.testing.assert_allclose(slow["arrays"].items["w"] * 2, fast["arrays"].items["w"])


def test_three_workers_work_at_once(honest):
    workers = [honest() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        replies = list(threads.map(train, workers))
    assert len(replies) == 3


def test_a_closed_worker_leaves_no_process(honest):
    worker = honest()
    pid = worker.pid
    train(worker)
    worker.close()
    worker.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(WorkerFailed):
        train(worker)


def test_flowers_internals_are_imported_in_the_adapters_only():
    root = Path(__file__).parents[4]
    public = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
    found: set[str] = set()
    for package in ("contract", "foundation", "node", "coordinator", "researcher", "recipes"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                if any(n.split(".")[0] == "flwr" and n not in public for n in names):
                    found.add(str(path.relative_to(root)))
    assert found == {
        "foundation/flower.py",
        "node/work/training/flower.py",
        "coordinator/work/training/flower.py",
        "coordinator/work/training/older_apps.py",
        "node/work/superlink/flower.py",
        "coordinator/work/superlink/flower.py",
    }
