"""Pretrained weights that a steward let in: safetensors files, called by their SHA-256.

A file is taken in as a stranger's: its header is bounded and read, and every tensor must lie where
the header says, one behind the other, to the file's last byte. Nothing of it is executed, by the
format. It is hashed as it is copied, and again whenever a job is to see it.

Source of the layout: safetensors, "Format" (github.com/huggingface/safetensors).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Engine, insert, select, update

from contract.documents import printable
from contract.errors import DocumentError, NotFound, StorageError
from foundation.files import private_folder, storage_errors, sync_folder
from node.catalog import schema
from node.catalog.asked import Asked
from node.gate.recipe_rules import WEIGHTS
from node.home import NodeHome

FOLDER = "/weights"
"""Where the sandbox shows it."""
SUFFIX = ".safetensors"
MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 100_000
MAX_BYTES = 64 * 2**30
_PIECE = 2**20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,199}")


@dataclass(frozen=True)
class Tensor:
    """A tensor as a header tells of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ApprovedWeights:
    """A file as approved. ``withdrawn_at`` is None while jobs may see it."""

    digest: str
    name: str
    size_bytes: int
    tensors: int
    approved_at: datetime
    withdrawn_at: datetime | None = None


def read_header(file: BinaryIO, size_bytes: int) -> list[Tensor]:
    """Return the tensors of a safetensors file of this size; ``DocumentError`` if it is none."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
        raise DocumentError("The file is not safetensors: its header has no possible length.")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        raise DocumentError("The file is not safetensors: its header is no JSON.") from None
    if not isinstance(header, dict):
        raise DocumentError("The file is not safetensors: its header is no object.")
    header.pop("__metadata__", None)
    if not 1 <= len(header) <= MAX_TENSORS:
        raise DocumentError(f"A file of weights holds 1 to {MAX_TENSORS} tensors.")
    try:
        found = sorted(_tensor(name, entry) for name, entry in header.items())
    except (KeyError, TypeError, ValueError):
        raise DocumentError("The file is not safetensors: a tensor is described wrongly.") from None
    at = 0
    for start_at, end_at, _ in found:
        if start_at != at:
            raise DocumentError("The file's tensors overlap or have gaps between them.")
        at = end_at
    if 8 + length + at != size_bytes:
        raise DocumentError("The file has another size than its header says.")
    return [Tensor(*told) for _, _, told in found]


def _tensor(name: str, entry: Any) -> tuple[int, int, tuple[str, str, tuple[int, ...]]]:
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets]
    if set(entry) != {"dtype", "shape", "data_offsets"} or len(shape) > 32 or len(offsets) != 2:
        raise ValueError
    if not all(type(n) is int and 0 <= n <= MAX_BYTES for n in numbers):
        raise ValueError
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * _BITS[entry["dtype"]]:
        raise ValueError
    return offsets[0], offsets[1], (name, entry["dtype"], tuple(shape))


def examine(source: Path) -> tuple[str, int, list[Tensor]]:
    """Return the digest, size and tensors of a file; ``DocumentError`` if it isn't sound."""
    try:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DocumentError(f"The file is larger than {MAX_BYTES} bytes.")
            tensors = read_header(file, size)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest(), size, tensors
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f"{source} is no file.") from None
    except PermissionError:
        raise StorageError(f"{source} can't be read: permission denied.") from None


def approve(
    engine: Engine, home: NodeHome, source: Path, digest: str, name: str, now: datetime
) -> ApprovedWeights:
    """Copy the file that was examined, and let jobs see it; again ends a withdrawal.

    Raises ``DocumentError`` when it is another file by now.
    """
    check_name(name)
    place = path_of(home, digest)
    private_folder(home.weights)
    new = home.weights / f".{digest}.{secrets.token_hex(4)}"
    with storage_errors(place):
        try:
            _copy(source, new)
            found, size, tensors = examine(new)
            if found != digest:
                raise DocumentError("The file has changed since it was shown; nothing is approved.")
            new.replace(place)
            sync_folder(home.weights)
        finally:
            new.unlink(missing_ok=True)
    made = ApprovedWeights(digest, name, size, len(tensors), now)
    values = {
        "name": name,
        "size_bytes": size,
        "tensors": len(tensors),
        "approved_at": now,
        "withdrawn_at": None,
    }
    table = schema.weights
    with engine.begin() as connection:
        known = update(table).where(table.c.digest == digest).values(values)
        if connection.execute(known).rowcount == 0:
            connection.execute(insert(table).values(digest=digest, **values))
    return made


def check_name(name: str) -> None:
    """Raise ``DocumentError`` for a name that would not be plain to read."""
    if not _NAME.fullmatch(name):
        raise DocumentError("A name has 1 to 200 letters, digits, blanks and ._/+-.")


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    left = MAX_BYTES
    with source.open("rb") as file, os.fdopen(descriptor, "wb") as out:
        while piece := file.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise DocumentError(f"The file is larger than {MAX_BYTES} bytes.")
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())


def withdraw(engine: Engine, home: NodeHome, digest: str, now: datetime) -> None:
    """Let no job see a file any more, and delete it; ``NotFound`` when none is approved."""
    table = schema.weights
    with engine.begin() as connection:
        done = connection.execute(
            update(table)
            .where(table.c.digest == digest, table.c.withdrawn_at.is_(None))
            .values(withdrawn_at=now)
        )
    if done.rowcount == 0:
        raise NotFound(f"No approved weights have the digest {printable(digest)}.")
    path_of(home, digest).unlink(missing_ok=True)


def list_weights(engine: Engine) -> list[ApprovedWeights]:
    """Return every file that was approved, oldest first, withdrawn ones too."""
    table = schema.weights
    with engine.connect() as connection:
        rows = connection.execute(select(table).order_by(table.c.approved_at)).mappings().all()
    return [
        ApprovedWeights(
            row["digest"],
            row["name"],
            row["size_bytes"],
            row["tensors"],
            _utc(row["approved_at"]),
            _utc(row["withdrawn_at"]) if row["withdrawn_at"] else None,
        )
        for row in rows
    ]


def named(parameters: Mapping[str, object], admissible: tuple[str, ...]) -> str:
    """Return the digest that a job names, or an empty string.

    Only where the project's grant lists files is the parameter ``weights`` one.
    """
    value = parameters.get(WEIGHTS, "") if admissible else ""
    return value if isinstance(value, str) and _DIGEST.fullmatch(value) else ""


def find(engine: Engine, home: NodeHome, digest: str) -> Path:
    """Return an approved file's place; it is hashed again.

    Raises ``NotFound`` when it isn't approved, ``DocumentError`` when it has changed.
    """
    place = path_of(home, digest)
    if digest not in Asked(engine).approved_weights() or not place.is_file():
        raise NotFound("The weights that the job names are not approved at this site.")
    with place.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise DocumentError(
                "A file of weights changed since it was approved; approve it again."
            )
    return place


def path_of(home: NodeHome, digest: str) -> Path:
    """Return where a file lies."""
    return home.weights / f"{digest}{SUFFIX}"


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
