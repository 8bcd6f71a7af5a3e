"""Sizes that convolutions and pools share: kernel, strides, dilations, and ONNX's several ways to write padding."""

from __future__ import annotations

from typing import Final

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.nodes import Node
from omniconv.integers import LIMIT
from omniconv.records import dataclass
from omniconv.spec import Axis, Shape
from omniconv.spec.geometry import Pair, plan_same_padding

AUTO_PADS: Final = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class WindowAttributes:
    """Kernel, stride and dilation of each axis, and the padding as far as it does not depend on the operator."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    pads: tuple[Pair, ...] | None
    auto_pad: str

    def axes(self) -> tuple[Axis, ...]:
        """The axes, without padding."""
        return tuple(Axis(k, s, d) for k, s, d in zip(self.kernel, self.stride, self.dilation, strict=True))

    def resolve(self, sizes: Shape) -> tuple[Pair, ...]:
        """Explicit padding of a (not transposed) window over ``sizes``."""
        if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            lower = self.auto_pad == "SAME_LOWER"
            return tuple(plan_same_padding(a, size, lower=lower) for a, size in zip(self.axes(), sizes, strict=True))
        if self.auto_pad == "VALID" or self.pads is None:
            return ((0, 0),) * len(sizes)
        return self.pads


def read_sizes(node: Node, key: str, count: int, *, minimum: int, default: int | None = None) -> Shape | None:
    """A list attribute of ``count`` integers in range.

    Raises:
        ModelError: another number of integers, or integers out of range.
    """
    given = node.integers(key)
    if given is None or (not given and default is not None):
        return None if default is None else (default,) * count
    if len(given) != count or any(not minimum <= item <= LIMIT for item in given):
        raise ModelError(f"{key}={given[:16]}", need=f"{count} integers from {minimum} to {LIMIT}")
    return given


def read_window(node: Node, dims: int, kernel: Shape | None) -> WindowAttributes:
    """The window of a node over ``dims`` axes; ``kernel`` is what the weights say, ``None`` for pools.

    Raises:
        ModelError: attributes that contradict each other or the weights.
        UnsupportedError: more than three axes, or none.
    """
    if not 1 <= dims <= 3:
        raise UnsupportedError(f"{node.op} over {dims} axes", need="1 to 3 spatial axes, x of shape (N, C, *spatial)")
    declared = read_sizes(node, "kernel_shape", dims, minimum=1)
    if kernel is not None and declared is not None and declared != kernel:
        raise ModelError(f"kernel_shape={declared}, the weights have {kernel}", need="equal kernel sizes")
    kernel = kernel or declared
    if kernel is None:
        raise ModelError("kernel_shape is missing", need=f"kernel_shape of {dims} integers")
    stride = read_sizes(node, "strides", dims, minimum=1, default=1)
    dilation = read_sizes(node, "dilations", dims, minimum=1, default=1)
    assert stride is not None
    assert dilation is not None
    auto_pad = node.text("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad not in AUTO_PADS:
        raise ModelError(f"auto_pad={auto_pad[:40]!r}", need="one of " + ", ".join(AUTO_PADS))
    pads = read_sizes(node, "pads", 2 * dims, minimum=0)
    pairs = None if not pads else tuple(zip(pads[:dims], pads[dims:], strict=True))
    return WindowAttributes(kernel, stride, dilation, pairs, auto_pad)
