"""What a recipe imports: satisfied by the node's own environment, or by wheels on a disk.

Nothing is downloaded and no wheel's code is run: packages are resolved by pip without an index,
wheels only, copied, hashed, and unpacked beside the recipe. A steward may say that the node's own
version of a package will do, where the recipe names another.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from contract.documents import printable
from contract.errors import DocumentError, StorageError

RESOLVE_SECONDS = 300
_UNUSED_EXTRAS = {("flwr", "simulation"), ("flwr", "rest")}
"""Extras of Flower's own runtime, which Wardgate replaces; templates ask for them."""
_SAME_MODULES = {"xgboost": "xgboost-cpu", "opencv-python": "opencv-python-headless"}
"""Packages that install the same modules as another does, and are of the same version."""


@dataclass(frozen=True)
class Sources:
    """Where a steward lets a recipe's packages come from, beside the node's own environment.

    ``wheelhouse``: a folder of wheels. ``own_versions``: what the node has will do in whichever
    version it has it. ``without``: what the recipe names and doesn't import.
    """

    wheelhouse: Path | None = None
    own_versions: bool = False
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Locked:
    """A package that a recipe was approved with. ``sha256`` is of its wheel; empty: our own."""

    name: str
    version: str
    wheel: str = ""
    sha256: str = ""


def settle(dependencies: Sequence[str], sources: Sources, target: Path) -> tuple[Locked, ...]:
    """Lock what the environment has, and install the rest from ``sources`` into ``target``.

    Raises ``DocumentError`` that names every package that is missing.
    """
    locked: dict[str, Locked] = {}
    missing: list[Requirement] = []
    without = {canonicalize_name(name) for name in sources.without}
    for requirement in (_parse(text) for text in dependencies):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if canonicalize_name(requirement.name) in without:
            continue
        if not _in_environment(requirement, locked, set(), any_version=sources.own_versions):
            missing.append(requirement)
    if missing:
        if sources.wheelhouse is None:
            raise _missing(_with_ours(requirement) for requirement in missing)
        with tempfile.TemporaryDirectory() as folder:
            wheels = _resolve(missing, sources.wheelhouse, Path(folder))
            _install([path for path, _ in wheels], target)
        locked |= {lock.name: lock for _, lock in wheels}
    return tuple(lock for _, lock in sorted(locked.items()))


def check_environment(recipe: str, locked: Iterable[Locked]) -> None:
    """Raise ``DocumentError`` when the node's own packages aren't those of the lock any more."""
    for lock in locked:
        if lock.sha256:
            continue
        try:
            now = importlib.metadata.version(lock.name)
        except importlib.metadata.PackageNotFoundError:
            now = "gone"
        if now != lock.version:
            raise DocumentError(
                f"Recipe {recipe} was approved with {lock.name} {lock.version}, which is {now} "
                "now; approve it again."
            )


def _missing(names: Iterable[str]) -> DocumentError:
    listed = printable(", ".join(sorted(set(names))), 400)
    return DocumentError(
        f"The recipe needs packages that this node doesn't have: {listed}. "
        "Put their wheels into a folder and name it with --wheelhouse; --own-versions takes those "
        "that are here in another version, --without NAME leaves out one that isn't imported."
    )


def _with_ours(requirement: Requirement) -> str:
    """Return a requirement, and in which version its package is here, if it is."""
    found = _distribution(requirement.name)
    return f"{requirement} (here {found.version})" if found is not None else str(requirement)


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    """Return the package of our environment that has this name, or installs its modules."""
    other = _SAME_MODULES.get(canonicalize_name(name))
    for candidate in (name, *([other] if other else [])):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.distribution(candidate)
    return None


def _parse(text: str) -> Requirement:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise DocumentError(f"The recipe's dependency {printable(text)!r} is malformed.") from None
    if requirement.url is not None:
        raise DocumentError(
            f"The recipe's dependency {printable(requirement.name)!r} is an address; "
            "only packages by name and version can be approved."
        )
    return requirement


def _in_environment(
    requirement: Requirement, locked: dict[str, Locked], seen: set[str], *, any_version: bool
) -> bool:
    """Say whether our environment satisfies a requirement with its extras; lock what does."""
    found = _distribution(requirement.name)
    if found is None:
        return False
    if not any_version and not requirement.specifier.contains(found.version, prereleases=True):
        return False
    name = canonicalize_name(found.name)
    for extra in requirement.extras:
        if (name, extra) in _UNUSED_EXTRAS or f"{name}[{extra}]" in seen:
            continue
        seen.add(f"{name}[{extra}]")
        for inner in (Requirement(text) for text in found.requires or ()):
            wanted = inner.marker is not None and inner.marker.evaluate({"extra": extra})
            alone = inner.marker is None or inner.marker.evaluate({"extra": ""})
            if not wanted or alone:
                continue
            if not _in_environment(inner, locked, seen, any_version=any_version):
                return False
    locked[name] = Locked(name, found.version)
    return True


def _resolve(
    missing: Sequence[Requirement], wheelhouse: Path, folder: Path
) -> list[tuple[Path, Locked]]:
    """Choose the wheels of the whole closure, and copy them to ``folder`` as they were hashed."""
    if not wheelhouse.is_dir():
        raise DocumentError(f"The wheelhouse {wheelhouse} is no folder.")
    report = folder / "report.json"
    arguments = ["install", "--dry-run", "--quiet", "--report", str(report)]
    arguments += ["--find-links", str(wheelhouse.resolve())]
    result = _pip([*arguments, *(str(requirement) for requirement in missing)])
    if result.returncode != 0:
        named = re.findall(r"No matching distribution found for ([^\s(]+)", result.stderr)
        raise _missing(named or (str(requirement) for requirement in missing))
    chosen: list[tuple[Path, Locked]] = []
    for entry in json.loads(report.read_bytes())["install"]:
        name = canonicalize_name(entry["metadata"]["name"])
        _refuse_second_version(name, entry["metadata"]["version"])
        address = urlsplit(entry["download_info"]["url"])
        wheel = Path(unquote(address.path))
        inside = wheel.resolve().is_relative_to(wheelhouse.resolve())
        if address.scheme != "file" or wheel.suffix != ".whl" or not inside:
            raise DocumentError(f"The package {name} would not come from the wheelhouse.")
        copy = folder / wheel.name
        shutil.copyfile(wheel, copy)
        digest = hashlib.sha256(copy.read_bytes()).hexdigest()
        chosen.append((copy, Locked(name, entry["metadata"]["version"], wheel.name, digest)))
    return chosen


def _refuse_second_version(name: str, version: str) -> None:
    try:
        ours = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return
    raise DocumentError(
        f"The recipe needs {name} {version}, and this node has {name} {ours}; "
        "--own-versions takes that."
    )


def _install(wheels: Sequence[Path], target: Path) -> None:
    arguments = ["install", "--quiet", "--no-deps", "--no-compile", "--target", str(target)]
    if _pip([*arguments, *map(str, wheels)]).returncode != 0:
        raise StorageError(f"The recipe's packages could not be unpacked into {target}.")


def _pip(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command, *options = arguments
    common = ["--no-index", "--only-binary", ":all:", "--no-cache-dir", "--no-input"]
    common += ["--disable-pip-version-check", "--isolated"]
    # pip treats an address that a wheel's metadata names as a source; nothing answers there.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    try:
        return subprocess.run(
            [sys.executable, "-I", "-m", "pip", command, *common, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=RESOLVE_SECONDS,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **nowhere},
        )
    except subprocess.TimeoutExpired:
        raise DocumentError("The recipe's dependencies could not be resolved in time.") from None
