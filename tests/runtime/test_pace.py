"""What is changed while networks are planned comes back, also with many at it, and in the child of a fork."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest
from tests.graph.test_network import draw, pooled

import omniconv as oc
from omniconv.runtime.pace import RARELY, TURN, while_planning


@pytest.fixture(autouse=True)
def usual():
    """What is usual in these tests."""
    before, turn = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(700, 10, 10)
    sys.setswitchinterval(4 * TURN)
    yield
    gc.set_threshold(*before)
    sys.setswitchinterval(turn)


def test_thresholds_come_back() -> None:
    seen = []

    def fail() -> None:
        with while_planning():
            seen.append(gc.get_threshold())
            with while_planning():
                pass
            seen.append(gc.get_threshold())
            raise ValueError("as it happens")

    with pytest.raises(ValueError, match="as it happens"):
        fail()
    assert seen == [(RARELY, 10, 10)] * 2, "somebody is at it"
    assert gc.get_threshold() == (700, 10, 10)


def test_turns_come_back() -> None:
    with while_planning():
        assert sys.getswitchinterval() == pytest.approx(TURN)
    assert sys.getswitchinterval() == pytest.approx(4 * TURN)
    sys.setswitchinterval(TURN / 2)
    with while_planning():
        assert sys.getswitchinterval() == pytest.approx(TURN / 2), "who takes them more often still does"


def test_what_others_change_in_the_meantime_stays() -> None:
    """A plan may be made beside the caller, who goes on."""
    with while_planning():
        gc.set_threshold(1234, 10, 10)
        sys.setswitchinterval(3 * TURN)
    assert gc.get_threshold() == (1234, 10, 10)
    assert sys.getswitchinterval() == pytest.approx(3 * TURN)


@pytest.mark.parametrize("first", [0, RARELY + 1])
def test_who_collects_more_rarely_still_does(first: int) -> None:
    gc.set_threshold(first, 10, 10)
    with while_planning():
        assert gc.get_threshold()[0] == first


def test_many_threads() -> None:
    ready, go = threading.Barrier(5), threading.Event()

    def work() -> None:
        with while_planning():
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
    with while_planning():
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
