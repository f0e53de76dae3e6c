"""A network from a bag of tiles' features to one answer: gated attention, or a plain mean or most.

Source: Ilse et al. 2018, "Attention-based Deep Multiple Instance Learning" (eq. 9); as DeepMIL in
Courtiol et al. 2018 and FLamby's Fed-Camelyon16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

POOLINGS = ("attention", "mean", "max")


class BagClassifier(nn.Module):
    """Bags (n, tiles, features), and which tiles are there (n, tiles), to logits (n,)."""

    def __init__(self, features: int, width: int, attention_units: int, pooling: str) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling: must be one of {', '.join(POOLINGS)}")
        self.pooling = pooling
        self.project = nn.Sequential(nn.Linear(features, width), nn.ReLU())
        if pooling == "attention":
            self.content = nn.Linear(width, attention_units)
            self.gate = nn.Linear(width, attention_units)
            self.score = nn.Linear(attention_units, 1)
        inner = max(1, width // 2)
        self.answer = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, 1))

    def forward(self, features: Tensor, there: Tensor) -> Tensor:
        seen = self.project(features)
        if self.pooling == "max":
            pooled = seen.masked_fill(~there[..., None], 0).amax(1)  # after a ReLU, 0 is the least
        else:
            pooled = (self.weights(seen, there)[..., None] * seen).sum(1)
        found: Tensor = self.answer(pooled).squeeze(1)
        return found

    def weights(self, seen: Tensor, there: Tensor) -> Tensor:
        """Return how much each tile counts, 0 for what isn't there, 1 in all: (n, tiles)."""
        if self.pooling == "mean":
            return there / there.sum(1, keepdim=True).clamp_min(1)
        gated = torch.tanh(self.content(seen)) * torch.sigmoid(self.gate(seen))
        scores = self.score(gated).squeeze(2).float().masked_fill(~there, -torch.inf)
        # A bag without tiles has no attention to give.
        return torch.softmax(scores, 1).nan_to_num(0.0)

    def attention(self, features: Tensor, there: Tensor) -> Tensor:
        """Return the weights for features as they come in; they stay in the hospital."""
        return self.weights(self.project(features), there)
