"""A recipe with PyTorch trains in the sandbox, with loaders in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import records
from contract import wire_pb2 as wire
from foundation.bubblewrap import Limits
from node.work.training.worker import Worker
from tests.node.work.training.flower_apps import approved, bundle

CLIENT = """\
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    import torch
    from safetensors.torch import load_file, save_file
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    class Rows(Dataset):
        def __init__(self):
            self.rows = torch.arange(400, dtype=torch.float64).reshape(100, 4)

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, at):
            return self.rows[at], torch.tensor(at % 2 == 0), torch.tensor([])

    plain = list(DataLoader(Rows(), batch_size=32))
    loaded = list(DataLoader(Rows(), batch_size=32, num_workers=2))
    single = list(DataLoader(Rows(), batch_size=None, num_workers=1))
    same = all(torch.equal(a, b) for p, q in zip(plain, loaded, strict=True) for a, b in zip(p, q))
    same &= all(torch.equal(a[0], b) for a, b in zip(single, Rows().rows, strict=True))
    small = max(row.untyped_storage().nbytes() for row, _, _ in single)

    torch.set_num_threads(2)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                                torch.nn.Linear(4 * 64, 2))
    optimiser = torch.optim.Adam(model.parameters())
    images, labels = torch.randn(64, 1, 10, 10), torch.randint(0, 2, (64,))
    first = float(torch.nn.functional.cross_entropy(model(images), labels))
    for _ in range(12):
        for x, y in DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimiser.step()
    last = float(torch.nn.functional.cross_entropy(model(images), labels))
    save_file(model.state_dict(), "/tmp/model.safetensors")
    model.load_state_dict(load_file("/tmp/model.safetensors"))
    torch.save(model.state_dict(), "/tmp/model.pt")
    model.load_state_dict(torch.load("/tmp/model.pt", weights_only=True))
    metrics = {"same": int(same), "small": small, "first": first, "last": last}
    weights = {name: Array(value.numpy()) for name, value in model.state_dict().items()}
    return Message(content=RecordDict({"metrics": MetricRecord(metrics),
                                       "arrays": ArrayRecord(weights)}), reply_to=message)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    release = tmp_path / "release"
    release.mkdir()
    one = Worker.start(
        recipe=approved(tmp_path / "home", bundle(client=CLIENT)),
        release=release,
        job="job",
        parameters={},
        seed=1,
        run_id=1,
        node_id=2,
        node_config={"data-path": "/release"},
        limits=Limits(threads=2),
        log=tmp_path / "log",
    )
    yield one
    one.close()
    print((tmp_path / "log").read_text())


def test_a_network_is_trained_and_loaders_hand_over_what_they_read(worker: Worker) -> None:
    payload, blob = records.encode({"config": records.Config({"lr": 0.1})})
    task = wire.Task(task="000001", message_type="train", payload=payload.SerializeToString())
    reply = worker.handle(task, blob, b"")
    metrics = records.decode(reply.payload, reply.tensors)["metrics"].items
    assert metrics["same"] == 1
    assert metrics["small"] == 4 * 8  # a row, and not the table that it is a part of
    assert float(metrics["last"]) < float(metrics["first"])
