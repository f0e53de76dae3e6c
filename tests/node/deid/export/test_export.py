"""``deid run``: every file has an outcome, whatever it is and however many processes work."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from contract.errors import AlreadyExists, StorageError, UsageError
from node.commands.deid import app
from node.deid.engine import Deidentified, Deidentifier
from node.deid.export.export import export
from node.deid.export.journal import NAME
from node.deid.identifiers import Known
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from tests.node.deid.export.conftest import COMMAND, Image, Run, report, tree
from tests.node.deid.invoking import invoke

COMPONENT = re.compile(r"[A-Z0-9_]{1,8}")


def test_every_file_has_an_outcome_and_the_report_names_no_source(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    (source / "THORNBURY" / "deep" / ".hidden").mkdir(parents=True)
    (source / "THORNBURY" / "deep" / ".hidden" / "no extension").write_bytes(make_image(1))
    (source / "THORNBURY" / "again.dcm").write_bytes(make_image(1))
    (source / "THORNBURY" / "other.dcm").write_bytes(make_image(1, SliceThickness="9"))
    (source / "THORNBURY" / "cut.dcm").write_bytes(make_image(2)[:-1000])
    (source / "empty").write_bytes(b"")
    (source / "notes.txt").write_text("Barnaby Thornbury")
    with zipfile.ZipFile(source / "more.bin", "w") as archive:
        archive.writestr("x.dcm", make_image(3))
    (source / "link").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    done = run("--paths", str(tmp_path / "paths.json"))
    found = report(tmp_path / "out")
    assert found["outcomes"] == {
        "archive": 1,
        "duplicate": 1,
        "empty": 1,
        "link": 1,
        "not-dicom": 1,
        "special": 1,
        "truncated": 1,
        "written": 2,
    }
    assert [row["position"] for row in found["files"]] == list(range(1, 10))
    assert "2  written" in done.stdout
    assert done.stderr == ""
    everything = json.dumps(found) + done.stdout + " ".join(tree(tmp_path / "out"))
    assert "THORNBURY" not in everything.upper()
    assert "again" not in everything
    paths = json.loads((tmp_path / "paths.json").read_text())
    by_outcome = {row["outcome"]: paths[str(row["position"])] for row in found["files"]}
    assert by_outcome["truncated"] == str(source / "THORNBURY" / "cut.dcm")
    assert (tmp_path / "paths.json").stat().st_mode & 0o777 == 0o600
    both = tree(tmp_path / "out")
    assert len({written.rpartition("/")[0] for written in both}) == 1
    for written in both:
        assert all(COMPONENT.fullmatch(part) for part in written.split("/"))
        assert len(written.split("/")) == 4
        assert (tmp_path / "out" / written).stat().st_mode & 0o777 == 0o600


def test_any_number_of_workers_gives_the_same_copy(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    for number in range(30):
        (source / f"{number}").write_bytes(make_image(number % 20, f"MRN{number % 3}77"))
    for number in range(5):
        (source / f"z{number}").write_bytes(make_image(number, SliceThickness=str(number + 7)))
    run("--workers", "1", out="one")
    run("--workers", "3", out="three")
    assert tree(tmp_path / "one") == tree(tmp_path / "three")
    assert report(tmp_path / "one") == report(tmp_path / "three")
    assert report(tmp_path / "one")["outcomes"]["written"] > 19


def test_what_only_another_file_of_the_patient_says_is_found_too(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    (source / "a").write_bytes(make_image(1, ImageComments="seen with Quillfeather, stable"))
    (source / "b").write_bytes(make_image(2, ReferringPhysicianName="Quillfeather^Rosalind"))
    (source / "c").write_bytes(make_image(3, "MRN9", ImageComments="Quillfeather sign"))
    for workers in ("1", "2"):
        run("--workers", workers, out=workers)
        comments = {
            int(dataset.InstanceNumber): str(dataset.get("ImageComments", ""))
            for dataset in (
                pydicom.dcmread(io.BytesIO(d)) for d in tree(tmp_path / workers).values()
            )
        }
        assert "Quillfeather" not in comments[1]
        assert "stable" in comments[1]
        assert comments[3] == "Quillfeather sign"


def test_a_single_file_and_names_that_are_no_text_are_taken_too(
    source: Path, tmp_path: Path, run: Run, key: Path, make_image: Image
) -> None:
    strange = os.fsdecode(b"\xff\xfe name\n")
    (source / strange).write_bytes(make_image(1))
    run("--paths", str(tmp_path / "paths.json"))
    assert json.loads((tmp_path / "paths.json").read_text())["1"] == str(source / strange)
    options = ("--pixels", "off", "--key-file", key)
    done = invoke(app, "run", source / strange, tmp_path / "one", *options)
    assert done.stdout == "1  written\n"
    assert tree(tmp_path / "one") == tree(tmp_path / "out")


def test_what_can_not_be_read_has_an_outcome(
    source: Path, tmp_path: Path, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_bytes(make_image(1))
    (source / "b").write_bytes(make_image(2))
    real = os.open

    def refuse(path: str, *rest: int) -> int:
        if path == str(source / "a"):
            raise PermissionError(errno.EACCES, "denied")
        return real(path, *rest)

    monkeypatch.setattr("node.deid.export.source.os.open", refuse)
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    found = export(source, tmp_path / "out", deidentifier, workers=1)
    assert found.outcomes == {"unreadable-file": 1, "written": 1}


def test_a_full_disk_ends_the_run_and_a_further_one_goes_on(
    source: Path, tmp_path: Path, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (source / str(number)).write_bytes(make_image(number))
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    export(source, tmp_path / "calm", deidentifier, workers=1)
    real, linked = os.link, 0

    def full(one: str, other: str) -> None:
        nonlocal linked
        linked += 1
        if linked > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(one, other)

    monkeypatch.setattr("node.deid.export.output.os.link", full)
    with pytest.raises(StorageError, match="full"):
        export(source, tmp_path / "out", deidentifier, workers=1)
    monkeypatch.undo()
    export(source, tmp_path / "out", deidentifier, workers=1, resume=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_where_files_can_not_be_linked_the_copy_is_the_same(
    source: Path, tmp_path: Path, make_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (source / str(number)).write_bytes(make_image(number % 3))
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    export(source, tmp_path / "one", deidentifier, workers=1)

    def refuse(one: str, other: str) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    monkeypatch.setattr("node.deid.export.output.os.link", refuse)
    export(source, tmp_path / "two", deidentifier, workers=1)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_nothing_is_overwritten_and_nothing_is_written_into_the_source(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    (source / "a").write_bytes(make_image(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    refused = run(check=False)
    assert refused.returncode == AlreadyExists.exit_code
    assert tree(tmp_path / "out") == {"mine": b"mine"}
    inside = run(out="in/out", check=False)
    assert inside.returncode == UsageError.exit_code
    refused = run("--paths", str(tmp_path / "new" / "paths.json"), out="new", check=False)
    assert refused.returncode == UsageError.exit_code


def test_a_dry_run_says_the_same_and_writes_nothing(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    (source / "a").write_bytes(make_image(1))
    (source / "b").write_bytes(b"noise")
    dry = run("--dry-run")
    assert not (tmp_path / "out").exists()
    assert dry.stdout.splitlines()[1:] == run().stdout.splitlines()


def test_a_strict_run_ends_with_a_code_when_a_file_is_left_out(
    source: Path, run: Run, make_image: Image
) -> None:
    (source / "a").write_bytes(make_image(1))
    assert run("--strict", out="one").returncode == 0
    (source / "b").write_bytes(b"noise")
    assert run(out="two").returncode == 0
    strict = run("--strict", out="three", check=False)
    assert strict.returncode == 9
    assert strict.stderr == "wardgate-node: 1 files were left out; the report says why.\n"


def test_a_run_without_a_key_makes_pseudonyms_that_nobody_can_make_again(
    source: Path, tmp_path: Path, make_image: Image
) -> None:
    (source / "a").write_bytes(make_image(1))
    for out in ("one", "two"):
        invoke(app, "run", source, tmp_path / out, "--pixels", "off")
    assert tree(tmp_path / "one").keys() != tree(tmp_path / "two").keys()


def test_a_run_that_is_killed_goes_on_and_ends_the_same(
    source: Path, tmp_path: Path, run: Run, key: Path, make_image: Image
) -> None:
    whole = make_image(100_000)
    for number in range(200):
        data = whole.replace(b"1.2.3.4.100000", b"1.2.3.4.%06d" % (100_000 + number))
        (source / f"{number:03}").write_bytes(data if number % 9 else data[:-99])
    run(out="calm")
    command = [COMMAND, "deid", "run", str(source), str(tmp_path / "out"), "--pixels", "off"]
    command += ["--key-file", str(key), "--workers", "2"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    journal = tmp_path / "out" / NAME
    while running.poll() is None and time.monotonic() < deadline:
        if journal.exists() and len(journal.read_bytes().splitlines()) > 40:
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = len(journal.read_text().splitlines())
    assert 40 < done < 200
    assert run(check=False).returncode == AlreadyExists.exit_code
    other = tmp_path / "other.key"
    shutil.copy(key, other)
    other.write_bytes(bytes(32))
    refused = run("--resume", "--key-file", str(other), check=False)
    assert refused.returncode == UsageError.exit_code
    run("--resume")
    assert not list((tmp_path / "out").glob(".*"))
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
    assert report(tmp_path / "out") == report(tmp_path / "calm")


class Bomb(Deidentifier):
    """Is killed by one file, as the kernel kills what takes all memory."""

    def deidentify(self, data: bytes | memoryview, known: Known | None = None) -> Deidentified:
        if b"B0MB" in bytes(data):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().deidentify(data, known)


def test_a_file_that_kills_its_worker_costs_only_itself(
    source: Path, tmp_path: Path, make_image: Image
) -> None:
    for number in range(60):
        values = {"ImageComments": "B0MB"} if number in (7, 8, 55) else {}
        (source / f"{number:02}").write_bytes(make_image(number, **values))
    bomb = Bomb(load_profile("basic"), Pseudonyms(bytes(32)))
    found = export(source, tmp_path / "out", bomb, workers=2)
    assert found.outcomes == {"worker-died": 3, "written": 57}
    assert [r["position"] for r in found.rows if r["outcome"] == "worker-died"] == [8, 9, 56]
    assert len(tree(tmp_path / "out")) == 57
    assert not list((tmp_path / "out").glob(".*"))


def test_a_large_file_is_copied_with_little_memory(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    data = make_image(1, Rows=512, Columns=512, NumberOfFrames=600)
    dataset = pydicom.dcmread(io.BytesIO(data))
    pixels = os.urandom(512 * 512 * 2) * 600
    dataset.pop("DataSetTrailingPadding", None)
    dataset.PixelData = pixels
    dataset.save_as(source / "large")
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [COMMAND, "deid", "run", str(source), str(tmp_path / "out"), "--pixels", "off"]
    python = str(Path(COMMAND).with_name("python"))
    done = subprocess.run(
        [python, "-c", script, *command], check=True, capture_output=True, text=True
    )
    assert int(done.stdout.split()[-1]) < 200 * 1024  # kilobytes; the file has 300 MB
    (written,) = tree(tmp_path / "out").values()
    assert pydicom.dcmread(io.BytesIO(written)).PixelData == pixels


def test_photographs_beside_dicom_files_of_one_patient_are_that_patients(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    from PIL import Image as Pillow

    (source / "one").mkdir()
    (source / "one" / "a.dcm").write_bytes(make_image(1))
    picture = Pillow.new("RGB", (64, 48), (90, 60, 50))
    picture.save(source / "one" / "Thornbury.png")
    picture.save(source / "alone.png")
    run()
    names = sorted(tree(tmp_path / "out"))
    (dicom,) = [name for name in names if not name.endswith(".png")]
    subjects = [name.split("/")[0] for name in names if name.endswith(".png")]
    assert len(subjects) == 2
    assert dicom.split("/")[0] in subjects
    assert len({*subjects, dicom.split("/")[0]}) == 2


@pytest.fixture
def observed() -> tuple[list[tuple[str, int, int]], Callable[[str, int, int], None]]:
    seen: list[tuple[str, int, int]] = []
    return seen, lambda step, done, count: seen.append((step, done, count))


def test_progress_counts_both_passes_to_the_end(
    source: Path,
    tmp_path: Path,
    make_image: Image,
    observed: tuple[list[tuple[str, int, int]], Callable[[str, int, int], None]],
) -> None:
    for number in range(3):
        (source / str(number)).write_bytes(make_image(number))
    seen, observe = observed
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    export(source, tmp_path / "out", deidentifier, observe=observe)
    assert seen == [
        *(("read", done, 3) for done in (1, 2, 3)),
        *(("written", done, 3) for done in (1, 2, 3)),
    ]


def test_an_instance_with_several_contents_is_written_once_for_each_whoever_is_first(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    for index, thickness in enumerate(("5", "6", "7", "6", "5")):
        (source / f"{index}.dcm").write_bytes(make_image(1, SliceThickness=thickness))
    trees = []
    for workers in ("1", "2", "3"):
        run("--workers", workers, out=workers)
        outcomes = report(tmp_path / workers)["outcomes"]
        assert outcomes == {"written": 3, "duplicate": 2}
        trees.append(tree(tmp_path / workers))
        for row in report(tmp_path / workers)["files"]:
            number = "56765"[row["position"] - 1]
            read = pydicom.dcmread(io.BytesIO(trees[-1][row["file"]]))
            assert read.SliceThickness == int(number)
    assert trees[0] == trees[1] == trees[2]
