"""Invented patients in many scripts, and the ways in which hospitals write what identifies them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

ASCII, LATIN1, LATIN2, CYRILLIC = ("",), ("ISO_IR 100",), ("ISO_IR 101",), ("ISO_IR 144",)
GB18030, UTF8 = ("GB18030",), ("ISO_IR 192",)
CHINESE = ("", "ISO 2022 IR 58")
JAPANESE = ("", "ISO 2022 IR 87")
KOREAN = ("", "ISO 2022 IR 149")
CHARSETS = (
    ASCII, GB18030, JAPANESE, LATIN1, KOREAN, CYRILLIC,
    UTF8, CHINESE, LATIN2, ASCII, LATIN1, UTF8,
)  # fmt: skip
"""Specific Character Set (PS3.3 C.12.1.1.2) by patient."""


@dataclass(frozen=True)
class Word:
    """A name as it is written, in Latin letters, and (Japanese) in syllables."""

    native: str
    latin: str
    kana: str = ""
    others: tuple[str, ...] = ()


def _words(text: str) -> tuple[Word, ...]:
    rows = [row.split("/") for row in text.split()]
    return tuple(Word(r[0], r[1], r[2] if len(r) > 2 else "", tuple(r[3:])) for r in rows)


_NAMES: dict[tuple[str, ...], tuple[tuple[Word, ...], tuple[Word, ...]]] = {
    ASCII: (
        _words(
            "Kowalczewski/Kowalczewski Thornbury/Thornbury Abernethy/Abernethy "
            "Vandermeer/Vandermeer Castellane/Castellane Okonkwode/Okonkwode"
        ),
        _words(
            "Janusz/Janusz Margaret/Margaret Barnaby/Barnaby Philippa/Philippa "
            "Ignatius/Ignatius Rosalind/Rosalind"
        ),
    ),
    GB18030: (
        _words("欧阳/Ouyang 诸葛/Zhuge 王/Wang 张/Zhang 赵/Zhao 刘/Liu"),
        _words("晓鹏/Xiaopeng 雨桐/Yutong 建国/Jianguo 思远/Siyuan 美玲/Meiling 志强/Zhiqiang"),
    ),
    JAPANESE: (
        _words(
            "林原/Hayashibara/はやしばら 小鳥遊/Takanashi/たかなし "
            "五十嵐/Igarashi/いがらし 長谷川/Hasegawa/はせがわ"
        ),
        _words(
            "匠海/Takumi/たくみ 美咲/Misaki/みさき 健太郎/Kentarou/けんたろう 千尋/Chihiro/ちひろ"
        ),
    ),
    LATIN1: (
        _words(
            "Müllenbrück/Mullenbruck//Muellenbrueck Grünewäld/Grunewald//Gruenewaeld "
            "Åkerström/Akerstrom Peñarrubia/Penarrubia Bérangère/Berangere "
            "Sørensgård/Sorensgard"
        ),
        _words(
            "Jörgen/Jorgen//Joergen Hélène/Helene François/Francois Björnar/Bjornar Noëlle/Noelle"
        ),
    ),
    KOREAN: (
        _words("남궁/Namgung 황보/Hwangbo 선우/Seonwoo 제갈/Jegalle"),
        _words("서준/Seojun 지우/Jiwoo 현정/Hyunjung 민석/Minseok"),
    ),
    CYRILLIC: (
        _words(
            "Верещагин/Vereshchagin Кузнецова/Kuznetsova Шостаковский/Shostakovsky "
            "Емельяненко/Emelyanenko"
        ),
        _words("Аркадий/Arkady Людмила/Lyudmila Всеволод/Vsevolod Серафима/Serafima"),
    ),
    LATIN2: (
        _words("Wiśniewska/Wisniewska Błaszczyk/Blaszczyk Dvořáková/Dvorakova Szőllősi/Szollosi"),
        _words("Grażyna/Grazyna Łucjan/Lucjan Žofie/Zofie Zoltán/Zoltan"),
    ),
}
_NAMES[UTF8] = _NAMES[CHINESE] = _NAMES[GB18030]
_PLACES: dict[tuple[str, ...], tuple[tuple[str, str, str], ...]] = {
    # institution, street, town
    ASCII: (
        ("Harrowgate Memorial Infirmary", "Quillfeather Lane", "Netherwick"),
        ("Saint Oswald General", "Brackenridge Road", "Wexcombe"),
        ("Lakeshore Veterans Clinic", "Tamarisk Avenue", "Port Ellery"),
    ),
    GB18030: (
        ("青松岭人民医院", "梧桐巷", "云溪镇"),
        ("白鹭湖中心医院", "紫藤路", "柳河县"),
    ),
    JAPANESE: (("桜坂総合病院", "銀杏通", "緑ヶ浜町"), ("月見台病院", "若葉通", "汐音市")),
    LATIN1: (
        ("Klinikum Größenhausen", "Fährgässchen", "Wölfersberg"),
        ("Hôpital Sainte-Éléonore", "rue des Tourmentés", "Véranville"),
    ),
    KOREAN: (("은하수병원", "단풍나무길", "새벽시"), ("한빛누리병원", "느티나무길", "가람시")),
    CYRILLIC: (
        ("Больница Святого Пантелеимона", "Черёмуховая", "Белозёрск"),
        ("Заречная больница", "Кленовая", "Светлоярск"),
    ),
    LATIN2: (
        ("Szpital Świętej Jadwigi", "Źródlana", "Żółtowice"),
        ("Nemocnice Kopřivná", "Šeříková", "Růžodolí"),
    ),
}
_PLACES[UTF8] = _PLACES[CHINESE] = _PLACES[GB18030]


_WARDS = ("Larkspur", "Foxglove", "Bluebell", "Hawthorn")


@dataclass(frozen=True)
class Person:
    """Somebody with a name."""

    family: Word
    given: Word

    @property
    def dicom(self) -> str:
        """The Person Name (PS3.5 section 6.2.1.2), with the component groups that fit."""
        groups = [f"{self.family.latin}^{self.given.latin}"]
        native = f"{self.family.native}^{self.given.native}"
        if not _is_latin(self.family.native):
            groups.append(native)
        elif native != groups[0]:
            return native
        if self.family.kana:
            groups.append(f"{self.family.kana}^{self.given.kana}")
        return "=".join(groups)

    @property
    def native(self) -> str:
        """The name as it is read where the person lives."""
        family, given = self.family.native, self.given.native
        return f"{given} {family}" if _alphabetic(family) else f"{family}{given}"

    @property
    def tokens(self) -> tuple[str, ...]:
        """Normalised strings, any of which in an output is a leak of this person's name."""
        found: list[str] = []
        for word in (self.family, self.given):
            for text in (word.latin, word.native, word.kana, *word.others):
                token = normal(text)
                if len(token) >= (5 if _alphabetic(text) else 2):
                    found.append(token)
        both = self.family.native + self.given.native
        found += [normal(both), normal(self.family.kana + self.given.kana)]
        return tuple(sorted({token for token in found if len(token) > 1}))

    def variants(self) -> list[str]:
        """The name as people write it: orders, initials, cases, transliterations."""
        family, given = self.family.latin, self.given.latin
        written = [
            f"{family} {given}",
            f"{given} {family}",
            f"{given[0]}. {family}",
            f"{family}, {given}".upper(),
            f"{family} {given}".upper(),
            f"{given.lower()}.{family.lower()}",
            f"{family}^{given}",
            f"{family}_{given}",
            self.native,
        ]
        if _alphabetic(self.family.native):
            native = f"{self.family.native} {self.given.native}"
            written += [native, native.upper(), f"{self.given.native[0]}. {self.family.native}"]
            written += [f"{given} {other}" for other in self.family.others]
        else:
            written += [f"{self.family.native} {self.given.native}"]
            written += [f"{family}{given}", f"{family} {given}".upper()]
            if self.family.kana:
                written.append(f"{self.family.kana} {self.given.kana}")
        return list(dict.fromkeys(written))


