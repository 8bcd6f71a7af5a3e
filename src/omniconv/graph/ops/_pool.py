"""What MaxPool and AveragePool share: the window, the output sizes with ceil mode, and the windows that are refused.

Per axis ``output = floor_or_ceil((input + padding - extent) / stride) + 1``; with ceil mode a last window that would
start after the input and the padding before it is dropped.
"""

from __future__ import annotations

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Ref
from omniconv.graph.ops._window import read_window
from omniconv.integers import ceil_div
from omniconv.program.steps import PoolStep


def lower_pool(node: Node, x: Ref, op: str, count_padding: bool, build: Builder, *, y: str | None = None) -> Ref:
    """Append the pool of ``node`` over ``x``.

    Raises:
        ShapeError: a kernel larger than the padded input.
        UnsupportedError: windows that may hold no input position.
    """
    sizes = x.shape[2:]
    window = read_window(node, len(sizes), None)
    padding = window.resolve(sizes)
    ceil = bool(node.integer("ceil_mode", 0)) and window.auto_pad == "NOTSET"
    outputs = []
    for axis, size, pair in zip(window.axes(), sizes, padding, strict=True):
        if max(pair) >= axis.extent or (axis.dilation > size and sum(pair) > 0):
            raise UnsupportedError(
                f"padding {pair} for a pool of extent {axis.extent} over {size} positions",
                need="padding below the extent, so that every window holds an input position",
            )
        room = size + sum(pair) - axis.extent
        if room < 0:
            raise ShapeError(
                f"pool of extent {axis.extent} over {size} positions and padding {pair}", need="a smaller pool"
            )
        output = (ceil_div(room, axis.stride) if ceil else room // axis.stride) + 1
        if ceil and (output - 1) * axis.stride >= size + pair[0]:
            output -= 1
        outputs.append(output)
    step = PoolStep(
        x.name, y or build.out(), op, window.kernel, window.stride, window.dilation, padding, count_padding
    )  # fmt: skip
    return build.add(step, (*x.shape[:2], *outputs))
