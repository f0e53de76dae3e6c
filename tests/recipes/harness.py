"""A recipe run as Flower runs it, in one process: its ServerApp, its ClientApp, some releases."""

from __future__ import annotations

import ast
import hashlib
import importlib
import math
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
INDEX = {
    **dict.fromkeys(
        ("subject", "study_uid", "series_uid", "sop_instance_uid", "sop_class_uid", "kind"),
        pl.String,
    ),
    **dict.fromkeys(
        ("modality", "body_part", "laterality", "manufacturer", "device_model", "stain"), pl.String
    ),
    "magnification": pl.Float64,
    "study_date": pl.Date,
    **dict.fromkeys(("rows", "columns", "frames", "size_bytes"), pl.Int64),
    **dict.fromkeys(("digest", "suffix"), pl.String),
}
"""``assets.parquet``, as a node freezes it."""
GROUPS = dict.fromkeys(("subject", "group", "kind", "role", "target_kind", "target"), pl.String)


@dataclass(frozen=True)
class File:
    """An asset to be released: its bytes, and what its row in the index says."""

    subject: str
    data: bytes
    suffix: str
    row: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def write_release(
    folder: Path,
    tables: Mapping[str, pl.DataFrame] | None = None,
    files: Sequence[File] = (),
    groups: pl.DataFrame | None = None,
) -> Path:
    """Write what a worker sees of a release."""
    (folder / "tables").mkdir(parents=True)
    (folder / "assets").mkdir()
    (folder / "manifest.json").write_text("{}")
    for name, frame in (tables or {}).items():
        frame.write_parquet(folder / "tables" / f"{name}.parquet")
    rows = []
    for file in files:
        (folder / "assets" / f"{file.digest}{file.suffix}").write_bytes(file.data)
        blank: dict[str, Any] = {
            n: "" if t == pl.String else None if t == pl.Date else 0 for n, t in INDEX.items()
        }
        known = {"subject": file.subject, "digest": file.digest, "suffix": file.suffix}
        rows.append(blank | known | {"size_bytes": len(file.data)} | dict(file.row))
    if rows:
        index = pl.DataFrame(rows, schema=INDEX)
        index.sort("subject", "sop_instance_uid", "digest").write_parquet(folder / "assets.parquet")
    if groups is not None:
        groups.write_parquet(folder / "groups.parquet")
    return folder


def dicom(
    values: np.ndarray[Any, Any],
    subject: str,
    *,
    modality: str = "MR",
    sop_class_uid: str = "1.2.840.10008.5.1.4.1.1.4",
    series_uid: str | None = None,
    position_mm: Sequence[float] = (0.0, 0.0, 0.0),
    spacing_mm: Sequence[float] = (1.0, 1.0),
    thickness_mm: float = 1.0,
    intercept: float = 0.0,
    instance: int = 1,
    bits: int = 16,
) -> File:
    """Return one DICOM instance of whole numbers: (rows, columns) or, multi-frame, (n, r, c)."""
    import io

    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    series_uid = series_uid or generate_uid(entropy_srcs=[subject, "series"])
    instance_uid = generate_uid(entropy_srcs=[series_uid, str(instance)])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, instance_uid
    made.SeriesInstanceUID, made.Modality, made.PatientID = series_uid, modality, subject
    made.StudyInstanceUID = generate_uid(entropy_srcs=[subject, "study"])
    made.InstanceNumber = instance
    frames = 1 if values.ndim == 2 else len(values)
    if values.ndim == 3:
        made.NumberOfFrames = frames
    made.Rows, made.Columns = values.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 0
    made.RescaleIntercept, made.RescaleSlope = str(intercept), "1"
    made.PixelSpacing = [str(v) for v in spacing_mm]
    made.SliceThickness = str(thickness_mm)
    made.ImagePositionPatient = [f"{v:.6g}" for v in position_mm]
    made.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    made.PixelData = np.ascontiguousarray(values.astype("<u2" if bits == 16 else "u1")).tobytes()
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    row = {
        "kind": "dicom",
        "modality": modality,
        "study_uid": made.StudyInstanceUID,
        "series_uid": series_uid,
        "sop_instance_uid": instance_uid,
        "sop_class_uid": sop_class_uid,
        "rows": int(made.Rows),
        "columns": int(made.Columns),
        "frames": frames,
    }
    return File(subject, buffer.getvalue(), ".dcm", row)


def series(
    values: np.ndarray[Any, Any],
    subject: str,
    *,
    thickness_mm: float = 1.0,
    name: str = "",
    **others: Any,
) -> list[File]:
    """Return a volume (slices, rows, columns) as a series of single-frame instances."""
    from pydicom.uid import generate_uid

    uid = generate_uid(entropy_srcs=[subject, "series", name])
    return [
        dicom(
            plane,
            subject,
            series_uid=uid,
            position_mm=(0.0, 0.0, index * thickness_mm),
            thickness_mm=thickness_mm,
            instance=index + 1,
            **others,
        )
        for index, plane in enumerate(values)
    ]


