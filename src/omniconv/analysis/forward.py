"""How many taps meet in each value of a network: the response to an input of ones when all weights are alike.

Each weight of a convolution is 1 / (input channels of its group), so that channels drop out and taps are counted;
biases, constants and activations are left out, pools are means over the positions inside, a product with another value
leaves the value as it is. An even upsampling gives a constant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from omniconv.analysis.push import push_parts
from omniconv.analysis.subject import needed_steps
from omniconv.program.program import Program

Float64 = npt.NDArray[np.float64]


def count_forward(program: Program, tensor: str) -> Float64:
    """The counts of every entry of ``tensor``, exact below 2^53 where the channels of a value agree."""
    values: dict[str, Float64] = {name: np.ones(program.shapes[name]) for name in program.inputs}
    order = needed_steps(program, tensor)
    last = {name: index for index in order for name in program.steps[index].reads}
    for index in order:
        step = program.steps[index]
        parts = tuple(part for part in program.dependence(step).parts if part.adds)
        value = push_parts(parts, values, "response")
        values[step.y] = np.zeros(program.shapes[step.y]) if value is None else value
        for name in set(step.reads):
            if last[name] == index and name != tensor:
                values.pop(name, None)
    return values[tensor]
