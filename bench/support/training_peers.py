"""What else runs a federated round: Flower's own runtime, and NVFlare in its provisioned mode.

Both run the same as ``support/noop``: three sites on this machine send back the model that they
get, FedAvg averages it. A round is timed at the first site, from message to message. Flower's runs
without TLS and without authentication of nodes, which is in its favour. NVFlare is installed from
PyPI, pinned, under ``.cache/bench-training/`` of the project, on first use; its executor is code in
the client's job process, which is the shortest way that it has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

from demo.processes import BIN, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "bench-training"
NVFLARE = "nvflare==2.9.0"
SITES = 3
PATIENCE_SECONDS = 900.0
STAMPS = "NOOP_STAMPS"
"""The variable that names the file to which a site writes when each message comes."""

Figures = tuple[float, float]
"""Median seconds of a round after the first, and seconds from submitting to the first message."""


class _Peer:
    """Processes of one peer, all ended at the end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.stamps = folder / "stamps"
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "PYTHON"))}
        self.environment = plain | environment
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str | Path], *, stamps: bool = False) -> None:
        """Start a server; the one that ``stamps`` writes when messages come."""
        more = {STAMPS: str(self.stamps)} if stamps else {}
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environment | more,
                    cwd=self.folder,
                    start_new_session=True,
                )
            )

    def run(self, command: Sequence[str | Path], **options: str) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment | options,
            cwd=self.folder,
            timeout=PATIENCE_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def wait_for(self, what: Callable[[], bool], why: str) -> None:
        """Return once it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not what():
            if time.monotonic() > deadline:
                raise RuntimeError(f"it never happened: {why}")
            time.sleep(0.02)

    def rounds(self, number: int, submitted: float) -> Figures:
        """Wait until the first site got so many messages."""

        def times() -> list[float]:
            with suppress(FileNotFoundError):
                return [float(line) for line in self.stamps.read_text().split()]
            return []

        self.wait_for(lambda: len(times()) >= number, f"{number} rounds")
        came = times()
        took = sorted(b - a for a, b in pairwise(came))
        return took[len(took) // 2], came[0] - submitted

    def close(self) -> None:
        """End every process, and what they started."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def flower(recipe: Path, rounds: int, tensors: int, values: int) -> Figures:
    """Run the recipe on a SuperLink and SuperNodes of this environment's Flower."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="wardgate-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        home = folder / "flower"
        home.mkdir()
        peer = _Peer(
            folder,
            FLWR_HOME=str(home),
            FLWR_TELEMETRY_ENABLED="0",
            FLWR_DISABLE_UPDATE_CHECK="1",
            PATH=f"{BIN}:{os.environ['PATH']}",
        )
        stack.callback(peer.close)
        address = f"127.0.0.1:{free_port()}"
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "bench"\n'
            f'[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
        )
        shutil.copytree(recipe, folder / "app")
        port = address.rpartition(":")[2]
        superlink = [BIN / "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", port]
        peer.start("superlink", [*superlink, "--disable-runtime-dependency-installation"])
        for number in range(SITES):
            supernode = [BIN / "flower-supernode", "--insecure", "--superlink", address]
            peer.start(
                f"supernode{number}",
                [*supernode, "--port", str(free_port())],
                stamps=not number,
            )
        time.sleep(10)  # until all are there; the recipe waits for them by seconds
        config = f"num-server-rounds={rounds} tensors={tensors} values={values}"
        submitted = time.time()
        peer.run([BIN / "flwr", "run", folder / "app", "bench", "--run-config", config])
        return peer.rounds(rounds, submitted)


NVFLARE_PARTS = """
import os, time
import numpy as np
from nvflare.apis.executor import Executor
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from nvflare.app_common.utils.fl_model_utils import FLModelUtils


class Zero(ModelPersistor):
    def __init__(self, tensors, values):
        super().__init__()
        self.tensors, self.values = tensors, values

    def load_model(self, fl_ctx):
        generator = np.random.default_rng(0)
        size = self.values // self.tensors
        weights = {
            str(i): generator.standard_normal(size, dtype=np.float32) for i in range(self.tensors)
        }
        return make_model_learnable(weights=weights, meta_props={})

    def save_model(self, model, fl_ctx):
        pass


