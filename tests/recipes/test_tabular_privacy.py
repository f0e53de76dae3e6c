"""The tabular recipe with DP-SGD, and what it measures of membership inference."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from contract.membership import auc, true_positive_rate
from tests.recipes.releases import write_releases
from tests.recipes.test_tabular import (
    RECIPE,
    _process_of_one_run,
    defaults,
    run,
    task,
    trial_config,
)

__all__ = ["_process_of_one_run", "task"]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_releases(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="module")
def private(task: ModuleType) -> ModuleType:
    del task
    return importlib.import_module("tabular_recipe.private")


def plan_of(task: ModuleType, **changes: Any) -> Any:
    told = {"features": "a,b", "means": "0,0", "standard-deviations": "1,1", "dp-sgd": True}
    return task.Plan.read(defaults() | told | changes)


def rows(task: ModuleType, count: int) -> Any:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 2, generator=generator)
    return task.Examples(inputs, (inputs[:, 0] > 0).float())


@pytest.mark.parametrize(
    ("noise", "epochs", "published"), [(1.3, 15, 1.19), (1.1, 60, 3.01), (0.7, 45, 7.10)]
)
def test_epsilon_is_that_of_the_published_runs_on_mnist(
    task: ModuleType, private: ModuleType, noise: float, epochs: int, published: float
) -> None:
    """TensorFlow Privacy, tutorials/README.md: 60,000 rows, batches of 256, delta 1e-5."""
    from opacus.accountants.analysis import rdp

    sampling, steps = 256 / 60_000, epochs * 60_000 // 256
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
    found = rdp.compute_rdp(q=sampling, noise_multiplier=noise, steps=steps, orders=orders)
    # As Mironov 2017, proposition 3, turns it into epsilon, which the published numbers do.
    classical = min(r + math.log(1e5) / (o - 1) for r, o in zip(found, orders, strict=True))
    assert classical == pytest.approx(published, abs=0.006)
    changes = {"dp-noise-multiplier": noise, "dp-sampling": sampling}
    # The recipe reports by the tighter conversion of Balle et al. 2020.
    assert 0.75 * published < private.epsilon(plan_of(task, **changes), steps) < published


def test_a_hospital_learns_and_reports_the_epsilon_of_all_its_steps(
    task: ModuleType, private: ModuleType, releases: dict[str, Path]
) -> None:
    config = trial_config(
        **{"dp-sgd": True, "num-server-rounds": 2, "local-epochs": 6, "dp-sampling": 0.3,
           "dp-noise-multiplier": 0.5, "learning-rate": 1.0}
    )  # fmt: skip
    weights, grid = run(releases.values(), config)
    plan = task.Plan.read(config)
    train = [r for r in grid.replies if r.metadata.message_type == "train"]
    expected = [private.epsilon(plan, 6 * (1 + i // 4)) for i in range(8)]
    assert [r.content.metric_records["metrics"]["epsilon"] for r in train] == pytest.approx(
        expected
    )
    assert all(
        set(r.content.metric_records["metrics"]) == {"epsilon", "num-examples"} for r in train
    )
    exact, _ = run(releases.values(), config | {"dp-sgd": False, "num-server-rounds": 12})
    cosine = torch.nn.functional.cosine_similarity(
        weights["0.weight"].flatten(), exact["0.weight"].flatten(), dim=0
    )
    assert cosine > 0.4  # by chance 0 and a third
    again, _ = run(releases.values(), config)
    assert not torch.equal(again["0.weight"], weights["0.weight"])  # nobody can redo the draws


def test_one_patient_moves_a_step_no_further_than_the_clip(
    task: ModuleType, private: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(
        task, **{"dp-noise-multiplier": 1e-9, "dp-sampling": 1.0, "weight-decay": 0.0,
                 "dp-clip-norm": 0.5, "learning-rate": 1.0}
    )  # fmt: skip
    common = rows(task, 100)
    outlier = task.Examples(
        torch.cat([common.inputs, torch.tensor([[1e4, -1e4]])]),
        torch.cat([common.outcomes, torch.tensor([0.0])]),
    )

    def summed(data: Any) -> Any:
        model = task.build_model(plan)
        private.train(model, data, plan)
        return torch.cat([p.detach().flatten() for p in model.parameters()]) * len(data)

    moved = float((summed(outlier) - summed(common)).norm())
    assert 0.49 < moved <= 0.5 + 1e-4
    # Without the clip, she alone decides where the step goes.
    loose = plan_of(
        task, **{"dp-noise-multiplier": 1e-12, "dp-sampling": 1.0, "weight-decay": 0.0,
                 "dp-clip-norm": 1e6, "learning-rate": 1.0}
    )  # fmt: skip
    plan = loose
    assert float((summed(outlier) - summed(common)).norm()) > 1000


def test_the_noise_of_a_step_is_as_large_as_it_is_accounted(
    task: ModuleType, private: ModuleType
) -> None:
    plan = plan_of(
        task, **{"dp-noise-multiplier": 3.0, "dp-clip-norm": 2.0, "dp-sampling": 1e-9,
                 "learning-rate": 1e-9, "weight-decay": 0.0}
    )  # fmt: skip
    steps = []
    for _ in range(200):
        model = task.build_model(plan)
        private.train(model, rows(task, 1), plan)  # whom nobody draws: the step is noise alone
        steps += [float(w) for p in model.parameters() for w in p.detach().flatten()]
    assert np.std(steps) == pytest.approx(6.0, rel=0.1)
    assert np.mean(steps) == pytest.approx(0.0, abs=0.8)


def test_membership_at_a_hospital_is_measured_as_everywhere(task: ModuleType) -> None:
    plan = plan_of(task)
    model = task.build_model(plan)
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[2.0, 0.3]])
    members, others = rows(task, 400), rows(task, 300)
    others = task.Examples(others.inputs, 1 - others.outcomes * (others.inputs[:, 1] > 0))
    found = task.membership(model, members, others)
    losses = [-task._losses(model, data) for data in (members, others)]
    assert found[0] == pytest.approx(auc(*losses))
    assert found[1] == pytest.approx(true_positive_rate(*losses))
    assert task.membership(model, rows(task, 0), others) == (0.5, 0.01)


def test_the_report_is_sent_when_it_is_asked_for_only(releases: dict[str, Path]) -> None:
    for asked in (False, True):
        config = trial_config(**{"membership-report": asked, "num-server-rounds": 1})
        _, grid = run(releases.values(), config)
        scored = [r for r in grid.replies if r.metadata.message_type == "evaluate"]
        names = set(scored[0].content.metric_records["metrics"])
        assert ({"attack_auc", "attack_tpr"} <= names) is asked
        if asked:
            values = [r.content.metric_records["metrics"]["attack_auc"] for r in scored]
            assert all(0.3 < value < 0.8 for value in values)


def test_the_card_says_what_is_not_enforced() -> None:
    card = (RECIPE / "README.md").read_text()
    assert "attested by digest, not enforced" in " ".join(card.split())


@pytest.mark.parametrize(
    "bad",
    [{"dp-noise-multiplier": 0.0}, {"dp-clip-norm": 0.0}, {"dp-sampling": 0.0},
     {"dp-sampling": 1.5}, {"dp-delta": 0.0}],
)  # fmt: skip
def test_a_parameter_without_meaning_is_named(task: ModuleType, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        plan_of(task, **bad)
