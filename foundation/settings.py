"""Settings: a pydantic model, filled from a TOML file and the environment.

``WARDGATE_NODE_LINK__HEARTBEAT_SECONDS=5`` overrides ``[link] heartbeat_seconds``. A key that the
model doesn't have is an error that names the nearest one that it has.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from contract.errors import ConfigurationError
from foundation.files import read_bounded

MAX_SETTINGS_BYTES = 1024 * 1024


class Settings(BaseModel):
    """A table of settings: every key documented by its field's description, none unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


def load(model: type[S], path: Path | None, prefix: str, environment: Mapping[str, str]) -> S:
    """Return the settings of ``path`` (defaults when None), overridden by ``environment``.

    Raises ``ConfigurationError`` with one line for an unknown key or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    origin = "the environment"
    if path is not None:
        origin = str(path)
        try:
            values = tomllib.loads(read_bounded(path, MAX_SETTINGS_BYTES).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    check_keys(model, values, origin)
    for name, value in sorted(environment.items()):
        if name.startswith(prefix + "_"):
            _override(model, values, name, name[len(prefix) + 1 :].lower().split("__"), value)
    return build(model, values, origin)


def build(model: type[S], values: Mapping[str, Any], origin: str) -> S:
    """Return the model of ``values``; ``ConfigurationError`` names the key that doesn't fit."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{origin}: {key}: {first['msg']}.") from None


def check_keys(
    model: type[BaseModel], values: Mapping[str, Any], origin: str, at: str = ""
) -> None:
    """Raise ``ConfigurationError`` for the first key in ``values`` that ``model`` doesn't have."""
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            raise ConfigurationError(
                f"{origin}: unknown key {at}{key!r}{_nearest(key, list(model.model_fields))}"
            )
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            check_keys(inner, value, origin, f"{at}{key}.")


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"; did you mean {close[0]!r}?" if close else "."


def _override(
    model: type[BaseModel], values: dict[str, Any], name: str, path: list[str], value: str
) -> None:
    table: dict[str, Any] = values
    current: type[BaseModel] = model
    for depth, key in enumerate(path):
        field = current.model_fields.get(key)
        if field is None:
            raise ConfigurationError(
                f"Environment variable {name} names no setting"
                f"{_nearest(key, list(current.model_fields))}"
            )
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        if depth == len(path) - 1:
            if nested:
                raise ConfigurationError(f"Environment variable {name} names a table, not a key.")
            table[key] = value
        elif not nested:
            raise ConfigurationError(f"Environment variable {name} names no setting.")
        else:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigurationError(f"{key} is a table, not a value ({name} sets its key).")
            assert isinstance(inner, type) and issubclass(inner, BaseModel)
            current = inner
