"""Identifiers that are known by their shape or by the word before them, whoever's they are."""

from __future__ import annotations

import re

from node.deid.pseudonyms import is_standard_uid
from node.deid.vocabulary import words

_UID = re.compile(r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w]|\.\d)")
_NAME = r"[^\W\d_a-z][^\W\d_]*(?:[-'’][^\W\d_]+)*"
_NAMES = rf"{_NAME}(?:[ ,]{{1,2}}(?:[^\W\d_a-z]\.?\s+)?{_NAME}){{0,2}}"

# Where a pattern has a group x, that is what identifies; otherwise the whole match is.
_ALWAYS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[\w.+%-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,5}",
        r"(?i)\bhttps?://[^\s<>\"']{3,}",
        r"(?<![\d.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d\d)){3}(?![\d.])",
        r"(?<![\w.])\+\d{1,3}[ ().-]{0,2}\d(?:[ ().-]{0,2}\d){6,12}(?!\w)",
        r"(?<!\w)\(\d{2,5}\)[ ]?\d{3,4}[ .-]?\d{3,5}(?!\w)",
        r"(?<![\w.])\d{3}[-. ]\d{3}[-. ]\d{4}(?![\w.])",
        r"(?<![\w.])\d{3}-\d{2}-\d{4}(?![\w-])",
        r"(?<![\w.])1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\w)",
        r"(?<![\w.])0\d{1,4}[-/]\d{3,4}[- ]?\d{3,5}(?!\w)",
        r"(?<![\w.])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])\d{3}[\dXx](?!\w)",
        r"(?<![^\W_])[^\W\d_]{2,}\^[^\W\d_]+(?:[\^ .-][^\W\d_]+){0,4}",
        r"(?i)(?<![a-z])(?:tel|telephone|phone|ph|fax|mobile|cell|handy|电话|電話|手机|전화|тел)"
        r"[.:# ]{1,3}(?P<x>[+(]?\d[\d ()./-]{4,}\d)",
        r"(?i)(?<![a-z])(?:mrn|pid|uhid|ssn|nhs|pesel|pat(?:ient)?[ ._-]?(?:id|no|nr|number)|"
        r"acc(?:ession)?(?:[ ._-]?(?:no|nr|number))?|case[ ._-]?(?:id|no|nr|number)|"
        r"(?:hosp(?:ital)?|visit|order|record|chart|unit|reg(?:istration)?|exam|fall|admission)"
        r"[ ._-]?(?:id|no|nr|number)|id)"
        r"[ ]?(?:[:#=.]|is|no\.?|nr\.?|[ ])[ ]?(?P<x>[A-Za-z]{0,5}[-/ ]?\d[\dA-Za-z/-]{3,})",
        r"(?:病历号|住院号|门诊号|检查号|身份证号?|患者ID|病人ID|登记号|影像号|患者番号|환자번호|등록번호)"
        r"\s*[:：]?\s*(?P<x>[A-Za-z0-9-]{3,})",
        r"(?:姓名|患者名|患者姓名|病人姓名|氏名|이름|성명|환자명)\s*[:：]?\s*"
        r"(?P<x>[^\W\d_]{2,4}(?: [^\W\d_]{2,12})?)",
        r"(?:患者|病人)\s*[:：]\s*(?P<x>[\u4e00-\u9fff]{2,4})",
        r"[\u4e00-\u9fff]{2,10}(?:医院|醫院|病院|卫生院|保健院|诊所)",
        r"[\uac00-\ud7a3]{2,10}(?:병원|의원)",
        r"(?<![\u4e00-\u9fff])(?P<x>[\u4e00-\u9fff]{1,3})(?:医生|医师|醫師|醫生|大夫|先生|女士|小姐|教授|护士)",
        r"[\u4e00-\u9fff]{2,}(?:省|市)[\u4e00-\u9fff]{1,8}(?:区|县|路|街|镇)"
        r"[\u4e00-\u9fff]*\d*号?(?:\d+室)?",
        r"(?i)(?<!\w)\d{1,5}[a-z]?\s+(?:[^\W\d_][\w'.-]*\s+){1,3}(?:street|avenue|ave|road|rd|lane|drive|"
        r"boulevard|blvd|crescent|close|terrace)(?!\w)",
        r"(?i)(?<!\w)[^\W\d_]{3,}(?:straße|strasse|gasse|allee)\s+\d+[a-z]?(?!\w)",
        r"(?i)(?<!\w)(?:ul|al|rue|via|calle|rua|ул)\.?\s+[^\W\d_][\w'.-]+"
        r"(?:\s+[^\W\d_][\w'.-]+)?,?\s+\d+",
    )
)
_NAMED = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<!\w)(?:Dr|Drs|Prof|Mr|Mrs|Ms|Miss|Herr|Frau|Mme|Mlle|Sra|Pani?|Doctor|Nurse|Señora?)"
        rf"\.?,? (?:(?:Dr|Prof|med)\.? )*(?P<x>(?:[^\W\d_a-z]\. ?)*{_NAMES})",
        rf"(?<!\w)(?:DR|PROF|MR|MRS|MS|MISS|HERR|FRAU)(?:\. ?| )(?P<x>{_NAMES})",
        rf"(?<!\w)(?P<x>{_NAME},? (?:[^\W\d_a-z]\. )?{_NAME}),? (?:M\.?D|Ph\.?D|R\.N|RN|R\.T|D\.O)\b",
        r"(?<!\w)(?i:patient(?:'s)? name|name|technologist|technician|tech|operator|radiologist|"
        r"referred by|reported by|reviewed by|read by|signed by|dictated by|performed by|referring|"
        rf"physician|attending|contact|nom|nachname|vorname|nazwisko)\s*[:=]\s*(?P<x>{_NAMES})",
        r"(?<!\w)(?P<x>(?:[^\W\d_a-z][\w'’.-]+\s+){1,4})(?:Hospital|Clinic|Klinik|Klinikum|Krankenhaus|"
        r"Medical Cent(?:er|re)|Infirmary|Spital|HOSPITAL|CLINIC|MEDICAL CENTER)(?!\w)",
        r"(?<!\w)(?:Hospital|Hôpital|Szpital|Ospedale|Klinikum|Universitätsklinikum)\s+"
        rf"(?:(?:of|de|del|della|di|la|im|am|im\.)\s+)*(?P<x>{_NAMES})",
    )
)
_HINTS = re.compile(
    r"[@^+(:]|\d{3}|[^\x00-\x7f]|(?i:dr|prof|mr|ms|miss|herr|frau|hosp|clin|med|by|rn|md|nurse|pan)"
)
_ANY_WORD = re.compile(r"[^\W\d_]+")


def find_uids(text: str) -> list[tuple[int, int]]:
    """Return where UIDs of somebody's own stand (PS3.5 section 9); DICOM's are left out."""
    if "." not in text:
        return []
    return [
        match.span()
        for match in _UID.finditer(text)
        if 14 <= len(match.group()) <= 64 and not is_standard_uid(match.group())
    ]


def find_shapes(text: str) -> list[tuple[int, int]]:
    """Return where something stands that identifies by its shape or its label."""
    if len(text) < 4 or not _HINTS.search(text):
        return []
    spans = [_span(match) for pattern in _ALWAYS for match in pattern.finditer(text)]
    for pattern in _NAMED:
        for match in pattern.finditer(text):
            start, end = _span(match)
            found = _trimmed(text, start, end)
            if found is not None:
                spans.append(found)
    return spans


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("x") if "x" in match.re.groupindex else match.span()


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the stretch up to its last word that isn't a common one; None without such a word."""
    telling = [
        match.end()
        for match in _ANY_WORD.finditer(text, start, end)
        if match.group().lower() not in words() and len(match.group()) > 1
    ]
    if not telling:
        return None
    return start, telling[-1]
