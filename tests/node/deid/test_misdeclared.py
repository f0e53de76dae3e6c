"""Text in another character set than its file declares can be read afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.engine import Deidentifier, read
from node.deid.misdeclared import real_charset
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from tests.node.deid.made import dataset, item, written
from tests.node.deid.made import read as reopened

_NAME, _HISTORY = "欧阳^晓鹏", "患者欧阳晓鹏，肺部结节，复查"


@pytest.fixture(scope="module")
def research(pseudonyms: Pseudonyms) -> Deidentifier:
    return Deidentifier(load_profile("research").with_pixels("off"), pseudonyms)


def _made(codec: str, declared: str | None, text: str = _HISTORY, name: str = _NAME) -> bytes:
    made = dataset(
        PatientName=name.encode(codec).decode("latin-1"),
        AdditionalPatientHistory=text.encode(codec).decode("latin-1"),
    )
    made.SpecificCharacterSet = "ISO_IR 100"
    data = written(made)
    old = b"\x08\0\x05\0CS\x0a\0ISO_IR 100"
    assert old in data
    if declared is None:
        return data.replace(old, b"")
    value = declared.encode().ljust(len(declared) + len(declared) % 2)
    return data.replace(old, b"\x08\0\x05\0CS" + bytes([len(value), 0]) + value)


@pytest.mark.parametrize("declared", [None, "ISO_IR 100", "ISO_IR 6", "\\ISO 2022 IR 58"])
@pytest.mark.parametrize(("codec", "real"), [("gb18030", "GB18030"), ("utf-8", "ISO_IR 192")])
def test_what_is_chinese_in_fact_is_declared_so(
    research: Deidentifier, declared: str | None, codec: str, real: str
) -> None:
    after = reopened(research.deidentify(_made(codec, declared)).data)
    assert after.SpecificCharacterSet == real
    assert after.AdditionalPatientHistory == "患者***，肺部结节，复查"


@pytest.mark.parametrize(
    ("codec", "declared", "text", "name"),
    [
        ("latin-1", "ISO_IR 100", "Befund: Größe unverändert, Höhe", "Müllenbrück^Jörg"),
        ("latin-1", None, "Lääkärin lausunto: ei löydöksiä", "Määttänen^Höök"),
        ("iso8859-5", "ISO_IR 144", "Органы грудной клетки", "Верещагин^Аркадий"),
        ("iso8859-5", None, "ШОСТАКОВСКИЙ, пациент, сердце", "Шостаковский^Серафима"),
        ("koi8-r", None, "ПАЦИЕНТ, лёгкие, сердце", "Шостаковский^Серафима"),
        ("euc-kr", None, "남궁서준 환자 복부 초음파 검사", "남궁^서준"),
        ("euc-jp", None, "患者の胸部単純撮影", "林原^匠海"),
        ("iso8859-2", "ISO_IR 101", "Zdjęcie płuc", "Wiśniewska^Grażyna"),
        ("iso8859-7", "ISO_IR 126", "Ακτινογραφία θώρακος", "Παπαδόπουλος^Γιώργος"),
        ("gb18030", "GB18030", _HISTORY, _NAME),
    ],
)
def test_a_set_that_holds_is_left_alone(
    research: Deidentifier, codec: str, declared: str | None, text: str, name: str
) -> None:
    after = reopened(research.deidentify(_made(codec, declared, text, name)).data)
    assert after.get("SpecificCharacterSet") == declared


@pytest.mark.parametrize("declared", ["ISO_IR 144", None, "ISO_IR 100"])
@pytest.mark.parametrize("name", ["Шостаковский^Серафима", "Кузнецов^Аркадий"])
def test_a_name_in_pairs_of_letters_is_found_whatever_is_declared(
    research: Deidentifier, declared: str | None, name: str
) -> None:
    family, given = name.split("^")
    for text in (f"С. {family}", f"{given} {family}", f"пациент {family}"):
        after = research.deidentify(_made("iso8859-5", declared, f"x {text} y", name)).data
        assert family.encode("iso8859-5") not in after


def test_an_item_with_a_set_of_its_own_leaves_all_as_it_is() -> None:
    made = dataset(PatientName="x")
    made.RequestAttributesSequence = [
        item(SpecificCharacterSet="ISO_IR 192", RequestedProcedureDescription="胸部"),
    ]
    assert real_charset(read(written(made))) == ()


@given(
    st.text(st.characters(min_codepoint=0xDF, max_codepoint=0xFF, exclude_characters="÷")),
    st.sampled_from("ÄÖÜÉÅ"),
)
def test_words_of_latin_1_are_not_taken_for_chinese(letters: str, capital: str) -> None:
    text = f"Befund bei {capital}{letters} mit größerem Knoten"
    made = dataset(SpecificCharacterSet="ISO_IR 100", AdditionalPatientHistory=text)
    assert real_charset(read(written(made))) == ()
