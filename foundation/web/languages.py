"""The pages' texts in each language, and which language a reader gets.

A folder ``texts/`` holds a TOML file for each language, with the same keys in each:
``[login] title = "Log in"`` is the text ``login.title``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES: Mapping[str, str] = {"en": "English", "zh-Hans": "简体中文"}
"""Each language's tag (BCP 47) and its own name. The first is the default."""
DEFAULT = next(iter(LANGUAGES))
_SIMPLIFIED = frozenset({"zh", "zh-cn", "zh-sg", "zh-my"})


@dataclass(frozen=True)
class Texts:
    """The texts of one language."""

    language: str
    by_key: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of ``key`` with its ``{places}`` filled; ``KeyError`` without it."""
        return self.by_key[key].format(**values)

    def term(self, group: str, word: str) -> str:
        """Return the text for one of a group's words, such as a job's state, or the word itself."""
        return self.by_key.get(f"{group}.{word}", word)


def load_texts(folders: Sequence[Path]) -> dict[str, Texts]:
    """Return every language's texts, from the ``texts/`` of each folder."""
    loaded = {}
    for language in LANGUAGES:
        by_key: dict[str, str] = {}
        for folder in folders:
            path = folder / "texts" / f"{language}.toml"
            by_key |= _flat(tomllib.loads(path.read_text(encoding="utf-8")))
        loaded[language] = Texts(language, by_key)
    return loaded


def negotiate(header: str) -> str:
    """Return the language that an ``Accept-Language`` header asks for (RFC 9110, 12.5.4).

    Chinese without a script, and that of China, Singapore and Malaysia, is simplified (RFC 5646).
    """
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(header[:500].split(",")):
        tag, _, parameter = part.strip().partition(";")
        quality = _quality(parameter.strip())
        language = _known(tag.strip().lower())
        if language is not None and quality > 0:
            wanted.append((-quality, place, language))
    return min(wanted)[2] if wanted else DEFAULT


def _known(tag: str) -> str | None:
    if tag in _SIMPLIFIED or tag == "zh-hans" or tag.startswith("zh-hans-"):
        return "zh-Hans"
    return "en" if tag == "en" or tag.startswith("en-") else None


def _quality(parameter: str) -> float:
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = str(value)
    return found
