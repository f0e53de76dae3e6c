"""What is learned: the run's plan, still volumes of a release, movements drawn for them, scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fetal_motion_recipe.network import SlicePoses, anchor_loss
from fetal_motion_recipe.poses import Scan, acquire, movement, pose_error
from fetal_motion_recipe.reconstruction import psnr, reconstruct, refine
from learning import pixels, training
from learning.loading import Examples
from learning.releases import Asset, Release, by_subject, is_held_out, series


@dataclass(frozen=True)
class Plan:
    """What a run is told, without the local training's part. Made by ``Plan.read``."""

    modality: str
    scan: Scan
    voxel_mm: float
    rotation_degrees: float
    shift_voxels: float
    noise: float
    channels: int
    width: int
    layers: int
    refine_rounds: int
    refine_steps: int
    scored: int
    seed: int
    held_out: float
    split_seed: int

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        plan = cls(
            modality=str(config["modality"]),
            scan=Scan(
                side=int(config["side"]),
                stacks=int(config["stacks"]),
                slices=int(config["slices"]),
                thickness=float(config["slice-voxels"]),
            ),
            voxel_mm=float(config["voxel-mm"]),
            rotation_degrees=float(config["rotation-degrees"]),
            shift_voxels=float(config["shift-voxels"]),
            noise=float(config["noise"]),
            channels=int(config["channels"]),
            width=int(config["width"]),
            layers=int(config["layers"]),
            refine_rounds=int(config["refine-rounds"]),
            refine_steps=int(config["refine-steps"]),
            scored=int(config["scored"]),
            seed=int(config["seed"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        for key, value, least, most in (
            ("side", self.scan.side, 16, 256),
            ("stacks", self.scan.stacks, 1, 12),
            ("slices", self.scan.slices, 2, 128),
            ("slice-voxels", self.scan.thickness, 0.5, 16),
            ("voxel-mm", self.voxel_mm, 0.2, 10),
            ("rotation-degrees", self.rotation_degrees, 0, 180),
            ("shift-voxels", self.shift_voxels, 0, 64),
            ("noise", self.noise, 0, 1),
            ("channels", self.channels, 1, 256),
            ("layers", self.layers, 1, 12),
            ("refine-rounds", self.refine_rounds, 0, 20),
            ("refine-steps", self.refine_steps, 0, 200),
            ("scored", self.scored, 1, 1000),
        ):
            if not least <= value <= most:
                raise ValueError(f"{key}: must be {least} to {most}")
        if self.width % 4 or not 4 <= self.width <= 1024:
            raise ValueError("width: must be a multiple of 4, 4 to 1024")
        if not 0 <= self.held_out < 1:
            raise ValueError("held-out: must be a fraction, 0 or above and below 1")


@dataclass(frozen=True)
class Volumes:
    """Volumes (side, side, side) from 0 to 1, and of how many subjects they are."""

    examples: Examples[tuple[Asset, ...]]
    subjects: int


@functools.cache
def volumes(folder: Path, plan: Plan, held_out: bool) -> Volumes:
    """Return the volumes of the subjects to train on, or of those held out."""
    chosen = {
        subject: tuple(series(assets).values())
        for subject, assets in by_subject(Release(folder).assets(modality=plan.modality)).items()
        if is_held_out(subject, plan.held_out, plan.split_seed) == held_out
    }
    items = [volume for several in chosen.values() for volume in several]
    return Volumes(Examples(items, functools.partial(_read, plan)), len(chosen))


def build_model(plan: Plan) -> SlicePoses:
    """Return the network at its start, which corrects nothing; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return SlicePoses(plan.scan, plan.channels, plan.width, plan.layers)


def loss_of(plan: Plan, round_number: int) -> Callable[[nn.Module, Any], Tensor]:
    """Return the loss of a batch of still volumes, each moved anew by a drawn movement."""
    generator = torch.Generator().manual_seed(training.seed_of("moved", plan.seed, round_number))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            slices, poses = _moved(batch, plan, generator)
        found = model(slices).float()
        with torch.autocast(batch.device.type, enabled=False):
            # In squared halves of half a cube, so that it is near 1 whatever the voxels are.
            return anchor_loss(plan.scan, found, poses) / (plan.scan.side / 8) ** 2

    return loss


@dataclass(frozen=True)
class Scores:
    """Means over volumes: how far anchors are off in mm, and the PSNR in dB of what is made."""

    error_mm: float = 0.0
    planned_error_mm: float = 0.0
    psnr: float = 0.0
    planned_psnr: float = 0.0


def evaluate(model: nn.Module, examples: Examples[Any], plan: Plan) -> Scores:
    """Score the model, and no correction, on at most ``scored`` volumes; zeros without."""
    generator = torch.Generator().manual_seed(training.seed_of("scored", plan.seed))
    model.to(training.device()).eval()
    found: list[tuple[float, ...]] = []
    for index in range(min(len(examples), plan.scored)):
        still = examples[index][None].to(training.device())
        slices, poses = _moved(still, plan, generator)
        with torch.no_grad():
            corrected = model(slices)[0].float()
        corrected = refine(slices[0], corrected, plan.scan, plan.refine_rounds, plan.refine_steps)
        row: list[float] = []
        for claimed in (corrected, torch.zeros_like(corrected)):
            made, _ = reconstruct(slices[0], claimed, plan.scan)
            row.append(float(pose_error(plan.scan, claimed, poses[0]).mean()) * plan.voxel_mm)
            row.append(psnr(made, still[0]))
        found.append((row[0], row[2], row[1], row[3]))
    if not found:
        return Scores()
    return Scores(*(sum(column) / len(found) for column in zip(*found, strict=True)))


def _moved(still: Tensor, plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return what a scanner sees of volumes that move, and the poses in truth."""
    poses = movement(plan.scan, len(still), plan.rotation_degrees, plan.shift_voxels, generator).to(
        still.device
    )
    seen = acquire(still, poses, plan.scan)
    noise = torch.randn(seen.shape, generator=generator).to(still.device)
    return seen + plan.noise * noise, poses


def _read(plan: Plan, assets: tuple[Asset, ...]) -> Tensor:
    """A series as a cube of even voxels around its middle; what lies beyond is cut off, or 0."""
    found = pixels.volume(assets)
    low, high = np.quantile(found.values, (0.01, 0.99))
    values = pixels.windowed(found.values, float(low), float(max(high, low + 1e-6)))
    shape = [
        max(1, round(n * mm / plan.voxel_mm))
        for n, mm in zip(values.shape, found.spacing_mm, strict=True)
    ]
    even = torch.from_numpy(pixels.resized(values, shape))
    around = [n for size in shape[::-1] for n in _around(size, plan.scan.side)]
    return functional.pad(even, around)


def _around(size: int, wanted: int) -> tuple[int, int]:
    missing = wanted - size
    return missing // 2, missing - missing // 2
