"""A Flower app bundle (FAB) read as what a stranger sent: checked whole before anything is written.

The format is Flower's (flwr.cli.build, 1.41): a zip of regular files with a manifest
``.info/CONTENT`` of lines ``path,sha256,bits``. What is refused: members outside the folder, links
and anything else that is no regular file, sizes and counts past the limits, and any difference
between members and manifest. Files are written one by one from memory.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.documents import printable
from contract.errors import DocumentError
from contract.work import Scalar
from foundation.files import private_folder, read_bounded, storage_errors

MAX_BUNDLE_BYTES = 10 * 2**20
MAX_UNPACKED_BYTES = 64 * 2**20
MAX_FILES = 2000
OURS = frozenset({"contract", "foundation", "learning", "node", "coordinator"})
"""Packages of ours that are seen where apps run."""
MANIFEST = ".info/CONTENT"
PROJECT = "pyproject.toml"
_PART = re.compile(r"^[\w .+@()\[\]-]{1,128}$")
_REFERENCE = re.compile(r"^[A-Za-z_][\w.]{0,200}:[A-Za-z_][\w.]{0,200}$")


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: its SHA-256, what its ``pyproject.toml`` says, and its files' bytes."""

    digest: str
    name: str
    version: str
    client: str
    server: str
    defaults: Mapping[str, Scalar]
    dependencies: tuple[str, ...]
    files: Mapping[str, bytes]

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read a bundle's file, at most ``MAX_BUNDLE_BYTES`` of it."""
        return cls.parse(read_bounded(path, MAX_BUNDLE_BYTES))

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Return the bundle in ``data``; ``DocumentError`` with one line when it isn't sound."""
        if len(data) > MAX_BUNDLE_BYTES:
            raise DocumentError(f"A bundle is larger than {MAX_BUNDLE_BYTES} bytes.")
        members = _members(data)
        manifest = members.pop(MANIFEST, None)
        if manifest is None:
            raise DocumentError(f"A bundle has no {MANIFEST}.")
        _check_manifest(manifest, members)
        _check_packages(members)
        return _describe(hashlib.sha256(data).hexdigest(), members)

    def write(self, folder: Path) -> None:
        """Write the files into ``folder``, which is made, a new file each."""
        private_folder(folder)
        for name, content in self.files.items():
            target = folder / name
            private_folder(target.parent)
            with storage_errors(target):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())

    def run_config(self, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the app's settings with ``parameters`` in place of its defaults.

        Raises ``DocumentError`` for a parameter that the app doesn't have or of another type. An
        integer may stand for a real number.
        """
        config = dict(self.defaults)
        for key, value in parameters.items():
            default = config.get(key)
            if default is None:
                raise DocumentError(f"The app has no parameter {printable(key)!r}.")
            if type(default) is float and type(value) is int:
                value = float(value)  # noqa: PLW2901
            if type(value) is not type(default):
                raise DocumentError(
                    f"Parameter {printable(key)!r} must be {type(default).__name__}, "
                    f"not {type(value).__name__}."
                )
            config[key] = value
        return config


def _check_packages(members: Mapping[str, bytes]) -> None:
    """Refuse packages whose names ours have: those come first on the path of what runs the app."""
    code = (name for name in members if name.endswith(".py"))
    for name in sorted({name.partition("/")[0].removesuffix(".py") for name in code} & OURS):
        raise DocumentError(f"The bundle's package {name} must have another name: ours has it.")


def _members(data: bytes) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                raise DocumentError(f"A bundle holds more than {MAX_FILES} files.")
            for entry in entries:
                _check_member(entry)
                if entry.filename.casefold() in {name.casefold() for name in members}:
                    raise DocumentError("A bundle holds two files of one name.")
                total += entry.file_size
                if total > MAX_UNPACKED_BYTES:
                    raise DocumentError(f"A bundle unpacks to over {MAX_UNPACKED_BYTES} bytes.")
                with archive.open(entry) as file:
                    content = file.read(entry.file_size + 1)
                if len(content) != entry.file_size:
                    raise DocumentError("A bundle's file has another size than it declares.")
                members[entry.filename] = content
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError):
        raise DocumentError("A bundle is not a readable zip archive.") from None
    return members


def _check_member(entry: zipfile.ZipInfo) -> None:
    parts = entry.filename.split("/")
    if (
        entry.filename != entry.orig_filename
        or not all(_PART.match(part) and part.strip(". ") for part in parts)
        or len(parts) > 20
    ):
        raise DocumentError("A bundle holds a file whose path leads elsewhere or is unusual.")
    mode = entry.external_attr >> 16
    if entry.is_dir() or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
        raise DocumentError("A bundle holds something else than regular files.")


def _check_manifest(manifest: bytes, members: Mapping[str, bytes]) -> None:
    listed: set[str] = set()
    for line in manifest.decode(errors="replace").splitlines():
        path, _, rest = line.rpartition(",")
        path, _, digest = path.rpartition(",")
        content = members.get(path)
        if (
            content is None
            or path in listed
            or digest != hashlib.sha256(content).hexdigest()
            or rest != str(len(content) * 8)
        ):
            raise DocumentError(f"A bundle's files differ from its {MANIFEST}.")
        listed.add(path)
    if listed != set(members):
        raise DocumentError(f"A bundle holds files that its {MANIFEST} doesn't list.")


def _describe(digest: str, files: Mapping[str, bytes]) -> Bundle:
    try:
        project = tomllib.loads(files[PROJECT].decode())
        app = project["tool"]["flwr"]["app"]
        components = app["components"]
        bundle = Bundle(
            digest=digest,
            name=printable(f"{app['publisher']}/{project['project']['name']}", 200),
            version=printable(str(project["project"]["version"]), 64),
            client=str(components["clientapp"]),
            server=str(components["serverapp"]),
            defaults=flatten(app.get("config", {})),
            dependencies=tuple(str(d) for d in project["project"].get("dependencies", [])),
            files=dict(files),
        )
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise DocumentError(f"A bundle's {PROJECT} describes no Flower app.") from None
    if not _REFERENCE.match(bundle.client) or not _REFERENCE.match(bundle.server):
        raise DocumentError(f"A bundle's {PROJECT} names its apps in no form MODULE:NAME.")
    return bundle


def flatten(table: Mapping[str, Any], above: str = "") -> dict[str, Scalar]:
    """Return nested tables as one, keys joined by dots, as Flower does with an app's config."""
    flat: dict[str, Scalar] = {}
    for key, value in table.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, dict):
            flat |= flatten(value, name)
        elif isinstance(value, bool | int | float | str) and not (
            isinstance(value, float) and not math.isfinite(value)
        ):
            flat[name] = value
        else:
            raise DocumentError(f"The app's default for {printable(name)!r} is no plain value.")
    return flat
