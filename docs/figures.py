"""Figures of kinds, by the explorer's own code: the page draws each and saves it as SVG, in headless Chromium.

    python docs/figures.py            write docs/pictures/kinds/KIND.svg
    python docs/figures.py --check    exit code 1 if one is not current

Letters are placed without measuring them, so that a figure is the same on every machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from omniconv.explorer import explore
from omniconv.kinds import kinds

FOLDER: Final = Path(__file__).resolve().parent / "pictures" / "kinds"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE: Final = {"width": 1440, "height": 900}
"""Of the window: the picture fits its stage."""


def draw(browser: Any) -> Iterator[tuple[str, str]]:
    """Each kind with its figure, in a browser that Playwright drives."""
    with tempfile.TemporaryDirectory() as folder:
        address = explore().save(Path(folder) / "explorer.html").as_uri()
        context = browser.new_context(viewport=SIZE, color_scheme="light", accept_downloads=True)
        page = context.new_page()
        page.goto(f"{address}#kind=cross_correlation")
        page.click("#tab-take-along")
        for kind in kinds():
            page.select_option("#kind", kind)
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            with page.expect_download() as saved:
                page.get_by_role("button", name="Save it as SVG").click()
            yield kind, Path(saved.value.path()).read_text(encoding="utf-8") + "\n"
        context.close()


def find_browser() -> str | None:
    """The Chromium that is installed; ``OMNICONV_BROWSER`` names another program."""
    return os.environ.get("OMNICONV_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)


def renew(*, check: bool = False) -> list[str]:
    """Write the figures that differ, or only name them."""
    from playwright.sync_api import sync_playwright

    changed = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        for kind, text in draw(browser):
            path = FOLDER / f"{kind}.svg"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                changed.append(kind)
                if not check:
                    path.write_text(text, encoding="utf-8", newline="\n")
        browser.close()
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(arguments).check
    changed = renew(check=check)
    for kind in changed:
        print(f"{kind}.svg")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
