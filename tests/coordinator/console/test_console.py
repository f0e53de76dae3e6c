"""The coordinator's console: a real process, asked by a real browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.coordinator.console.harness import fill, model_job
from tests.node.console.conftest import browser  # noqa: F401 (a fixture)
from tests.node.console.harness import (
    PASSWORD,
    PATIENCE_SECONDS,
    command,
    log_in,
    serving,
    set_password,
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A coordinator's home and the digest of its newest job."""
    home, digest = fill(tmp_path_factory.mktemp("home") / "coordinator")
    set_password("wardgate-coordinator", home)
    return home, digest


@pytest.fixture(scope="module")
def url(filled: tuple[Path, str]) -> Iterator[str]:
    """The URL of a console that runs."""
    with serving("wardgate-coordinator", filled[0]) as address:
        yield address


def test_an_operator_sees_sites_jobs_and_one_job(
    browser: Browser,  # noqa: F811
    url: str,
    filled: tuple[Path, str],
) -> None:
    context = browser.new_context(base_url=url, locale="en-GB")
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sites of north")
    expect(page.get_by_text("Sites online: 1 of 3. Researchers: 1.")).to_be_visible()
    for site, state in (("alder", "online"), ("birch", "offline"), ("cedar", "revoked")):
        expect(page.get_by_role("row", name=site)).to_contain_text(state)
    expect(page.get_by_role("row", name="alder")).to_contain_text("1,042")
    expect(page.get_by_role("row", name="alder")).to_contain_text("trial-2026")

    page.get_by_role("link", name="Jobs").click()
    expect(page.locator("tbody tr")).to_have_count(6)
    failed = page.get_by_role("row", name="failed")
    expect(failed).to_contain_text("Fewer than 2 sites answered.")
    page.get_by_role("link", name=filled[1][:12]).click()
    expect(page).to_have_url(re.compile(f"/jobs/{filled[1]}$"))
    birch = page.get_by_role("region", name="At the sites").get_by_role("row", name="birch")
    for cell in ("refused", "cohort-too-small", "fewer subjects than the policy"):
        expect(birch).to_contain_text(cell)
    expect(page.get_by_role("region", name="Events").locator("tbody tr")).to_have_count(3)
    context.close()


def test_an_operator_sees_a_model_where_it_comes_from_and_a_cross_site_evaluation(
    browser: Browser,  # noqa: F811
    url: str,
) -> None:
    context = browser.new_context(base_url=url, locale="en-GB")
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("region", name="List of models").locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name="222222222222").click()
    expect(page).to_have_url(re.compile(f"/models/{model_job(2)}$"))
    for text in ("FedAdam", "eta = 0.01", "tests/recovery 1.2.0", "rounds = 2", "45,000,000"):
        expect(page.locator("dl")).to_contain_text(text)
    alder = page.get_by_role("region", name="What left the sites").get_by_role("row", name="alder")
    expect(alder).to_contain_text("90,000,246")
    expect(alder).to_contain_text("UpdateClipped")
    expect(page.get_by_role("region", name="Rounds")).to_contain_text("train_loss 0.625")
    page.get_by_role("link", name="111111111111").click()
    expect(page).to_have_url(re.compile(f"/models/{model_job(1)}$"))
    page.goto(f"/models/{model_job(3)}")
    table = page.get_by_role("region", name="Cross-site evaluation: eval_loss")
    expect(table.get_by_role("row", name="all (mean)")).to_contain_text("2.25")
    context.close()


def test_unknown_jobs_and_strangers_get_nothing(url: str) -> None:
    with httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as client:
        assert client.get("/jobs").headers["location"] == "/login"
        assert log_in(client).status_code == 303
        assert "a recipe's own words" not in client.get("/").text
        for path in ("/jobs/abc", f"/models/{'0' * 64}", "/models/x", "/openapi.json"):
            assert client.get(path).status_code == 404
        chinese = client.get("/", params={"lang": "zh-Hans"})
        assert "在线站点：1 / 3" in chinese.text
        assert chinese.headers["content-language"] == "zh-Hans"
        assert "作业" in client.get("/jobs").text
        assert "跨站点评估：eval_loss" in client.get(f"/models/{model_job(3)}").text


@pytest.mark.parametrize(
    ("initialised", "code", "words"),
    [(False, 14, "holds no coordinator"), (True, 3, "wardgate-coordinator console password")],
)
def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, initialised: bool, code: int, words: str
) -> None:
    home = tmp_path / "c"
    if initialised:
        fill(home)
    ended = subprocess.run(
        [command("wardgate-coordinator"), "console"],
        env={"WARDGATE_COORDINATOR_HOME": str(home), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
