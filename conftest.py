"""What all of pytest shares: where compiled code is kept during a run, counts of cases, and which doctests can run."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from omniconv.compiler.planning import sharing
from omniconv.processors import VARIABLE as THREADS

PEERS = Path(__file__).parent / "src" / "omniconv" / "bench" / "peers"
CACHE = "OMNICONV_CACHE"
FOLDER = pytest.StashKey[str]()
COUNTED: Counter[str] = Counter()

collect_ignore = [
    str(path) for path in sorted(PEERS.glob("*.py")) if path.stem != "__init__" and find_spec(path.stem) is None
]
"""Doctests of a peer are collected only where that runtime is installed."""
if find_spec("torch") is None:
    collect_ignore.append(str(Path(__file__).parent / "src" / "omniconv" / "torch"))


def pytest_configure(config: Any) -> None:
    """One folder of compiled code for all processes of this run, unless one is given. Even small tests are shared by
    all of their threads; those that do not say how many have one: the processes of a run share the processors already.
    """
    sharing.WAKE_US = sharing.MEET_US = sharing.EACH_US = 0.0
    os.environ.setdefault(THREADS, "1")
    if CACHE not in os.environ:
        os.environ[CACHE] = config.stash[FOLDER] = tempfile.mkdtemp(prefix="omniconv-tests-")


def pytest_unconfigure(config: Any) -> None:
    """Remove the folder that was made here."""
    folder = config.stash.get(FOLDER, None)
    if folder is not None:
        del os.environ[CACHE]
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Mark as *wide* what repeats a test for a further instruction set, number of threads or element: ``make test-all``
    runs it too. What stays is the reference and the native target, by two threads where they make a difference. Tests
    that take long for what they add, or are of another machine, are marked where they stand; of a *sampled* test, every
    second case is wide.
    """
    seen: Counter[str] = Counter()
    for item in items:
        given = getattr(item, "callspec", None)
        values = [given.params[key] for key in ("target", "engine") if key in given.params] if given else []
        names = [str(getattr(value, "name", value)) for value in values]
        kept = (name == "reference" or name.endswith(("native", "native-2")) for name in names)
        if not all(kept) or any(name.startswith("float64") for name in names):
            item.add_marker("wide")
        if item.get_closest_marker("sampled") is not None and item.get_closest_marker("wide") is None:
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] % 2 == 0:
                item.add_marker("wide")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: tests that collect garbage need not look through all of it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[Callable[..., None]]:
    """``tally(what, n=1)``: count cases that passed, for the summary at the end of the run."""
    counts: Counter[str] = Counter()

    def count(what: str, number: int = 1) -> None:
        counts[what] += number

    yield count
    for what, number in counts.items():
        record_property("counted", [what, number])


def pytest_runtest_logreport(report: Any) -> None:
    """Add up what the tests counted; every process's reports come here."""
    if report.when == "teardown" and report.passed:
        for name, value in report.user_properties:
            if name == "counted":
                COUNTED[value[0]] += value[1]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The number of cases behind the tests."""
    if COUNTED:
        terminalreporter.section("cases")
        for what, number in sorted(COUNTED.items()):
            terminalreporter.write_line(f"{number:7d}  {what}")