@dataclass(frozen=True)
class Patient:
    """One invented patient, the hospital and its staff."""

    index: int
    charset: tuple[str, ...]
    person: Person
    mrn: str
    other_ids: tuple[str, ...]
    national_id: str
    birth: date
    street: str
    town: str
    phone: str
    email: str
    institution: str
    department: str
    referring: Person
    performing: Person
    operator: Person
    outside: Person
    """A physician whom no attribute names."""
    accessions: tuple[str, ...]
    station: str
    studies: tuple[date, ...]
    sex: str
    weight: str


def patients(random: Random) -> list[Patient]:
    """Return twelve patients; no two share a name or a number."""
    made: list[Patient] = []
    taken: set[str] = set()
    for index, charset in enumerate(CHARSETS):
        people = _people(random, charset, 5, taken)
        institution, street, town = random.choice(_PLACES[charset])
        first = date(2009, 1, 1) + timedelta(days=random.randrange(4500))
        studies = tuple(first + timedelta(days=n) for n in (0, 37, 201, 1003))
        latin = normal(people[0].family.latin)
        made.append(
            Patient(
                index=index,
                charset=charset,
                person=people[0],
                mrn=random.choice("PKHMZ") + random.choice("XQVJ") + _digits(random, 6),
                other_ids=(_digits(random, 9), f"ALT-{_digits(random, 7)}"),
                national_id="-".join(
                    _digits(random, n) for n in (3, 4, 5)
                ),
                birth=date(1931, 1, 1) + timedelta(days=random.randrange(25000)),
                street=f"{street} {random.randrange(100, 999)}",
                town=town,
                phone=f"+{random.randrange(31, 49)} {random.randrange(601, 699)} "
                f"{random.randrange(201, 999)} {random.randrange(201, 999)}",
                email=f"{latin}{random.randrange(10, 99)}@mailbox.example",
                institution=institution,
                department=f"Ward {random.choice(_WARDS)}",
                referring=people[1],
                performing=people[2],
                operator=people[3],
                outside=people[4],
                accessions=tuple(f"ACC{random.randrange(10**7, 10**8)}" for _ in studies),
                station=f"STN{random.randrange(10**4, 10**5)}",
                studies=studies,
                sex=random.choice("MF"),
                weight=f"{random.randrange(480, 990) / 10}",
            )
        )  # fmt: skip
    return made


