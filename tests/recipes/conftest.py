"""Recipes are tested with one thread: on a busy machine several wait for each other, spinning."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
