"""What apps rarely do works as it does by Flower alone: messages, states, arrays of every kind."""

from __future__ import annotations

import ast
import os
import signal
import sys
from pathlib import Path

from contract import wire_pb2 as wire
from contract.node_ids import node_id_of
from foundation.flower import build
from tests.coordinator.work.training.harness import SITES, Consortium, release_of
from tests.learning.simulation import LocalGrid

APP = Path(__file__).resolve().parents[3] / "end_to_end" / "apps" / "odd"
ROUNDS = 4


def test_an_app_with_odd_habits_gives_what_flower_gives_also_when_it_is_killed(
    tmp_path: Path,
) -> None:
    consortium = Consortium(tmp_path / "c", build(APP), {"rounds": ROUNDS})
    killed: list[str] = []

    def on_task(site: str, task: wire.Task) -> None:
        if int(task.task) > 8 and not killed:
            killed.append(task.task)
            assert consortium.run.pid is not None
            os.kill(consortium.run.pid, signal.SIGKILL)

    consortium.on_task = on_task
    try:
        model = consortium.model(consortium.train())
    finally:
        consortium.close()
    assert killed
    lines = [line for line in consortium.log().splitlines() if line.startswith("found ")]
    printed = {name: ast.literal_eval(value) for _, name, value in (x.split(" ", 2) for x in lines)}

    sys.path.append(str(APP))
    try:
        from odd import client_app, server_app

        grid = LocalGrid({node_id_of("north", site): client_app.app for site in SITES})
        for site in SITES:
            folder = release_of(consortium.folder, site)
            grid.contexts[node_id_of("north", site)].node_config["data-path"] = str(folder)
        expected, found = server_app.learn(grid, ROUNDS)
        begun = server_app.start()
    finally:
        sys.path.remove(str(APP))
    assert printed == found
    assert set(found["train"]) == {1, 2, 3, 4} and set(found["evaluate"]) == {2, 4}
    assert model.keys() == expected.keys()
    for key, array in expected.items():
        # A model keeps the dtypes that it began with; a mean of whole numbers is none by itself.
        assert model[key].tobytes() == array.numpy().astype(begun[key].dtype).tobytes(), key
        assert model[key].shape == array.numpy().shape
