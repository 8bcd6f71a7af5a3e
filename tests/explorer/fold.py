"""Parts of a page that are folded away."""

from __future__ import annotations


def unfold(part) -> None:
    """Unfold the numbers in a part and wait for them: the page writes them after the click, when it is told."""
    part.locator("summary").first.click()
    part.locator("details[open] tbody tr").first.wait_for(state="attached")
