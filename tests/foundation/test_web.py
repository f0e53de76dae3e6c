"""What the consoles share: passwords, sessions, languages, texts, host names, read-only."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from contract.errors import ConfigurationError, UsageError
from foundation.web.guard import allowed_hosts
from foundation.web.languages import LANGUAGES, load_texts, negotiate
from foundation.web.password import PasswordFile
from foundation.web.readonly import read_only
from foundation.web.sessions import MAX_PEERS, MAX_SESSIONS, Sessions, Throttle

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "foundation/web"
CONSOLES = [ROOT / "node/console", ROOT / "coordinator/console"]


class TestPassword:
    def test_it_verifies_and_another_does_not(self, tmp_path: Path) -> None:
        kept = PasswordFile(tmp_path / "console.json")
        kept.set("correct horse battery")
        assert kept.verify("correct horse battery")
        assert not kept.verify("correct horse batterz")
        assert not kept.verify("")
        assert not kept.verify("x" * 100_000)

    def test_the_file_holds_no_password_and_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        kept = PasswordFile(tmp_path / "console.json")
        kept.set("correct horse battery")
        assert kept.path.stat().st_mode & 0o777 == 0o600
        assert "horse" not in kept.path.read_text()

    def test_the_same_password_is_kept_differently_each_time(self, tmp_path: Path) -> None:
        kept = PasswordFile(tmp_path / "console.json")
        kept.set("correct horse battery")
        first, mark = kept.path.read_text(), kept.mark()
        kept.set("correct horse battery")
        assert kept.path.read_text() != first
        assert kept.mark() != mark

    def test_two_ways_to_write_one_text_are_one_password(self, tmp_path: Path) -> None:
        kept = PasswordFile(tmp_path / "console.json")
        kept.set("Zürich zwölfmal")
        assert kept.verify("Zu\u0308rich zwo\u0308lfmal")

    @pytest.mark.parametrize("password", ["", "elevenchars", "x" * 1025])
    def test_a_short_or_endless_one_is_refused(self, tmp_path: Path, password: str) -> None:
        with pytest.raises(UsageError):
            PasswordFile(tmp_path / "console.json").set(password)
        assert not (tmp_path / "console.json").exists()

    def test_without_one_the_error_says_how_to_set_it(self, tmp_path: Path) -> None:
        kept = PasswordFile(tmp_path / "console.json")
        with pytest.raises(ConfigurationError, match="set one with 'do this'"):
            kept.require("do this")
        assert not kept.verify("correct horse battery")

    @pytest.mark.parametrize("content", ["", "{}", '{"scheme":"plain"}', "\x00"])
    def test_a_damaged_file_is_one_clear_error(self, tmp_path: Path, content: str) -> None:
        kept = PasswordFile(tmp_path / "console.json")
        kept.path.write_text(content)
        with pytest.raises(ConfigurationError, match="set the password again"):
            kept.require("do this")


class TestSessions:
    def test_a_session_ends_after_its_life_however_much_it_is_used(self) -> None:
        sessions = Sessions(life_seconds=100, idle_seconds=30)
        token = sessions.begin("p", 0)
        assert all(sessions.find(token, "p", now) for now in range(0, 100, 20))
        assert sessions.find(token, "p", 100) is None

    def test_a_session_ends_when_it_is_idle(self) -> None:
        sessions = Sessions(life_seconds=100, idle_seconds=30)
        token = sessions.begin("p", 0)
        assert sessions.find(token, "p", 29)
        assert sessions.find(token, "p", 59) is None
        assert sessions.find(token, "p", 1) is None

    def test_a_session_ends_with_the_password_that_it_was_begun_with(self) -> None:
        sessions = Sessions(100, 100)
        token = sessions.begin("old", 0)
        assert sessions.find(token, "new", 1) is None

    def test_a_session_that_was_ended_is_over(self) -> None:
        sessions = Sessions(100, 100)
        token = sessions.begin("p", 0)
        sessions.end(token)
        sessions.end(token)
        assert sessions.find(token, "p", 1) is None

    def test_sessions_have_tokens_of_their_own_and_are_bounded(self) -> None:
        sessions = Sessions(100, 100)
        tokens = [sessions.begin("p", 0) for _ in range(MAX_SESSIONS + 1)]
        assert len(set(tokens)) == len(tokens)
        found = [sessions.find(token, "p", 1) for token in tokens]
        assert found[0] is None
        assert len({s.csrf for s in found if s}) == MAX_SESSIONS

    @given(st.text())
    def test_no_invented_token_finds_a_session(self, token: str) -> None:
        sessions = Sessions(100, 100)
        sessions.begin("p", 0)
        assert sessions.find(token, "p", 1) is None


class TestThrottle:
    def test_the_sixth_failure_in_a_minute_must_wait(self) -> None:
        throttle = Throttle()
        assert [throttle.attempt("a", now) for now in range(5)] == [0] * 5
        assert throttle.attempt("a", 10) == 50
        assert throttle.attempt("b", 10) == 0
        assert throttle.attempt("a", 60) == 0
        assert throttle.attempt("a", 60.5) > 0

    def test_success_forgets_failures(self) -> None:
        throttle = Throttle()
        for now in range(20):
            assert throttle.attempt("a", now) == 0
            throttle.succeeded("a")

    def test_it_remembers_a_bounded_number_of_peers(self) -> None:
        throttle = Throttle()
        for number in range(MAX_PEERS + 10):
            throttle.attempt(str(number), 0)
        assert len(throttle._failures) <= MAX_PEERS


class TestLanguages:
    @pytest.mark.parametrize(
        ("header", "language"),
        [
            ("", "en"),
            ("de-DE,de;q=0.9", "en"),
            ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
            ("en-GB,en;q=0.9,zh-CN;q=0.8", "en"),
            ("de, zh-Hans-CN;q=0.5, en;q=0.1", "zh-Hans"),
            ("zh-TW,zh-Hant;q=0.9", "en"),
            ("zh;q=0, en", "en"),
            ("zh;q=abc", "en"),
        ],
    )
    def test_the_browser_s_wish_is_followed(self, header: str, language: str) -> None:
        assert negotiate(header) == language

    @given(st.text())
    def test_any_header_gives_a_language(self, header: str) -> None:
        assert negotiate(header) in LANGUAGES

    @pytest.mark.parametrize("folder", CONSOLES, ids=lambda f: f.parent.name)
    def test_every_text_is_there_in_every_language(self, folder: Path) -> None:
        loaded = load_texts([SHARED, folder])
        english = loaded["en"].by_key
        for texts in loaded.values():
            assert set(texts.by_key) == set(english), texts.language
            for key, value in texts.by_key.items():
                assert value.strip()
                assert _places(value) == _places(english[key]), (texts.language, key)

    @pytest.mark.parametrize("folder", CONSOLES, ids=lambda f: f.parent.name)
    def test_the_pages_use_no_other_keys_and_no_text_of_their_own(self, folder: Path) -> None:
        known = set(load_texts([SHARED, folder])["en"].by_key)
        for place in (SHARED, folder):
            for page in place.glob("templates/*.html"):
                source = page.read_text()
                used = set(re.findall(r"""\bt\(["']([a-z_.]+)["']""", source))
                assert used <= known, page
                assert "<script" not in source and "style=" not in source
                bare = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<[^>]*>|<!doctype html>", "", source)
                assert not re.search(r"[A-Za-z]{2}", bare), page

    @pytest.mark.parametrize("folder", CONSOLES, ids=lambda f: f.parent.name)
    def test_chinese_is_chinese(self, folder: Path) -> None:
        texts = load_texts([SHARED, folder])["zh-Hans"].by_key
        alike = {"overview.projects_of", "draft.png", "draft.nifti", "draft.json"}  # formats' names
        told = {k for k, v in texts.items() if not re.search(r"[\u4e00-\u9fff]", v)}
        assert told == alike & set(texts)


class TestHosts:
    def test_the_names_of_this_machine_and_the_configured_one_are_known(self) -> None:
        assert allowed_hosts("Node.Example.org") == {
            "localhost", "127.0.0.1", "[::1]", "node.example.org",
        }  # fmt: skip
        assert "10.1.2.3" in allowed_hosts("10.1.2.3")
        assert "[fd00::1]" in allowed_hosts("fd00::1")

    @pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
    def test_a_wildcard_address_is_no_name(self, wildcard: str) -> None:
        assert allowed_hosts(wildcard) == allowed_hosts("localhost")


def test_a_database_opened_for_a_console_can_be_read_and_not_written(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE a (b INTEGER)"))
    read_only(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM a")).scalar() == 0
        with pytest.raises(OperationalError, match="readonly"):
            connection.execute(text("INSERT INTO a VALUES (1)"))
    engine.dispose()


def test_only_a_console_s_own_process_imports_the_web_framework() -> None:
    code = (
        "import sys, node.cli, coordinator.cli, foundation.web.password\n"
        "assert not {'fastapi', 'starlette', 'uvicorn', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _places(value: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(value) if name}
