"""Networks for images and volumes: a small one, residual ones, a U-Net. Plain PyTorch.

Normalisation is by group or instance unless asked otherwise: a batch's statistics are a hospital's
own, and an average of them is nobody's (Hsieh et al. 2020, "The non-IID data quagmire").
Residual networks have torchvision's names, so that weights trained with it can be begun from;
sources: He et al. 2016, "Deep residual learning"; Ronneberger et al. 2015, "U-Net"; Cicek et al.
2016, "3D U-Net".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTION: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_UP: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
CLASSIFIERS = ("small", *_DEPTHS, "densenet121", "efficientnet-b0")
NORMALISATIONS = ("group", "instance", "batch")


def normalisation(kind: str, channels: int, dimensions: int) -> nn.Module:
    """Return a layer that normalises so many channels."""
    if kind == "batch":
        layer: nn.Module = _BATCH[dimensions](channels)
        return layer
    if kind == "instance":
        return nn.GroupNorm(channels, channels)
    if kind == "group":
        groups = next(g for g in (16, 8, 4, 2, 1) if channels % g == 0 and channels >= 2 * g)
        return nn.GroupNorm(groups, channels)
    raise ValueError(f"normalisation: must be one of {', '.join(NORMALISATIONS)}")


def classifier(
    name: str, *, dimensions: int, channels: int, outputs: int, normalised: str = "group"
) -> nn.Module:
    """Return a network from images (or volumes) of so many channels to ``outputs`` numbers."""
    if name == "small":
        return Small(dimensions, channels, outputs, normalised)
    if name in _DEPTHS:
        return ResNet(dimensions, channels, outputs, name, normalised)
    if name == "densenet121":
        from monai.networks.nets.densenet import DenseNet121

        made: nn.Module = DenseNet121(
            dimensions, channels, outputs, norm=_monai(normalised), pretrained=False
        )
        return made
    if name == "efficientnet-b0":
        from monai.networks.nets.efficientnet import EfficientNetBN

        efficient: nn.Module = EfficientNetBN(
            "efficientnet-b0",
            pretrained=False,
            spatial_dims=dimensions,
            in_channels=channels,
            num_classes=outputs,
            norm=_monai(normalised),
        )
        return efficient
    raise ValueError(f"network: must be one of {', '.join(CLASSIFIERS)}")


def _monai(kind: str) -> Any:
    if kind == "group":
        return ("group", {"num_groups": 8})
    return kind if kind == "batch" else ("instance", {"affine": True})


class Small(nn.Module):  # type: ignore[misc]  # PyTorch is untyped here
    """Four convolutions and a mean: some ten to eighty thousand weights, for small data."""

    def __init__(
        self, dimensions: int, channels: int, outputs: int, normalised: str = "group"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (16, 32, 32, 64):
            layers += [
                CONVOLUTION[dimensions](channels, width, 3, padding=1),
                normalisation(normalised, width, dimensions),
                nn.ReLU(inplace=True),
                _POOL[dimensions](2),
            ]
            channels = width
        self.features = nn.Sequential(*layers[:-1])
        self.fc = nn.Linear(channels, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, outputs)."""
        found: Tensor = self.fc(_mean(self.features(images)))
        return found


class ResNet(nn.Module):  # type: ignore[misc]
    """A residual network; names of its weights are torchvision's."""

    def __init__(
        self, dimensions: int, channels: int, outputs: int, name: str, normalised: str = "group"
    ) -> None:
        super().__init__()
        block: Any = _Bottleneck if name == "resnet50" else _Basic
        self.conv1 = CONVOLUTION[dimensions](channels, 64, 7, 2, 3, bias=False)
        self.bn1 = normalisation(normalised, 64, dimensions)
        self.maxpool = _POOL[dimensions](3, 2, 1)
        width = 64
        for number, (depth, inner) in enumerate(
            zip(_DEPTHS[name], (64, 128, 256, 512), strict=True)
        ):
            blocks = []
            for index in range(depth):
                stride = 2 if number > 0 and index == 0 else 1
                blocks.append(block(dimensions, width, inner, stride, normalised))
                width = inner * block.widening
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, outputs)."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        found: Tensor = self.fc(_mean(x))
        return found


