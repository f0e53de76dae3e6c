"""Pretrained weights: only the file of the digest asked for, only what fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from learning import weights


def _approved(folder: Path, model: nn.Module) -> str:
    data = save(dict(model.state_dict()))
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"{digest}.safetensors").write_bytes(data)
    return digest


def test_a_backbone_begins_with_the_approved_weights_and_its_head_stays(tmp_path: Path) -> None:
    published = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    digest = _approved(tmp_path, published)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    head = model[2].weight.detach().clone()
    assert weights.begin(model, weights.read(digest, tmp_path)) == 2
    assert torch.equal(model[0].weight, published[0].weight)
    assert torch.equal(model[2].weight, head)


def test_a_file_that_isnt_approved_or_was_changed_is_refused(tmp_path: Path) -> None:
    digest = _approved(tmp_path, nn.Linear(2, 2))
    with pytest.raises(ValueError, match="aren't approved"):
        weights.read("0" * 64, tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        weights.read("../" + digest, tmp_path)
    path = tmp_path / f"{digest}.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="differ from their digest"):
        weights.read(digest, tmp_path)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="another network"):
        weights.begin(nn.Linear(2, 2), {"conv.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="another shape: weight"):
        weights.begin(nn.Linear(2, 2), {"weight": torch.zeros(3, 3)})


def test_the_folder_is_the_nodes_own() -> None:
    assert weights.folder_of({}) == Path("/weights")
    assert weights.folder_of({"weights-path": "/tmp/w"}) == Path("/tmp/w")
