"""The process that writes a model as ONNX, inside the sandbox: the recipe's code, and PyTorch.

The recipe's function, ``function(run_config)``, returns a module and example inputs (a tensor or a
tuple of tensors, first dimension the batch). The model's arrays become the module's state, the
module is exported, and the file's outputs are compared with PyTorch's on the example and on noise.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from foundation import confined
from foundation.frames import Socket

START, DONE, FAILED = b"S", b"D", b"F"
APP_FOLDER, MODEL_FOLDER = "/recipe/app", "/recipe/model"
MODEL_FILE = "model.safetensors"
TOLERANCE = 1e-5


class Unfit(Exception):
    """Why there is no file, in one line of ours."""


def main(descriptor: int) -> None:
    """Export, and say how it went."""
    confined.enter()
    outside = Socket(socket.socket(fileno=descriptor))
    order = json.loads(outside.receive()[0].message)
    try:
        file, said = _export(order)
    except BaseException as error:
        traceback.print_exception(error)
        outside.send(FAILED, _reason(error).encode())
        return
    outside.send(DONE, json.dumps(said).encode(), file)


def _export(order: dict[str, Any]) -> tuple[int, dict[str, float]]:
    import torch
    from safetensors.torch import load_file

    torch.manual_seed(order["seed"])
    torch.set_num_threads(1)
    sys.path.append(APP_FOLDER)
    module_name, _, name = order["reference"].partition(":")
    made = getattr(importlib.import_module(module_name), name)(order["run_config"])
    module, example = made
    inputs = example if isinstance(example, tuple) else (example,)
    if not isinstance(module, torch.nn.Module) or not all(
        isinstance(one, torch.Tensor) for one in inputs
    ):
        raise Unfit("The recipe's export gives no module and example tensors.")
    try:
        module.load_state_dict(load_file(f"{MODEL_FOLDER}/{MODEL_FILE}"), strict=True)
    except RuntimeError:
        raise Unfit("The model's arrays are not the state of the recipe's module.") from None
    module.eval()
    path = Path("/tmp/model.onnx")  # noqa: S108 (the sandbox's own)
    _write(module, inputs, path)
    difference = max(_difference(module, trial, path) for trial in (inputs, _noise(inputs)))
    if not difference <= TOLERANCE:
        raise Unfit(f"The file's outputs differ from PyTorch's by {difference:.1e}.")
    file = os.memfd_create("model.onnx")
    with os.fdopen(file, "wb", closefd=False) as target, path.open("rb") as source:
        while data := source.read(2**20):
            target.write(data)
    return file, {"difference": difference, "size": path.stat().st_size}


def _write(module: Any, inputs: tuple[Any, ...], path: Path) -> None:
    """Export with a free batch, or, where the module doesn't allow that, with the example's."""
    import torch

    batch = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    for shapes in (batch, None):
        try:
            torch.onnx.export(
                module,
                inputs,
                path,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
                optimize=True,
            )
            return
        except Exception as error:
            if shapes is None:
                traceback.print_exception(error)
                raise Unfit("PyTorch can't write the recipe's module as ONNX.") from None


def _noise(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    import torch

    return tuple(torch.randn_like(one) if one.is_floating_point() else one for one in inputs)


def _difference(module: Any, inputs: tuple[Any, ...], path: Path) -> float:
    """Return the largest difference of the file's outputs from the module's, relative above 1."""
    import numpy as np
    import onnxruntime
    import torch

    with torch.no_grad():
        expected = module(*inputs)
    expected = expected if isinstance(expected, tuple | list) else (expected,)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    fed = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
    found = session.run(None, fed)
    if len(found) != len(expected):
        raise Unfit("The file has another number of outputs than the module.")
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        reference = theirs.numpy().astype(np.float64)
        scale = np.maximum(1.0, np.abs(reference))
        off = np.abs(np.asarray(ours, np.float64) - reference) / scale
        worst = max(worst, float(off.max(initial=0.0)))
    return worst


def _reason(error: BaseException) -> str:
    if isinstance(error, Unfit):
        return str(error)
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(APP_FOLDER + "/"):
            place = f" at {frame.filename.removeprefix(APP_FOLDER + '/')}:{frame.lineno}"
    return f"The recipe's export failed with {type(error).__name__}{place}."


if __name__ == "__main__":
    main(int(sys.argv[1]))
