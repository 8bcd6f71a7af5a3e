"""Padding of nothing, of as many axes as there may be: a copy."""

from __future__ import annotations

import numpy as np
import pytest

from omniconv.compiler.planning.options import Options
from omniconv.program.element import FLOAT32
from omniconv.program.program import Program
from omniconv.program.steps import PadStep
from omniconv.runtime.executable import Executable
from omniconv.target.select import select_target


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_padding_of_nothing_is_a_copy(rank: int) -> None:
    shape = (3, 2, 2, 1, 2, 3)[:rank]
    program = Program(("x",), ("y",), {"x": shape}, element=FLOAT32)
    program.add(PadStep("x", "y", ((0, 0),) * rank, "reflect"), shape, "pad")
    net = Executable.of(program, select_target(None).of(FLOAT32), Options(threads=1), "pad")
    x = np.random.default_rng(rank).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(net.run({"x": x})["y"], x)
