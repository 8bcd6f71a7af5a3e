"""What MaxPool and AveragePool share: the window, the output sizes with ceil mode, and the windows that are refused.

Per axis ``output = floor_or_ceil((input + padding - extent) / stride) + 1``; with ceil mode a last window that would
start after the input and the padding before it is dropped.
"""

from __future__ import annotations

from typing import Final

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Ref
from omniconv.graph.ops._window import read_window
from omniconv.integers import ceil_div
from omniconv.program.steps import PoolStep
from omniconv.spec import Axis

MOST_WINDOWS: Final = 4096
"""Windows that are looked at one by one, and taps of each, where taps are farther apart than the input is long."""


def lower_pool(node: Node, x: Ref, op: str, count_padding: bool, build: Builder, *, y: str | None = None) -> Ref:
    """Append the pool of ``node`` over ``x``.

    Raises:
        ShapeError: a kernel larger than the padded input; a window that holds nothing but padding, which has neither a
            maximum nor a mean (runtimes give zeros, infinities or what lies near).
    """
    sizes = x.shape[2:]
    window = read_window(node, len(sizes), None)
    padding = window.resolve(sizes)
    ceil = bool(node.integer("ceil_mode", 0)) and window.auto_pad == "NOTSET"
    outputs = []
    for axis, size, pair in zip(window.axes(), sizes, padding, strict=True):
        room = size + sum(pair) - axis.extent
        if room < 0:
            raise ShapeError(
                f"pool of extent {axis.extent} over {size} positions and padding {pair}", need="a smaller pool"
            )
        output = (ceil_div(room, axis.stride) if ceil else room // axis.stride) + 1
        if ceil and (output - 1) * axis.stride >= size + pair[0]:
            output -= 1
        if not _all_filled(-pair[0], axis, output, size):
            raise ShapeError(
                f"padding {pair} for a pool of extent {axis.extent} over {size} positions",
                need="windows that each hold an input position",
            )
        outputs.append(output)
    step = PoolStep(x.name, y or build.out(), op, window.kernel, window.stride, window.dilation, padding, count_padding)
    return build.add(step, (*x.shape[:2], *outputs))


def _all_filled(first: int, axis: Axis, output: int, size: int) -> bool:
    """Whether every window, the first of which begins at ``first``, holds a position. Where taps are no farther apart
    than the input is long, one that begins before its end and ends behind its start does.
    """
    last = first + (output - 1) * axis.stride
    if first + axis.extent <= 0 or last >= size:
        return False
    if axis.dilation <= size:
        return True
    if output > MOST_WINDOWS:
        return False
    windows = (range(start, start + axis.extent, axis.dilation) for start in range(first, last + 1, axis.stride))
    return all(any(0 <= at < size for at in window[:MOST_WINDOWS]) for window in windows)
