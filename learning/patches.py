"""Images too large to be learned from whole: patches of them, and a window that slides over them.

Half of the patches (or another share) are cut where a structure is, since most of a volume shows
none (Isensee et al. 2021, nnU-Net). Scores and drafts are of whole images: a window goes over each,
and what it says is weighed by a Gaussian about its middle (MONAI's sliding window inference).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from learning.training import device

_CANDIDATES = 4096
"""Of a structure's voxels, how many a patch may lie around."""
_AT_ONCE = 4
"""Windows that go through the network together."""


class Patches(Dataset[Any]):  # type: ignore[misc]  # PyTorch is untyped here
    """Random patches of examples (image, mask): ``number`` of each, ``size`` large.

    Image is (channels, ...) and mask (...). ``share`` of the patches lie around a voxel of a
    structure, of each that the image has as often; the others anywhere. Draws are the generator's:
    reading the same examples in the same order gives the same patches. What a patch needs beyond an
    image is its least value, and no structure.
    """

    def __init__(
        self, examples: Any, size: Sequence[int], number: int, share: float, seed: int
    ) -> None:
        self._examples = examples
        self._size = tuple(size)
        self._number = number
        self._share = share
        self._generator = torch.Generator().manual_seed(seed)
        self._places: dict[int, list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return patches of an image, (number, channels, ...), and of its mask, (number, ...)."""
        return self._of(index, *self._examples[index])

    def several(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the same of several images: read at once if they can be, cut in order."""
        read = getattr(self._examples, "several", None)
        found = [self._examples[i] for i in indices] if read is None else read(indices)
        return [self._of(index, *one) for index, one in zip(indices, found, strict=True)]

    def _of(self, index: int, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if index not in self._places:
            self._places[index] = _places(mask)
        found = [
            self._cut(image, mask, self._centre(mask, self._places[index]))
            for _ in range(self._number)
        ]
        images, masks = zip(*found, strict=True)
        return torch.stack(images).float(), torch.stack(masks)

    def collate(self, items: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the patches of several images as one batch."""
        images, masks = zip(*items, strict=True)
        return torch.cat(images), torch.cat(masks)

    def _centre(self, mask: Tensor, places: list[Tensor]) -> list[int]:
        if places and float(torch.rand((), generator=self._generator)) < self._share:
            one = places[self._draw(len(places))]
            flat = int(one[self._draw(len(one))])
            centre = []
            for side in reversed(mask.shape):
                flat, at = divmod(flat, side)
                centre.append(at)
            return centre[::-1]
        return [self._draw(side) for side in mask.shape]

    def _draw(self, most: int) -> int:
        return int(torch.randint(most, (), generator=self._generator))

    def _cut(self, image: Tensor, mask: Tensor, centre: Sequence[int]) -> tuple[Tensor, Tensor]:
        parts, pad = [], []
        for middle, side, whole in zip(centre, self._size, mask.shape, strict=True):
            first = max(0, min(middle - side // 2, whole - side))
            parts.append(slice(first, first + side))
            missing = max(0, side - whole)
            pad.append((missing // 2, missing - missing // 2))
        values, labels = image[(slice(None), *parts)], mask[tuple(parts)]
        if any(sum(both) for both in pad):
            flat = [n for both in reversed(pad) for n in both]
            values = functional.pad(values, flat, value=float(image.min()))
            labels = functional.pad(labels, flat)
        return values, labels


def _places(mask: Tensor) -> list[Tensor]:
    """Return for each structure some of its voxels, evenly chosen, by their flat index."""
    flat = mask.flatten()
    found = []
    for number in flat.unique().tolist():
        if number:
            voxels = (flat == number).nonzero()[:, 0]
            step = max(1, -(-len(voxels) // _CANDIDATES))
            found.append(voxels[::step].clone())
    return found


def logits(model: nn.Module, image: Tensor, size: Sequence[int], overlap: float) -> Tensor:
    """Return the logits of one image of any size, (1, outputs, ...), from windows of ``size``.

    ``image`` is (channels, ...). Windows go through the network on its device, a few at a time;
    image and result stay on the processor: 4 bytes for each voxel and output, and as much again
    for the weights of the windows.
    """
    from monai.inferers.utils import sliding_window_inference

    values = image[None].float()
    found = sliding_window_inference(
        values,
        tuple(size),
        _AT_ONCE,
        model,
        overlap=overlap,
        mode="gaussian",
        cval=float(values.min()),
        sw_device=device(),
        device=torch.device("cpu"),
    )
    assert isinstance(found, Tensor)
    return found
