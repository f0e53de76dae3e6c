"""Every site's own model on every site, of an app that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contract.records import decode_entry
from tests.coordinator.work.training.harness import SITES, Consortium, release_of
from tests.coordinator.work.training.test_run import by_hand
from tests.node.work.training.flower_apps import CLIENT, CONFIG, bundle

ROUNDS = 3


def alone(folder: Path, site: str, rounds: int) -> np.ndarray:
    """A site's own model, computed directly."""
    return by_hand(folder, rounds, sites=[site])


def loss(folder: Path, site: str, w: np.ndarray) -> float:
    data = np.loadtxt(release_of(folder, site) / "rows.csv", delimiter=",")
    return float(np.mean((data[:, :-1] @ w - data[:, -1]) ** 2))


def cells(one: Consortium) -> dict[str, float]:
    """Return the metrics of the table's rounds by their names."""
    found = [e for e in one.rounds("evaluate") if e.round > ROUNDS]
    return {m.key: float(decode_entry(m)) for e in found for m in e.metrics}  # type: ignore[arg-type]


def test_the_table_is_what_arithmetic_gives(tmp_path: Path) -> None:
    one = Consortium(tmp_path / "c", bundle(), cross_evaluation=True)
    try:
        outcome = one.train()
        model = one.model(outcome)["w"]
    finally:
        one.close()
    own = {site: alone(one.folder, site, ROUNDS) for site in SITES}
    sizes = {s: len(np.loadtxt(release_of(one.folder, s) / "rows.csv", delimiter=","))
             for s in SITES}  # fmt: skip
    mean = sum(own[s] * sizes[s] for s in SITES) / sum(sizes.values())
    np.testing.assert_allclose(model, mean, rtol=1e-12)
    table = cells(one)
    assert len(table) == len(SITES) * (len(SITES) + 1)
    for at in SITES:
        for of, w in {**own, "mean": mean}.items():
            np.testing.assert_allclose(table[f"loss/{of}/{at}"], loss(one.folder, at, w))
    # What each gained by itself is seen before the table, as in any training.
    assert [e.round for e in one.rounds("evaluate")][:ROUNDS] == [1, 2, 3]


def test_the_best_model_of_a_site_is_kept_though_it_trained_on(tmp_path: Path) -> None:
    worse = CLIENT.replace(
        'calls["n"] += 1', 'calls["n"] += 1\n    w = w * (100.0 if calls["n"] == 3 else 1.0)'
    )
    one = Consortium(tmp_path / "c", bundle(client=worse, config=CONFIG), cross_evaluation=True)
    try:
        one.train()
    finally:
        one.close()
    for site in SITES:
        best = loss(one.folder, site, alone(one.folder, site, ROUNDS - 1))
        np.testing.assert_allclose(cells(one)[f"loss/{site}/{site}"], best)


def test_an_app_without_a_strategy_is_refused_in_one_sentence(tmp_path: Path) -> None:
    server = (
        "import numpy as np\nfrom flwr.app import Array, ArrayRecord\n"
        "from flwr.serverapp import ServerApp\napp = ServerApp()\n@app.main()\n"
        'def main(grid, context):\n    context.state["a"] = ArrayRecord({"w": Array(np.ones(3))})\n'
    )
    one = Consortium(tmp_path / "c", bundle(server=server), cross_evaluation=True)
    try:
        outcome = one.train()
    finally:
        one.close()
    assert outcome.reason == "The recipe has no strategy that evaluates across sites."
