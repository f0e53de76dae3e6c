"""Training that begins with a finished model, in apps that know nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from coordinator.registry.model_records import STRATEGY
from tests.coordinator.work.training.harness import Consortium
from tests.coordinator.work.training.test_run import by_hand, killed_after
from tests.node.work.training.flower_apps import CLIENT, SERVER, bundle

LEGACY = '''\
"""FedAvg of the older kind, from zero."""
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


def server_fn(context):
    strategy = FedAvg(
        min_available_clients=3, initial_parameters=ndarrays_to_parameters([np.zeros(3)])
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=2))


app = ServerApp(server_fn=server_fn)
'''
LEGACY_CLIENT = '''\
"""One gradient step of a linear model, as a NumPyClient."""
from pathlib import Path

import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    def __init__(self, data):
        self.x, self.y = data[:, :-1], data[:, -1]

    def fit(self, parameters, config):
        w = parameters[0]
        return [w - 0.1 * self.x.T @ (self.x @ w - self.y) / len(self.y)], len(self.y), {}

    def evaluate(self, parameters, config):
        return float(np.mean((self.x @ parameters[0] - self.y) ** 2)), len(self.y), {}


def client_fn(context):
    path = Path(str(context.node_config["data-path"])) / "rows.csv"
    return Client(np.loadtxt(path, delimiter=",")).to_client()


app = ClientApp(client_fn=client_fn)
'''

Make = Callable[..., Consortium]


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Make]:
    made: list[Consortium] = []

    def make(data: bytes | None = None, name: str = "c") -> Consortium:
        made.append(Consortium(tmp_path / name, data or bundle()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def begin_with(one: Consortium, arrays: dict[str, np.ndarray]) -> None:
    """Prepare a run that begins with a model, as a job does."""
    message, blob = records.encode({"arrays": records.Arrays(arrays)})
    blobs = one.folder / "job" / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / message.tensors.digest).write_bytes(blob)
    one.new_run(message.SerializeToString())


def test_two_runs_of_three_rounds_are_one_of_six(consortium: Make) -> None:
    first = consortium(name="a")
    model = first.model(first.train())
    second = consortium(name="b")
    begin_with(second, model)
    outcome = second.train()
    np.testing.assert_allclose(second.model(outcome)["w"], by_hand(second.folder, 6), rtol=1e-12)


@pytest.mark.slow
def test_a_killed_serverapp_begins_with_it_again_and_gives_the_same_bits(
    consortium: Make,
) -> None:
    models = []
    for name in ("undisturbed", "killed"):
        one = consortium(name=name)
        begin_with(one, {"w": np.array([0.5, 0.25, -1.0])})
        seen = killed_after(one, 9) if name == "killed" else None
        models.append(one.model(one.train())["w"].tobytes())
        assert seen is None or seen.is_set()
    assert models[0] == models[1]


def test_the_strategy_is_told_with_the_model(consortium: Make) -> None:
    one = consortium()
    outcome = one.train()
    message = wire.RecordDict.FromString(outcome.model or b"")
    blob = (one.folder / "job" / "blobs" / outcome.digest).read_bytes()
    told = records.decode(message, blob)[STRATEGY]
    assert isinstance(told, records.Config)
    assert told.items["name"] == "FedAvg"
    assert (told.items["rounds"], told.items["min_train_nodes"]) == (3, 2)


@pytest.mark.slow
def test_a_model_of_another_form_is_refused_in_one_sentence(consortium: Make) -> None:
    one = consortium()
    begin_with(one, {"w": np.zeros(4)})
    outcome = one.train()
    assert outcome.model is None
    assert outcome.reason == (
        "The model to start from has other arrays than the recipe's with these parameters."
    )


def test_an_app_that_begins_with_something_else_gives_no_model(consortium: Make) -> None:
    server = SERVER.split("@app.main()")[0] + (
        "@app.main()\n"
        "def main(grid, context):\n"
        '    context.state["arrays"] = ArrayRecord({"w": Array(np.ones(3))})\n'
    )
    one = consortium(bundle(server=server))
    begin_with(one, {"w": np.zeros(3)})
    outcome = one.train()
    assert outcome.model is None
    assert "did not begin with the model" in outcome.reason


def test_an_app_of_the_older_kind_begins_with_it_too(consortium: Make) -> None:
    one = consortium(bundle(client=LEGACY_CLIENT, server=LEGACY))
    begin_with(one, {"0": by_hand(one.folder, 3)})
    outcome = one.train()
    [w] = one.model(outcome).values()
    np.testing.assert_allclose(w, by_hand(one.folder, 5), rtol=1e-12)


def test_clients_see_nothing_but_its_arrays(consortium: Make) -> None:
    seen = CLIENT.replace(
        '    w = message.content["arrays"]["w"].numpy()\n',
        '    assert sorted(message.content) == ["arrays", "config"], 1\n'
        '    w = message.content["arrays"]["w"].numpy()\n',
        1,
    )
    one = consortium(bundle(client=seen))
    begin_with(one, {"w": np.ones(3)})
    assert one.train().model is not None
