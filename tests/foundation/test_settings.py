"""Settings: a file, the environment over it, and an error that names the nearest key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from contract.errors import ConfigurationError, NotFound
from foundation import settings


class Inner(settings.Settings):
    """An inner table."""

    threads: Annotated[int, Field(ge=1)] = 4
    name: str = ""
    pause_seconds: float = 0.5
    allowed: bool = True


class Outer(settings.Settings):
    """The file."""

    work: Inner = Inner()
    address: str = "here"


def load(tmp_path: Path, text: str = "", **environment: str) -> Outer:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return settings.load(Outer, path, "APP", environment)


def error(tmp_path: Path, text: str = "", **environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value)


def test_without_a_file_the_defaults_hold() -> None:
    assert settings.load(Outer, None, "APP", {}) == Outer()


def test_the_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    assert load(tmp_path, "[work]\nthreads = 9") == Outer(work=Inner(threads=9))


def test_the_environment_overrides_the_file_also_further_in(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        'address = "file"\n[work]\nthreads = 9\nname = "n"',
        APP_WORK__THREADS="2", APP_ADDRESS="there", APP_WORK__ALLOWED="false", OTHER="x",
    )  # fmt: skip
    assert found == Outer(address="there", work=Inner(threads=2, name="n", allowed=False))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adress = 'x'", "unknown key 'adress'; did you mean 'address'?"),
        ("[work]\nthread = 1", "unknown key work.'thread'; did you mean 'threads'?"),
        ("[worx]\nthreads = 1", "unknown key 'worx'; did you mean 'work'?"),
        ("[work]\nTHREADS = 1", "unknown key work.'THREADS'"),
        ("[work.more]\nx = 1", "unknown key work.'more'"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(tmp_path: Path, text: str, said: str) -> None:
    message = error(tmp_path, text)
    assert said in message
    assert "settings.toml" in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("APP_ADRESS", "APP_ADRESS names no setting; did you mean 'address'?"),
        ("APP_WORK__THREAD", "APP_WORK__THREAD names no setting; did you mean 'threads'?"),
        ("APP_WROK__THREADS", "did you mean 'work'?"),
        ("APP_WORK", "names a table, not a key"),
        ("APP_ADDRESS__HOST", "names no setting"),
        ("APP_", "names no setting"),
    ],
)
def test_a_misspelt_variable_of_the_environment_is_named(
    tmp_path: Path, name: str, said: str
) -> None:
    assert said in error(tmp_path, **{name: "1"})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[work]\nthreads = 'many'", "work.threads"),
        ("[work]\nthreads = 1.5", "work.threads"),
        ("[work]\nthreads = 0", "work.threads"),
        ("[work]\nthreads = [1]", "work.threads"),
        ("[work]\nname = 5", "work.name"),
        ("[work]\nallowed = 'perhaps'", "work.allowed"),
        ("work = 3", "work"),
        ("address = []", "address"),
    ],
)
def test_a_value_of_the_wrong_type_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    message = error(tmp_path, text)
    assert f": {key}: " in message
    assert "\n" not in message


def test_a_table_that_is_none_is_an_error_under_an_override_too(tmp_path: Path) -> None:
    assert "work" in error(tmp_path, "work = 3", APP_WORK__THREADS="2")


def test_a_wrong_value_in_the_environment_is_an_error(tmp_path: Path) -> None:
    assert "work.threads" in error(tmp_path, APP_WORK__THREADS="many")


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_configuration_error(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            settings.load(Outer, Path(file.name), "APP", {})
        except ConfigurationError as raised:
            assert "\n" not in str(raised)


def test_a_file_that_is_named_and_missing_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        settings.load(Outer, tmp_path / "none.toml", "APP", {})