class _Basic(nn.Module):  # type: ignore[misc]
    widening = 1

    def __init__(self, dimensions: int, before: int, inner: int, stride: int, kind: str) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.conv1 = convolution(before, inner, 3, stride, 1, bias=False)
        self.bn1 = normalisation(kind, inner, dimensions)
        self.conv2 = convolution(inner, inner, 3, 1, 1, bias=False)
        self.bn2 = normalisation(kind, inner, dimensions)
        self.downsample = _shortcut(dimensions, before, inner, stride, kind)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        inner = self.bn2(self.conv2(inner))
        beside = x if self.downsample is None else self.downsample(x)
        return functional.relu(inner + beside)


class _Bottleneck(nn.Module):  # type: ignore[misc]
    widening = 4

    def __init__(self, dimensions: int, before: int, inner: int, stride: int, kind: str) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.conv1 = convolution(before, inner, 1, bias=False)
        self.bn1 = normalisation(kind, inner, dimensions)
        self.conv2 = convolution(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = normalisation(kind, inner, dimensions)
        self.conv3 = convolution(inner, inner * 4, 1, bias=False)
        self.bn3 = normalisation(kind, inner * 4, dimensions)
        self.downsample = _shortcut(dimensions, before, inner * 4, stride, kind)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        beside = x if self.downsample is None else self.downsample(x)
        return functional.relu(inner + beside)


def _shortcut(
    dimensions: int, before: int, after: int, stride: int, kind: str
) -> nn.Sequential | None:
    if stride == 1 and before == after:
        return None
    return nn.Sequential(
        CONVOLUTION[dimensions](before, after, 1, stride, bias=False),
        normalisation(kind, after, dimensions),
    )


def _mean(features: Tensor) -> Tensor:
    return features.flatten(2).mean(2)


class UNet(nn.Module):  # type: ignore[misc]
    """A U-Net: ``widths`` are the channels of its levels, each half as large as the one above.

    An image may be of any size: what halving doesn't reach is padded, and cut off again.
    """

    def __init__(
        self,
        dimensions: int,
        channels: int,
        outputs: int,
        widths: Sequence[int] = (16, 32, 64),
        normalised: str = "instance",
    ) -> None:
        super().__init__()
        self._dimensions = dimensions
        self._multiple = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList()
        for before, width in zip((channels, *widths[:-1]), widths, strict=True):
            self.down.append(_twice(dimensions, before, width, normalised))
        self.up = nn.ModuleList()
        self.joined = nn.ModuleList()
        for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(_UP[dimensions](below, width, 2, 2))
            self.joined.append(_twice(dimensions, 2 * width, width, normalised))
        self.pool = _POOL[dimensions](2)
        self.head = CONVOLUTION[dimensions](widths[0], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, outputs, ...) of the images' size."""
        size = images.shape[2:]
        wanted = [-(-side // self._multiple) * self._multiple for side in size]
        pad = [n for side, w in zip(size[::-1], wanted[::-1], strict=True) for n in (0, w - side)]
        x = functional.pad(images, pad) if any(pad) else images
        levels: list[Tensor] = []
        for index, level in enumerate(self.down):
            x = level(self.pool(x) if index else x)
            levels.append(x)
        for up, joined, beside in zip(self.up, self.joined, levels[-2::-1], strict=True):
            x = joined(torch.cat((beside, up(x)), 1))
        found: Tensor = self.head(x)
        return found[(..., *(slice(0, side) for side in size))]


def _twice(dimensions: int, before: int, after: int, kind: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            CONVOLUTION[dimensions](channels, after, 3, padding=1),
            normalisation(kind, after, dimensions),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)
