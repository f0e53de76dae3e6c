"""The node's console: a real process, asked by a real browser and by a plain HTTP client."""

from __future__ import annotations

import io
import re
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from playwright.sync_api import Browser, Page, expect

from contract.errors import CertificateError, NotFound, Unavailable, UsageError, WardgateError
from foundation.web.guard import POLICY
from node.commands import console
from node.home import NodeHome
from tests.node.console.harness import (
    PASSWORD,
    PATIENCE_SECONDS,
    PSEUDONYM,
    command,
    fill,
    hidden,
    keep_password,
    log_in,
    serving,
    set_password,
)

PAGES = ("/", "/releases", "/cohorts", "/jobs", "/weights", "/drafts", "/ledger")


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    """Somebody who isn't logged in."""
    with httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as one:
        yield one


@pytest.fixture(scope="module")
def steward(url: str) -> Iterator[httpx.Client]:
    """Somebody who is logged in."""
    with httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as one:
        assert log_in(one).status_code == 303
        yield one


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A tab of a browser that speaks English."""
    context = browser.new_context(base_url=url, locale="en-GB")
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    yield tab
    context.close()
    assert not [c for c in complaints if "Content Security Policy" in c]


def enter(page: Page) -> None:
    """Log in as a person does."""
    page.goto("/")
    page.get_by_label(re.compile("Password|密码")).fill(PASSWORD)
    page.locator("main button").click()


class TestInABrowser:
    def test_a_steward_logs_in_reads_every_page_and_logs_out(self, page: Page) -> None:
        page.goto("/releases")
        expect(page).to_have_url(re.compile("/login$"))
        expect(page.get_by_label("Password")).to_be_focused()
        enter(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        expect(page.get_by_text("The chain of the ledger is whole: 60 entries")).to_be_visible()
        expect(page.get_by_role("row", name="north lakeside")).to_contain_text("1 of 2")
        expect(page.get_by_text("20 subjects")).to_be_visible()

        page.get_by_role("link", name="Releases").click()
        row = page.get_by_role("row", name="trial-2026")
        for cell in ("valid", "1,790", "1,843", "north/stroke", "north/stroke-imaging"):
            expect(row).to_contain_text(cell)
        expect(page.get_by_role("row", name="chest-2026")).to_contain_text("revoked")
        expect(page.get_by_role("row", name="chest-2026")).to_contain_text("CR 500")

        page.get_by_role("link", name="Jobs").click()
        refused = page.get_by_role("row", name="refused")
        for cell in ("2026-03-04 05:07:07", "not-in-project", "north", "stroke", "lin"):
            expect(refused).to_contain_text(cell)

        page.get_by_role("link", name="Ledger").click()
        newest = page.get_by_role("region", name="List of ledger entries").locator("tbody tr")
        expect(newest).to_have_count(50)
        expect(newest.first).to_contain_text("59")
        page.get_by_role("link", name="Older").click()
        expect(newest).to_have_count(10)
        expect(newest.last).to_contain_text("admitted")
        newest.last.get_by_text("4 rules").click()
        expect(newest.last).to_contain_text("IsNotReplayed")

        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(re.compile("/login$"))
        page.goto("/jobs")
        expect(page).to_have_url(re.compile("/login$"))

    def test_a_wrong_password_is_told_and_lets_nobody_in(self, page: Page) -> None:
        page.goto("/login")
        page.get_by_label("Password").fill("not the password")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("That is not the password.")
        page.goto("/releases")
        expect(page).to_have_url(re.compile("/login$"))
        enter(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    def test_a_chinese_browser_gets_chinese_and_may_change_it(
        self, browser: Browser, url: str
    ) -> None:
        context = browser.new_context(base_url=url, locale="zh-CN")
        page = context.new_page()
        page.goto("/login")
        expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
        enter(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("概览")
        page.get_by_role("link", name="台账").click()
        expect(page.get_by_text("台账链完整：60 个条目")).to_be_visible()
        page.get_by_role("link", name="English").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Ledger")
        page.goto("/jobs")
        expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        context.close()

    def test_the_keyboard_reaches_the_content_and_a_small_screen_does_not_scroll_sideways(
        self, browser: Browser, url: str
    ) -> None:
        context = browser.new_context(
            base_url=url, locale="en-GB", viewport={"width": 390, "height": 800}
        )
        page = context.new_page()
        enter(page)
        for path in PAGES:
            page.goto(path)
            wide = page.locator("html").evaluate("e => e.scrollWidth > e.clientWidth")
            assert not wide, path
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        context.close()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_has_the_contrast_that_wcag_asks_for(
        self, browser: Browser, url: str, scheme: str
    ) -> None:
        context = browser.new_context(base_url=url, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto("/login")
        colours = page.evaluate(
            """() => Object.fromEntries(['page', 'card', 'text', 'muted', 'accent', 'on-accent',
            'good', 'good-back', 'bad', 'bad-back', 'warn', 'warn-back', 'plain-back'].map(name =>
            [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name)]))"""
        )
        pairs = [(f, b) for f in ("text", "muted", "accent") for b in ("page", "card")]
        pairs += [(tone, f"{tone}-back") for tone in ("good", "bad", "warn")]
        pairs += [("on-accent", "accent"), ("text", "plain-back"), ("accent", "plain-back")]
        for front, back in pairs:
            assert contrast(colours[front], colours[back]) >= 4.5, (scheme, front, back)
        context.close()


class TestAccess:
    def test_without_a_session_every_page_leads_to_the_login(self, client: httpx.Client) -> None:
        for path in (*PAGES, "/nothing", "/docs", "/openapi.json"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert client.post("/logout").status_code == 403
        assert client.get("/health").text == "ok\n"

    def test_an_invented_session_is_none(self, client: httpx.Client, url: str) -> None:
        port = url.rsplit(":", 1)[1]
        answer = client.get("/", headers={"Cookie": f"wardgate-{port}-session=invented"})
        assert answer.status_code == 303

    def test_a_login_without_its_form_s_token_is_forbidden(self, client: httpx.Client) -> None:
        assert client.post("/login", data={"password": PASSWORD}).status_code == 403
        token = hidden(client.get("/login").text)
        wrong = {"csrf": token[:-1] + "x", "password": PASSWORD}
        assert client.post("/login", data=wrong).status_code == 403
        client.cookies.clear()
        stolen = {"csrf": token, "password": PASSWORD}
        answer = client.post("/login", data=stolen)
        assert answer.status_code == 403
        assert "session" not in answer.headers.get("set-cookie", "")

    def test_a_logout_without_its_token_changes_nothing(self, steward: httpx.Client) -> None:
        for fields in ({"x": ""}, {"csrf": ""}, {"csrf": "x"}):
            assert steward.post("/logout", data=fields).status_code == 403
        assert steward.get("/logout").status_code == 405
        assert steward.get("/").status_code == 200

    def test_a_session_s_cookie_is_for_this_site_and_no_script(self, client: httpx.Client) -> None:
        cookies = log_in(client).headers.get_list("set-cookie")
        session = next(c for c in cookies if "-session=" in c)
        for part in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert part in session
        assert "Max-Age" not in session and "Domain" not in session
        assert client.get("/login").headers["location"] == "/"

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a@localhost", ""])
    def test_another_host_name_gets_nothing(self, client: httpx.Client, host: str) -> None:
        assert client.get("/login", headers={"Host": host}).status_code == 400

    def test_every_answer_has_the_headers(
        self, client: httpx.Client, steward: httpx.Client
    ) -> None:
        answers = [steward.get(path) for path in (*PAGES, "/nothing", "/static/wardgate.css")]
        answers += [client.get("/"), client.get("/login"), client.get("/static/../app.py")]
        answers.append(client.get("/", headers={"Host": "evil.example"}))
        for answer in answers:
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers
        assert "default-src 'none'; style-src 'self'" in POLICY
        assert answers[0].headers["cache-control"] == "no-store"

    def test_there_is_no_api_description(self, steward: httpx.Client) -> None:
        for path in ("/docs", "/redoc", "/openapi.json", "/static/", "/static/..%2fpages.py"):
            assert steward.get(path).status_code == 404, path

    def test_a_huge_or_foreign_form_is_refused(self, steward: httpx.Client) -> None:
        assert steward.post("/logout", data={"csrf": "x" * 20_000}).status_code == 413
        assert steward.post("/logout", json={"csrf": "x"}).status_code == 415

    def test_no_page_shows_a_pseudonym_or_a_script(self, steward: httpx.Client) -> None:
        for path in (*PAGES, "/ledger?page=2", "/ledger?page=999", "/ledger?page=-1"):
            answer = steward.get(path)
            assert answer.status_code == 200
            assert PSEUDONYM not in answer.text
            assert "2.25." not in answer.text
            assert "<script" not in answer.text

    def test_what_a_stranger_writes_is_not_markup(self, steward: httpx.Client) -> None:
        answer = steward.get("/ledger", params={"page": "<b>", "x": '"><script>'})
        assert "<script>" not in answer.text and "<b>" not in answer.text


class TestProcess:
    def test_the_sixth_wrong_password_in_a_minute_must_wait(self, home: Path) -> None:
        with (
            serving("wardgate-node", home) as url,
            httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as client,
        ):
            codes = [log_in(client, "wrong password").status_code for _ in range(6)]
            assert codes == [403] * 5 + [429]
            # A header can't make somebody else of the one who guesses.
            client.headers["X-Forwarded-For"] = "192.0.2.7"
            answer = log_in(client)
            assert answer.status_code == 429
            assert 0 < int(answer.headers["retry-after"]) <= 60

    def test_a_new_password_logs_everybody_out_and_an_edited_ledger_is_seen(
        self, tmp_path: Path
    ) -> None:
        home = fill(tmp_path / "node", entries=12)
        keep_password(home.root)
        with (
            serving("wardgate-node", home.root) as url,
            httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as client,
        ):
            log_in(client)
            assert "12 entries" in client.get("/").text
            path = home.ledger / "ledger.jsonl"
            path.write_bytes(path.read_bytes().replace(b'"bytes":1234', b'"bytes":1235', 1))
            for shown in ("/", "/ledger"):
                assert "breaks at entry 2" in client.get(shown).text
            set_password("wardgate-node", home.root, "another password")
            assert client.get("/").status_code == 303
            assert log_in(client).status_code == 403
            assert log_in(client, "another password").status_code == 303

    def test_it_writes_nothing_into_the_home(self, tmp_path: Path) -> None:
        home = fill(tmp_path / "node", entries=3)
        keep_password(home.root)
        before = contents(home)
        with (
            serving("wardgate-node", home.root) as url,
            httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as client,
        ):
            log_in(client)
            for path in PAGES:
                assert client.get(path).status_code == 200
        assert contents(home) == before

    def test_over_tls_the_cookie_is_for_tls_alone(self, home: Path, tmp_path: Path) -> None:
        certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                "-keyout", str(key), "-out", str(certificate), "-days", "2",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        options = ("--tls-cert", str(certificate), "--tls-key", str(key))
        with serving("wardgate-node", home, *options) as url:
            assert url.startswith("https://")
            with httpx.Client(timeout=PATIENCE_SECONDS, base_url=url, verify=False) as client:
                cookies = log_in(client).headers.get_list("set-cookie")
                session = next(c for c in cookies if "-session=" in c)
                assert session.startswith("__Host-wardgate-") and "Secure" in session
                assert client.get("/").status_code == 200

    def test_what_is_wrong_is_said_in_one_line(self, home: Path, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            cases: list[tuple[list[str], int, str]] = [
                (["--home", str(tmp_path)], 3, "set one with 'wardgate-node console password'"),
                (["--home", str(home), "--port", port], 10, f"Port {port} on 127.0.0.1 is in use"),
            ]
            for options, code, words in cases:
                ended = subprocess.run(
                    [command("wardgate-node"), "console", *options],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=30,
                )
                assert ended.returncode == code, (options, ended.stderr)
                assert words in ended.stderr
                assert len(ended.stderr.splitlines()) == 1

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            (["--home", "nowhere"], NotFound, "There is no node at"),
            (["--home", "HOME", "--host", "192.0.2.1"], Unavailable, "can listen on 192.0.2.1"),
            (["--home", "HOME", "--tls-cert", "a"], UsageError, "go together"),
            (
                ["--home", "HOME", "--tls-cert", "a", "--tls-key", "b", "--port", "0"],
                CertificateError,
                "certificate or key",
            ),
            (["--home", "HOME", "password"], UsageError, "Give --home after 'password'"),
            (["password", "--stdin", "--home", "HOME"], UsageError, "at least 12 characters"),
        ],
    )
    def test_what_can_t_be_done_is_an_error_of_ours(
        self,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: list[str],
        error: type[WardgateError],
        words: str,
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("too short\n"))
        given = [str(home) if option == "HOME" else option for option in options]
        with pytest.raises(error, match=words):
            typer.main.get_command(console.app).main(given, standalone_mode=False)


def contents(home: NodeHome) -> dict[str, object]:
    """Return what a home holds: the files outside the database, and the database's rows."""
    files: dict[str, object] = {
        str(path): path.read_bytes()
        for path in home.root.rglob("*")
        if path.is_file() and not path.name.startswith("catalogue.db")
    }
    with sqlite3.connect(home.database) as connection:
        files["rows"] = list(connection.iterdump())
    connection.close()
    return files


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, definition of contrast ratio)."""
    first, second = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
