"""A model as ONNX computes what PyTorch does; the recipe's own code writes it, in the sandbox."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from contract.errors import DocumentError, UsageError
from contract.records import Arrays
from foundation.bundle import Bundle
from researcher.onnx_export import declared, to_onnx
from tests.node.work.training.flower_apps import pack

PYPROJECT = """\
[project]
name = "net"
version = "1.0.0"
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "net.server_app:app"
clientapp = "net.client_app:app"
[tool.flwr.app.config]
hidden = 4
{declared}
"""
DECLARED = '[tool.wardgate]\nexport = "net.export:export"'
EXPORT = '''\
"""A small network, and an example of what it reads."""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden, 2),
        )

    def forward(self, image):
        return self.body(image)


def export(run_config):
    return Net(run_config["hidden"]), torch.ones(2, 1, 8, 8)
'''


def bundle(export: str = EXPORT, declaration: str = DECLARED) -> Bundle:
    """Return a bundle that has nothing but how it is exported."""
    files = {
        "pyproject.toml": PYPROJECT.format(declared=declaration).encode(),
        "net/__init__.py": b"",
        "net/export.py": export.encode(),
    }
    return Bundle.parse(pack(files))


def model() -> tuple[torch.nn.Module, Arrays]:
    """Return the network with weights of its own, and the same as arrays."""
    space: dict[str, object] = {"__name__": "net"}
    exec(EXPORT, space)
    torch.manual_seed(1)
    net = space["Net"](4).eval()  # type: ignore[operator]
    with torch.no_grad():
        net.body[1].running_mean.normal_()
    return net, Arrays({key: value.numpy() for key, value in net.state_dict().items()})


def test_the_file_computes_what_pytorch_does_for_any_batch(tmp_path: Path) -> None:
    net, arrays = model()
    exported = to_onnx(bundle(), {}, arrays)
    assert exported.difference <= 1e-5
    session = onnxruntime.InferenceSession(exported.data)
    for batch in (1, 3):
        image = torch.randn(batch, 1, 8, 8)
        [found] = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        np.testing.assert_allclose(found, net(image).detach().numpy(), atol=1e-5)


def test_a_recipe_that_declares_nothing_is_told_how() -> None:
    with pytest.raises(UsageError, match=r"declares no export to ONNX .*module:function"):
        to_onnx(bundle(declaration=""), {}, Arrays())


def test_a_declaration_is_no_way_to_another_name() -> None:
    with pytest.raises(DocumentError, match="module:function"):
        declared(bundle(declaration='[tool.wardgate]\nexport = "os:system(1)"'))


@pytest.mark.parametrize(
    ("export", "said"),
    [
        (EXPORT.replace("hidden, 3,", "hidden, 5,"), "not the state of the recipe's module"),
        (EXPORT.replace("import torch\n", "import nowhere\nimport torch\n", 1),
         "ModuleNotFoundError at net/export.py:2"),
        (EXPORT.replace("return Net", "open('/etc/passwd')\n    return Net"),
         "FileNotFoundError at net/export.py:19"),
        (EXPORT.replace("return Net(run_config[\"hidden\"])", "return 1"), "no module and example"),
        (EXPORT.replace("return Net", "import os; os.kill(os.getpid(), 9)\n    return Net"),
         "gave nothing"),
    ],
    ids=["other shapes", "missing package", "outside", "no module", "killed"],
)  # fmt: skip
def test_an_export_that_fails_is_one_line(export: str, said: str) -> None:
    _, arrays = model()
    with pytest.raises(DocumentError, match=said) as raised:
        to_onnx(bundle(export), {}, arrays)
    assert "\n" not in str(raised.value)
