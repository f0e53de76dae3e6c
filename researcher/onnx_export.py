"""A finished model as ONNX, by the function that its recipe declares for that.

The recipe's ``pyproject.toml`` says ``[tool.wardgate] export = "module:function"``; what that
function returns is said in ``researcher.onnx_inside``. It is the recipe's code, a stranger's, so it
runs in the sandbox, without a network. What comes out is that code's: that the file computes what
PyTorch does is checked in there too, for the honest recipe's sake.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import stat
import tempfile
import threading
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contract.documents import printable
from contract.errors import DocumentError, UsageError
from contract.records import Arrays
from contract.work import Scalar
from foundation import confinement, isolation
from foundation.bubblewrap import Bind, Limits
from foundation.bundle import PROJECT, Bundle
from foundation.files import private_folder, write_durably
from foundation.frames import FrameError, Socket
from foundation.model_files import pieces
from researcher.onnx_inside import APP_FOLDER, DONE, MODEL_FILE, MODEL_FOLDER, START

PACKAGES = ("contract", "foundation", "learning", "researcher")
LIMITS = Limits(memory_bytes=16 * 2**30, file_bytes=4 * 2**30, tmp_bytes=4 * 2**30)
MAX_BYTES = 2**31 - 1
"""What one protobuf message, which an ONNX file is, can hold."""
SECONDS = 900.0
_REFERENCE = re.compile(r"^[A-Za-z_][\w.]{0,200}:[A-Za-z_]\w{0,200}$")


@dataclass(frozen=True)
class Exported:
    """An ONNX file's bytes, and by how much its outputs differ from PyTorch's at most."""

    data: bytes
    difference: float


def to_onnx(bundle: Bundle, parameters: Mapping[str, Scalar], arrays: Arrays) -> Exported:
    """Return the model as ONNX.

    Raises ``UsageError`` when the recipe declares no export or a package is missing here,
    ``DocumentError`` with one line when its export fails, ``SandboxError`` without a sandbox.
    """
    reference = declared(bundle)
    if not reference:
        raise UsageError(
            f"Recipe {bundle.name} declares no export to ONNX (in its pyproject.toml, "
            '[tool.wardgate] export = "module:function").'
        )
    missing = [
        name
        for name in ("torch", "onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UsageError(
            f"Writing ONNX needs {', '.join(missing)}: pip install 'wardgate[export]'."
        )
    isolation.ensure()
    order = {"reference": reference, "run_config": bundle.run_config(parameters), "seed": 0}
    with tempfile.TemporaryDirectory(prefix="wardgate-") as place:
        folder = Path(place)
        bundle.write(folder / "app")
        private_folder(folder / "model")
        write_durably(folder / "model" / MODEL_FILE, b"".join(pieces(arrays.items)))
        for part in ("app", "model"):
            confinement.make_readable(folder / part)
        return _confined(folder, json.dumps(order).encode())


def declared(bundle: Bundle) -> str:
    """Return the function that a recipe declares, as ``module:function``, or an empty string."""
    document = tomllib.loads(bundle.files[PROJECT].decode())
    wardgate = document.get("tool", {}).get("wardgate", {})
    reference = wardgate.get("export", "") if isinstance(wardgate, dict) else ""
    if reference and not (isinstance(reference, str) and _REFERENCE.match(reference)):
        raise DocumentError("The recipe's export is not of the form module:function.")
    return str(reference)


def _confined(folder: Path, order: bytes) -> Exported:
    ours, theirs = socket.socketpair()
    connection = Socket(ours)
    process = confinement.start(
        "researcher.onnx_inside",
        [str(theirs.fileno())],
        packages=PACKAGES,
        binds=[Bind(folder / "app", APP_FOLDER), Bind(folder / "model", MODEL_FOLDER)],
        limits=LIMITS,
        pass_fds=(theirs.fileno(),),
        over_a_socket=True,
    )
    theirs.close()
    limit = threading.Timer(SECONDS, process.kill)
    limit.start()
    output = process.process.stdout
    assert output is not None
    # What it prints is a stranger's and may be long; it is read so that the pipe doesn't fill.
    draining = threading.Thread(target=_drain, args=(output.fileno(),), daemon=True)
    draining.start()
    try:
        connection.send(START, order)
        frame, descriptor = connection.receive()
        if frame.kind != DONE or descriptor is None:
            raise DocumentError(printable(frame.message.decode(errors="replace"), 300))
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise DocumentError("The recipe's export gave something else than a file.")
            if state.st_size > MAX_BYTES:
                raise DocumentError("The model is larger than an ONNX file can be (2 GB).")
            file.seek(0)
            data = file.read(MAX_BYTES)
        return Exported(data, float(json.loads(frame.message)["difference"]))
    except (FrameError, ValueError, KeyError, TypeError):
        why = process.why_it_ended() or "it was killed, or ran out of memory or time"
        raise DocumentError(f"The recipe's export gave nothing: {why}.") from None
    finally:
        limit.cancel()
        process.kill()
        connection.close()
        draining.join(1)


def _drain(descriptor: int) -> None:
    with suppress(OSError, ValueError):
        while os.read(descriptor, 2**16):
            pass
