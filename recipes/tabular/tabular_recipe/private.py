"""DP-SGD: steps whose gradients are clipped patient by patient, summed and noised, by Opacus.

Guarantee: the weights of ``steps`` steps are (epsilon, delta)-differentially private for adding or
removing one row, with the epsilon that ``epsilon`` returns. Assumptions: each row is drawn for each
step with probability ``dp-sampling``, independently; one row for each patient; nobody knows the
draws, which are from the operating system and not from the run's seed; PyTorch's floating-point
noise is as good as Gaussian (Opacus doesn't claim more; Mironov 2012 shows how it could matter).
How many rows there are is not covered, and neither are scores of held-out patients.
Sources: Abadi et al. 2016, "Deep Learning with Differential Privacy"; Mironov, Talwar and Zhang
2019, "Renyi Differential Privacy of the Sampled Gaussian Mechanism"; Opacus 1.6.
"""

from __future__ import annotations

import secrets

import torch
from torch import nn

from tabular_recipe.task import Examples, Plan, descent


def train(model: nn.Module, data: Examples, plan: Plan) -> None:
    """Take ``local_epochs`` noised steps, each on a sample of rows; ``model`` is changed."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(secrets.randbits(63))
    wrapped = GradSampleModule(model)
    optimiser = DPOptimizer(
        descent(model, plan),
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.clip_norm,
        expected_batch_size=1,  # the sum is divided below, by what doesn't depend on who is there
        loss_reduction="sum",
        generator=generator,
    )
    wrapped.train()
    for group in optimiser.param_groups:
        group["lr"] = plan.learning_rate / (plan.sampling * max(1, len(data)))
        group["weight_decay"] *= plan.sampling * max(1, len(data))
    for _ in range(plan.local_epochs):
        optimiser.zero_grad()
        drawn = torch.rand(len(data), generator=generator) < plan.sampling
        logits = wrapped(data.inputs[drawn].requires_grad_()).squeeze(1)
        nn.functional.binary_cross_entropy_with_logits(
            logits, data.outcomes[drawn], reduction="sum"
        ).backward()
        optimiser.step()
    wrapped.remove_hooks()
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise ValueError("training diverged; choose a smaller learning-rate")


def epsilon(plan: Plan, steps: int) -> float:
    """Return the epsilon of so many steps at ``dp-delta``, by Opacus' accountant."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(plan.noise_multiplier, plan.sampling, steps)]
    return float(accountant.get_epsilon(plan.delta))
