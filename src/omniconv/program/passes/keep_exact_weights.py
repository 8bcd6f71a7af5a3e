"""Pass: weights that bfloat16 has exactly lie in memory as bfloat16.

Networks that were trained in bfloat16 and written as float32, whole numbers of 8 bits, and signs: of such weights the
lower half of every float32 is zero. A layer that reads the upper halves alone makes the same sums of the same numbers,
to the bit, from half the memory: dense layers of few rows and recurrent layers, which wait for their weights, take as
little as half the time.

It must not fire on: weights of which a single one would be rounded, or which are few; grouped layers, whose weights are
read one by one; weights that are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.program.bfloat16 import is_bfloat16
from omniconv.program.element import FLOAT32
from omniconv.program.program import Program
from omniconv.program.steps import Array, ConvStep, DenseStep, ProgramStep, RecurrentStep

LEAST_BYTES: Final = 2**18
"""Of weights as float32; fewer stay in the cache, where half of them gains nothing."""


def keep_exact_weights(program: Program, is_exact: Callable[[Array], bool] = is_bfloat16) -> Program:
    """The program with the weights that bfloat16 has exactly kept as such; the program itself where there are none.

    Args:
        is_exact: says so of an array.
    """
    if program.element != FLOAT32:
        return program
    exact = {step.y for step in program.steps if _keeps(step, is_exact)}
    return replace(program, rounded=frozenset(exact)) if exact else program


def _keeps(step: ProgramStep, is_exact: Callable[[Array], bool]) -> bool:
    if not isinstance(step, ConvStep | DenseStep | RecurrentStep) or not isinstance(step.w, np.ndarray):
        return False
    grouped = isinstance(step, ConvStep) and step.spec.groups > 1
    return not grouped and step.w.nbytes >= LEAST_BYTES and is_exact(step.w)
