"""Pretrained weights are taken in by digest, as safetensors and as nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from contract.errors import DocumentError, NotFound
from node.catalog.asked import Asked
from node.catalog.store import Catalog
from node.cli import application
from node.config import create_home
from node.gate.ledger import read_entries
from node.home import NodeHome
from node.work.training import weights
from tests.contract.world import NOW


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome(tmp_path / "node").create()


@pytest.fixture
def catalog(home: NodeHome) -> Iterator[Catalog]:
    with Catalog.open(home) as opened:
        yield opened


def written(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {
        "stem.weight": rng.normal(size=(4, 3, 3)).astype(np.float32),
        "stem.bias": np.zeros(4, np.float16),
        "steps": np.array(7),
    }
    save_file(tensors, path, {"format": "pt"})
    return path


def header(entries: object, body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype: str, shape: list[object], start: object, end: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_a_file_is_copied_under_its_digest_and_found_until_it_is_withdrawn(
    home: NodeHome, catalog: Catalog, tmp_path: Path
) -> None:
    source = written(tmp_path / "w.safetensors")
    digest, size, tensors = weights.examine(source)
    assert size == source.stat().st_size
    assert {(t.name, t.dtype, t.shape) for t in tensors} == {
        ("stem.weight", "F32", (4, 3, 3)),
        ("stem.bias", "F16", (4,)),
        ("steps", "I64", ()),
    }
    weights.approve(catalog.engine, home, source, digest, "stem", NOW)
    source.unlink()
    place = weights.find(catalog.engine, home, digest)
    assert place.name == f"{digest}.safetensors"
    assert load_file(place)["steps"] == 7
    weights.withdraw(catalog.engine, home, digest, NOW)
    assert not place.exists()
    assert Asked(catalog.engine).approved_weights() == frozenset()
    with pytest.raises(NotFound):
        weights.find(catalog.engine, home, digest)
    with pytest.raises(NotFound):
        weights.withdraw(catalog.engine, home, digest, NOW)


def test_a_file_that_changed_since_it_was_shown_or_approved_is_refused(
    home: NodeHome, catalog: Catalog, tmp_path: Path
) -> None:
    source = written(tmp_path / "w.safetensors")
    digest, _, _ = weights.examine(source)
    written(source, seed=1)
    with pytest.raises(DocumentError, match="changed"):
        weights.approve(catalog.engine, home, source, digest, "stem", NOW)
    assert not list(home.weights.iterdir())
    written(source)
    weights.approve(catalog.engine, home, source, digest, "stem", NOW)
    data = bytearray(weights.path_of(home, digest).read_bytes())
    data[-1] ^= 1
    weights.path_of(home, digest).write_bytes(data)
    with pytest.raises(DocumentError, match="changed"):
        weights.find(catalog.engine, home, digest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02}q\x00.",
        b"PK\x03\x04" + bytes(60),
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"\xff\xff\xff\xff",
        header({"a": entry("F32", [2], 0, 4)}, bytes(4)),
        header({"a": entry("F32", [1], 0, 4)}, bytes(5)),
        header({"a": entry("F32", [1], 4, 8)}, bytes(8)),
        header({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)}, bytes(6)),
        header({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12)),
        header({"a": entry("OBJ", [1], 0, 4)}, bytes(4)),
        header({"a": entry("F32", [-1], 0, 4)}, bytes(4)),
        header({"a": entry("F32", [True], 0, 4)}, bytes(4)),
        header({"a": entry("F32", [2**62, 2**62], 0, 4)}, bytes(4)),
        header({"a": entry("F32", [1], 0, 4) | {"x": 1}}, bytes(4)),
        header({"a": [1]}, bytes(4)),
        header({"__metadata__": {}}),
        b"[" * 8 + b"[" * 100_000,
    ],
)
def test_what_is_no_sound_safetensors_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(data)
    with pytest.raises(DocumentError):
        weights.examine(path)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_raise_anything_but_a_document_error(data: bytes, size: int) -> None:
    for told in (data, header({"a": 1})[:8] + data):
        try:
            weights.read_header(io.BytesIO(told), size)
        except DocumentError:
            continue


def test_a_parameter_names_a_file_only_where_the_project_lists_some() -> None:
    one = "a" * 64
    assert weights.named({"weights": one}, (one,)) == one
    assert weights.named({"weights": one}, ()) == ""
    assert weights.named({"weights": "../../etc/passwd"}, (one,)) == ""
    assert weights.named({}, (one,)) == ""


def test_a_steward_approves_lists_and_withdraws_on_the_record(tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "node")
    create_home(home)
    Catalog.open(home).close()
    source = written(tmp_path / "w.safetensors")
    run = CliRunner().invoke
    where = ["--home", str(home.root)]
    looked = run(
        application("weights"),
        ["weights", "approve", str(source), "--name", "stem", "--dry-run", *where],
    )
    assert looked.exit_code == 0, looked.output
    assert "stem.weight" in looked.output
    assert not list(read_entries(home.ledger))
    done = run(
        application("weights"),
        ["weights", "approve", str(source), "--name", "stem", "--yes", *where],
    )
    assert done.exit_code == 0, done.output
    listed = run(application("weights"), ["weights", "list", *where]).output
    digest = listed.split()[0]
    assert weights.path_of(home, digest).is_file()
    assert run(application("weights"), ["weights", "withdraw", digest[:8], *where]).exit_code == 0
    assert "withdrawn" in run(application("weights"), ["weights", "list", *where]).output
    assert [e.kind for e in read_entries(home.ledger)] == ["weights-approved", "weights-withdrawn"]
