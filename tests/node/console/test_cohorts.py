"""Cohorts in the console: the filter of a question, counted over a real release."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.errors import UsageError
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.store import Catalog
from node.console.cohorts import MAX_TEXT, read
from node.home import NodeHome
from tests.contract.world import World
from tests.node.console.harness import (
    PASSWORD,
    PATIENCE_SECONDS,
    command,
    hidden,
    keep_password,
    log_in,
    serving,
)

PATIENTS = 300
VARIABLES = (
    Variable(name="age", kind="number", minimum=0, maximum=100, bins=10),
    Variable(name="sex", kind="category", levels=("f", "m")),
)
AGES = np.random.default_rng(4).integers(20, 90, PATIENTS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node with a release of 300 patients that a project may ask; sex can be asked exactly."""
    root = tmp_path_factory.mktemp("cohorts")
    rows = "".join(f"p{i},{age},{'fm'[i % 2]}\n" for i, age in enumerate(AGES))
    (root / "trial.csv").write_text("pid,age,sex\n" + rows)
    (root / "schema.toml").write_text(
        'table = "table"\nsubject = "pid"\n'
        '[[columns]]\nname = "pid"\ntype = "identifier"\n'
        '[[columns]]\nname = "age"\ntype = "number"\n'
        '[[columns]]\nname = "sex"\ntype = "category"\nlevels = ["f", "m"]\n'
    )
    place = ["--home", str(root / "node")]
    for words in (
        ["ingest", str(root / "trial.csv"), "--schema", str(root / "schema.toml")],
        ["release", "create", "trial", "--table", "table", "--cells", "sex"],
    ):
        subprocess.run([command("wardgate-node"), *words, *place], check=True, capture_output=True)
    world, now = World(), datetime.now(UTC)
    with Catalog.open(NodeHome(root / "node")) as catalog:
        asked = Asked(catalog.engine)
        asked.put_consortium(
            ConsortiumRow(world.consortium, "kentucky", "localhost:1", "k", None), now
        )
        asked.put_project(world.consortium, "birth", 1, world.signed_project(variables=VARIABLES))
        release = catalog.find_release("trial").digest
        catalog.grant(release, world.consortium, "birth", now)
    keep_password(root / "node")
    return root / "node"


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serving("wardgate-node", home) as address:
        yield address


@pytest.fixture(scope="module")
def context(browser: Browser, url: str) -> Iterator[BrowserContext]:
    """Where a steward has logged in."""
    one = browser.new_context(base_url=url, locale="en-GB")
    tab = one.new_page()
    tab.goto("/")
    tab.get_by_label("Password").fill(PASSWORD)
    tab.locator("main button").click()
    tab.get_by_role("link", name="Cohorts").click()
    yield one
    one.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    tab = context.new_page()
    tab.goto("/cohorts")
    yield tab
    tab.close()


def count(page: Page, text: str) -> None:
    page.get_by_label("Conditions").fill(text)
    page.get_by_role("button", name="Count").click()


def test_conditions_are_counted_and_shown_as_json_that_counts_alike(page: Page) -> None:
    wanted = int(((AGES >= 65) & (np.arange(PATIENTS) % 2 == 0)).sum())
    count(page, "age >= 65\nsex = f")
    expect(page.get_by_role("status")).to_have_text(re.compile(rf"^{wanted} of 300 subjects$"))
    written = page.locator("pre").inner_text()
    assert Cohort.model_validate_json(written) == read("age >= 65\n\nsex = f\n")
    count(page, written)
    expect(page.get_by_role("status")).to_have_text(re.compile(rf"^{wanted} of 300 subjects$"))
    expect(page.get_by_label("Conditions")).to_have_value(re.compile("at_least"))


def test_what_conditions_can_be_on_is_listed(page: Page) -> None:
    region = page.get_by_role("region", name=re.compile("^Variables of "))
    rows = [re.sub(r"\s+", " ", text) for text in region.get_by_role("row").all_inner_texts()]
    assert [row.strip() for row in rows[1:]] == ["age 0 – 100", "sex f | m"]


def test_it_says_by_which_lane_the_gate_would_answer(page: Page) -> None:
    count(page, "sex = f")
    expect(page.get_by_text("exactly.")).to_be_visible()
    count(page, "age >= 65")
    expect(page.get_by_text(re.compile("with noise|would not answer"))).to_be_visible()
    count(page, "")
    expect(page.get_by_role("status")).to_have_text("300 of 300 subjects")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("weight > 3", "not in the project's dictionary"),
        ("age = old", "has no condition like"),
        ("whoever", "is no condition"),
        ('{"variable": "age"}', "is no cohort"),
        ("sex = <script>", "a level that sex hasn't got"),
    ],
)
def test_what_is_no_cohort_is_told_beside_the_text(page: Page, text: str, said: str) -> None:
    count(page, text)
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.get_by_label("Conditions")).to_have_value(text)
    expect(page.get_by_role("status")).to_have_count(0)


def test_a_form_of_nobody_s_and_a_release_that_is_not_granted_count_nothing(url: str) -> None:
    with httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as client:
        log_in(client)
        assert client.post("/cohorts", data={"where": "age > 1"}).status_code == 403
        token = hidden(client.get("/cohorts").text)
        form = {"csrf": token, "release": f"{'a' * 64}/preterm/birth", "where": "age > 1"}
        answer = client.post("/cohorts", data=form)
        assert "can&#39;t be asked" in answer.text
        assert 'role="status"' not in answer.text


def test_a_huge_text_is_no_cohort() -> None:
    with pytest.raises(UsageError, match="at most"):
        read("a" * (MAX_TEXT + 1))
    assert read(" \n ") is None
