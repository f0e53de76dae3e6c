"""Finished models in the registry: found, checked, written out, and started from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import numpy as np
import pytest
import safetensors.numpy

from contract import wire_pb2 as wire
from contract.errors import JobFailed, NotFound, UsageError
from researcher.training import TrainingResult
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import Done, run


def wardgate(trio: Federation, *arguments: str, researcher: str = "ana") -> Done:
    """Run the command as a researcher."""
    home = str(trio.researcher_home(researcher))
    return run("wardgate", *arguments, WARDGATE_HOME=home, COLUMNS="120")


@pytest.fixture(scope="module")
def first(trio: Federation) -> TrainingResult:
    """A model of two rounds."""
    with trio.connect() as ana:
        return ana.train(PROJECT, "steps", {"rounds": 2}, seed=5).result()


def test_a_finished_model_is_found_by_the_digest_of_its_file(
    trio: Federation, first: TrainingResult, tmp_path: Path
) -> None:
    first.save(tmp_path / "model.safetensors")
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert first.model == digest
    with trio.connect("ben") as ben:  # of the same project, not the job's researcher
        history = ben.registry.history(digest[:10])
        arrays = ben.registry.arrays(history)
    assert history.model.job == first.job
    assert history.model.researcher == "ana"
    assert (history.work.seed, history.work.parameters) == (5, {"rounds": 2})
    assert history.model.strategy == "FedAvg"
    assert history.model.settings["rounds"] == 2
    assert (history.model.bundle_name, history.model.bundle_version) == ("tests/steps", "1.0.0")
    assert history.doubts == ()
    assert {r.payload for r in history.receipts} == {r.payload for r in first.receipts}
    assert [share.site for share in history.shares()] == sorted(first.answered)
    assert all(np.array_equal(arrays.items[k], a) for k, a in first.arrays.items.items())


def test_of_anothers_job_nothing_but_the_model_can_be_fetched(
    trio: Federation, first: TrainingResult
) -> None:
    with trio.connect("ben") as ben:
        message = wire.RecordDict.FromString(ben.registry.history(first.model).message)
        for job, blob, there in (
            (first.job, message.tensors.digest, True),
            (first.job, "0" * 64, False),
            (first.model, message.tensors.digest, False),
        ):
            request = wire.BlobRequest(job=job, blob=wire.BlobReference(digest=blob))
            try:
                assert list(ben._stub.Download(request)) and there
            except grpc.RpcError as error:
                assert (error.code(), there) == (grpc.StatusCode.NOT_FOUND, False)
        with pytest.raises(NotFound):
            ben.job(first.job).status()


@pytest.mark.slow
def test_training_goes_on_from_a_model_as_if_it_had_not_stopped(
    trio: Federation, first: TrainingResult, tmp_path: Path
) -> None:
    first.save(tmp_path / "model.safetensors")
    with trio.connect() as ana:
        at_once = ana.train(PROJECT, "steps", {"rounds": 4}).result()
        by_digest = ana.train(PROJECT, "steps", {"rounds": 2}, start_from=first.model[:12])
        by_file = ana.train(
            PROJECT, "steps", {"rounds": 2}, start_from=tmp_path / "model.safetensors"
        )
        for later in (by_digest.result(), by_file.result()):
            for key, array in at_once.arrays.items.items():
                np.testing.assert_allclose(later.arrays.items[key], array, rtol=1e-5)
        history = ana.registry.history(by_digest.digest)
        assert history.work.start_from == history.model.start_from == first.model
        assert ana.registry.lineage(history) == [first.model]


def test_a_model_that_the_project_has_not_got_starts_nothing(trio: Federation) -> None:
    with trio.connect() as ana, pytest.raises(NotFound, match="has no model abababababab"):
        ana.train(PROJECT, "steps", {"rounds": 1}, start_from="ab" * 32)


def test_a_model_of_another_form_ends_the_job_in_one_sentence(
    trio: Federation, first: TrainingResult
) -> None:
    with trio.connect() as ana, pytest.raises(JobFailed, match="has other arrays"):
        ana.train(PROJECT, "steps", {"rounds": 1, "size": 9}, start_from=first.model).result()


def test_the_commands_show_a_model_and_write_it_with_its_card(
    trio: Federation, first: TrainingResult, tmp_path: Path
) -> None:
    listed = wardgate(trio, "models", "list", "-p", PROJECT, "--json")
    lines = [json.loads(line) for line in listed.out.splitlines()]
    assert first.model in {line["digest"] for line in lines}
    assert first.model[:12] in wardgate(trio, "models", "list").out
    shown = wardgate(trio, "models", "show", first.job[:12])
    assert f"model {first.model}" in shown.out
    assert f"{len(first.receipts)} receipts verified" in shown.out
    target = tmp_path / "m.safetensors"
    done = wardgate(trio, "models", "export", first.model[:12], "-o", str(target))
    assert done.code == 0, done.errors
    loaded = safetensors.numpy.load_file(target)
    assert all(np.array_equal(loaded[k], a) for k, a in first.arrays.items.items())
    card = (tmp_path / "m.safetensors.card.md").read_text()
    assert all(receipt.payload in card for receipt in first.receipts)
    assert "primary intended uses | not given" in card
    again = wardgate(trio, "models", "export", first.model[:12], "-o", str(target))
    again.fails(UsageError.exit_code, "exists already")
    unknown = wardgate(trio, "models", "show", "0" * 12)
    unknown.fails(NotFound.exit_code, "no model of your projects")


@pytest.mark.slow
def test_every_sites_model_is_evaluated_at_every_site(trio: Federation) -> None:
    done = wardgate(trio, "models", "matrix", "steps", "-p", PROJECT, "--set", "rounds=2", "--json")
    assert done.code == 0, done.errors
    rows = [json.loads(line) for line in done.out.splitlines()]
    losses = {(r["model"], r["site"]): r["value"] for r in rows if r["metric"] == "loss"}
    sites = trio.sites
    assert set(losses) == {(model, site) for model in (*sites, "mean") for site in sites}
    job = next(line for line in done.errors if line.startswith("job ")).split()[1]
    again = wardgate(trio, "models", "matrix", "--job", job[:16])
    assert "all (mean)" in again.out
    assert all(f"at {site}" in again.out for site in sites)
