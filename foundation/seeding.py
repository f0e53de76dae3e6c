"""Random generators seeded before foreign code is imported, so that it runs alike every time."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import random
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed ``random`` and NumPy now, and PyTorch as soon as somebody imports it."""
    seed %= 2**32
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    else:
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _WhenImported)]
        sys.meta_path.insert(0, _WhenImported("torch", seed))


def seed_of(*parts: object) -> int:
    """Return a seed that is the same for the same parts, and unrelated for any others."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


class _WhenImported(MetaPathFinder):
    """Finds one module, once, with a loader that seeds it after it was loaded."""

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._seed = seed

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Seeding(spec.loader, self._seed)
        return spec


class _Seeding(Loader):
    def __init__(self, inner: Loader, seed: int) -> None:
        self._inner = inner
        self._seed = seed

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        module.manual_seed(self._seed)
