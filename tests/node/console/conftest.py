"""A browser, and a node's console that serves a filled home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.node.console.harness import CHROMIUM, PATIENCE_SECONDS, fill, keep_password, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium without a window."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's home with a password for its console."""
    root = tmp_path_factory.mktemp("home") / "node"
    fill(root)
    keep_password(root)
    return root


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """The URL of a console that runs."""
    with serving("wardgate-node", home) as address:
        yield address
