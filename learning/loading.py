"""Examples read when they are first wanted and kept: a round doesn't decode what the last one did.

A worker stays for all rounds of a job. What a recipe makes of its release belongs into a function
with ``functools.cache`` over (folder, plan), so that it is made once.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.utils.data import Dataset, default_collate

Item = TypeVar("Item")
MEMORY_BYTES = 2**30
_MOST_READERS = 8


def memory_to_keep() -> int:
    """Return how many bytes of examples are kept: a quarter of what the sandbox lets a worker have.

    Where nothing is limited it is ``MEMORY_BYTES``. Training and held-out examples are kept apart.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return MEMORY_BYTES if limit == resource.RLIM_INFINITY else limit // 4


class Examples(Dataset[Any], Generic[Item]):  # type: ignore[misc]  # PyTorch is untyped here
    """A map-style data set of what ``read`` makes of each item: tensors, or tuples of them.

    As many as fit into ``memory_bytes`` are kept as they were read. ``finish`` makes of what is
    kept, in 8 or 16 bits say, what is learned from; ``collate`` makes a batch of several.
    """

    def __init__(
        self,
        items: Sequence[Item],
        read: Callable[[Item], Any],
        *,
        finish: Callable[[Any], Any] | None = None,
        collate: Callable[[Sequence[Any]], Any] = default_collate,
        memory_bytes: int | None = None,
    ) -> None:
        self.items = tuple(items)
        self._read = read
        self._finish = finish
        self.collate = collate
        self._left = memory_to_keep() if memory_bytes is None else memory_bytes
        self._kept: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        found = self._found(index)
        return found if self._finish is None else self._finish(found)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def several(self, indices: Sequence[int]) -> list[Any]:
        """Return examples in this order, those not kept yet read by threads at once.

        Decoders let go of the interpreter.
        """
        missing = len({index for index in indices if index not in self._kept})
        readers = min(missing, _MOST_READERS, len(os.sched_getaffinity(0)))
        if readers < 2:
            return [self[index] for index in indices]
        with ThreadPoolExecutor(readers) as pool:
            return list(pool.map(self.__getitem__, indices))

    def _found(self, index: int) -> Any:
        if not 0 <= index < len(self.items):
            raise IndexError(index)
        if index in self._kept:
            return self._kept[index]
        made = self._read(self.items[index])
        size = _size(made)
        with self._lock:
            if index not in self._kept and size <= self._left:
                self._left -= size
                self._kept[index] = made
        return made


def _size(made: Any) -> int:
    if isinstance(made, Tensor):
        return int(made.numel() * made.element_size())
    if isinstance(made, (list, tuple)):
        return sum(map(_size, made))
    if isinstance(made, dict):
        return sum(map(_size, made.values()))
    return 64
