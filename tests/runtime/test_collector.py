"""Collecting rarely ends where it began, also with many at it, and in the child of a fork."""

from __future__ import annotations

import gc
import os
import threading

import pytest
from tests.graph.test_network import draw, pooled

import omniconv as oc
from omniconv.runtime.collector import RARELY, collecting_rarely


@pytest.fixture(autouse=True)
def usual():
    """The thresholds of these tests."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_thresholds_come_back() -> None:
    seen = []

    def fail() -> None:
        with collecting_rarely():
            seen.append(gc.get_threshold())
            with collecting_rarely():
                pass
            seen.append(gc.get_threshold())
            raise ValueError("as it happens")

    with pytest.raises(ValueError, match="as it happens"):
        fail()
    assert seen == [(RARELY, 10, 10)] * 2, "somebody is at it"
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("first", [0, RARELY + 1])
def test_who_collects_more_rarely_still_does(first: int) -> None:
    gc.set_threshold(first, 10, 10)
    with collecting_rarely():
        assert gc.get_threshold()[0] == first


def test_many_threads() -> None:
    ready, go = threading.Barrier(5), threading.Event()

    def work() -> None:
        with collecting_rarely():
            ready.wait(30)
            go.wait(30)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    assert gc.get_threshold()[0] == RARELY
    go.set()
    for thread in threads:
        thread.join()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_somebody_is_at_it() -> None:
    with collecting_rarely():
        child = os.fork()
        if not child:
            os._exit(0 if gc.get_threshold() == (700, 10, 10) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_network_with_open_sizes_collects_rarely_while_it_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = oc.compile(pooled(None, 3, "h", "w")), []
    build = net._build
    monkeypatch.setattr(net, "_build", lambda shapes: seen.append(gc.get_threshold()[0]) or build(shapes))
    net(draw(1, 3, 8, 8))
    assert seen == [RARELY]
    assert gc.get_threshold() == (700, 10, 10)
