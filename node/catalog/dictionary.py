"""A project's variable dictionary as a TOML file: what every site's data is mapped to.

Its ``[[variables]]`` are those of a project's own file, so that one text serves both.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from contract.dictionary import Code, Variable, Variables, check_derivations
from contract.documents import Line, Name, Project, VariableName
from contract.errors import ConfigurationError
from foundation.files import read_bounded
from foundation.settings import MAX_SETTINGS_BYTES, Settings, build, check_keys
from node.catalog.manifest import SUBJECT
from node.intake.schema import ColumnSchema, TableSchema, parse_schema


class Dictionary(Settings):
    """The variables of a project, one row for each subject."""

    name: Name
    """The project's name, or one of the dictionary's own."""
    title: Line = ""
    """What it is about."""
    table: VariableName = "table"
    """What the mapped table is called: the project's table."""
    variables: Annotated[Variables, Field(min_length=1, max_length=5000)]
    """Every variable."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len({v.name for v in self.variables}) != len(self.variables):
            raise ValueError("a variable occurs twice")
        if any(v.name == SUBJECT for v in self.variables):
            raise ValueError(f"{SUBJECT!r} is the pseudonym's column and no variable's name")
        check_derivations(self.variables)
        return self

    @classmethod
    def of_project(cls, project: Project) -> Self:
        """Return a project's dictionary; ``ConfigurationError`` if it has none."""
        values = {
            "name": project.name,
            "title": project.title,
            "table": project.table,
            "variables": project.variables,
        }
        return build(cls, values, f"project {project.name}")

    @classmethod
    def of_schema(cls, schema: TableSchema) -> Self:
        """Return a first draft of a dictionary, of what a table has: for somebody to correct."""
        name = schema.table.lower().strip("_.") or "table"
        variables = tuple(_drafted(column) for column in schema.kept if column.type != "date")
        return build(cls, {"name": name, "table": schema.table, "variables": variables}, name)

    def variable(self, name: str) -> Variable | None:
        """Return the variable called ``name``, or None."""
        return next((v for v in self.variables if v.name == name), None)


_BINS = 10
"""Of a number's grid in a draft."""


def _drafted(column: ColumnSchema) -> Variable:
    if column.type not in ("integer", "number"):
        levels = column.levels or ("true", "false")
        codes = {level: Code(**code.model_dump()) for level, code in column.codes.items()}
        return Variable(name=column.variable, kind="category", levels=levels, codes=codes)
    bounded = column.minimum is not None and column.maximum is not None
    return Variable(
        name=column.variable,
        kind="number",
        unit=column.unit,
        whole=column.type == "integer",
        minimum=column.minimum,
        maximum=column.maximum,
        bins=_BINS if bounded and column.minimum != column.maximum else None,
    )


_PROJECTS = {"purpose", "sites"}
"""Keys by which a project's own file is known; its other keys are no business of a dictionary."""


def read_dictionary(path: Path) -> Dictionary:
    """Read a dictionary's file; ``ConfigurationError`` names what is wrong with it in one line."""
    try:
        values = tomllib.loads(read_bounded(path, MAX_SETTINGS_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    return parse_dictionary(values, str(path))


def parse_dictionary(values: Mapping[str, Any], origin: str) -> Dictionary:
    """Return the dictionary of a parsed TOML file: its own, a project's, or a schema's draft."""
    if "columns" in values and "subject" in values:
        return Dictionary.of_schema(parse_schema(values, origin))
    if "variables" in values and set(values) >= _PROJECTS:
        values = {key: values[key] for key in Dictionary.model_fields if key in values}
    check_keys(Dictionary, values, origin)
    variables = values.get("variables", [])
    for position, variable in enumerate(variables if isinstance(variables, list) else []):
        if isinstance(variable, Mapping):
            check_keys(Variable, variable, origin, f"variables.{position}.")
    return build(Dictionary, values, origin)


def to_toml(dictionary: Dictionary) -> str:
    """Return the dictionary as the text of a TOML file that reads back as the same."""
    lines = [f"{key} = {_toml(getattr(dictionary, key))}" for key in ("name", "title", "table")]
    for variable in dictionary.variables:
        lines += ["", "[[variables]]"]
        values = variable.model_dump(exclude_defaults=True)
        codes = values.pop("codes", {})
        if codes:
            values["levels"] = [
                {"level": level, **codes[level]} if level in codes else level
                for level in variable.levels
            ]
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(k))} = {_toml(v)}" for k, v in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        # A basic string of TOML is written as JSON writes it, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
