"""One file in the making: its dataset, its patient, and the lines it adds to the answer key."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from tests.corpus.key import Box, Plant, Words
from tests.corpus.patients import Patient, encodable, normal
from tests.corpus.sentences import Sentence, sentence

LIMITS = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 4000, "UC": 4000, "CS": 16, "AE": 16}


@dataclass
class Sheet:
    """Collects plants, words and boxes beside the dataset that gets them."""

    number: int
    patient: Patient
    dataset: Any
    random: Random
    charset: tuple[str, ...]
    """The characters that the file's text may have."""
    undeclared: str = ""
    """A codec whose bytes stand in a file that declares something else, or nothing."""
    plants: list[Plant] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    safe_private: list[tuple[int, str]] = field(default_factory=list)
    before: bytes = b""
    after: bytes = b""

    @property
    def text_charset(self) -> tuple[str, ...]:
        return ("ISO_IR 192",) if self.undeclared else self.charset

    def plant(self, category: str, place: str, value: str, tokens: tuple[str, ...] = ()) -> None:
        """Note an identifier at a place."""
        tokens = tuple(t for t in (tokens or (normal(value),)) if t)
        assert tokens, (category, place, value)
        self.plants.append(Plant(self.number, category, place, str(value), tokens))

    def forget(self, place: str) -> None:
        """Drop what was noted at a place whose value is about to be replaced."""
        self.plants = [p for p in self.plants if p.place != place]
        self.words = [w for w in self.words if w.place != place]

    def written(self, text: str) -> str:
        """Return the text as pydicom must be given it, for a wrong character set as raw bytes."""
        return text.encode(self.undeclared).decode("latin-1") if self.undeclared else text

    def put(
        self,
        category: str,
        keyword: str,
        value: str,
        tokens: tuple[str, ...] = (),
        identifies: str = "",
    ) -> None:
        """Set a top-level attribute that is an identifier as a whole, or in the part given."""
        tag = _tag(keyword)
        self.forget(f"{tag:08X}")
        self.dataset[tag] = DataElement(tag, dictionary_VR(tag), self.written(value))
        self.plant(category, f"{tag:08X}", identifies or value, tokens)

    def put_text(
        self, category: str, keyword: str, into: Dataset | None = None, prefix: str = ""
    ) -> None:
        """Set an attribute, of the file or of an item, to a sentence with identifiers."""
        tag = _tag(keyword)
        vr = dictionary_VR(tag)
        made = self.sentence(LIMITS[vr])
        self.forget(f"{prefix}{tag:08X}")
        dataset = self.dataset if into is None else into
        dataset[tag] = DataElement(tag, vr, self.written(made.text))
        self.note(category, f"{prefix}{tag:08X}", made)

    def sentence(self, limit: int) -> Sentence:
        return sentence(self.random, self.patient, limit, self.text_charset)

    def note(self, category: str, place: str, made: Sentence) -> None:
        """Note a sentence's identifiers and its clinical words."""
        for _, value, tokens in made.identifiers:
            self.plant(category, place, value, tokens)
        if made.words:
            self.words.append(Words(self.number, place, made.words))

    def fits(self, text: str) -> bool:
        return encodable(text, self.text_charset)


def item(**values: Any) -> Dataset:
    """Return a sequence's item with attributes by keyword."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code sequence's item (PS3.3 section 8.8)."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)