class Back(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        if stamps := os.environ.get("NOOP_STAMPS"):
            with open(stamps, "a") as file:
                file.write(f"{time.time()}\\n")
        model = FLModelUtils.from_shareable(shareable)
        back = FLModel(
            params=model.params,
            params_type=ParamsType.FULL,
            meta={"NUM_STEPS_CURRENT_ROUND": 1000},
        )
        return FLModelUtils.to_shareable(back)
"""
NVFLARE_SUBMIT = """
import os, sys
from nvflare.fuel.flare_api.flare_api import new_secure_session

session = new_secure_session("admin@bench.org", sys.argv[1])
print(session.submit_job(sys.argv[2]), flush=True)
os._exit(0)  # its threads would not let it end
"""


def nvflare_python() -> Path | None:
    """Return the Python that has NVFlare, installed if need be; None where it can't be."""
    python = CACHE / "nvflare" / "bin" / "python"
    if python.is_file():
        return python
    quiet = ["--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(CACHE / "nvflare")],
        [str(python), "-m", "pip", "install", *quiet, NVFLARE],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            shutil.rmtree(CACHE / "nvflare", ignore_errors=True)
            return None
    return python


def nvflare(python: Path, rounds: int, tensors: int, values: int) -> Figures:
    """Run the same on a provisioned NVFlare: mutual TLS, signed startup kits."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="wardgate-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        peer = _Peer(folder, PATH=f"{python.parent}:{os.environ['PATH']}")
        stack.callback(peer.close)
        (folder / "project.yml").write_text(json.dumps(_nvflare_project()))  # JSON is YAML
        command = [python.parent / "nvflare", "provision", "-p", "project.yml", "-w", "kits"]
        peer.run([*command, "--force"])
        kits = folder / "kits" / "bench" / "prod_00"
        _nvflare_start(peer, python, kits, "localhost", "server")
        for number in range(1, SITES + 1):
            _nvflare_start(peer, python, kits, f"site-{number}", "client", stamps=number == 1)
        job = _nvflare_job(folder / "job", rounds, tensors, values)
        logs = [kits / f"site-{number}" / "log.txt" for number in range(1, SITES + 1)]

        def registered() -> bool:
            said = [log.read_text(errors="replace") for log in logs if log.exists()]
            return len(said) == SITES and all("registered client" in s.lower() for s in said)

        peer.wait_for(registered, "the clients register")
        submit = folder / "submit.py"
        submit.write_text(NVFLARE_SUBMIT)
        submitted = time.time()
        peer.run([python, submit, kits / "admin@bench.org", job])
        return peer.rounds(rounds, submitted)


def _nvflare_project() -> Mapping[str, object]:
    base = "nvflare.lighter.impl"
    clients = [{"name": f"site-{i}", "type": "client", "org": "bench"} for i in range(1, SITES + 1)]
    server = {
        "name": "localhost",
        "type": "server",
        "org": "bench",
        "fed_learn_port": free_port(),
        "admin_port": free_port(),
    }
    admin = {"name": "admin@bench.org", "type": "admin", "org": "bench", "role": "project_admin"}
    static = {"config_folder": "config", "scheme": "grpc"}
    return {
        "api_version": 3,
        "name": "bench",
        "description": "bench",
        "participants": [server, *clients, admin],
        "builders": [
            {"path": f"{base}.workspace.WorkspaceBuilder"},
            {"path": f"{base}.static_file.StaticFileBuilder", "args": static},
            {"path": f"{base}.cert.CertBuilder"},
            {"path": f"{base}.signature.SignatureBuilder"},
        ],
    }


def _nvflare_start(
    peer: _Peer, python: Path, kits: Path, name: str, kind: str, *, stamps: bool = False
) -> None:
    """Start what a startup kit's ``sub_start.sh`` starts."""
    module = f"nvflare.private.fed.app.{kind}.{kind}_train"
    settings = ["secure_train=true", *([f"uid={name}"] if kind == "client" else [])]
    command = [python, "-u", "-m", module, "-m", kits / name, "-s", f"fed_{kind}.json", "--set"]
    peer.start(name, [*command, *settings, "org=bench", "config_folder=config"], stamps=stamps)


def _nvflare_job(job: Path, rounds: int, tensors: int, values: int) -> Path:
    app = job / "app"
    (app / "config").mkdir(parents=True)
    (app / "custom").mkdir()
    (app / "custom" / "noop_parts.py").write_text(NVFLARE_PARTS)
    controller = {
        "id": "controller",
        "path": "nvflare.app_common.workflows.fedavg.FedAvg",
        "args": {"num_clients": SITES, "num_rounds": rounds, "persistor_id": "persistor"},
    }
    persistor = {
        "id": "persistor",
        "path": "noop_parts.Zero",
        "args": {"tensors": tensors, "values": values},
    }
    files = {
        job / "meta.json": {
            "name": "noop",
            "resource_spec": {},
            "min_clients": SITES,
            "deploy_map": {"app": ["@ALL"]},
        },
        app / "config" / "config_fed_server.json": {
            "format_version": 2,
            "workflows": [controller],
            "components": [persistor],
        },
        app / "config" / "config_fed_client.json": {
            "format_version": 2,
            "executors": [{"tasks": ["train"], "executor": {"path": "noop_parts.Back"}}],
            "components": [],
        },
    }
    for path, content in files.items():
        path.write_text(json.dumps(content))
    return job
