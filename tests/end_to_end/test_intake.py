"""Bad input by the real command: one line that names the place and never the content."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from node.gate.ledger import verify
from tests.end_to_end.canaries import find, packed_singles, traces
from tests.end_to_end.federation import (
    PROJECT,
    SUBJECTS,
    Federation,
    canary,
    records,
    surname,
    weight,
    write_csv,
    write_schema,
)
from tests.end_to_end.processes import Done, run

DATA = Path(pydicom.__file__).parent / "data" / "test_files"


def take_in(home: Path, *arguments: str | Path) -> Done:
    return run("wardgate-node", "ingest", *arguments, "--home", home)


def image(number: int, name: str) -> bytes:
    """A small CT image of a patient with a name."""
    dataset = pydicom.dcmread(DATA / "CT_small.dcm")
    dataset.SOPInstanceUID = f"1.2.3.4.{number}"
    dataset.PatientName = name
    dataset.PatientID = canary("image", number)
    dataset.OtherPatientIDs = canary("image", number)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.mark.slow
def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{k: v for k, v in r.items() if k != "arm"} for r in records("s", 0, few=False)]
    table = write_csv(tmp_path / "t.csv", rows)
    done = take_in(tmp_path / "node", table, "--schema", write_schema(tmp_path))
    done.fails(9, "arm")
    _tells_nothing(done)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("age", "Quillfeather", "not a number"),
        pytest.param("arm", "Quillfeather", "unknown level", marks=pytest.mark.slow),
        pytest.param("patient", "", "subject", marks=pytest.mark.slow),
    ],
)
def test_a_cell_of_another_type_is_named_by_row_and_column(
    tmp_path: Path, column: str, cell: str, words: str
) -> None:
    rows = records("s", 0, few=False)
    rows[6][column] = cell
    table = write_csv(tmp_path / "t.csv", rows)
    done = take_in(tmp_path / "node", table, "--schema", write_schema(tmp_path))
    done.fails(9, words)
    assert column in done.errors[0]
    assert re.search(r"\b8\b", done.errors[0]), "row 7 of the data is line 8 of the file"
    _tells_nothing(done)
    rows[6][column] = records("s", 0, few=False)[6][column]
    done = take_in(tmp_path / "node", write_csv(table, rows), "--schema", tmp_path / "schema.toml")
    assert done.code == 0, done.errors
    assert f"{SUBJECTS} rows" in done.out


def _tells_nothing(done: Done) -> None:
    said = done.out + "".join(done.errors)
    assert "Quillfeather" not in said
    assert "CANARY" not in said


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", 9, id="empty", marks=pytest.mark.slow),
        pytest.param(b"\xff\xfe\x00\x01", 9, id="not text"),
        pytest.param(b'patient,age\n"a,1\n', 9, id="an open quote", marks=pytest.mark.slow),
        pytest.param(b"\x00" * 99, 9, id="zeros", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, content: bytes, code: int) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    take_in(tmp_path / "node", table, "--schema", write_schema(tmp_path)).fails(code, "")


@pytest.mark.slow
def test_a_schema_with_an_unknown_key_is_one_line(tmp_path: Path) -> None:
    schema = write_schema(tmp_path)
    schema.write_text(schema.read_text().replace("levels", "level", 1))
    table = write_csv(tmp_path / "t.csv", records("s", 0, few=False))
    take_in(tmp_path / "node", table, "--schema", schema).fails(3, "did you mean 'levels'")


def test_what_is_no_image_goes_to_quarantine_and_the_rest_goes_on(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    landing.mkdir()
    whole = image(1, "Quillfeather^Zebediah")
    (landing / "1-truncated.dcm").write_bytes(whole[: len(whole) // 2])
    (landing / "2-text.dcm").write_text("Quillfeather, Zebediah")
    (landing / "3-empty.dcm").write_bytes(b"")
    (landing / "4-whole.dcm").write_bytes(whole)
    (landing / "Quillfeather.dcm").write_bytes(image(2, "Quillfeather^Zebediah"))
    (landing / "link.dcm").symlink_to(landing / "4-whole.dcm")
    home = tmp_path / "node"
    done = take_in(home, landing)
    assert done.code == 0, done.errors
    assert re.search(r"^ *2  accepted$", done.out, re.M), done.out
    assert sum(int(n) for n in re.findall(r"(\d+)  quarantined", done.out)) == 3
    assert len(list((home / "quarantine").glob("*.sealed"))) == 3
    _tells_nothing(done)
    again = take_in(home, landing)
    assert re.search(r"^ *5  the same as a file taken in before$", again.out, re.M), again.out
    made = run("wardgate-node", "release", "create", "images", "--all-assets", "--home", home)
    assert made.code == 0, made.errors
    assert verify(home / "ledger").sequence >= -1
    # Quarantine holds identified data on purpose, encrypted; so nothing at all is found.
    for path in home.rglob("*"):
        if path.is_file():
            found = find(path.read_bytes(), traces(["Quillfeather", "CANARY-image"], []))
            assert not found, (path, found)


def photograph(name: str, number: str, form: str) -> bytes:
    """A picture that says whose it is wherever its format lets it."""
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298] = f"{name}, left arm", name, number
    file = io.BytesIO()
    picture = Image.effect_noise((120, 90), 60).convert("RGB")
    match form:
        case "jpg":
            picture.save(file, "JPEG", exif=exif, comment=name.encode())
        case "png":
            said = PngInfo()
            said.add_text("Author", name)
            said.add_itxt("Comment", number, zip=True)
            picture.save(file, "PNG", pnginfo=said, exif=exif)
        case _:
            picture.save(file, "TIFF", exif=exif, description=name, artist=number)
    return file.getvalue()


def test_pictures_and_reports_leave_no_identifier_in_the_home(tmp_path: Path) -> None:
    name, number = "Quillfeather Zebediah", canary("picture", 7)
    landing = tmp_path / "Quillfeather"
    landing.mkdir()
    lines = ["path,patient,name,kind,group"]
    for form in ("jpg", "png", "tif"):
        (landing / f"{name}.{form}").write_bytes(photograph(name, number, form))
        lines.append(f'Quillfeather/{name}.{form},{number},"{name}",clinical,{number} lesion')
    (landing / "report.txt").write_text(f"Report on {name} ({number}).\nNo sign of malignancy.\n")
    lines.append(f'Quillfeather/report.txt,{number},"{name}",report,')
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    home = tmp_path / "node"
    done = take_in(home, landing, "--manifest", manifest)
    assert done.code == 0, done.errors
    assert re.search(r"^ *3  accepted$", done.out, re.M), done.out
    _tells_nothing(done)
    made = run("wardgate-node", "release", "create", "pictures", "--all-assets", "--home", home)
    assert made.code == 0, made.errors
    wanted = traces(["Quillfeather", "Zebediah", number], [])
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} >= {".jpg", ".png", ".tif"}
    for path in kept:
        found = find(path.read_bytes(), wanted) + find(path.name.encode(), wanted)
        assert not found, (path, found)


def test_identifiers_are_in_no_log_ledger_release_or_message(trio: Federation) -> None:
    from researcher import mean

    with trio.connect() as ana:
        ana.statistics(PROJECT, [mean("age"), mean("weight")])
    names = [f(site, i) for f in (canary, surname) for site in trio.sites for i in range(SUBJECTS)]
    shared = traces([n for n in names if n.endswith(("0007", "0011"))] + ["Quillfeather"], [])
    for site in trio.sites:
        for path in trio.home(site).rglob("*"):
            if path.is_file():
                found = find(path.read_bytes(), shared)
                assert not found, (path, found)
    numbers = traces([], [weight(site, 7) for site in trio.sites])
    outside = [trio.coordinator_home, trio.researcher_home("ana")]
    logs = list(trio.root.glob("*.err")) + list(trio.root.glob("*.out"))
    ledgers = [p for site in trio.sites for p in (trio.home(site) / "ledger").rglob("*")]
    for path in [*logs, *ledgers, *(p for folder in outside for p in folder.rglob("*"))]:
        if path.is_file():
            found = find(path.read_bytes(), {**shared, **numbers})
            assert not found, (path, found)


def test_the_search_finds_what_is_hidden_in_every_form() -> None:
    import struct
    import zlib

    secret, number = "Quillfeather", 73.123457
    hidden = {**traces([secret], [number]), **packed_singles([number])}
    raw = secret.encode()
    forms = [
        raw,
        raw.upper(),
        secret.encode("utf-16-le"),
        secret.encode("utf-16-be"),
        base64.b64encode(b"x" + raw),
        base64.urlsafe_b64encode(b"xy" + raw),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        zlib.compress(b"something before " + raw),
        raw[::-1],
        struct.pack("<d", number),
        struct.pack(">f", number),
        repr(number).encode(),
    ]
    for form in forms:
        assert find(b"\x00before" + form + b"after", hidden), form
    assert not find(b"nothing at all " * 100, hidden)
