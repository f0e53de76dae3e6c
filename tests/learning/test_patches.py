"""Patches lie where they should, and windows that slide say what the network does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from learning import patches
from learning.networks import UNet
from learning.patches import Patches
from learning.training import Local, fetch, train


def example(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels that are called by their place, and a mask with two structures of them."""
    image = torch.arange(1, 1 + torch.Size(shape).numel()).reshape(1, *shape).float()
    mask = torch.zeros(shape, dtype=torch.uint8)
    where = torch.randperm(mask.numel(), generator=torch.Generator().manual_seed(seed))
    mask.view(-1)[where[:3]] = 1
    mask.view(-1)[where[3]] = 2
    return image, mask


@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=2),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_a_patch_is_a_part_of_its_image_with_the_same_part_of_its_mask(
    shape: list[int], size: list[int], seed: int
) -> None:
    image, mask = example((*shape, 5), seed)
    wanted = size[: mask.ndim]
    images, masks = Patches([(image, mask)], [*wanted], 4, 0.5, seed)[0]
    assert images.shape == (4, 1, *wanted)
    assert masks.shape == (4, *wanted)
    flat = mask.flatten()
    for one, labels in zip(images[:, 0], masks, strict=True):
        # The least value is the padding's too; every other voxel has the mask of its own place.
        told = one > 1
        assert (labels[told] == flat[one[told].long() - 1]).all()
        sides = zip(wanted, mask.shape, strict=True)
        seen = torch.Size([min(side, whole) for side, whole in sides]).numel()
        assert one.unique().numel() >= seen


def test_structures_are_looked_for_however_rare() -> None:
    image, mask = torch.zeros(1, 64, 64), torch.zeros(64, 64, dtype=torch.uint8)
    mask[:10, :10], mask[50, 60] = 1, 2
    around = Patches([(image, mask)], (8, 8), 200, 1.0, 1)[0][1].flatten(1)
    assert all(bool(labels.any()) for labels in around)
    assert 60 < sum(bool((labels == 2).any()) for labels in around) < 140
    anywhere = Patches([(image, mask)], (8, 8), 200, 0.0, 1)[0][1].flatten(1)
    assert sum(bool(labels.any()) for labels in anywhere) < 40


def test_patches_of_images_of_any_size_are_one_batch_and_drawn_by_the_seed() -> None:
    pairs = [example((9, 7)), example((20, 30))]
    drawn = [fetch(Patches(pairs, (8, 8), 3, 0.5, seed), [0, 1])[0] for seed in (1, 1, 2)]
    assert drawn[0].shape == (6, 1, 8, 8)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_window_over_an_image_says_what_the_network_says_of_each_place() -> None:
    network = nn.Conv3d(1, 2, 1)
    image = torch.randn(1, 11, 17, 5)
    with torch.inference_mode():
        found = patches.logits(network, image, (8, 8, 8), 0.5)
        wanted = network(image[None])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_network_learns_from_patches_of_images_that_differ_in_size(mixed: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    pairs = []
    for side in (20, 27, 33):
        mask = (torch.rand(1, side // 4 + 1, side, generator=generator) > 0.7).repeat(1, 4, 1)[0]
        image = mask.half() + 0.1 * torch.randn(mask.shape, generator=generator).half()
        pairs.append((image[None], mask.to(torch.uint8)))
    torch.manual_seed(1)
    model = UNet(2, 1, 2, (8, 16))

    def loss(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(network(batch[0]).float(), batch[1].long())

    local = Local(0.01, epochs=10, batch_size=2, optimiser="adam", mixed_precision=mixed)
    done = train(model, Patches(pairs, (16, 16), 2, 0.5, 1), loss, local)
    assert (done.examples, done.steps) == (3, 20)
    with torch.inference_mode():
        told = patches.logits(model.eval(), pairs[2][0], (16, 16), 0.25).argmax(1)[0]
    assert float((told == pairs[2][1]).float().mean()) > 0.95
