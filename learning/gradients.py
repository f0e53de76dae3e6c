"""What a strategy adds to an optimiser's steps in PyTorch, without a change of the training loop.

Each is entered around the loop and takes its hooks away at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

Named = Iterable[tuple[str, nn.Parameter]]


class Corrected:
    """Adds a correction to the gradient of every step, and takes the mean of what it was before.

    SCAFFOLD::

        with Corrected(optimiser, model.named_parameters(), corrections(message)) as steps:
            ...  # any loop
        keep_control(reply, steps.mean_gradients())
    """

    def __init__(
        self, optimiser: Optimizer, parameters: Named, correction: Mapping[str, NDArray[Any]]
    ) -> None:
        self._optimiser = optimiser
        self._parameters = [(name, p) for name, p in parameters if p.requires_grad]
        self._correction = {
            name: torch.as_tensor(correction[name], dtype=p.dtype, device=p.device)
            for name, p in self._parameters
            if name in correction
        }
        self._sums: dict[str, Tensor] = {}
        self.count = 0

    def __enter__(self) -> Self:
        self._hook = self._optimiser.register_step_pre_hook(self._before)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _before(self, *_: object) -> None:
        with torch.no_grad():
            self._add()

    def _add(self) -> None:
        self.count += 1
        for name, parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            total = self._sums.setdefault(name, torch.zeros_like(parameter))
            total += parameter.grad
            if name in self._correction:
                parameter.grad += self._correction[name]

    def mean_gradients(self) -> dict[str, NDArray[Any]]:
        """Return the mean of the uncorrected gradients; zeros without a step."""
        steps = max(1, self.count)
        return {
            name: (self._sums[name] / steps if name in self._sums else torch.zeros_like(p))
            .detach()
            .cpu()
            .numpy()
            for name, p in self._parameters
        }


class Proximal:
    """Pulls the parameters to a reference after every step: FedProx and Ditto's own model.

    A step of size eta is followed by the proximal map of mu / 2 |v - w|^2, which is
    v <- (v + eta mu w) / (1 + eta mu). It is stable for every mu, and where it comes to rest under
    plain gradient steps, grad F(v) + mu (v - w) = 0: what adding the term to the loss gives.
    With momentum or Adam it is decoupled, as AdamW's decay is.
    Sources: Li et al. 2020, "Federated Optimization in Heterogeneous Networks"; Parikh and Boyd
    2014, "Proximal Algorithms", 4.2.
    """

    def __init__(
        self, optimiser: Optimizer, parameters: Named, reference: Mapping[str, Any], mu: float
    ) -> None:
        if mu < 0:
            raise ValueError("mu must be 0 or more")
        self._optimiser = optimiser
        self._mu = mu
        self._towards = {
            id(p): torch.as_tensor(reference[name], dtype=p.dtype).to(p.device).clone()
            for name, p in parameters
        }

    def __enter__(self) -> Self:
        self._hook = self._optimiser.register_step_post_hook(self._after)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _after(self, *_: object) -> None:
        if self._mu:
            with torch.no_grad():
                self._pull()

    def _pull(self) -> None:
        for group in self._optimiser.param_groups:
            pull = float(group["lr"]) * self._mu
            for parameter in group["params"]:
                if id(parameter) in self._towards:
                    parameter.lerp_(self._towards[id(parameter)], pull / (1 + pull))
