"""A browser, one for all tests of a process."""

from __future__ import annotations

from tests.browser import browser

__all__ = ["browser"]
