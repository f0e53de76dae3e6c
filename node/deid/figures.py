"""Numbers that identify by their length, their groups or the label before them, whoever's they are.

Numbers of patients, orders and insurances, of telephones, passports and plates; addresses of
machines, paths with somebody's login. Dates, UIDs, codes of terminologies, measures, sizes of
matrices and lists of settings (b-values, delays) are none.
"""

from __future__ import annotations

import re
from itertools import pairwise

from node.deid.vocabulary import words

_UNIT = r"(?! ?(?:x|mm|cm|ml|mg|kg|mSv|y\.?o|y/o|years?|yrs?|weeks?|months?|days?|of|%)\b|[/%\w])"
_ID = (
    rf"(?:[A-Z]{{1,5}}[-/. ]?){{0,3}}(?:\d{{1,5}}(?: \d{{1,5}}{_UNIT}){{1,5}}|"
    r"\d[\dA-Z]*(?:[-/.]{1,2}[A-Z]{0,4}\d[\dA-Z]*|-[A-Z]{1,2}(?![A-Za-z])){0,6})"
)
_GIVEN = (
    r"(?:[ ]?(?:numbers?|num|nr|no|id|n°|№)\b)?[ ]?(?:[:#=№]|is|no\.|nr\.|n°)?[.:]?[ ]{0,2}"
    rf"(?-i:(?P<x>{_ID}))(?![\w])"
)
_LABELLED = re.compile(
    r"(?i)(?<![^\W_])(?:(?:national|social|health|hospital|patient|pt|pat|person|tax|file|steuer|"
    r"chart|encounter|enc|passport|reise?pass|insurance|insur|policy|versicherten|versicherung\w*|"
    r"medicare|medicaid|licen[cs]e|plate|kennzeichen|member|subscriber|account|acct|invoice|"
    r"requisition|req|hosp|unit|order|visit|case|exam|record|accession|acc|admission|badge|"
    r"employee|staff|student|passeport|dossier|aktenzeichen|fallnummer|matr[ií]cula|"
    r"historia cl[ií]nica|nhc|cartella|protokol|dosya)"
    r"[ ._-]?(?:security|card|ins(?:urance)?|plate)?[ ._-]?(?:number|num|nr|no|id|n°|№)|"
    r"mrn|pid|uhid|ssn|nhs|nhs no|chi|pesel|bsn|cccd|cmnd|cpf|rut|curp|dni|nie|nif|nric|ahv|"
    r"aadhaar|abha|csn|enc|urn?|nin|emirates id|personn(?:ummer|r)|cnp|egn|svnr|sv-nr|insz|niss|"
    r"medicare|medicaid|passport(?: no)?|(?:licen[cs]e|number) plate|kennzeichen|kimlik(?: no)?|"
    r"pager|bleep|bleeper|beeper|extension|ext|n° ?ss|s[eé]cu|insurance|policy|снилс|полис|инн|"
    rf"омс|паспорт|и\.?б|"
    rf"№ карты|карта|주민(?:등록)?번호|여권|등록번호|外国人登録|保険証|护照|医保|社保)"
    rf"{_GIVEN}"
)
_LABEL_WORDS = """
number numbers num nr no id n mrn pid uhid ssn nhs chi pesel bsn cccd cmnd cpf rut curp dni nie
nif nric ahv aadhaar abha csn enc ur urn nin personnummer personnr cnp egn svnr sv insz niss
medicare medicaid passport plate kennzeichen kimlik pager bleep bleeper beeper extension ext
secu sécu insurance policy снилс полис инн омс паспорт иб карты карта б dob born birthday
birthdate birth b geb geboren geburtsdatum né née ne nee nato nata ur nacido nacida р рождения
"""
_LABELS = frozenset(_LABEL_WORDS.split())
_EASTERN = re.compile("[\u4e00-\u9fff\uac00-\ud7a3№]")
_NUMBERED = re.compile(
    r"(?i)(?<![^\W_])(?:no|nr|num|number|№)\.?\s{0,2}[:=#]\s{0,2}"
    rf"(?-i:(?P<x>{_ID}))(?!\w)"
)
_FEWEST_NUMBERED = 5
# Digits alone, and behind letters.
_RUN = re.compile(
    r"(?<![\d.,x×*])(?P<letters>(?<![A-Za-z])[A-Za-z]{1,6}[-_/#:]?)?(?P<x>\d{6,})"
    r"(?P<tail>(?:[-/][\dA-Z]{1,6})*[A-Z]?)(?![\d.,]\d|\d|[A-Za-z×%])"
)
_GROUPS = re.compile(
    r"(?<![\w.,+×-])\d{2,7}(?:[ ]\d{2,7}){2,5}(?![\w×]|[.,]\d|\s?(?:x|mm|ms|Hz)\b)"
)
_JOINED = re.compile(r"(?<![\w.,])\d{2,8}(?:[-.]\d{2,8}){1,4}(?:[- ]\d{1,2})?(?![\w]|[.,]\d)")
_MIXED = re.compile(
    r"(?<![\w.])(?=[A-Z0-9-]{0,40}[A-Z])(?=(?:[A-Z-]{0,12}\d){7})[A-Z]{0,4}\d[A-Z0-9]*"
    r"(?:-[A-Z0-9]{1,10}){1,4}(?![\w]|\.\d)"
)
_NETWORK = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:{1,2}){3,7}[0-9a-fA-F]{1,4}(?![\w:])"
    r"|(?<=[Ii][Pp][ :=])\s?\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"
    r"|(?<![\w-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])"
)
_PLACES = re.compile(
    r"(?i)(?<![\w.])www\.[^\s<>\"']{3,}|(?<!\w)(?!https?:|ftp:)[a-z]{2,10}://[^\s<>\"']{3,}"
    r"|(?<!\w)[a-z]:[\\/][\w .~$-]+(?:[\\/][^\s\\/]+)*"
    r"|(?<![^\s\"'(=])\\\\[\w.-]+\\[^\s]+|(?<![\w.])/(?:home|users|export|mnt|"
    r"media|var|tmp|data)/[^\s]+"
    r"|(?<!\w)[\w.+-]{1,64}\s?[\[(]at[\])]\s?[\w.-]{1,64}(?:\s?[\[(]dot[\])]\s?\w+){0,4}"
)
_BORN = re.compile(
    r"(?i)(?<![^\W_])(?:dob|d\.o\.b|born|birth ?da(?:te|y)|date of birth|geb(?:oren)?|geburtsdatum|"
    r"n[ée]e? le|nato|nata|ur|geboren|"
    r"nacid[oa]|д\.?\s?р|дата рождения|出生|生年月日|생년월일)[.:=]*"
    r"(?: am| il| el| on)?\s{0,2}[:：]?\s{0,2}(?P<x>\d{1,4}([./ -])\d{1,2}\2\d{2,4})(?!\d)"
)
_SCHEMES = frozenset({
    "sct", "srt", "snomed", "loinc", "ln", "dcm", "rid", "rpid", "radlex", "fma", "umls", "ncit",
    "icd", "cpt", "hcpcs", "ucum", "sequence", "build", "version", "v", "b", "release", "rev",
    "iso", "nct", "isrctn", "pmid", "doi", "code", "srs", "hz", "hp", "omim", "hgnc", "rs", "chr",
    "uberon", "mesh", "meddra", "orpha", "go", "nm", "np", "ensg", "enst", "cosm", "cosv", "cas",
})  # fmt: skip
"""Before a code of a terminology or a gene bank, or a program's version."""
_BEFORE = re.compile(r"([^\W\d_]+)[\s:#=(_.-]{0,3}$")
_AFTER = re.compile(
    r"\s*,\s*(?:SCT|SRT|LN|DCM|UMLS|NCIt|MSH|MDC|NDC|FMA|NEU|RADLEX|ITIS_TSN|99\w+)\b|\s?(?:Bq|MBq|kBq|counts?)\b"
)
_MANY = re.compile(r"\d{6}|(?:\d[^\d\n]{0,3}){7}")
_PART_NUMBER = re.compile(r"(?:4522|4535|4598|9840|9896|9897|9898) ?\d{3} ?\d{5}")
_DIGITS = re.compile(r"\d+")
_FEWEST = 4
_FEWEST_BARE, _FEWEST_LETTERED, _FEWEST_GROUPED = 7, 6, 9
_FEWEST_POINTED = 11


