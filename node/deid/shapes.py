"""Identifiers that are known by their shape or by the word before them, whoever's they are.

Patterns are grouped by what a text must have for any of them to match; most texts have none of it.
"""

from __future__ import annotations

import re

from node.deid.figures import find_figures, find_paths
from node.deid.pseudonyms import is_standard_uid
from node.deid.roles import find_roles
from node.deid.vocabulary import words

_UID = re.compile(r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w]|\.\d)")
_NAME = r"[^\W\d_a-z][^\W\d_]*(?:[-'’][^\W\d_]+)*"
_NAMES = rf"{_NAME}(?:[ ,/]{{1,2}}(?:[^\W\d_a-z]\.?\s+)?{_NAME}){{0,2}}"
_LOGIN = r"[^\W\d_]{2,}(?:[._^-][^\W\d_]{2,}){1,2}(?![^\W\d_])"


def _compiled(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


# Where a pattern has a group x, that is what identifies; otherwise the whole match is.
_MAIL = _compiled(r"[\w.+%-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,5}")
_PUBLIC = (
    r"(?!(?:www\.)?(?:(?:dicom|medical)\.nema\.org|loinc\.org|snomed\.info|(?:terminology\.)?hl7\.org|"
    r"w3\.org|unitsofmeasure\.org|purl\.obolibrary\.org|github\.com/(?:fedorov|qiicr)/dcmqi(?:\.git)?)(?![\w-]|\.\w))"
)
"""Links to the standards' own pages, and to a program that names itself by its page."""
_LINK = _compiled(rf"(?i)\b(?:https?|ftp)://{_PUBLIC}[^\s<>\"']{{3,}}")
_POINTS = _compiled(
    r"(?<![\d.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d\d)){3}(?![\d.])"
)
_MANY_DIGITS = _compiled(
    r"(?<![0-9A-Za-z.])\+\d{1,3}[ ().-]{0,2}\d(?:[ ().-]{0,2}\d){6,12}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z])\(\+?\d{2,5}\)[ -]?\d{2,4}(?:[ .-]?\d{2,5}){1,3}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z.])\d{3}[-. ]\d{3}[-. ]\d{4}(?![0-9A-Za-z.])",
    r"(?<![0-9A-Za-z.])\d{3}-\d{2}-\d{4}(?![0-9A-Za-z-])",
    r"(?<![0-9A-Za-z.])1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z.])0\d{1,4}[-/]\d{3,4}[- ]?\d{3,5}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z.])0\d{2,4}([. ])\d{3,4}\1\d{3,5}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z.])0[1-9](?:[ .]\d\d){4}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z.])00\d{9,13}(?![0-9A-Za-z])",
    r"(?<![0-9A-Za-z.])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])\d{3}[\dXx](?![0-9A-Za-z])",
)
_LABELLED = _compiled(
    r"(?i)(?<![a-z])(?:tel|telephone|téléphone|tél|telefon|teléfono|phone|ph|fax|mobile|cell|handy|"
    r"тел)[.:# ]{1,3}(?P<x>[+(]?\d[\d ()./-]{4,}\d)",
    r"(?i)(?<![a-z])(?:mrn|pid|uhid|ssn|nhs|pesel|pat(?:ient)?[ ._-]?(?:id|no|nr|number)|"
    r"acc(?:ession)?(?:[ ._-]?(?:no|nr|number))?|case[ ._-]?(?:id|no|nr|number)|"
    r"(?:hosp(?:ital)?|visit|order|record|chart|unit|reg(?:istration)?|exam|fall|admission)"
    r"[ ._-]?(?:id|no|nr|number)|id)"
    r"[ ]?(?:[:#=.]|is|no\.?|nr\.?|[ ])[ ]?(?P<x>[A-Za-z]{0,5}[-/ ]?\d[\dA-Za-z/-]{3,})",
    r"(?:电话|電話|手机|전화)\s*[:：]?\s*(?P<x>[+(]?\d[\d ()./-]{4,}\d)",
    r"(?:病历号|住院号|门诊号|检查号|身份证号?|患者ID|病人ID|登记号|影像号|患者番号|환자번호|등록번호)"
    r"\s*[:：]?\s*(?P<x>[A-Za-z0-9-]{3,})",
)
_STREETS = _compiled(
    r"(?i)(?<!\w)\d{1,5}[a-z]?\s+(?:[^\W\d_][\w'.-]*\s+){1,3}(?:street|avenue|ave|road|rd|lane|drive|"
    r"boulevard|blvd|crescent|close|terrace)(?!\w)",
    r"(?i)(?<!\w)[^\W\d_]{3,}(?:straße|strasse|gasse|allee)\s+\d+[a-z]?(?!\w)",
    r"(?<!\w)(?:[Uu]l|[Aa]l|[Rr]ue|[Vv]ia|[Cc]alle|[Rr]ua|[Уу]л)\.?\s+[^\W\d_a-z][\w'.-]+"
    r"(?:\s+[^\W\d_][\w'.-]+)?,?\s+\d+",
)
_SIGNS = _compiled(
    r"(?:姓名|患者名|患者姓名|病人姓名|氏名|이름|성명|환자명)\s*[:：]?\s*"
    r"(?P<x>[^\W\d_]{2,4}(?: [^\W\d_]{2,12})?)",
    r"(?:患者|病人)\s*[:：]\s*(?P<x>[\u4e00-\u9fff]{2,4})",
    r"(?P<x>(?:(?![于在至自由从到转往来院])[\u4e00-\u9fff]){2,10}(?:医院|醫院|病院|卫生院|保健院|诊所))",
    r"[\uac00-\ud7a3]{2,10}(?:병원|의원)",
    r"(?<![\u4e00-\u9fff])(?P<x>[\u4e00-\u9fff]{1,3})(?:医生|医师|醫師|醫生|大夫|先生|女士|小姐|教授|护士)",
    r"[\u4e00-\u9fff]{2,8}(?:省|市)[\u4e00-\u9fff]{1,8}(?:区|县|路|街|镇)"
    r"[\u4e00-\u9fff]{0,16}\d{0,5}号?(?:\d{1,5}室)?",
    r"[\u4e00-\u9fff]{2,8}(?:路|街|巷|弄|胡同|大道)\s?\d{2,5}号?"
    r"(?:[,，]\s?[\u4e00-\u9fff]{2,6}(?:镇|县|市|区|乡|村))?",
)
_NOT_NAMES = re.compile(
    r"^(?:主[任治管]|副|助理|住院|责任|经治|值班|放射|病理|影像|临床|报告|审核|诊断|记录|外科|内科|门诊"
    r"|管床|麻醉|急诊|会诊|患者|病人|由|请|经)"
)
_NAMED = _compiled(
    r"(?<!\w)(?:(?:Dr|Drs|Prof|Mr|Mrs|Ms|Miss|Herrn?|Frau|Mme|Mlle|Sra|Pani?|Doctor|Nurse|Señora?)"
    rf"\.?|[FH]r\.),? (?:(?:Dr|Prof|med)\.? )*(?P<x>{_LOGIN}|(?:[^\W\d_a-z]\. ?)*{_NAMES})",
    # Without a point, MR, MS and DR are modalities and diseases as well.
    rf"(?<!\w)(?:(?:MR|MS|DR)\. ?|(?:DR|PROF|MRS|MISS|HERR|FRAU)(?:\. ?| ))"
    rf"(?P<x>{_LOGIN}|(?:[^\W\d_a-z]\. ?)*{_NAMES})",
    rf"(?<!\w)(?P<x>{_NAME},? (?:[^\W\d_a-z]\. )?{_NAME}),? "
    r"(?:M\.?D|Ph\.?D|R\.N|RN|R\.T|D\.O)\b",
    r"(?<!\w)(?i:patient(?:'s)? name|name|technologist|technician|tech|operator|radiologist|"
    r"referred by|reported by|reviewed by|read by|signed by|dictated by|performed by|referring|"
    rf"physician|attending|contact|nom|nachname|vorname|nazwisko)\s*[:=]\s*(?P<x>{_NAMES})",
    r"(?<!\w)(?i:referred by|reported by|reviewed by|signed by|dictated by|verified by|read by) "
    rf"(?:(?:Dr|Prof|med)\.? )*(?P<x>(?:[^\W\d_a-z]\. ?)*{_NAMES})",
)
_HOUSES = _compiled(
    r"(?<!\w)(?P<x>(?:[^\W\d_a-z][\w'’.-]+\s+){1,4})(?:Hospital|Clinic|Klinik|Klinikum|Krankenhaus|"
    r"Medical Cent(?:er|re)|Infirmary|Spital|HOSPITAL|CLINIC|MEDICAL CENTER)(?!\w)",
    r"(?<!\w)(?:Hospital|Hôpital|Szpital|Ospedale|Klinikum|Universitätsklinikum)\s+"
    rf"(?:(?:of|de|del|della|di|la|im|am|im\.)\s+)*(?P<x>{_NAMES})",
)
_LOW = _compiled(
    r"(?<!\w)(?:dr|prof|nurse|mrs|herrn?|frau|mme|mr(?=\.)|ms(?=\.))\.?[ _](?:(?:dr|prof|med)\. )?"
    r"(?P<x>[^\W\d_]{3,})",
    r"(?<!\w)(?:patient name|pt name|name|operator|tech(?:nologist)?|physician|radiologist|"
    r"referring|user|login)\s?[:=]\s?(?P<x>[^\W\d_](?:[._]?[^\W\d_]){2,}(?: [^\W\d_]{3,})?)",
)
"""Names in small letters, which a text has that is written so throughout."""
_LOW_WORDS = frozenset({
    "dr", "prof", "nurse", "mrs", "herr", "herrn", "frau", "mme", "mr", "ms", "name", "operator",
    "tech", "technologist", "physician", "radiologist", "referring", "user", "login",
})  # fmt: skip
_NO_NAME = re.compile(r"(?:ed|ing|ly|ion|ions|ic|al|ous|ist|ists|ive|able|ment|itis|oma)$")
_CARETS = re.compile(
    r"(?<![^\W_])(?P<family>[^\W\d_]{2,})\^(?P<given>[^\W\d_]+)"
    r"(?P<more>(?:[ -][^\W\d_]+(?=\^))?(?:\^[^\W\d_.]*){0,3})"
)
_HAS_SEVEN_DIGITS = re.compile(r"(?:\d\D{0,3}){6}\d")
_LABEL_WORDS = frozenset({
    "tel", "telephone", "téléphone", "tél", "telefon", "teléfono", "phone", "ph", "fax", "mobile",
    "cell", "handy", "тел", "mrn", "pid", "uhid", "ssn", "nhs", "pesel", "pat", "patient", "patid",
    "patientid", "patno", "acc", "accession", "accno", "case", "caseid", "caseno", "hosp",
    "hospital", "visit", "visitid", "order", "orderid", "record", "chart", "unit", "reg",
    "registration", "exam", "examid", "fall", "admission", "id", "accessionnumber", "patientnumber",
    "casenumber", "ordernumber", "recordnumber", "chartnumber", "hospitalnumber", "hospno",
    "unitno", "regno", "chartno", "fallnr", "patnr", "admissionid", "admissionno", "patientno",
})  # fmt: skip
_STREET_WORDS = frozenset({
    "street", "avenue", "ave", "road", "rd", "lane", "drive", "blvd", "boulevard", "crescent",
    "close", "terrace", "ul", "al", "rue", "via", "calle", "rua", "ул",
})  # fmt: skip
_STREET_ENDINGS = ("straße", "strasse", "gasse", "allee")
_NAMED_WORDS = frozenset({
    "dr", "drs", "prof", "mr", "mrs", "ms", "miss", "herr", "herrn", "frau", "mme", "mlle",
    "fr", "hr", "sra",
    "pan", "pani", "doctor", "nurse", "señor", "señora", "md", "phd", "rn", "name", "technologist",
    "technician", "tech", "operator", "radiologist", "by", "referring", "physician", "attending",
    "contact", "nom", "nachname", "vorname", "nazwisko", "hospital", "hôpital", "szpital",
    "ospedale", "clinic", "klinik", "klinikum", "universitätsklinikum", "krankenhaus", "medical",
    "infirmary", "spital",
})  # fmt: skip
_HAS_DEGREE = re.compile(r"[ ,][MPRD]h?\.[DNTO]")
_HAS_DIGIT = re.compile(r"\d")
_PATH_SIGNS = ("/", "\\\\", ":\\", "www.", "at]", "at)")
_ANY_WORD = re.compile(r"[^\W\d_]+")
_EAST = re.compile(r"[\u4e00-\u9fff\uac00-\ud7a3]")


def find_uids(text: str) -> list[tuple[int, int]]:
    """Return where UIDs of somebody's own stand (PS3.5 section 9); DICOM's are left out."""
    if text.count(".") < 5:
        return []
    return [
        match.span()
        for match in _UID.finditer(text)
        if 14 <= len(match.group()) <= 64 and not is_standard_uid(match.group())
    ]


def find_shapes(text: str) -> list[tuple[int, int]]:
    """Return where something stands that identifies by its shape or its label."""
    if len(text) < 4:
        return []
    low = text.lower()
    tokens = frozenset(_ANY_WORD.findall(low))
    spans = [
        _span(match)
        for patterns in _patterns(text, low, tokens)
        for pattern in patterns
        for match in pattern.finditer(text)
    ]
    if "^" in text:
        spans += _person_names(text)
    if not text.isascii() and _EAST.search(text):
        spans += [
            _span(match)
            for pattern in _SIGNS
            for match in pattern.finditer(text)
            if not _NOT_NAMES.match(text[slice(*_span(match))])
        ]
    if tokens & _NAMED_WORDS or _HAS_DEGREE.search(text):
        for pattern in _NAMED:
            spans += _named(text, pattern)
        spans += _houses(text)
    if tokens & _LOW_WORDS:
        spans += _in_small_letters(text)
    if _HAS_DIGIT.search(text):
        spans += find_figures(text, tokens)
    if any(sign in low for sign in _PATH_SIGNS):
        spans += find_paths(text)
    return spans + find_roles(text, tokens)


def _patterns(text: str, low: str, tokens: frozenset[str]) -> list[tuple[re.Pattern[str], ...]]:
    """Return the groups that can match at all."""
    groups: list[tuple[re.Pattern[str], ...]] = []
    if "@" in text:
        groups.append(_MAIL)
    if "://" in text:
        groups.append(_LINK)
    if _HAS_DIGIT.search(text):
        if text.count(".") >= 3:
            groups.append(_POINTS)
        if _HAS_SEVEN_DIGITS.search(text):
            groups.append(_MANY_DIGITS)
        if not text.isascii() or tokens & _LABEL_WORDS:
            groups.append(_LABELLED)
        if tokens & _STREET_WORDS or any(end in low for end in _STREET_ENDINGS):
            groups.append(_STREETS)
    return groups


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("x") if "x" in match.re.groupindex else match.span()


def _person_names(text: str) -> list[tuple[int, int]]:
    """Return values like a PN (PS3.5 section 6.2.1), unless they name what is examined and how."""
    return [
        match.span()
        for match in _CARETS.finditer(text)
        if not any(word.lower() in words() for word in _ANY_WORD.findall(match.group()))
    ]


def _in_small_letters(text: str) -> list[tuple[int, int]]:
    """Return what follows a title or a label in small letters and is no word of prose."""
    spans = []
    for pattern in _LOW:
        for match in pattern.finditer(text):
            start = end = match.start("x")
            for word in _ANY_WORD.finditer(text, *match.span("x")):
                low = word.group()
                if not low.islower() or low in words() or _NO_NAME.search(low):
                    break
                end = word.end()
            if end > start:
                spans.append((start, end))
    return spans


def _named(text: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """Return names behind what announces them; the next one may be announced within a match."""
    spans, position = [], 0
    while match := pattern.search(text, position):
        found = _trimmed(text, *_span(match))
        if found is not None:
            spans.append(found)
        position = match.end() if found is None else found[1]
    return spans


def _houses(text: str) -> list[tuple[int, int]]:
    """Return hospitals' names, with the word that says what kind of house it is."""
    spans = []
    for pattern in _HOUSES:
        for match in pattern.finditer(text):
            found = _trimmed(text, *match.span("x"))
            if found is not None:
                is_before = match.end("x") < match.end()
                spans.append((match.start(), match.end() if is_before else found[1]))
    return spans


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
