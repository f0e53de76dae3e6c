"""The preview shows what was done, by element; a page is safe to open and for its owner alone."""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from contract.errors import AlreadyExists, DataError
from foundation.web.languages import LANGUAGES
from node.commands.deid import app
from node.deid.engine import Deidentifier
from node.deid.pixels.image import Box
from node.deid.preview.changes import Line, changes
from node.deid.preview.frame import pictures
from node.deid.preview.page import page, texts
from node.deid.preview.table import WIDTH, table
from tests.node.deid.export.conftest import image
from tests.node.deid.invoking import invoke

HOSTILE = "<script>alert(1)</script>\x1b[31m&\u202e"


@pytest.fixture(scope="module")
def data() -> bytes:
    block = pydicom.Dataset()
    block.CodeMeaning, block.CodeValue = "Barnaby Thornbury's knee", "K1"
    return image(
        7,
        "KX48853",
        PatientName="Thornbury^Barnaby",
        StudyDescription="MR knee for Barnaby Thornbury, follow-up",
        PatientComments=HOSTILE,
        OperatorsName="诸葛^晓鹏",
        SpecificCharacterSet="ISO_IR 192",
        ProcedureCodeSequence=[block],
    )


@pytest.fixture(scope="module")
def lines(data: bytes, research: Deidentifier) -> list[Line]:
    return changes(data, research.deidentify(data).data, research.profile)


@pytest.fixture(scope="module")
def research() -> Deidentifier:
    from node.deid.profile import Profile, load_profile
    from node.deid.pseudonyms import Pseudonyms

    settings = load_profile("research").settings
    options = settings.options.model_copy(update={"pixels": "off"})
    profile = Profile(settings.model_copy(update={"options": options}))
    return Deidentifier(profile, Pseudonyms(bytes(32)))


def line(lines: list[Line], name: str) -> Line:
    return next(one for one in lines if one.name == name)


def test_each_element_says_what_was_done_and_by_which_pass(lines: list[Line]) -> None:
    name = line(lines, "PatientName")
    assert (name.before, name.action, name.by) == ("Thornbury^Barnaby", "D", "table")
    described = line(lines, "StudyDescription")
    assert (described.action, described.by) == ("C", "search")
    assert described.after is not None
    assert "knee" in described.after
    assert "Thornbury" not in described.after
    assert (line(lines, "SOPInstanceUID").action, line(lines, "Rows").action) == ("U", "K")
    assert line(lines, "PatientIdentityRemoved").action == "+"
    assert line(lines, "PatientIdentityRemoved").by == "declared"
    private = next(one for one in lines if one.tag >> 16 & 1 and one.name != "creator")
    assert re.fullmatch(r"[A-Z_0-9 ]+ [0-9a-f]{2}", private.name)
    assert private.by == "private"
    nested = next(one for one in lines if one.name == "CodeMeaning" and one.depth)
    assert (nested.action, nested.by) == ("C", "search")
    assert line(lines, "ImplementationClassUID").by == "meta"


def test_the_table_has_80_columns_and_no_control_characters(lines: list[Line]) -> None:
    shown = list(table(lines, everything=True))
    assert len(shown) > len(list(table(lines, everything=False))) > 20
    for text in shown:
        columns = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
        assert columns <= WIDTH
        assert text.isprintable()
    assert any("PatientName" in text and "Thornbury^Barnaby" in text for text in shown)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_self_contained_escaped_and_says_what_it_shows(
    lines: list[Line], language: str
) -> None:
    said = texts(language)
    shown = page(lines, None, "research", "", said)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "\x1b" not in shown
    assert "http://" not in shown
    assert "https://" not in shown
    assert said("preview.warning") in shown
    assert f'lang="{language}"' in shown
    assert "default-src 'none'" in shown
    assert "诸葛" in shown


def test_every_language_has_the_same_texts() -> None:
    assert texts("en").by_key.keys() == texts("zh-Hans").by_key.keys()


def test_the_frame_is_shown_before_with_boxes_and_after(data: bytes) -> None:
    dataset = pydicom.dcmread(io.BytesIO(data))
    pixels = dataset.pixel_array.copy()
    pixels[20:40, 10:60] = 0
    dataset.PixelData = pixels.tobytes()
    after = io.BytesIO()
    dataset.save_as(after)
    shown = pictures(data, after.getvalue(), {0: (Box(10, 20, 60, 40),)})
    assert shown is not None
    assert (shown.frame, shown.frames, shown.boxes) == (1, 1, 1)
    old, new = (
        np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB"))
        for png in (shown.before, shown.after)
    )
    assert old.shape == new.shape == (128, 128, 3)
    assert tuple(old[19, 30]) == (255, 64, 64)
    assert not new[25:35, 15:55].any()
    said = page([], shown, "research", "", texts("en"))
    assert "Frame 1 of 1, 1 places blacked out" in said
    assert base64.b64encode(shown.after).decode() in said


def test_the_command_writes_a_page_for_its_owner_and_overwrites_none(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "IM1").write_bytes(data)
    target = tmp_path / "page.html"
    command = ["preview", tmp_path / "IM1", "--pixels", "off"]
    done = invoke(app, *command, "--html", str(target), "--lang", "zh-Hans")
    assert "shows identifiers" in done.stdout
    assert target.stat().st_mode & 0o777 == 0o600
    assert "本页面显示身份标识" in target.read_text()
    again = invoke(app, *command, "--html", str(target))
    assert again.returncode == AlreadyExists.exit_code
    shown = invoke(app, *command)
    assert "This shows identifiers" in shown.stderr
    assert "StudyDescription" in shown.stdout


def test_a_file_that_would_be_left_out_says_why(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cut").write_bytes(data[:-1000])
    command = ["preview", tmp_path / "cut", "--pixels", "off"]
    done = invoke(app, *command)
    assert done.returncode == DataError.exit_code
    assert done.stderr == "wardgate-node: The file would be left out: truncated.\n"


def test_what_a_neighbour_says_of_the_patient_counts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(image(1, ImageComments="seen with Quillfeather"))
    (tmp_path / "b").write_bytes(image(2, ReferringPhysicianName="Quillfeather^R"))
    command = ["preview", tmp_path / "a", "--pixels", "off"]
    shown = invoke(app, *command).stdout
    assert re.search(r"0020,4000 C2  ImageComments .*\*\*\*", shown)
