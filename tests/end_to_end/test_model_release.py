"""A finished model on its way out: asked for, signed site by site, taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.numpy

from contract.model_release import read
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two sites under ``open-research``, two researchers."""
    federation = Federation(tmp_path_factory.mktemp("out") / "opt", ("north", "south"))
    try:
        yield federation.bring_up(researchers=("ana", "ben"), apps=("steps",))
    finally:
        federation.close()


def test_a_model_leaves_when_both_stewards_released_it_and_not_before(
    pair: Federation, tmp_path: Path
) -> None:
    with pair.connect() as ana:
        result = ana.train(PROJECT, "steps", {"rounds": 2}, minimum_sites=2).result()
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.write_text("".join(f"{i}\n" for i in range(50, 150)))
    outside.write_text("".join(f"{i}\n" for i in range(100)))
    canaries = tmp_path / "canaries"
    canaries.write_text("".join(f"{i} {int(i >= 20)}\n" for i in range(40)))
    report, request, model = (
        tmp_path / n for n in ("report.json", "request.json", "m.safetensors")
    )

    def ask(*more: str | Path) -> tuple[str | Path, ...]:
        return ("models", "request", result.job, "-p", PROJECT, "--recipient", "all", *more)

    unmeasured = pair.as_researcher("ana", *ask("-o", request))
    unmeasured.fails(2, "measured no membership inference")
    said = run(
        "wardgate", "models", "report", "--members", inside, "--others", outside,
        "--canaries", canaries, "-o", report,
    )  # fmt: skip
    assert "AUC 0.875" in said.out  # 1 - 0.5 * 0.5 ** 2
    assert pair.as_researcher("ana", *ask("--report", report, "-o", request)).code == 0
    release = read(request.read_bytes())[1]
    assert release.sites == ("north", "south")
    assert release.report.empirical_epsilon == pytest.approx(2.55, abs=0.05)

    pair.as_researcher("ana", "models", "take-out", request, "-o", model).fails(6, "north, south")
    shown = pair.on("north", "model", "sign", request, "--yes")
    assert "0.875" in shown.out
    pair.as_researcher("ana", "models", "take-out", request, "-o", model).fails(6, "south")
    assert not model.exists()
    stolen = pair.home("north") / "steward.key"
    pair.on("south", "model", "sign", request, "--yes", "--steward-key", stolen).fails(
        6, "not that of site south"
    )
    assert pair.on("south", "model", "sign", request, "--yes").code == 0
    assert pair.as_researcher("ana", "models", "take-out", request, "-o", model).code == 0
    assert hashlib.sha256(model.read_bytes()).hexdigest() == release.model
    taken = safetensors.numpy.load(model.read_bytes())
    assert taken.keys() == result.arrays.items.keys()
    for site in pair.sites:
        [entry] = [e for e in pair.entries(site) if e.kind == "model-released"]
        assert entry.body["model"] == release.model
