"""Pretrained weights: a safetensors file that the hospital approved by its SHA-256.

Nothing is fetched from anywhere. A node mounts approved files read-only as
``/weights/<sha256>.safetensors``; ``context.node_config["weights-path"]`` names another folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

FOLDER = Path("/weights")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


def folder_of(node_config: Mapping[str, object]) -> Path:
    """Return the folder in which a node's approved weights are."""
    return Path(str(node_config.get("weights-path", FOLDER)))


def read(digest: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """Return the tensors of an approved file; ``ValueError`` if it isn't there or isn't that one.

    The bytes that are hashed are those that are parsed.
    """
    if not _SHA256.match(digest):
        raise ValueError("weights: must be the SHA-256 of a safetensors file")
    found = [path for path in (folder / f"{digest}.safetensors", folder / digest) if path.is_file()]
    if not found:
        raise ValueError("the pretrained weights aren't approved at this hospital")
    data = found[0].read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("the pretrained weights differ from their digest")
    tensors: dict[str, Tensor] = load(data)
    return tensors


def begin(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> int:
    """Set the weights of ``model`` that a file has by the same name; return how many it set.

    ``prefix`` goes before the file's names. Whatever else the file holds (a head for other classes)
    is left out. ``ValueError`` when nothing fits, or a name that fits has another shape.
    """
    own = model.state_dict()
    chosen = {prefix + name: value for name, value in tensors.items() if prefix + name in own}
    if not chosen:
        raise ValueError("the pretrained weights are of another network: no name is the same")
    for name, value in chosen.items():
        if value.shape != own[name].shape:
            raise ValueError(f"the pretrained weights have another shape: {name}")
    with torch.no_grad():
        for name, value in chosen.items():
            own[name].copy_(value)
    return len(chosen)
