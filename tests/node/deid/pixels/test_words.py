"""Text from pixels: what names somebody, what is harmless, and what nobody can say."""

from __future__ import annotations

import pytest

from node.deid.identifiers import Known, Matcher
from node.deid.pixels import words
from node.deid.pixels.words import Verdict

MATCHER = Matcher(
    Known(
        persons=frozenset(["Kowalczyk^Magdalena", "Ouyang^Xiaoming=欧阳^晓明", "Müller^Jürgen"]),
        numbers=frozenset(["48213377", "A7734-21"]),
        phrases=frozenset(["Szpital Bielański"]),
    )
)

HARMLESS = """
MI 1.1|TIS 0.5|5 cm|FR 32Hz|12 cm|Gain 50|120 kV|L|R|SUPINE|2D 70%|Z 1.4|Im 3/24|127/128|W 400 L 40
W400L40|TR 2000|TR2000|PORTABLE|80 mA|10 mm|Depth 16 cm|Depth16cm|HR 72 bpm|LT KIDNEY|Dist 2.31 cm
WF384Hz|3850Hz|T2 FLAIR|Lt. Carotid|SMPTE TEST PATTERN|Philips Healthcare|左|右肾|20dB/DR60|TIS:0.5
MI:1.4|Sag Liver|75 bpm|+59.3|cm/s|1:24:33 PM|C5-1|L12-5|x2|Adult Echo|95%|-30.5
"""
IDENTIFY = """
KOWALCZYK, MAGDALENA|Kowalczyk^M|Magdalena|KOWALCZVK|Kowa1czyk|欧阳晓明|Xiaoming|MÜLLER JURGEN
48213377|4821 3377|MRN: 48213377|A7734-21|ACC 7734821|MX592117|HX126704|ZV 676936|12A3456
DOB 17.12.1959|1957-03-12|03/02/2017 05:24:57PM|12-Mar-1957|5/25/2011|11-05-25-142825
昭和32年3月12日|St. Mary Hospital|CCHS CLEVELAND CLINIC|BAPTIST MED CTR|Universitätsklinikum
北京协和医院|山田太郎|Dr. Becker|Prof Anybody|Pat. Name:|姓名|MRN|DOB:|Tel 555-867-5309
DOB28.Q3.1944|+49 6221 560|1.2.840.113619.2.55.3
"""


def parts(table: str) -> list[str]:
    return [part for line in table.split("\n") for part in line.split("|") if part]


@pytest.mark.parametrize("text", parts(HARMLESS))
def test_settings_scales_and_anatomy_are_harmless(text: str) -> None:
    assert words.judge(text, 0.97, 0.8, MATCHER) is Verdict.HARMLESS


@pytest.mark.parametrize("text", parts(IDENTIFY))
def test_names_numbers_dates_and_places_identify(text: str) -> None:
    assert words.judge(text, 0.97, 0.8, MATCHER) is Verdict.IDENTIFIES


@pytest.mark.parametrize(
    "text", ["ZZZDOWNTIME MARY", "Lee", "Abernethy", "0 0 0 0 0 0", "ααυλ", ""]
)
def test_words_that_nobody_knows_are_not_harmless(text: str) -> None:
    assert words.judge(text, 0.97, 0.8, MATCHER) is Verdict.UNKNOWN


def test_what_was_read_without_confidence_is_not_harmless() -> None:
    assert words.judge("SUPINE", 0.5, 0.8, MATCHER) is Verdict.UNKNOWN
    assert words.judge("127/128", 0.7, 0.8, MATCHER) is Verdict.HARMLESS


@pytest.mark.parametrize("text", ["Name:", "Patient ID", "姓名:", "DOB", "Acc No."])
def test_a_label_announces_what_follows(text: str) -> None:
    assert words.is_label(text)


@pytest.mark.parametrize("text", ["Name: Smith", "MI 1.1", "PORTABLE", "Gain"])
def test_what_announces_nothing_is_no_label(text: str) -> None:
    assert not words.is_label(text)


def test_two_pieces_of_a_line_make_a_date_or_a_name() -> None:
    assert words.is_cut("12.03.", "1957", MATCHER)
    assert words.is_cut("KOWAL", "CZYK", MATCHER)
    assert not words.is_cut("1.06 cm", "+ Cist Mag", MATCHER)
