"""Drafts stay in the hospital: what may be one, how many, and that none is in a reply."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from typer.testing import CliRunner

from contract import records
from contract.errors import AlreadyExists, DocumentError, StorageError
from foundation.bubblewrap import Limits
from node.catalog.store import Catalog
from node.cli import application
from node.gate.ledger import Ledger, read_entries
from node.home import NodeHome
from node.work.training import drafts
from node.work.training.draft_files import check_content, check_name
from node.work.training.drafts import Room, Takes
from node.work.training.worker import Worker, WorkerFailed
from tests.contract.world import NOW
from tests.node.homes import new_home
from tests.node.work.training.flower_apps import approved, bundle
from tests.node.work.training.test_worker import task

ASSET, OTHER = "a" * 64, "b" * 64
JOB, RELEASE, RECIPE = "1" * 64, "2" * 64, "3" * 64


def png(side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.eye(side, dtype=np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def nifti() -> bytes:
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, 2, 2, 2, 1, 1, 1, 1)
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(4) + bytes(8)


def dicom(sop_class: str = "1.2.840.10008.5.1.4.1.1.66.4") -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "2.25.1"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


SOUND = {"png": png(), "nii": nifti(), "nii.gz": gzip.compress(nifti()), "dcm": dicom()}
SOUND["json"] = b'{"boxes": [[1, 2, 3, 4]]}'


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    made = new_home(tmp_path / "node")
    folder = made.release(RELEASE)
    folder.mkdir()
    (folder / "patient").write_text("x\n")
    pl.DataFrame({"digest": [ASSET, OTHER]}).write_parquet(folder / "assets.parquet")
    return made


@pytest.fixture
def catalog(home: NodeHome) -> Iterator[Catalog]:
    with Catalog.open(home) as opened:
        yield opened


ROOM = Room(10_000, 10)


def takes(home: NodeHome, catalog: Catalog, room: Room = ROOM, job: str = JOB) -> Takes:
    return Takes(catalog.engine, home, job=job, release=RELEASE, recipe=RECIPE, room=room)


def files(home: NodeHome) -> list[Path]:
    return [path for path in home.drafts.rglob("*") if path.is_file()]


# ---- what may be one -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SOUND)
def test_each_kind_is_known_by_its_content_and_no_other_passes_for_it(suffix: str) -> None:
    for other, data in SOUND.items():
        name = f"{ASSET}-mask.{suffix}"
        if other == suffix:
            check_content(name, data)
        else:
            with pytest.raises(DocumentError):
                check_content(name, data)


def test_an_image_in_the_clothes_of_a_segmentation_is_refused() -> None:
    with pytest.raises(DocumentError):
        check_content(f"{ASSET}.dcm", dicom("1.2.840.10008.5.1.4.1.1.2"))
    with pytest.raises(DocumentError):
        check_content(f"{ASSET}.png", png()[:-4])
    with pytest.raises(DocumentError):
        check_content(f"{ASSET}.png", png()[:16] + bytes(17) + png()[33:])


@given(st.sampled_from(list(SOUND)), st.binary(max_size=600))
def test_no_bytes_raise_anything_but_a_document_error(suffix: str, data: bytes) -> None:
    for told in (data, SOUND[suffix][:140] + data):
        try:
            check_content(f"{ASSET}.{suffix}", told)
        except DocumentError:
            continue


@pytest.mark.parametrize(
    "name",
    ["x.png", f"{ASSET}.exe", f"../{ASSET}.png", f"{ASSET}-a/b.png", f"{ASSET}.png\n", ASSET, ""],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DocumentError):
        check_name(name)


# ---- what is kept --------------------------------------------------------------------------------


def test_a_draft_is_kept_once_its_task_is_and_is_on_the_ledger(
    home: NodeHome, catalog: Catalog
) -> None:
    ledger = Ledger(home.ledger)
    job = takes(home, catalog)
    job.take(f"{ASSET}.png", png())
    assert not drafts.list_drafts(catalog.engine)
    assert job.keep("t1", ledger, NOW) == 1
    (kept,) = drafts.list_drafts(catalog.engine)
    assert (kept.asset, kept.kind, kept.job, kept.recipe) == (ASSET, "png", JOB, RECIPE)
    assert drafts.read_draft(home, kept) == png()
    job.take(f"{ASSET}.png", png(6))
    job.keep("t2", ledger, NOW)
    (kept,) = drafts.list_drafts(catalog.engine)
    assert drafts.read_draft(home, kept) == png(6)
    assert len(files(home)) == 1
    entries = list(read_entries(home.ledger))
    assert [e.kind for e in entries] == ["drafted", "drafted"]
    assert entries[0].body["files"] == 1
    assert job.keep("t3", ledger, NOW) == 0
    ledger.close()


def test_nothing_is_kept_of_a_task_that_failed(home: NodeHome, catalog: Catalog) -> None:
    job = takes(home, catalog)
    job.take(f"{ASSET}.png", png())
    job.drop()
    assert not files(home)
    assert not drafts.list_drafts(catalog.engine)


@pytest.mark.parametrize("answered", [True, False])
def test_after_a_kill_drafts_are_kept_if_their_task_was_answered_and_dropped_if_not(
    home: NodeHome, catalog: Catalog, answered: bool
) -> None:
    (home.jobs / JOB).mkdir(parents=True)
    killed = takes(home, catalog)
    killed.take(f"{ASSET}.png", png())
    killed.note("t1")
    again, asked = takes(home, catalog), []
    with contextlib.closing(Ledger(home.ledger)) as ledger:
        for _ in range(2):  # the second finds nothing to do
            again.resume(lambda task: bool(asked.append(task)) or answered, ledger, NOW)
    assert asked == ["t1"]
    kept = drafts.list_drafts(catalog.engine)
    assert [draft.name for draft in kept] == [f"{ASSET}.png"] * answered
    assert len(files(home)) == answered
    drafted = [e for e in read_entries(home.ledger) if e.kind == "drafted"]
    assert len(drafted) == answered


def test_what_could_not_be_kept_stays_noted_for_the_next_start(
    home: NodeHome, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("The disk is full.")

    (home.jobs / JOB).mkdir(parents=True)
    job = takes(home, catalog)
    job.take(f"{ASSET}.png", png())
    job.note("t1")
    with contextlib.closing(Ledger(home.ledger)) as ledger:
        with monkeypatch.context() as patched, pytest.raises(StorageError):
            patched.setattr(ledger, "append", full)
            job.keep("t1", ledger, NOW)
        job.drop()  # as at the end of every task
        takes(home, catalog).resume(lambda _: True, ledger, NOW)
    assert [draft.name for draft in drafts.list_drafts(catalog.engine)] == [f"{ASSET}.png"]
    assert len(files(home)) == 1


def test_what_is_of_no_asset_of_the_release_is_refused(home: NodeHome, catalog: Catalog) -> None:
    with pytest.raises(DocumentError, match="no asset"):
        takes(home, catalog).take(f"{'c' * 64}.png", png())


def test_a_job_leaves_no_more_than_the_policy_allows(home: NodeHome, catalog: Catalog) -> None:
    ledger = Ledger(home.ledger)
    size = len(png())
    job = takes(home, catalog, Room(2 * size, 10))
    job.take(f"{ASSET}.png", png())
    with pytest.raises(DocumentError, match="one name"):  # whose file nobody would count
        job.take(f"{ASSET}.png", png(3))
    job.keep("t1", ledger, NOW)
    again = takes(home, catalog, Room(2 * size, 10))
    assert again.bytes_left == size
    again.take(f"{OTHER}.png", png())
    with pytest.raises(DocumentError, match="more drafts"):
        again.take(f"{OTHER}-b.png", png())
    few = takes(home, catalog, Room(10_000, 1), job="9" * 64)
    few.take(f"{ASSET}.png", png())
    with pytest.raises(DocumentError, match="more drafts"):
        few.take(f"{OTHER}.png", png())
    ledger.close()


def test_a_steward_lists_exports_and_discards_them_on_the_record(
    home: NodeHome, catalog: Catalog, tmp_path: Path
) -> None:
    ledger = Ledger(home.ledger)
    job = takes(home, catalog)
    job.take(f"{ASSET}.png", png())
    job.take(f"{OTHER}-liver.json", SOUND["json"])
    job.keep("t1", ledger, NOW)
    ledger.close()

    def run(*words: str) -> str:
        done = CliRunner().invoke(
            application("drafts"), ["drafts", *words, "--home", str(home.root)]
        )
        assert done.exit_code == 0, done.output
        return done.output

    assert "1 json, 1 png" in run("list")
    assert f"{OTHER}-liver.json" in run("list", "--asset", OTHER[:8])
    assert RECIPE in run("show", ASSET)
    target = tmp_path / "out"
    assert "2 drafts" in run("export", str(target), "--job", JOB[:8])
    assert (target / JOB[:16] / f"{ASSET}.png").read_bytes() == png()
    with pytest.raises(AlreadyExists):
        drafts.export(home, drafts.list_drafts(catalog.engine), target)
    assert "1 drafts were" in run("discard", "--asset", ASSET, "--yes")
    assert len(files(home)) == 1
    assert [e.kind for e in read_entries(home.ledger)] == [
        "drafted", "drafts-exported", "drafts-discarded",
    ]  # fmt: skip


# ---- in the sandbox ------------------------------------------------------------------------------

DRAFTING = """\
import os
from pathlib import Path
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
PNG = bytes.fromhex("{png}")
A = "a" * 64


