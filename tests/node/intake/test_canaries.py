"""Planted identifiers, everywhere a DICOM file can hold one, searched in all that is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian
from typer.testing import CliRunner

from node.catalog.store import Catalog
from node.commands.deid import app
from node.deid.engine import Deidentifier
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from node.deid.table import e1_1
from node.home import NodeHome
from node.intake.run import IntakeReport, ingest
from tests.corpus.generate import make
from tests.corpus.search import squeezed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

CLASS_UIDS = ("Class", "TransferSyntax", "CodingScheme", "ContextUID", "MappingResource")
BURIED = ("SharedFunctionalGroupsSequence", "ReferencedImageSequence", "PlanePositionSequence")


def canary(vr: str, number: int) -> object:
    """A value that no de-identified file may hold."""
    if vr == "UI":
        return f"1.3.777.{number}.4711"
    if vr == "DA":
        return f"1951{1 + number % 9:02}13"
    if vr == "DT":
        return f"1951{1 + number % 9:02}13112233"
    if vr == "TM":
        return f"1133{number % 60:02}.7777"
    if vr == "AS":
        return "087Y"
    if vr in ("OB", "UN", "OW"):
        return b"CANARY%06d" % number
    return f"CANARY{number % 10**6}"


TEXT = {"AE", "AS", "DA", "DT", "LO", "LT", "OB", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR"}
TEXT |= {"UT", "CS"}


def planted_tags() -> list[tuple[int, str]]:
    """Every attribute of the table, and every person, date and UID of the dictionary."""
    listed = {tag for tag in e1_1().exact if tag >> 16 not in (0x0000, 0x0002, 0x0004)}
    by_kind = {
        tag
        for tag, entry in DicomDictionary.items()
        if entry[0] in ("PN", "DA", "DT", "TM", "UI")
        and tag >> 16 not in (0x0000, 0x0002, 0x0004)
        and not any(part in entry[4] for part in CLASS_UIDS)
    }
    found = []
    for tag in sorted(listed | by_kind):
        try:
            vr = str(dictionary_VR(tag))
        except KeyError:
            vr = "LO"
        if vr in TEXT:
            found.append((tag, vr))
    return found


def plant(dataset: Dataset, start: int) -> int:
    number = start
    for tag, vr in planted_tags():
        number += 1
        # A document that is none puts the whole file in quarantine.
        if tag not in (0xFFFCFFFC, 0x00420011):
            dataset.add_new(tag, vr, canary(vr, number))
    block = dataset.private_block(0x0099, "CANARY CREATOR", create=True)
    block.add_new(0x01, "LO", "CANARYPRIVATE")
    block.add_new(0x02, "SQ", Sequence([_item("CANARYPRIVATEITEM")]))
    return number


def _item(name: str) -> Dataset:
    item = Dataset()
    item.PatientName = name
    return item


@pytest.fixture
def planted() -> bytes:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    dataset = pydicom.dcmread(path)
    dataset.remove_private_tags()
    number = plant(dataset, 0)
    inner = dataset
    for keyword in BURIED:
        item = Dataset()
        number = plant(item, number)
        setattr(inner, keyword, Sequence([item]))
        inner = item
    for keyword in (
        "ContentSequence",
        "PersonIdentificationCodeSequence",
        "RequestAttributesSequence",
    ):
        item = Dataset()
        number = plant(item, number)
        item.CodeMeaning = "CANARYMEANING"
        setattr(dataset, keyword, Sequence([item]))
    dataset.add_new(0x60003000, "OW", b"CANARYOVERLAY!")
    dataset.add_new(0x60004000, "LT", "CANARYOVERLAYTEXT")
    dataset.add_new(0x50003000, "OW", b"CANARYCURVE!")
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.preamble = b"CANARYPREAMBLE".ljust(128, b"C")
    meta = dataset.file_meta
    meta.SourceApplicationEntityTitle = "CANARYAE"
    meta.SendingApplicationEntityTitle = "CANARYSENDER"
    meta.ReceivingApplicationEntityTitle = "CANARYRECV"
    meta.PrivateInformationCreatorUID = "1.3.777.1"
    meta.PrivateInformation = b"CANARYINFO"
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def assert_clean(data: bytes) -> None:
    days = [f"{canary('DA', number)}".encode() for number in range(9)]
    for needle in (b"CANARY", b"1.3.777.", *days, b"087Y", b".7777"):
        for form in (needle, needle.decode().encode("utf-16-le"), needle.hex().encode()):
            at = data.find(form)
            assert at < 0, data[max(at - 50, 0) : at + 50]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("implicit", [False, True])
def test_no_planted_identifier_is_in_any_file_that_is_kept(
    implicit: bool,
    planted: bytes,
    take: Callable[..., IntakeReport],
    source: Path,
    home: NodeHome,
    catalog: Catalog,
) -> None:
    assert planted.count(b"CANARY") > 1000
    if implicit:
        dataset = pydicom.dcmread(io.BytesIO(planted))
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        file = io.BytesIO()
        dataset.save_as(file, implicit_vr=True, little_endian=True)
        planted = file.getvalue()
    (source / "CANARY.dcm").write_bytes(planted)
    (source / "CANARY-cut.dcm").write_bytes(planted[:-5])
    report = take(source)
    assert (report.accepted, report.quarantined) == (1, {"truncated": 1})
    catalog.close()
    kept = [path for path in home.root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".dcm" for path in kept)
    for path in kept:
        assert "CANARY" not in path.name
        assert_clean(path.read_bytes())


@pytest.mark.filterwarnings("ignore")
def test_no_identifier_of_a_corpus_is_in_any_file_of_the_home(
    home: NodeHome, pseudonyms: Pseudonyms, tmp_path: Path
) -> None:
    key = make(tmp_path / "in", 31, small=True)
    # What some header says of a patient is looked for in all of the patient's files.
    # A number within a military rank is no value of its own.
    plants = [p for p in key.plants if p.category == "standard" and p.place != "00101080"]
    tokens = {token for plant in plants for token in plant.tokens}
    telling = [token for token in tokens if token.isascii() and len(token) >= 8]
    assert len(telling) > 100
    deidentifier = Deidentifier(load_profile("longitudinal"), pseudonyms)
    with Catalog.open(home) as catalog:
        report = ingest([tmp_path / "in"], home, catalog, deidentifier, clock=lambda: NOW)
    assert report.files == len(key.files)
    assert report.accepted > 10
    left = set()
    for path in (path for path in home.root.rglob("*") if path.is_file()):
        held = squeezed(path.read_bytes()) + squeezed(path.name.encode())
        left |= {(path.suffix, token) for token in telling if token in held}
    assert left == set()


@pytest.mark.filterwarnings("ignore")
def test_moved_dates_leave_no_original_date_either(
    planted: bytes, source: Path, tmp_path: Path
) -> None:
    (source / "CANARY.dcm").write_bytes(planted)
    (source / "CANARY.txt").write_text("CANARY")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["run", str(source), str(out), "--profile", "longitudinal"])
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["outcomes"] == {"not-dicom": 1, "written": 1}
    assert report["profile"]["options"]["dates"] == "modified"
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) == 2
    days = [canary("DA", number) for number in range(9)]
    for path in written:
        data = path.read_bytes()
        assert b"CANARY" not in data
        assert b"1.3.777." not in data
        assert not [day for day in days if f"{day}".encode() in data]