def find_figures(text: str, tokens: frozenset[str]) -> list[tuple[int, int]]:
    """Return where such numbers stand; unordered. ``tokens`` are the text's words, lower."""
    spans: list[tuple[int, int]] = []
    if not tokens.isdisjoint(_LABELS) or "#" in text or _EASTERN.search(text):
        for match in _LABELLED.finditer(text):
            if sum(map(str.isdigit, match["x"])) >= _FEWEST:
                spans.append(match.span("x"))
        spans += [
            match.span("x")
            for match in _NUMBERED.finditer(text)
            if sum(map(str.isdigit, match["x"])) >= _FEWEST_NUMBERED
        ]
        spans += [match.span("x") for match in _BORN.finditer(text)]
    if _MANY.search(text):
        spans += _runs(text)
        spans += _groups(text)
    if text.count(":") > 2 or text.count("-") > 3 or "ip" in tokens:
        spans += [match.span() for match in _NETWORK.finditer(text) if _is_address(match.group())]
    return spans


def find_paths(text: str) -> list[tuple[int, int]]:
    """Return where addresses of pages, files and mailboxes stand."""
    return [match.span() for match in _PLACES.finditer(text)]


def _runs(text: str) -> list[tuple[int, int]]:
    """Return long numbers; a text of digits alone may be a code."""
    if text.strip().isdigit():
        return []
    spans = []
    for match in _RUN.finditer(text):
        letters, digits = match["letters"] or "", match["x"]
        bare = letters.rstrip("-_/#:").lower()
        telling = bare and bare not in words()
        fewest = _FEWEST_LETTERED if telling else _FEWEST_BARE
        many = len(digits) + sum(map(str.isdigit, match["tail"]))
        if many < fewest or _is_quantity(digits) or bare in _SCHEMES:
            continue
        if letters in ("C", "D") and match.group() == text.strip():
            continue  # a concept's identifier of UMLS, NCIt or MeSH
        before = _BEFORE.search(text, 0, match.start())
        if (before and before[1].lower() in _SCHEMES) or _AFTER.match(text, match.end()):
            continue
        is_date = is_day(digits) and not match["tail"]
        spans.append((match.start() if telling and not is_date else match.start("x"), match.end()))
    return spans