@app.query()
def query(message, context):
    do = message.content["config"]["do"]
    there = int(os.path.isdir("/drafts"))
    if do == "write":
        (Path("/drafts") / (A + ".png")).write_bytes(PNG)
        os.symlink("/release/patient", "/drafts/" + A + "-link.json")
        os.mkdir("/drafts/folder")
    elif do == "fail":
        (Path("/drafts") / (A + ".png")).write_bytes(PNG)
        raise ValueError
    elif do == "foreign":
        (Path("/drafts") / ("c" * 64 + ".png")).write_bytes(PNG)
    elif do == "fill":
        try:
            with open("/drafts/" + A + ".json", "wb") as file:
                for _ in range(100):
                    file.write(bytes(1 << 16))
                    file.flush()
        except OSError:
            there = 2
        Path("/drafts/" + A + ".json").unlink()
    elif do == "weights":
        there = os.path.getsize("/weights/" + "d" * 64 + ".safetensors")
        try:
            open("/weights/" + "d" * 64 + ".safetensors", "ab")
            there = -1
        except OSError:
            pass
    elif do == "environment":
        there = int(os.environ["HF_HUB_OFFLINE"])
    content = RecordDict({{"out": MetricRecord({{"there": there}})}})
    return Message(content=content, reply_to=message)
