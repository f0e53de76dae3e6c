"""Text in the character sets of DICOM, against the standard's own bytes and pydicom's reading."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from node.deid.charsets import Charset, decode, encode, parse_charset, readings
from node.deid.elements import parse, value
from tests.examples import examples

_ANNEXES: list[tuple[str, str, bytes, str]] = [
    # PS3.5 annexes H, I, J and K: Specific Character Set, bytes, text.
    (
        "H.3.1",
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "H.3.2",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J="
        b"\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        "I.2",
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        "J.1",
        "ISO_IR 192",
        bytes.fromhex(
            "57616e675e5869616f446f6e673de78e8b5ee5b08fe69db13d"
        ),
        "Wang^XiaoDong=王^小東=",
    ),
    (
        "J.2",
        "GB18030",
        bytes.fromhex("57616e675e5869616f446f6e673dcdf55ed0a1b6ab3d"),
        "Wang^XiaoDong=王^小东=",
    ),
    (
        "K.2",
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("charset", "raw", "text"), [row[1:] for row in _ANNEXES],
                         ids=[row[0] for row in _ANNEXES])  # fmt: skip
def test_the_standards_examples_are_read_and_written_again(
    charset: str, raw: bytes, text: str
) -> None:
    values = parse_charset(charset.encode())
    assert decode(raw, values) == text
    assert decode(encode(text, values), values) == text


_CHARSET_FILES = sorted((Path(pydicom.__file__).parent / "data/charset_files").glob("*.dcm"))


@pytest.mark.parametrize("path", _CHARSET_FILES, ids=lambda path: path.name)
def test_names_of_real_files_are_read_as_pydicom_reads_them(path: Path) -> None:
    file = parse(path.read_bytes())
    scope, name = next(one for one in file.dataset.walk() if one[1].tag == 0x00100010)
    specific = scope.get(0x00080005) or file.dataset.get(0x00080005)
    assert specific is not None
    values = parse_charset(value(file.data, specific))
    dataset = dcmread(path, force=True)
    theirs = next(str(e.value) for e in dataset.iterall() if e.tag == 0x00100010)
    assert decode(value(file.data, name), values).rstrip(" =") == theirs.rstrip("=")


_SETS: list[tuple[Charset, str]] = [
    (("ISO_IR 100",), "latin_1"),
    (("ISO_IR 101",), "iso8859_2"),
    (("ISO_IR 109",), "iso8859_3"),
    (("ISO_IR 110",), "iso8859_4"),
    (("ISO_IR 144",), "iso8859_5"),
    (("ISO_IR 127",), "iso8859_6"),
    (("ISO_IR 126",), "iso8859_7"),
    (("ISO_IR 138",), "iso8859_8"),
    (("ISO_IR 148",), "iso8859_9"),
    (("ISO_IR 203",), "iso8859_15"),
    (("ISO_IR 166",), "tis_620"),
    (("ISO_IR 192",), "utf_8"),
    (("GB18030",), "gb18030"),
    (("GBK",), "gbk"),
    (("", "ISO 2022 IR 87"), "iso2022_jp"),
    (("", "ISO 2022 IR 159"), "iso2022_jp_2"),
    (("", "ISO 2022 IR 149"), "euc_kr"),
    (("", "ISO 2022 IR 58"), "gb2312"),
    (("ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 87"), "iso8859_5"),
]


@cache
def _characters(codec: str) -> st.SearchStrategy[str]:
    """Draw from all that a codec has but control characters."""
    if codec in ("utf_8", "gb18030"):  # all of Unicode
        return st.characters(codec="utf-8", exclude_categories=["C"])
    # The others have the basic plane at most; Hypothesis would try seventeen times as many.
    plane = (chr(code) for code in range(2**16))
    has = [c for c in plane if unicodedata.category(c)[0] != "C" and c.encode(codec, "ignore")]
    return st.characters(categories=(), include_characters=has)


@pytest.mark.parametrize(("charset", "codec"), _SETS, ids=str)
@settings(max_examples=examples(25, 100), deadline=None)
@given(st.data())
def test_what_a_set_has_is_written_and_read_again(
    charset: Charset, codec: str, data: st.DataObject
) -> None:
    text = data.draw(st.text(alphabet=_characters(codec)))
    if codec.startswith("iso2022"):
        # The Python codec has more sets than the one that is declared.
        escape = {"iso2022_jp": b"\x1b$B", "iso2022_jp_2": b"\x1b$(D"}[codec]
        text = "".join(c for c in text if c.encode(codec).startswith(escape))
    assert decode(encode(text, charset), charset) == text


def test_characters_that_only_the_supplementary_set_has_are_written_in_it() -> None:
    charset = ("", "ISO 2022 IR 87", "ISO 2022 IR 159")
    raw = encode("丂 山", charset)
    assert b"\x1b$(D" in raw and b"\x1b$B" in raw
    assert decode(raw, charset) == "丂 山"


@pytest.mark.parametrize(
    ("declared", "real"),
    [
        ((), "utf_8"), ((), "gb18030"), ((), "euc_kr"), ((), "shift_jis"), ((), "latin_1"),
        (("ISO_IR 100",), "utf_8"), (("ISO_IR 100",), "gb18030"), (("GB18030",), "utf_8"),
        (("ISO_IR 192",), "gb18030"), (("ISO_IR 192",), "latin_1"), (("ISO_IR 100",), "cp1251"),
        (("ISO_IR 144",), "cp1251"), (("ISO_IR 13",), "utf_8"),
    ],
)  # fmt: skip
def test_text_in_another_set_than_declared_is_among_the_readings(
    declared: Charset, real: str
) -> None:
    text = {"gb18030": "王建国", "euc_kr": "홍길동", "shift_jis": "山田太郎", "latin_1": "Müller",
            "cp1251": "Кузнецова", "utf_8": "Müller 王建国"}[real]  # fmt: skip
    found = dict(readings(text.encode(real), declared))
    assert text in found
    # What was changed in a reading is written in its own set.
    written = encode(text, declared, found[text])
    assert written == text.encode(real) or decode(written, declared) == text


def test_a_set_that_fits_and_excludes_others_is_the_only_reading() -> None:
    assert readings("Müller 王".encode(), ("ISO_IR 192",)) == [("Müller 王", "")]
    assert readings(b"Miller", ("GB18030",)) == [("Miller", "")]


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (b"ISO_IR 100", ("ISO_IR 100",)), (b"ISO_IR 192 ", ("ISO_IR 192",)), (b"", ()), (b"\\", ()),
        (b"iso-ir 100", ("ISO_IR 100",)), (b"\\ISO 2022 IR 87", ("", "ISO 2022 IR 87")),
        (b"\xff\xfe", ("ÿþ".upper(),)),
    ],
)  # fmt: skip
def test_a_declaration_is_read_with_its_usual_faults(raw: bytes, values: Charset) -> None:
    assert parse_charset(raw) == values


_CHARSETS = st.sampled_from([*(charset for charset, _ in _SETS), (), ("nonsense",)])


@given(st.binary(max_size=60), _CHARSETS)
def test_any_bytes_have_a_reading(raw: bytes, charset: Charset) -> None:
    found = readings(raw, charset)
    assert found and isinstance(decode(raw, charset), str)
    for text, codec in found:
        encode(text, charset, codec)


_ESCAPES = (
    b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x1b", b"\x1b-F", b"\x1b$(D", b"\x1b(J", b"\x1b)I",
    b";3ED", b"\xb1\xe6", b"A", b"\r\n",
)  # fmt: skip


@given(st.lists(st.sampled_from(_ESCAPES)))
def test_any_order_of_escapes_has_a_reading(parts: list[bytes]) -> None:
    decode(b"".join(parts), ("", "ISO 2022 IR 87"))


@given(st.text(max_size=40), _CHARSETS)
def test_any_text_can_be_written(text: str, charset: Charset) -> None:
    assert isinstance(encode(text, charset), bytes)
