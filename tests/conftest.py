"""A browser, one for all tests of a process, and interrupts."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.browser import browser

__all__ = ["browser"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Interrupts raise: a process that a shell started in the background ignores them unless it says otherwise."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)
