"""What recipes declare for ONNX gives a file that computes what their models do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from contract.records import Arrays
from contract.work import Scalar
from foundation.bundle import Bundle
from foundation.flower import build
from researcher.onnx_export import declared, to_onnx

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SMALL: dict[str, dict[str, Scalar]] = {
    "tabular": {
        "features": "age,sex=f", "means": "50,0.5", "standard-deviations": "10,0.5",
        "hidden-units": 3,
    },
    "classification_2d": {"size": 32},
    "classification_3d": {"shape": "16,16,16"},
    "segmentation": {"shape": "32,32", "widths": "4,8"},
    "brain_age": {"slices": 16, "rows": 16, "columns": 16, "channels": 4, "blocks": 3},
    "slide_mil": {"source": "table", "feature-count": 6, "most-tiles": 5, "width": 4},
    "prognosis": {"features": "age,sex=f", "hidden-units": 4},
    "despeckling": {"side": 32, "patch": 16, "channels": 8, "depth": 4},
}  # fmt: skip
"""Of each recipe that declares an export, parameters of a small model."""


def test_every_declared_export_is_tried_here() -> None:
    found = {
        folder.name
        for folder in RECIPES.iterdir()
        if (folder / "pyproject.toml").is_file() and "[tool.wardgate]" in
        (folder / "pyproject.toml").read_text()
    }  # fmt: skip
    assert found == set(SMALL)


TRIED = [pytest.param(name, marks=() if name == "tabular" else pytest.mark.slow) for name in SMALL]


@pytest.mark.parametrize("recipe", TRIED)
def test_a_recipes_model_is_the_same_as_onnx(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.parse(build(RECIPES / recipe))
    parameters = SMALL[recipe]
    monkeypatch.syspath_prepend(str(RECIPES / recipe))
    module, _, name = declared(bundle).partition(":")
    export = getattr(importlib.import_module(module), name)
    torch.manual_seed(3)
    model, _ = export(bundle.run_config(parameters))
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) / 10)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    exported = to_onnx(bundle, parameters, Arrays(state))
    assert exported.difference <= 1e-5
    for loaded in [n for n in sys.modules if n.split(".")[0] == f"{recipe}_recipe"]:
        del sys.modules[loaded]
