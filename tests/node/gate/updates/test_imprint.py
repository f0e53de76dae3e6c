"""The look at weights before training: known attacks are seen, honest models pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contract.errors import Refused
from contract.records import Arrays, Metrics
from node.gate.updates import imprint
from node.gate.updates.imprint import found_shape
from tests.attacks.training.weights import binned_rows, trap_weights


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small models; threads would only wait for one another
    yield
    torch.set_num_threads(before)


def arrays_of(model: nn.Module) -> dict[str, Any]:
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def look(arrays: dict[str, Any], seed: int = 0) -> str:
    return found_shape(arrays, np.random.default_rng(seed))


class Residual(nn.Module):
    """One block as ResNets have them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32),
        )  # fmt: skip
        self.short = nn.Conv2d(16, 32, 1)
        self.head = nn.Linear(32, 10)


HONEST: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(784, 256),
    "narrow": lambda: nn.Linear(2, 512),
    "three inputs": lambda: nn.Linear(3, 1024),
    "four inputs": lambda: nn.Linear(4, 1024),
    "square": lambda: nn.Linear(128, 128),
    "convolutions": lambda: nn.Sequential(nn.Conv2d(3, 64, 7), nn.Conv2d(64, 64, 3, groups=64)),
    "residual": Residual,
    "transformer": lambda: nn.TransformerEncoderLayer(64, 4, 256, batch_first=True),
    "recurrent": lambda: nn.GRU(32, 64),
    "embedding": lambda: nn.Embedding(1000, 64, padding_idx=0),
}
INITIALISERS = (
    "zeros_", "ones_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
    "orthogonal_", "trunc_normal_", "eye_", "dirac_",
)  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_a_model_as_torch_makes_it_passes(name: str) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        arrays = arrays_of(HONEST[name]())
        assert look(arrays, seed) == ""
        # As an older app names them, and as another framework lays them out.
        assert look({str(i): a for i, a in enumerate(arrays.values())}, seed) == ""
        assert look({n: a.T for n, a in arrays.items()}, seed) == ""


@pytest.mark.parametrize("initialiser", INITIALISERS)
def test_a_layer_of_any_initialiser_passes(initialiser: str) -> None:
    torch.manual_seed(0)
    layer: nn.Module = nn.Linear(100, 64)
    if initialiser == "dirac_":
        layer = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        getattr(nn.init, initialiser)(layer.weight)
        nn.init.zeros_(layer.bias)
    assert look(arrays_of(layer)) == ""


def trained(hidden: int, activation: type[nn.Module], scale: float, decay: float, seed: int) -> Any:
    """A network after 400 steps on a task with 13 inputs, as clinical tables have."""
    torch.manual_seed(seed)
    inputs = torch.randn(500, 13)
    labels = ((inputs @ torch.randn(13) + inputs[:, 0] * inputs[:, 1]) > 0).long()
    model = nn.Sequential(nn.Linear(13, hidden), activation(), nn.Linear(hidden, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
    for _ in range(400):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.4
    return arrays_of(model)


@pytest.mark.parametrize("hidden", [16, 128])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize(("scale", "decay"), [(1.0, 0.0), (0.1, 1e-3)])
def test_a_trained_model_passes(
    hidden: int, activation: type[nn.Module], scale: float, decay: float
) -> None:
    assert look(trained(hidden, activation, scale, decay, 1)) == ""


def test_a_trained_convolution_passes() -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 1, 12, 12)
    images[:32, :, 3:9, 3:9] += 1
    labels = torch.tensor([1] * 32 + [0] * 32)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 32),
        nn.ReLU(), nn.Linear(32, 2),
    )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05
    assert look(arrays_of(model)) == ""


@pytest.mark.parametrize("inputs", [2, 13, 200, 3072])
@pytest.mark.parametrize("bins", [8, 64, 600])
def test_rows_that_bin_records_are_seen_however_they_are_hidden(inputs: int, bins: int) -> None:
    generator = np.random.default_rng(1)
    weight, bias = binned_rows(generator.standard_normal((1000, inputs)), bins, generator)
    assert look({"0.weight": weight, "0.bias": bias}) == "binned rows"
    assert look({"0": weight.T, "1": bias}) == "binned rows"  # inputs first, no names
    # Each row by a factor of its own, turned about or not, in another order.
    factors = generator.uniform(0.1, 10, bins).astype("float32")
    factors *= generator.choice([-1, 1], bins).astype("float32")
    order = generator.permutation(bins)
    scaled = {
        "0.weight": (weight * factors[:, None])[order],
        "0.bias": (bias * factors)[order],
    }
    assert look(scaled) == "binned rows"


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_rows_that_bin_records_are_seen_among_honest_ones(share: float) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(1)
    honest = arrays_of(nn.Linear(300, 400))
    bins = int(share * 400)
    weight, bias = binned_rows(generator.standard_normal((1000, 300)), bins, generator)
    places = generator.permutation(400)[:bins]
    honest["weight"][places], honest["bias"][places] = weight, bias
    seen = [look(honest, seed) for seed in range(20)]
    assert seen == ["binned rows"] * 20


def test_trap_weights_and_scaled_rows_are_seen() -> None:
    generator = np.random.default_rng(1)
    for inputs in (64, 784, 3073):
        assert look({"w": trap_weights(200, inputs, generator)}) == "trap weights"
    fishing = generator.standard_normal((100, 50)).astype("float32")
    fishing[7] *= 1e5
    assert look({"head.weight": fishing}) == "scaled rows"
    assert look({"head.weight": np.full_like(fishing, np.inf)}) == "not finite"


def test_the_check_refuses_under_one_code_and_says_nothing_of_the_weights() -> None:
    generator = np.random.default_rng(1)
    weight, bias = binned_rows(generator.standard_normal((1000, 20)), 64, generator)
    with pytest.raises(Refused) as caught:
        imprint.check({"metrics": Metrics(), "arrays": Arrays({"weight": weight, "bias": bias})})
    assert caught.value.code == "imprint"
    imprint.check({"arrays": Arrays({"weight": weight, "other": bias})})  # without thresholds
