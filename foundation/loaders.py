"""PyTorch's loaders inside the sandbox, at a site or at the server: batches come through a pipe.

A ``DataLoader`` with processes of its own hands tensors over as shared memory, whose descriptors
travel over a Unix socket. No socket can be made in the sandbox, so the bytes themselves travel.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

from foundation.importing import when_imported

_Reduced = tuple[Any, tuple[Any, ...]]


def install() -> None:
    """Have tensors travel by value as soon as PyTorch is imported."""
    when_imported("torch.multiprocessing", "loaders", _by_value)


def _by_value(module: ModuleType) -> None:
    import torch

    shared_tensor: Any = module.reductions.reduce_tensor
    shared_storage: Any = module.reductions.reduce_storage

    def tensor(one: Any) -> _Reduced:
        """A part of a large tensor travels without the rest of it."""
        if (
            one.device.type == "cpu"
            and one.layout is torch.strided
            and not one.is_nested
            and one.untyped_storage().nbytes() > one.numel() * one.element_size()
        ):
            one = one.detach().clone().requires_grad_(one.requires_grad)
        reduced: _Reduced = shared_tensor(one)
        return reduced

    def storage(one: Any) -> _Reduced:
        if one.device.type != "cpu":
            reduced: _Reduced = shared_storage(one)
            return reduced
        view = torch.empty(0, dtype=torch.uint8).set_(one)
        return _storage, (bytearray(view.numpy()),)

    ForkingPickler.register(torch.Tensor, tensor)
    ForkingPickler.register(torch.UntypedStorage, storage)


def _storage(data: bytearray) -> Any:
    import torch

    if not data:
        return torch.UntypedStorage(0)
    return torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