def _groups(text: str) -> list[tuple[int, int]]:
    """Return numbers written in groups."""
    spans = []
    for pattern in (_GROUPS, _JOINED, _MIXED):
        for match in pattern.finditer(text):
            parts = _DIGITS.findall(match.group())
            if (
                sum(map(len, parts)) < (7 if pattern is _MIXED else _FEWEST_GROUPED)
                or (pattern is not _MIXED and _is_list(parts, match.group()))
                or is_day(parts[0])
                or _PART_NUMBER.fullmatch(match.group())
            ):
                continue
            spans.append(match.span())
    return spans


def _is_list(parts: list[str], whole: str) -> bool:
    """Say whether numbers are settings one after another, or one number with its decimals."""
    numbers = [int(part) for part in parts]
    if max(map(len, parts)) < 3 or (len(parts) == 2 and "." in whole):
        return True
    if "." in whole and "-" not in whole and sum(map(len, parts)) < _FEWEST_POINTED:
        return True  # a version
    if all(number % 5 == 0 or number % 16 == 0 for number in numbers):
        return True
    steps = {b - a for a, b in pairwise(numbers)}
    return len(steps) == 1 and len(numbers) > 2


_DIHEDRAL = tuple(
    tuple((a + b) % 5 if a < 5 and b < 5 else 5 + (a + b) % 5 if a < 5 else 5 + (a - b) % 5
          if b < 5 else (a - b) % 5 for b in range(10)) for a in range(10)
)  # fmt: skip
_PERMUTED = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def is_concept(digits: str) -> bool:
    """Say whether digits are the identifier of a concept of SNOMED CT, by its check digit.

    SNOMED CT TIG, section 6.3: a partition of concepts before the check digit, which is Verhoeff's.
    """
    if not 6 <= len(digits) <= 18 or digits[-3:-1] not in ("00", "10") or digits[0] == "0":
        return False
    check, permutation = 0, tuple(range(10))
    for digit in reversed(digits):
        check = _DIHEDRAL[check][permutation[int(digit)]]
        permutation = tuple(permutation[_PERMUTED[i]] for i in range(10))
    return check == 0


def _is_quantity(digits: str) -> bool:
    """Say whether digits are a round number, a counter, a concept or a part of a device (12NC)."""
    return (
        is_concept(digits)
        or len(digits.lstrip("0")) < _FEWEST
        or digits.endswith("0000")
        or _PART_NUMBER.fullmatch(digits) is not None
    )


def is_day(digits: str) -> bool:
    """Say whether digits are a day, or a day and a time (DICOM's DA and DT)."""
    return (
        len(digits) in (8, 12, 14)
        and digits[:2] in ("19", "20")
        and 1 <= int(digits[4:6]) <= 12
        and 1 <= int(digits[6:8]) <= 31
    )


def _is_address(text: str) -> bool:
    """Say whether it is a machine's; times have colons as well."""
    return not text.replace(":", "").isdigit() or len(text) > 10