"""


def test_a_recipe_leaves_drafts_that_are_in_no_reply(home: NodeHome, catalog: Catalog) -> None:
    recipe = approved(home.root.parent / "other", bundle(client=DRAFTING.format(png=png().hex())))
    given = home.root.parent / f"{'d' * 64}.safetensors"
    given.write_bytes(b"x" * 77)
    job = takes(home, catalog, Room(2**20, 10))

    def start(*, allowed: bool) -> Worker:
        return Worker.start(
            recipe=recipe,
            release=home.release(RELEASE),
            job=JOB,
            parameters={},
            seed=1,
            run_id=5,
            node_id=17,
            node_config={"data-path": "/release"},
            limits=Limits(processes=64, message_seconds=120, reply_bytes=2**20),
            log=home.root / "log",
            weights=given,
            drafts=job if allowed else None,
        )

    def ask(worker: Worker, do: str) -> tuple[float, bytes]:
        reply = worker.handle(*task(do), b"")
        told = records.decode(reply.payload, reply.tensors)
        assert set(told) == {"out"}
        return told["out"].items["there"], reply.tensors

    ledger = Ledger(home.ledger)
    worker = start(allowed=True)
    try:
        there, tensors = ask(worker, "write")
        assert (there, tensors) == (1, b"")
        assert job.keep("t", ledger, NOW) == 1
        (kept,) = drafts.list_drafts(catalog.engine)
        assert drafts.read_draft(home, kept) == png()
        assert ask(worker, "nothing")[0] == 1
        assert job.keep("t", ledger, NOW) == 0  # the folder was emptied
        with pytest.raises(WorkerFailed, match="exception"):
            worker.handle(*task("fail"), b"")
        assert ask(worker, "nothing")[0] == 1
        assert job.keep("t", ledger, NOW) == 0
        assert ask(worker, "fill")[0] == 2
        assert ask(worker, "weights")[0] == 77
        assert ask(worker, "environment")[0] == 1
        with pytest.raises(WorkerFailed, match="draft"):
            worker.handle(*task("foreign"), b"")
        assert len(files(home)) == 1
    finally:
        worker.close()
        ledger.close()
    worker = start(allowed=False)
    try:
        assert ask(worker, "nothing")[0] == 0
        with pytest.raises(WorkerFailed, match="exception"):
            worker.handle(*task("write"), b"")
    finally:
        worker.close()