def photograph(pixels: np.ndarray[Any, Any], subject: str, **row: Any) -> File:
    """Return a PNG of bytes: (rows, columns) grey or (rows, columns, 3) colour."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    known = {"kind": "photograph", "modality": "XC", "frames": 1}
    known |= {"rows": pixels.shape[0], "columns": pixels.shape[1]}
    return File(subject, buffer.getvalue(), ".png", known | row)


# ---- Flower in one process -----------------------------------------------------------------------


class Recipe:
    """A recipe's folder, on the path as in a worker. ``package`` holds its apps."""

    def __init__(self, name: str) -> None:
        self.folder = RECIPES / name
        if str(self.folder) not in sys.path:
            sys.path.append(str(self.folder))
        declared = tomllib.loads((self.folder / "pyproject.toml").read_text())
        self.dependencies: list[str] = declared["project"]["dependencies"]
        app = declared["tool"]["flwr"]["app"]
        self.defaults: dict[str, Any] = app["config"]
        self._components: dict[str, str] = app["components"]
        self.package = self._components["clientapp"].partition(".")[0]

    def module(self, name: str) -> Any:
        """Return a module of the recipe's package."""
        return importlib.import_module(f"{self.package}.{name}")

    def config(self, **changes: Any) -> dict[str, Any]:
        """Return the run config with changes; ``learning_rate`` means ``learning-rate``."""
        told = {key.replace("_", "-"): value for key, value in changes.items()}
        unknown = set(told) - set(self.defaults)
        assert not unknown, f"the recipe has no parameter {unknown}"
        return self.defaults | told

    def run(self, folders: Iterable[Path], config: Mapping[str, Any], **node: Any) -> Run:
        """Run the ServerApp over releases."""
        torch.set_num_threads(1)  # as many as are free: other tests run beside this one
        grid = OneProcess(self._app("clientapp"), folders, config, node)
        server = context(config)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
        self._app("serverapp")(grid, server)
        arrays = server.state.array_records["arrays"].to_torch_state_dict()
        return Run(arrays, grid, server)

    def _app(self, which: str) -> Any:
        module, _, name = self._components[which].partition(":")
        return getattr(importlib.import_module(module), name)

    # ---- what every recipe keeps to ----

    def check_card(self, outputs: Iterable[str]) -> None:
        """The card has its sections, and names every parameter and output."""
        card = (self.folder / "README.md").read_text()
        for section in ("## Task", "## Data contract", "## Expected outputs", "## Privacy"):
            assert section in card, section
        for name in (*self.defaults, *outputs):
            assert f"`{name}`" in card, name
        if "[[recipes]]" in card:
            _check_block(card, self.defaults)

    def check_imports(self, *others: str) -> None:
        """It imports what it may: its own, ``learning``, and these beside the usual packages."""
        allowed = {"flwr", "torch", "polars", "numpy", "learning", self.package, *others}
        allowed |= set(sys.stdlib_module_names)
        for path in sorted((self.folder / self.package).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                assert {name.partition(".")[0] for name in names} <= allowed, path.name


def _check_block(card: str, defaults: Mapping[str, Any]) -> None:
    """The block for a project is TOML, names what there is, and allows every default number."""
    text = card[card.index("[[recipes]]") :]
    (block,) = tomllib.loads(text[: text.index("```")])["recipes"]
    for metric in block["metrics"]:
        assert f"`{metric}`" in card, metric
    for name, allowed in block["parameters"].items():
        assert name in defaults, name
        if "minimum" in allowed:
            assert allowed["minimum"] <= defaults[name] <= allowed["maximum"], name


@dataclass(frozen=True)
class Run:
    """What a run left: the model, the grid with all replies, the server's context."""

    arrays: dict[str, Any]
    grid: OneProcess
    server: Context

    def metrics(self, kind: str = "evaluate", last: bool = True) -> list[dict[str, float]]:
        """Return each site's metrics of a kind of message; of the last round, or of all."""
        found = [
            dict(reply.content.metric_records["metrics"])
            for reply in self.grid.replies
            if reply.metadata.message_type.partition(".")[0] == kind
        ]
        return found[-len(self.grid.contexts) :] if last else found

    def mean(self, name: str, kind: str = "evaluate") -> float:
        """Return a metric's mean over sites, by their examples."""
        rows = self.metrics(kind)
        total = sum(row["num-examples"] for row in rows)
        return sum(row[name] * row["num-examples"] for row in rows) / max(total, 1)

    def check_replies(self, train: Iterable[str], evaluate: Iterable[str]) -> None:
        """Only the declared metrics left, all finite; arrays left from training alone."""
        names = {"train": {*train, "num-examples"}, "evaluate": {*evaluate, "num-examples"}}
        assert self.grid.replies
        for reply in self.grid.replies:
            kind = reply.metadata.message_type
            metrics = reply.content.metric_records["metrics"]
            if kind in names:
                assert set(metrics) == names[kind], kind
            assert all(math.isfinite(value) for value in metrics.values())
            if kind == "evaluate":
                assert set(reply.content) == {"metrics"}


class OneProcess(Grid):  # type: ignore[misc]  # Flower is untyped here
    """Flower's Grid over client apps called in turn; keeps every reply."""

    def __init__(
        self, client: Any, folders: Iterable[Path], config: Mapping[str, Any], node: dict[str, Any]
    ) -> None:
        self.client = client
        self.contexts = {
            number: context(config, {"data-path": str(folder), **node}, number)
            for number, folder in enumerate(folders, start=1)
        }
        self.replies: list[Message] = []

    def set_run(self, run_id: int) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        del timeout
        # In the order of the sites, as Wardgate's Grid has them: Flower samples in any.
        ordered = sorted(messages, key=lambda message: int(message.metadata.dst_node_id))
        replies = [self.client(m, self.contexts[m.metadata.dst_node_id]) for m in ordered]
        self.replies += replies
        return replies


def context(
    config: Mapping[str, Any], node: Mapping[str, Any] | None = None, number: int = 0
) -> Context:
    """Return a context as Flower hands one to an app."""
    return Context(
        run_id=1,
        node_id=number,
        node_config=dict(node or {}),
        state=RecordDict(),
        run_config=dict(config),
    )
