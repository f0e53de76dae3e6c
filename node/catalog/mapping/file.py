"""A mapping's file: for each variable of a dictionary, from what it is derived here."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from contract.documents import Name, VariableName
from contract.errors import ConfigurationError
from foundation.files import read_bounded
from foundation.settings import MAX_SETTINGS_BYTES, Settings, build, check_keys
from node.catalog.mapping.expressions import Column, Expression, walk
from node.catalog.mapping.reading import Reader


class MappingFile(Settings):
    """The keys of a mapping's file."""

    dictionary: Name
    """The name of the dictionary that it maps to."""
    table: VariableName | None = None
    """What the mapped table is called here; the dictionary's own name for it when absent."""
    subjects: Annotated[tuple[VariableName, ...], Field(max_length=100)] = ()
    """The tables whose subjects get a row; all subjects of everything that is named when empty."""
    variables: Annotated[dict[VariableName, Any], Field(min_length=1, max_length=5000)]
    """Variable = expression."""


@dataclass(frozen=True)
class Mapping:
    """A site's mapping to a dictionary."""

    dictionary: str
    table: str | None
    subjects: tuple[str, ...]
    variables: MappingType[str, Expression]

    @property
    def tables(self) -> frozenset[str]:
        """The tables that it reads."""
        return frozenset(self.subjects) | {
            node.table
            for expression in self.variables.values()
            for node in walk(expression)
            if isinstance(node, Column)
        }


def read_mapping(path: Path) -> Mapping:
    """Read a mapping's file; ``ConfigurationError`` names what is wrong with it in one line."""
    try:
        values = tomllib.loads(read_bounded(path, MAX_SETTINGS_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply.") from None
    return parse_mapping(values, str(path))


def parse_mapping(values: MappingType[str, Any], origin: str) -> Mapping:
    """Return the mapping of a parsed TOML file."""
    check_keys(MappingFile, values, origin)
    file = build(MappingFile, values, origin)
    variables = {
        name: Reader(f"{origin}: variables.{name}").read(value)
        for name, value in file.variables.items()
    }
    return Mapping(file.dictionary, file.table, file.subjects, variables)
