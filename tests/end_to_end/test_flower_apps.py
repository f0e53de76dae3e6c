"""Flower apps as their authors write them: of the older kind, and with a package of their own."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.errors import DocumentError
from node.commands import recipe as node_recipe
from tests.end_to_end.federation import PROJECT, Federation, bundle, make_node, records

HALVER = b'''"""Halving."""


def halfway(a, b):
    """Return what lies in the middle."""
    return (a + b) / 2
'''


def wheel(folder: Path) -> Path:
    """Make a wheel by hand (PyPA, binary distribution format)."""
    folder.mkdir(parents=True, exist_ok=True)
    info = "halver-1.0.dist-info"
    files = {
        "halver.py": HALVER,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: halver\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / "halver-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("pair")
    wheel(root / "wheelhouse")
    federation = Federation(root / "opt", ("north", "south"))
    try:
        yield federation.bring_up(
            researchers=("ana",), apps=("older", "wheeled"), wheelhouse=root / "wheelhouse"
        )
    finally:
        federation.close()


def expected(rounds: int) -> float:
    """What both apps arrive at, by arithmetic."""
    means = [
        np.mean([float(str(r["age"])) for r in records(site, i, few=False)])
        for i, site in enumerate(("north", "south"))
    ]
    w = 0.0
    for _ in range(rounds):
        w = float(np.mean([(w + mean) / 2 for mean in means]))
    return w


@pytest.mark.parametrize("app", ["older", "wheeled"])
def test_an_unmodified_app_runs_from_end_to_end(pair: Federation, app: str) -> None:
    with pair.connect() as ana:
        result = ana.train(PROJECT, app, {"rounds": 2}, minimum_sites=2).result()
    [array] = result.arrays.items.values()
    assert array == pytest.approx(expected(2), rel=1e-12)
    assert result.answered == ("north", "south")
    assert {r.number for r in result.rounds if r.step == "train"} == {1, 2}
    pair.ledgers_verify()


def test_a_package_that_is_nowhere_is_named_when_the_recipe_is_approved(tmp_path: Path) -> None:
    home = make_node(tmp_path / "node", "north").root
    fab = tmp_path / "wheeled.fab"
    fab.write_bytes(bundle("wheeled"))
    with pytest.raises(DocumentError, match="halver"):
        node_recipe.approve(fab, None, None, True, home)
