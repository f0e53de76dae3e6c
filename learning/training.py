"""A hospital's training in one round: device, seed, batches, loss, steps, weights in and out.

The same recipe runs on a GPU where there is one. On one kind of processor the same seed, round and
data give the same weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message
from torch import Tensor, nn
from torch.utils.data import TensorDataset, default_collate

Scalar = bool | int | float | str
Batch = Any
"""What examples are collated to: a tensor, or tuples, lists and dictionaries of tensors."""
Loss = Callable[[nn.Module, Batch], Tensor]
"""The mean loss of a batch."""
Augment = Callable[[Batch, torch.Generator], Batch]


@dataclass(frozen=True)
class Local:
    """How a round's local training goes.

    ``batch_size`` 0 is all at once. ``steps`` above 0 is that many batches, whatever ``epochs``;
    otherwise there are as many more passes as ``least_steps`` batches need, for a hospital with few
    examples takes few steps in a pass, and a mean of models that took few is one that took few.
    ``proximal_mu`` pulls the weights back to those that came (Li et al. 2020, FedProx).
    ``clip_norm`` above 0 bounds a step's gradient. ``mixed_precision`` computes in 16 bits.
    """

    learning_rate: float
    epochs: int = 1
    steps: int = 0
    least_steps: int = 0
    batch_size: int = 0
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    clip_norm: float = 0.0
    mixed_precision: bool = False
    seed: int = 0
    round: int = 0

    @classmethod
    def of(cls, run_config: Mapping[str, Scalar], message: Message | None = None) -> Self:
        """Return what the run config says, where the message's config doesn't say otherwise.

        A strategy's schedule may send ``learning-rate`` (or ``lr``), FedProx ``proximal-mu``, every
        strategy ``server-round``. ``ValueError`` names a key that doesn't fit.
        """
        told: dict[str, Any] = {**run_config}
        for record in () if message is None else message.content.config_records.values():
            told |= _schedule(record)
        default = cls(learning_rate=0.1)
        local = cls(
            learning_rate=float(told["learning-rate"]),
            epochs=int(told.get("local-epochs", default.epochs)),
            steps=int(told.get("local-steps", default.steps)),
            least_steps=int(told.get("least-steps", default.least_steps)),
            batch_size=int(told.get("batch-size", default.batch_size)),
            optimiser=told.get("optimiser", default.optimiser),
            momentum=float(told.get("momentum", default.momentum)),
            weight_decay=float(told.get("weight-decay", default.weight_decay)),
            proximal_mu=float(told.get("proximal-mu", default.proximal_mu)),
            clip_norm=float(told.get("clip-norm", default.clip_norm)),
            mixed_precision=bool(told.get("mixed-precision", default.mixed_precision)),
            seed=int(told.get("seed", default.seed)),
            round=int(told.get("server-round", default.round)),
        )
        local.check()
        return local

    def check(self) -> None:
        """Raise ``ValueError`` that names the run config's key that is out of its range."""
        if not 1 <= self.epochs <= 1000:
            raise ValueError("local-epochs: must be 1 to 1000")
        if not (0 <= self.steps <= 1_000_000 and 0 <= self.batch_size <= 1_000_000):
            raise ValueError("local-steps and batch-size must be 0 to 1,000,000")
        if not 0 <= self.least_steps <= 10_000:
            raise ValueError("least-steps: must be 0 to 10,000")
        if self.optimiser not in ("sgd", "adam"):
            raise ValueError("optimiser: must be sgd or adam")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError("learning-rate: must be above 0")
        if not 0 <= self.momentum < 1:
            raise ValueError("momentum: must be 0 or above and below 1")
        for key, value in (
            ("weight-decay", self.weight_decay),
            ("proximal-mu", self.proximal_mu),
            ("clip-norm", self.clip_norm),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{key}: must be 0 or above")


@dataclass(frozen=True)
class Trained:
    """What came of a round: the mean loss over the last pass, its examples, the steps taken."""

    loss: float
    examples: int
    steps: int


def device() -> torch.device:
    """Return the GPU, or the processor where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_of(*parts: object) -> int:
    """Return a seed that is the same for the same parts, and unrelated for any others."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def train(
    model: nn.Module,
    examples: Sized,
    loss: Loss,
    local: Local,
    *,
    augment: Augment | None = None,
    correction: Mapping[str, Tensor] | None = None,
    towards: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Train ``model`` in place on ``examples``: a map-style data set, or a ``TensorDataset``.

    ``augment`` changes a batch on the device; its generator is on the processor and seeded by
    round. ``correction`` is added to the gradients, by parameter (SCAFFOLD's control variates).
    ``towards`` is what ``proximal_mu`` pulls to, where it isn't the weights that came (Ditto).
    Nothing happens without examples. ``ValueError`` when the weights are no numbers afterwards.
    """
    if len(examples) == 0:
        return Trained(0.0, 0, 0)
    place = device()
    seed = seed_of(local.seed, local.round)
    torch.manual_seed(seed)
    if place.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    generator = torch.Generator().manual_seed(seed)
    model.to(place).train()
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    if towards is not None:
        start = {n: towards[n].to(place) for n in start}
    pull = {n: c.to(place) for n, c in (correction or {}).items()}
    optimiser = _optimiser(model, local)
    half = torch.bfloat16 if place.type == "cpu" or torch.cuda.is_bf16_supported() else torch.half
    scaler = torch.amp.GradScaler(
        place.type, enabled=local.mixed_precision and half is torch.half and place.type == "cuda"
    )
    total, seen, steps = 0.0, 0, 0
    for first, count, given in _batches(examples, local, generator):
        if first:
            total, seen = 0.0, 0
        batch = moved(given, place)
        if augment is not None:
            batch = augment(batch, generator)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(place.type, half, enabled=local.mixed_precision):
            value = loss(model, batch)
        scaler.scale(value).backward()
        scaler.unscale_(optimiser)
        for name, weight in model.named_parameters():
            if weight.grad is None:
                continue
            if local.proximal_mu:
                weight.grad.add_(weight.detach() - start[name], alpha=local.proximal_mu)
            if name in pull:
                weight.grad.add_(pull[name])
        if local.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), local.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        total, seen, steps = total + float(value.detach()) * count, seen + count, steps + 1
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise ValueError("training diverged; choose a smaller learning-rate")
    return Trained(total / seen, len(examples), steps)


def batches(examples: Sized, size: int) -> Iterator[Batch]:
    """Yield batches in the examples' own order, each on the device; for scoring."""
    place = device()
    for start in range(0, len(examples), size):
        yield moved(fetch(examples, range(start, min(start + size, len(examples)))), place)


def fetch(examples: Any, indices: Sequence[int]) -> Batch:
    """Return these examples as one batch.

    A data set may have ``several``, which reads many at once, and a ``collate`` of its own.
    """
    if isinstance(examples, TensorDataset):
        chosen = torch.as_tensor(list(indices))
        return tuple(tensor[chosen] for tensor in examples.tensors)
    collate = getattr(examples, "collate", default_collate)
    several = getattr(examples, "several", None)
    chosen = [examples[i] for i in indices] if several is None else several(list(indices))
    return collate(chosen)


def moved(batch: Batch, place: torch.device) -> Batch:
    """Return a batch with all its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(place, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: moved(value, place) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return tuple(moved(value, place) for value in batch)
    return batch


# ---- weights in and out --------------------------------------------------------------------------


def arrays(model: nn.Module) -> ArrayRecord:
    """Return a model's weights and buffers in float32, on the processor.

    Counters (of batch normalisation) stay: an average of them is no whole number.
    """
    found = {
        name: value.detach().to("cpu", torch.float32).contiguous()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    return ArrayRecord(found)


def load(model: nn.Module, record: ArrayRecord) -> None:
    """Set what ``arrays`` returns; ``ValueError`` when names or shapes are others."""
    given = record.to_torch_state_dict()
    own = model.state_dict()
    wanted = {name for name, value in own.items() if value.is_floating_point()}
    if set(given) != wanted:
        raise ValueError("the weights that came are of another model")
    for name in sorted(wanted):
        if given[name].shape != own[name].shape:
            raise ValueError(f"the weights that came have another shape: {name}")
    model.load_state_dict({**own, **given})


def received(message: Message) -> ArrayRecord:
    """Return the one record of arrays that a message carries under ``arrays``."""
    return message.content.array_records["arrays"]


# ---- parts ---------------------------------------------------------------------------------------


def _schedule(record: ConfigRecord) -> dict[str, Any]:
    known = ("learning-rate", "proximal-mu", "server-round", "local-epochs", "local-steps")
    found = {key: record[key] for key in known if key in record}
    if "lr" in record and "learning-rate" not in found:
        found["learning-rate"] = record["lr"]
    return found


def _optimiser(model: nn.Module, local: Local) -> torch.optim.Optimizer:
    """Weights shrink, biases and the scales of normalisation don't."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": local.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if local.optimiser == "adam":
        return torch.optim.AdamW(groups, lr=local.learning_rate)
    return torch.optim.SGD(groups, lr=local.learning_rate, momentum=local.momentum)


def _batches(
    examples: Sized, local: Local, generator: torch.Generator
) -> Iterator[tuple[bool, int, Batch]]:
    """Yield (whether a pass begins, how many, batch); the next one is read meanwhile."""
    plan = list(_indices(len(examples), local, generator))
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(fetch, examples, plan[0][1])
        for index, (first, chosen) in enumerate(plan):
            batch = waiting.result()
            if index + 1 < len(plan):
                waiting = reader.submit(fetch, examples, plan[index + 1][1])
            yield first, len(chosen), batch


def _indices(
    number: int, local: Local, generator: torch.Generator
) -> Iterator[tuple[bool, list[int]]]:
    size = local.batch_size or number
    size = min(size, number)
    done = 0
    passes = 0
    wanted = max(local.epochs, -(-local.least_steps // -(-number // size)))
    while (done < local.steps) if local.steps else (passes < wanted):
        # All at once needs no order, and a sum's last bits depend on it.
        order = (
            list(range(number))
            if size == number
            else torch.randperm(number, generator=generator).tolist()
        )
        for start in range(0, number, size):
            if local.steps and done == local.steps:
                return
            yield start == 0, order[start : start + size]
            done += 1
        passes += 1
