"""Padding reach: which entries of a value depend on a position outside the input of some layer.

A tap that lands in the padding, a window that hangs over the edge, a tap of a transposed convolution that has no
input under it: each makes an output see the border, and whatever is computed from such an output sees it too. The
clamped edge of a resize does not count: it repeats a value of the input and adds nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from omniconv.analysis.push import push_parts
from omniconv.analysis.subject import needed_steps
from omniconv.program.program import Program

Mask = npt.NDArray[np.bool_]


def find_border(program: Program, tensor: str, *, gates: bool = True) -> Mask:
    """The entries of ``tensor`` that see the border, as a boolean array of its shape."""
    masks: dict[str, Mask] = {name: np.zeros(program.shapes[name], bool) for name in program.inputs}
    for index in needed_steps(program, tensor):
        step = program.steps[index]
        mask = push_parts(tuple(program.dependence(step).local(gates)), masks, "border")
        masks[step.y] = np.zeros(program.shapes[step.y], bool) if mask is None else mask
    return masks[tensor]
