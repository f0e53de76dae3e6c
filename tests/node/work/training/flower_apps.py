"""Small Flower apps that know nothing of Wardgate, for the tests of both halves of training."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from foundation.bundle import Bundle
from node.catalog import schema
from node.home import NodeHome
from node.work.training.bundles import ApprovedRecipe, approve_bytes
from node.work.training.dependencies import Sources

NOW = datetime(2026, 1, 1, tzinfo=UTC)

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "tiny"
version = "1.0.0"
description = "mean of a column"
license = "Apache-2.0"
dependencies = [{dependencies}]
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "tiny.server_app:app"
clientapp = "tiny.client_app:app"
[tool.flwr.app.config]
{config}
"""

CLIENT = '''\
"""One gradient step of a linear model on the rows of a folder."""
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def rows(context):
    return np.loadtxt(Path(str(context.node_config["data-path"])) / "rows.csv", delimiter=",")


@app.train()
def train(message: Message, context: Context) -> Message:
    data = rows(context)
    x, y = data[:, :-1], data[:, -1]
    w = message.content["arrays"]["w"].numpy()
    w -= context.run_config["rate"] * x.T @ (x @ w - y) / len(y)
    w += context.run_config["noise"] * np.random.normal(size=w.shape)
    calls = context.state.get("calls", ConfigRecord({"n": 0}))
    calls["n"] += 1
    context.state["calls"] = calls
    print("row", data[0])
    metrics = {"num-examples": len(y), "calls": calls["n"]}
    content = RecordDict({"arrays": ArrayRecord({"w": Array(w)}), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    data = rows(context)
    w = message.content["arrays"]["w"].numpy()
    loss = float(np.mean((data[:, :-1] @ w - data[:, -1]) ** 2))
    metrics = MetricRecord({"num-examples": len(data), "loss": loss})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
'''

SERVER = '''\
"""FedAvg over a vector that starts at zero."""
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid, context):
    strategy = FedAvg(
        min_train_nodes=2, min_available_nodes=3, fraction_train=context.run_config["fraction"]
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({"w": Array(np.zeros(3))}),
        num_rounds=context.run_config["rounds"],
        timeout=context.run_config["timeout"],
    )
'''

CONFIG = {"rate": 0.1, "noise": 0.0, "rounds": 3, "fraction": 1.0, "timeout": 60.0}


def bundle(
    client: str = CLIENT,
    server: str = SERVER,
    config: Mapping[str, object] = CONFIG,
    dependencies: str = '"flwr>=1.41", "numpy>=2"',
) -> bytes:
    """Return a bundle of the app, as ``flwr build`` lays it out."""
    lines = "\n".join(
        f"{k} = {v!r}" if not isinstance(v, bool) else f"{k} = {str(v).lower()}"
        for k, v in config.items()
    )
    files = {
        "pyproject.toml": PYPROJECT.format(config=lines, dependencies=dependencies).encode(),
        "tiny/__init__.py": b"",
        "tiny/client_app.py": client.encode(),
        "tiny/server_app.py": server.encode(),
    }
    return pack(files)


def pack(files: Mapping[str, bytes], manifest: bytes | None = None) -> bytes:
    """Zip files with a manifest, which is a true one unless another is given."""
    if manifest is None:
        manifest = "\n".join(
            f"{name},{hashlib.sha256(data).hexdigest()},{len(data) * 8}"
            for name, data in files.items()
        ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        archive.writestr(".info/CONTENT", manifest)
    return buffer.getvalue()


def approved(
    home: Path, data: bytes, wheelhouse: Path | None = None, **sources: Any
) -> ApprovedRecipe:
    """Approve a bundle in a node's home of its own."""
    node = NodeHome(home)
    if not node.root.exists():
        node.create()
    engine = create_engine(f"sqlite:///{node.database}")
    schema.metadata.create_all(engine)
    return approve_bytes(engine, node, data, Sources(wheelhouse, **sources), NOW)


def parsed(data: bytes) -> Bundle:
    """Return a bundle as its checked form."""
    return Bundle.parse(data)