def _digits(random: Random, count: int) -> str:
    return str(random.randrange(10 ** (count - 1), 10**count))


def _people(random: Random, charset: tuple[str, ...], count: int, taken: set[str]) -> list[Person]:
    families, givens = _NAMES[charset]
    found: list[Person] = []
    while len(found) < count:
        person = Person(random.choice(families), random.choice(givens))
        full = person.family.native + person.given.native
        if full not in taken and person.family.native not in {p.family.native for p in found[:1]}:
            taken.add(full)
            found.append(person)
        elif found and len(taken) > 10_000:
            raise AssertionError("the pool of names is too small")
    return found


MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def date_notations(day: date) -> list[str]:
    """Return the date in the notations of hospitals, DICOM's own first."""
    name = MONTHS[day.month - 1]
    return [
        f"{day:%Y%m%d}",
        f"{day:%Y-%m-%d}",
        f"{day:%d.%m.%Y}",
        f"{day:%d/%m/%Y}",
        f"{day:%m/%d/%Y}",
        f"{day:%d}-{name[:3].upper()}-{day.year}",
        f"{name} {day.day}, {day.year}",
        f"{day.day} {name} {day.year}",
        f"{day.year}/{day.month}/{day.day}",
        f"{day:%Y%m%d}101500.000+0100",
    ]


def chinese_date(day: date) -> str:
    """Return the date as it is written in China and Japan."""
    return f"{day.year}年{day.month}月{day.day}日"


def phone_notations(phone: str) -> list[str]:
    """Return a number like "+48 601 234 987" as people write it."""
    country, *rest = phone.split()
    plain = "".join(rest)
    return [
        phone,
        f"{country}{plain}",
        f"00{country[1:]}{plain}",
        f"({country}) {'-'.join(rest)}",
        f"0{plain[:3]}/{plain[3:]}",
        f"0{'.'.join(rest)}",
    ]


def phone_token(phone: str) -> str:
    """Return what all notations share."""
    return "".join(phone.split()[1:])


def spaced(identifier: str) -> list[str]:
    """Return an identifier as people space and hyphenate it."""
    half = len(identifier) // 2
    return [
        identifier,
        f"{identifier[:2]}-{identifier[2:]}",
        f"{identifier[:half]} {identifier[half:]}",
        f"{identifier[:half]}-{identifier[half:]}".lower(),
    ]


def normal(text: str) -> str:
    """Return letters and digits only, one case, one form: how identifiers are compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum())


def encodable(text: str, charset: Sequence[str]) -> bool:
    """Say whether the Specific Character Set has all of the text's characters."""
    codecs = {
        "": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 101": "iso8859-2",
        "ISO_IR 144": "iso8859-5", "GB18030": "gb18030", "ISO_IR 192": "utf-8",
        "ISO 2022 IR 58": "gb2312", "ISO 2022 IR 87": "iso2022_jp", "ISO 2022 IR 149": "euc_kr",
    }  # fmt: skip
    return all(any(_encodes(c, codecs[name]) for name in charset) for c in text)


def _encodes(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _is_latin(text: str) -> bool:
    return all(unicodedata.name(c, "").startswith("LATIN") for c in text if c.isalpha())


def _alphabetic(text: str) -> bool:
    return all(
        unicodedata.name(c, "").split()[0] in ("LATIN", "CYRILLIC") for c in text if c.isalpha()
    )
