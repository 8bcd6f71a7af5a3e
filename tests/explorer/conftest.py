"""A browser, and the explorer in it."""

from __future__ import annotations

from tests.browser import browser

__all__ = ["browser"]
