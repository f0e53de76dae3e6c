"""The pages of what waits, what recipes are given, and what they leave here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import save_file

from contract.documents import JOB_TYPE, RecipeGrant
from contract.keys import SigningKey
from contract.work import TrainingWork
from node.catalog import schema
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.inbox import Inbox
from node.catalog.manifest import ReleaseManifest
from node.catalog.store import Catalog
from node.config import create_home
from node.console.drafts import drafts_lines
from node.console.weights import weights_lines
from node.gate.inbox.decisions import decide
from node.gate.inbox.stewards import register
from node.home import NodeHome
from node.work.training import weights
from tests.contract.world import NOW, World
from tests.node.console.harness import PASSWORD, PATIENCE_SECONDS, keep_password, log_in, serving
from tests.node.homes import new_home

BUNDLE = "b" * 64
ASSET = "a55e7" + "0" * 59
DRAFT = "d4af7" + "0" * 59
JOB = "1" * 64
FIRST = SigningKey.generate()
SECOND = SigningKey.generate()
STRANGER = SigningKey.generate()


def given(root: Path) -> Path:
    """Make a node with two files of weights, of which a job names one, and drafts of three jobs."""
    home = create_home(new_home(root / "node"))
    world = World()
    with Catalog.open(home) as catalog:
        asked, inbox = Asked(catalog.engine), Inbox(catalog.engine)
        digests = []
        for number, name in enumerate(("resnet50-imagenet", "unet-lits")):
            save_file({"stem": np.full((4, 3), number, np.float32)}, root / name)
            digest, _, _ = weights.examine(root / name)
            weights.approve(catalog.engine, home, root / name, digest, name, NOW)
            digests.append(digest)
        weights.withdraw(catalog.engine, home, digests[1], NOW + timedelta(days=1))
        asked.put_consortium(
            ConsortiumRow(world.consortium, "kentucky", "localhost:1", FIRST.id, None), NOW
        )
        inbox.add_steward(SECOND.id, "mei", register(FIRST, "mei", SECOND.public, NOW), NOW)
        for key in (FIRST, SECOND, STRANGER):
            signed = decide(key, "weights", digests[0], (None, None), NOW)
            inbox.add_decision(digests[0], key.id, signed, NOW)
        grant = RecipeGrant(name="chest", bundle=BUNDLE, metrics=(), weights=(digests[0],))
        asked.put_project(world.consortium, "birth", 1, world.signed_project(recipes=(grant,)))
        work = TrainingWork(bundle=BUNDLE, parameters={"weights": digests[0]})
        job = world.job(work=work)
        envelope = job.seal(JOB_TYPE).sign(world.researchers["ana"]).to_bytes()
        asked.add_job(JOB, job, "kentucky", envelope, "closed", "", NOW)
        inbox.add_job(JOB, ("recipe",), NOW)
        releases = []
        for name in ("chest-2026", "chest-2025"):
            manifest = ReleaseManifest(
                name=name, table=None, rows=0, subjects=40, assets={"CT": 90}, files=()
            )
            catalog.add_release(manifest.digest, manifest, NOW)
            releases.append(manifest.digest)
        catalog.revoke_release(releases[1], NOW)
        leave(catalog, JOB, releases[0], files=3, hour=1)
        leave(catalog, "2" * 64, releases[1], files=1, hour=2)
    keep_password(home.root)
    return home.root


def leave(catalog: Catalog, job: str, release: str, files: int, hour: int) -> None:
    """Write what a worker's drafts leave in the catalogue: one is JSON, the others are PNG."""
    rows = [
        {
            "job": job,
            "name": f"{ASSET}-{number}.{'json' if number == 0 else 'png'}",
            "digest": DRAFT,
            "kind": "json" if number == 0 else "png",
            "size_bytes": 1000,
            "asset": ASSET,
            "release": release,
            "recipe": BUNDLE,
            "made_at": NOW + timedelta(hours=hour, minutes=number),
        }
        for number in range(files)
    ]
    with catalog.engine.begin() as connection:
        connection.execute(schema.drafts.insert(), rows)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return given(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serving("wardgate-node", home) as address:
        yield address


@pytest.fixture(scope="module")
def steward(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(timeout=PATIENCE_SECONDS, base_url=url) as client:
        log_in(client)
        yield client


@pytest.fixture(scope="module")
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page of a steward who has logged in."""
    context = browser.new_context(base_url=url, locale="en-GB")
    tab = context.new_page()
    tab.goto("/")
    tab.get_by_label("Password").fill(PASSWORD)
    tab.locator("main button").click()
    yield tab
    context.close()


def test_weights_are_shown_with_who_signed_who_may_and_who_did_use_them(page: Page) -> None:
    page.get_by_role("link", name="Weights").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Pretrained weights")
    row = page.get_by_role("row", name=re.compile("resnet50-imagenet"))
    expect(row).to_contain_text("the node's first steward")
    expect(row).to_contain_text("mei")
    expect(row).to_contain_text("preterm/birth")
    expect(row).to_contain_text("ana")
    withdrawn = page.get_by_role("row", name=re.compile("unet-lits"))
    expect(withdrawn).to_contain_text("withdrawn")
    expect(withdrawn).to_contain_text("nobody: one person is enough")


def test_what_waits_is_on_the_overview_and_in_the_inbox(page: Page) -> None:
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="1 in the inbox").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Inbox")
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text(re.compile("job.*nobody here has approved its recipe", re.DOTALL))
    expect(row).to_contain_text("preterm/birth")


def test_drafts_are_shown_as_sums_of_jobs_and_those_of_a_revoked_release_as_held_back(
    page: Page,
) -> None:
    page.get_by_role("link", name="Drafts").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Drafts")
    rows = page.get_by_role("row")
    expect(rows.nth(1)).to_contain_text("not exported: release revoked")
    expect(rows.nth(2)).to_contain_text(re.compile(r"kept.*3.*3,000.*JSON 1.*PNG 2", re.DOTALL))
    expect(rows.nth(2)).to_contain_text("chest-2026")


def test_the_json_says_what_the_page_does_and_needs_a_login(
    home: Path, url: str, steward: httpx.Client
) -> None:
    with Catalog.open(NodeHome(home)) as catalog:
        files = weights_lines(catalog, Asked(catalog.engine))
        jobs = drafts_lines(catalog)
    told = steward.get("/weights.json").json()
    assert [one["digest"] for one in told] == [one.digest for one in files]
    first = next(one for one in told if one["state"] == "approved")
    assert {one["key_id"]: one["name"] for one in first["approvers"]} == {
        FIRST.id: "",
        SECOND.id: "mei",
    }, "a stranger's signature is nobody's"
    assert first["projects"] == ["preterm/birth"]
    assert [one["job"] for one in first["jobs"]] == [JOB]
    left = steward.get("/drafts.json").json()
    assert [(one["job"], one["state"], one["files"]) for one in left] == [
        (one.job, one.state, one.files) for one in jobs
    ]
    assert left[1]["kinds"] == {"json": 1, "png": 2}
    for path in ("/weights.json", "/drafts.json"):
        assert httpx.get(url + path).status_code == 303
        assert steward.get(path).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/drafts", "/drafts.json"])
def test_neither_a_draft_s_file_nor_its_asset_is_named(steward: httpx.Client, path: str) -> None:
    text = steward.get(path).text
    assert JOB in text
    assert ASSET[:12] not in text and DRAFT[:12] not in text


def test_both_pages_are_in_chinese_too(steward: httpx.Client) -> None:
    weights_page = steward.get("/weights", params={"lang": "zh-Hans"}).text
    assert "预训练权重" in weights_page and "节点的首位数据管理员" in weights_page
    drafts_page = steward.get("/drafts", params={"lang": "zh-Hans"}).text
    assert "草稿" in drafts_page and "不可导出：发布版已撤销" in drafts_page
    assert "DICOM" not in drafts_page
    steward.get("/", params={"lang": "en"})


def test_without_any_the_pages_say_so(tmp_path: Path) -> None:
    home = create_home(new_home(tmp_path / "node"))
    keep_password(home.root)
    with (
        serving("wardgate-node", home.root) as address,
        httpx.Client(timeout=PATIENCE_SECONDS, base_url=address) as client,
    ):
        log_in(client)
        assert "Nothing waits for a steward." in client.get("/inbox").text
        assert "No weights have been let in." in client.get("/weights").text
        assert "No recipe has left drafts here." in client.get("/drafts").text
        assert client.get("/weights.json").json() == client.get("/drafts.json").json() == []
