"""Examples read when they are first wanted and kept: a round doesn't decode what the last one did.

A worker stays for all rounds of a job. What a recipe makes of its release belongs into a function
with ``functools.cache`` over (folder, plan), so that it is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.utils.data import Dataset

Item = TypeVar("Item")
MEMORY_BYTES = 2**30


class Examples(Dataset[Any], Generic[Item]):  # type: ignore[misc]  # PyTorch is untyped here
    """A map-style data set of what ``read`` makes of each item: tensors, or tuples of them.

    As many as fit into ``memory_bytes`` are kept. ``fill`` reads ahead with threads, since decoders
    let go of the interpreter.
    """

    def __init__(
        self,
        items: Sequence[Item],
        read: Callable[[Item], Any],
        *,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.items = tuple(items)
        self._read = read
        self._left = memory_bytes
        self._kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self.items):
            raise IndexError(index)
        if index in self._kept:
            return self._kept[index]
        made = self._read(self.items[index])
        size = _size(made)
        if size <= self._left:
            self._left -= size
            self._kept[index] = made
        return made

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def fill(self, threads: int = 2) -> None:
        """Read what isn't kept yet, as far as memory goes."""
        missing = [index for index in range(len(self)) if index not in self._kept]
        with ThreadPoolExecutor(threads) as readers:
            for start in range(0, len(missing), 4 * threads):
                if self._left <= 0:
                    return
                list(readers.map(self.__getitem__, missing[start : start + 4 * threads]))


def _size(made: Any) -> int:
    if isinstance(made, Tensor):
        return int(made.numel() * made.element_size())
    if isinstance(made, (list, tuple)):
        return sum(map(_size, made))
    if isinstance(made, dict):
        return sum(map(_size, made.values()))
    return 64
