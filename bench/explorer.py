"""Time the explorer's page in headless Chromium, as a reader meets it.

    python bench/explorer.py [--rounds 15]

Printed, as medians with the smallest and the largest: the time to the first paint of a page that is opened from a
file; the time from an edit of a weight until the result on a picture of 512 x 512 is drawn, and until the picture of
the layer is; and the time of a 3x3 kernel at 512 x 512, in the WebAssembly that Omniconv compiled for this layer and
in a plain JavaScript loop, with their ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final

from omniconv.explorer import explore

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PANEL: Final = "#panel-run-on-a-picture"

FIRST_PAINT: Final = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"

EDIT: Final = """
async ([selector, value]) => {
  const box = document.querySelector(selector);
  await new Promise((done) => requestAnimationFrame(done));
  const start = performance.now();
  box.value = value;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  const result = performance.now() - start;
  // The picture of the layer is drawn before the next picture of the screen, and what was asked for later after it.
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [result, performance.now() - start];
}
"""


def find_browser() -> str | None:
    """The Chromium that is installed; ``OMNICONV_BROWSER`` names another program."""
    return os.environ.get("OMNICONV_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)


def open_page(browser: Any, address: str) -> Any:
    """A page of its own, with nothing kept from the one before."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(address)
    page.wait_for_function(FIRST_PAINT)
    return page


def time_paints(browser: Any, address: str, rounds: int) -> list[float]:
    """Until the first paint of a fresh page [ms]."""
    found = []
    for _ in range(rounds):
        page = open_page(browser, address)
        found.append(float(page.evaluate(FIRST_PAINT)))
        page.context.close()
    return found


def open_picture(page: Any) -> None:
    """The layer at work on a picture of 512 x 512, by its own module."""
    page.click("#tab-run-on-a-picture")
    page.locator(f"{PANEL} label", has_text="512").click()
    page.wait_for_function(
        "panel => document.querySelector(`${panel} .result`).textContent.includes('compiled for this layer')", arg=PANEL
    )


def time_edits(page: Any, rounds: int) -> tuple[list[float], list[float]]:
    """From an edit of a weight until the result is drawn, and until the layer is [ms]."""
    pairs = [page.evaluate(EDIT, [".weights input", str(1 + turn)]) for turn in range(rounds)]
    return [float(first) for first, _ in pairs], [float(second) for _, second in pairs]


def time_kernels(page: Any, rounds: int) -> tuple[list[float], list[float]]:
    """The module and the plain loop, as the page says them after it has compared the two [ms]."""
    ours, plain = [], []
    for turn in range(rounds):
        page.evaluate(EDIT, [".weights input", str(20 + turn)])
        page.get_by_role("button", name="Compare with a plain JavaScript loop").click()
        text = page.locator(PANEL).text_content()
        plain.append(_read(text, r"JavaScript loop takes ([\d.]+) ms"))
        ours.append(_read(text, r"and this ([\d.]+) ms"))
    return ours, plain


def _read(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"the page says {text!r}")
    return float(found[1])


def show(what: str, times: Iterable[float], goal: str) -> None:
    """One row."""
    found = sorted(times)
    print(f"{what:58} {median(found):8.2f} ms  ({found[0]:.2f} to {found[-1]:.2f})  {goal}")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args(arguments).rounds
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = explore("cross_correlation").save(Path(folder) / "explorer.html")
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        print(f"Chromium {browser.version}, {platform.machine()}, page of {path.stat().st_size / 1e6:.2f} MB")
        show("first paint", time_paints(browser, path.as_uri(), rounds), "goal: below 500")
        page = open_page(browser, path.as_uri())
        open_picture(page)
        results, layers = time_edits(page, rounds)
        show("an edit, until the result at 512 x 512 is drawn", results, "goal: below 50")
        show("an edit, until the layer is drawn, too", layers, "")
        ours, plain = time_kernels(page, rounds)
        show("a 3x3 kernel at 512 x 512, WebAssembly of this layer", ours, "goal: below 1")
        show("the same, a plain JavaScript loop", plain, "")
        print(f"ratio of the medians: {median(plain) / median(ours):.1f}")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
