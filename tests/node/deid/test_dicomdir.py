"""A DICOMDIR of the copies: every file of the old one that is there, and no other."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.deid.dicomdir import NAME
from node.deid.engine import Deidentifier
from node.deid.export.export import export
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms

DISC = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
OTHERS = shutil.ignore_patterns("DICOMDIR-*", "*.txt", "TINY_ALPHA")


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """pydicom's own file-set of two patients, and its copy."""
    folder = tmp_path_factory.mktemp("disc")
    shutil.copytree(DISC, folder / "in", ignore=OTHERS)
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    result = export(folder / "in", folder / "out", deidentifier)
    assert set(result.outcomes) == {"written"}
    return folder / "in", folder / "out"


def test_it_names_the_copies_of_all_files_that_the_old_one_names(disc: tuple[Path, Path]) -> None:
    source, target = disc
    old, new = FileSet(source / NAME), FileSet(target / NAME)
    assert len(new) == len(old) == 31
    numbers = {str(instance.load().InstanceNumber) for instance in old}
    assert {str(instance.load().InstanceNumber) for instance in new} == numbers
    for instance in new:
        assert Path(instance.path).is_file()
    assert len(new.find_values("PatientID")) == len(old.find_values("PatientID")) == 2
    assert len(new.find_values("StudyInstanceUID")) == len(old.find_values("StudyInstanceUID"))
    assert len(new.find_values("SeriesInstanceUID")) == len(old.find_values("SeriesInstanceUID"))


def test_its_records_say_what_the_copies_say(disc: tuple[Path, Path]) -> None:
    _, target = disc
    for instance in FileSet(target / NAME):
        copy = instance.load()
        assert instance.PatientID == copy.PatientID
        assert instance.StudyInstanceUID == copy.StudyInstanceUID
        assert instance.ReferencedSOPInstanceUIDInFile == copy.SOPInstanceUID
        assert instance.ReferencedTransferSyntaxUIDInFile == copy.file_meta.TransferSyntaxUID


def test_nothing_of_the_old_one_is_left(disc: tuple[Path, Path]) -> None:
    source, target = disc
    data = (target / NAME).read_bytes()
    old = dcmread(source / NAME)
    said = {
        str(record.get(keyword))
        for record in old.DirectoryRecordSequence
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "ReferencedFileID")
        if record.get(keyword)
    }
    assert len(said) > 20
    for value in said:
        assert value.encode() not in data
    assert not dcmread(target / NAME).FileSetID


def test_a_record_whose_file_is_left_out_is_left_out_with_what_then_leads_nowhere(
    tmp_path: Path,
) -> None:
    shutil.copytree(DISC, tmp_path / "in", ignore=OTHERS)
    for path in (tmp_path / "in" / "98892001").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:400])
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    result = export(tmp_path / "in", tmp_path / "out", deidentifier)
    files = FileSet(tmp_path / "out" / NAME)
    assert 0 < len(files) < 31
    assert len(files) == result.outcomes["written"] - 1
    records = dcmread(tmp_path / "out" / NAME).DirectoryRecordSequence
    kinds = [record.DirectoryRecordType for record in records]
    assert kinds.count("PATIENT") == len(files.find_values("PatientID"))
    assert kinds.count("STUDY") == len(files.find_values("StudyInstanceUID"))


def test_a_dry_run_counts_it_too(disc: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = disc
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    result = export(source, tmp_path / "none", deidentifier, dry_run=True)
    files = sum(1 for path in target.rglob("*") if path.is_file())
    assert result.outcomes == {"written": files - 1}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "variant",
    ["implicit", "bigEnd", "nooffset", "reordered", "nopatient"],
)
def test_directories_of_every_kind_are_read(variant: str, tmp_path: Path) -> None:
    shutil.copytree(DISC, tmp_path / "in", ignore=OTHERS)
    shutil.copy(DISC / f"DICOMDIR-{variant}", tmp_path / "in" / NAME)
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    export(tmp_path / "in", tmp_path / "out", deidentifier)
    assert len(FileSet(tmp_path / "out" / NAME)) == 31


def test_damaged_offsets_are_replaced_by_the_order_of_the_records(tmp_path: Path) -> None:
    shutil.copytree(DISC, tmp_path / "in", ignore=OTHERS)
    directory = dcmread(tmp_path / "in" / NAME)
    for record in directory.DirectoryRecordSequence:
        record.OffsetOfTheNextDirectoryRecord = 7
    directory.save_as(tmp_path / "in" / NAME)
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    export(tmp_path / "in", tmp_path / "out", deidentifier)
    assert len(FileSet(tmp_path / "out" / NAME)) == 31


def test_a_directory_that_names_no_file_or_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(DISC / "DICOMDIR", tmp_path / "in" / "DICOMDIR")
    broken = (DISC / "DICOMDIR").read_bytes()[:900]
    (tmp_path / "in" / "other").write_bytes(broken)
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    result = export(tmp_path / "in", tmp_path / "out", deidentifier)
    assert sum(result.outcomes.values()) == 2
    assert "written" not in result.outcomes
    assert not (tmp_path / "out" / NAME).exists()


@pytest.mark.filterwarnings("ignore")
def test_a_deflated_directory_is_not_inflated(tmp_path: Path) -> None:
    shutil.copytree(DISC, tmp_path / "in", ignore=OTHERS)
    directory = dcmread(tmp_path / "in" / NAME)
    directory.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    directory.save_as(tmp_path / "in" / NAME)
    deidentifier = Deidentifier(load_profile("basic"), Pseudonyms(bytes(32)))
    result = export(tmp_path / "in", tmp_path / "out", deidentifier)
    assert sum(result.outcomes.values()) == 32
    assert result.outcomes["written"] == 31
    assert not (tmp_path / "out" / NAME).exists()


@pytest.mark.skipif(shutil.which("dcdirdmp") is None, reason="dicom3tools is not installed")
def test_another_tool_reads_it_and_finds_no_error(disc: tuple[Path, Path]) -> None:
    _, target = disc
    shown = subprocess.run(
        ["dcdirdmp", str(target / NAME)], capture_output=True, text=True, check=True
    )
    assert (shown.stdout + shown.stderr).count("->") == 31
    checked = subprocess.run(
        ["dciodvfy", str(target / NAME)], capture_output=True, text=True, check=False
    )
    assert "Error" not in checked.stderr


def test_the_file_ids_are_as_the_standard_wants_them(disc: tuple[Path, Path]) -> None:
    _, target = disc
    for record in dcmread(io.BytesIO((target / NAME).read_bytes())).DirectoryRecordSequence:
        for part in record.get("ReferencedFileID") or ():
            assert len(part) <= 8
            assert part.isascii()
            assert part == part.upper()
