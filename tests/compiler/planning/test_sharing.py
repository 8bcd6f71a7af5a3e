from __future__ import annotations

import numpy as np
import pytest
from tests.machines import MACHINES, V3

from omniconv.compiler.planning import sharing
from omniconv.compiler.planning.sharing import count_worth
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.program.steps import RecurrentStep
from omniconv.spec import Activation, Conv


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests elsewhere have threads meet for nothing."""
    for name, value in (("WAKE_US", 4.0), ("MEET_US", 1.0), ("EACH_US", 0.25)):
        monkeypatch.setattr(sharing, name, value)


def layer(channels: int, size: int) -> Program:
    spec = Conv.of(channels, channels, 3, padding=1)
    return program_of(spec, (1, channels, size, size), [(np.ones(spec.weight_shape, np.float32), None)])


def recurrent(times: int, batch: int, hidden: int, directions: int = 1) -> Program:
    width = 4 * hidden
    w = np.ones((directions, width, hidden), np.float32)
    functions = (Activation("sigmoid"), Activation("tanh"), Activation("tanh"))
    step = RecurrentStep("x", "y", "lstm", w, (False, True)[:directions], (functions,) * directions)
    shape = (times, batch, directions * width)
    program = Program(("x",), ("y",), {"x": shape})
    program.add(step, step.output_shape({"x": shape}))
    return program


def test_more_work_is_worth_more_threads() -> None:
    found = [count_worth(layer(16, size), V3, 64) for size in (4, 8, 16, 32, 64, 128, 256)]
    assert found == sorted(found)
    assert found[0] == 1
    assert found[-1] > 8
    assert [count_worth(layer(16, size), V3, 2) for size in (4, 8, 16, 32, 64, 128, 256)] == [min(n, 2) for n in found]


def test_longer_vectors_are_worth_fewer() -> None:
    wide, narrow = MACHINES["zen4"], MACHINES["nehalem"]
    assert wide.lanes > V3.lanes > narrow.lanes
    counts = [count_worth(layer(64, 64), target, 1024) for target in (wide, V3, narrow)]
    assert counts == sorted(set(counts))


def test_what_follows_one_another_is_not_shared() -> None:
    """One sequence of small states, however long; large states, directions and sequences are shared."""
    assert count_worth(recurrent(1000, 1, 64), V3, 8) == 1
    assert count_worth(recurrent(1000, 1, 256), V3, 8) > 1
    assert count_worth(recurrent(1000, 1, 64, directions=2), V3, 8) > 1
    assert count_worth(recurrent(1000, 4, 64), V3, 8) > 1
