"""A browser for tests of pages."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--use-fake-device-for-media-stream",
)  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright; ``OMNICONV_BROWSER`` names another program."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    program = os.environ.get("OMNICONV_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium is installed; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield chromium
        chromium.close()
