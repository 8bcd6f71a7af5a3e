"""axe-core judges the accessibility of a page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

RUN = """
async (place) => {
  const { violations } = await axe.run(place, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, any, all, none }) =>
    `${id} at ${target.join(" ")}: ${[...any, ...all, ...none].map(({ message }) => message).join("; ")}`));
}
"""


def judge(page, within: str = "html") -> list[str]:
    """What axe-core finds wrong, by all its rules: the rule, the place, the reason.

    The script comes by the debugger, so that the page's own policy, which forbids it, stays as it is.
    """
    found = find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe-playwright-python is not installed")
    if not page.evaluate("'axe' in window"):
        page.evaluate((Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    return page.evaluate(RUN, within)
