"""The WebAssembly of the page: the kernel for any setting, modules of presets, and modules that a server compiles."""

from __future__ import annotations

import math
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from omniconv.errors import LimitError
from omniconv.spec import Conv, Shape, Spec, parse
from omniconv.web import compile_taps, compile_web

PRESETS: Final = MappingProxyType(
    {
        "grey 3x3": "convolution n1 ic1 oc1 ih512 iw512 kh3 kw3 pt1 pb1 pl1 pr1",
        "grey 5x5": "convolution n1 ic1 oc1 ih512 iw512 kh5 kw5 pt2 pb2 pl2 pr2",
        "grey 3x3, dilated by 4": "dilated n1 ic1 oc1 ih512 iw512 kh3 kw3 dh4 dw4 pt4 pb4 pl4 pr4",
        "colours 3x3, each by itself": "depthwise n1 ic3 oc3 ih512 iw512 kh3 kw3 pt1 pb1 pl1 pr1 g3",
        "colours 3x3, mixed": "convolution n1 ic3 oc3 ih512 iw512 kh3 kw3 pt1 pb1 pl1 pr1",
        "colours mixed": "pointwise n1 ic3 oc3 ih512 iw512 kh1 kw1",
    }
)
"""Layers that every page has a module of, for a picture of 512 x 512."""

MOST_VALUES: Final = 2**24
"""Elements of an input, an output or a value between two steps, at most."""
MOST_WEIGHTS: Final = 2**20
MOST_TAPS: Final = 2**12
"""Taps of all convolutions together, at most: the code of some kernels grows with them."""
MOST_STEPS: Final = 32


@cache
def make_taps() -> dict[str, Any]:
    """The kernel for any setting, as the page gets it."""
    return compile_taps().to_json()


@cache
def make_presets() -> tuple[dict[str, Any], ...]:
    """The modules of :data:`PRESETS`, as the page gets them."""
    found = []
    for name, line in PRESETS.items():
        spec, shape = parse(line)
        assert shape is not None
        found.append({"name": name, "module": compile_web(spec, shape).to_json()})
    return tuple(found)


def compile_asked(spec: Spec, shape: Shape) -> dict[str, Any]:
    """The module of a layer that the page asks for.

    Raises:
        LimitError: a layer of another size than a page is for; nothing has been planned then.
    """
    at = spec.text(shape)
    values = (shape, spec.output_shape(shape)) if isinstance(spec, Conv) else spec.shapes(shape)
    convs = (spec,) if isinstance(spec, Conv) else spec.convs
    for what, number, most in (
        ("steps", 1 if isinstance(spec, Conv) else len(spec.steps), MOST_STEPS),
        ("convolutions", len(convs), MOST_STEPS),
        ("elements in one value", max(map(math.prod, values)), MOST_VALUES),
        ("weights", sum(math.prod(conv.weight_shape) for conv in convs), MOST_WEIGHTS),
        ("taps", sum(math.prod(conv.kernel_size) for conv in convs), MOST_TAPS),
    ):
        if number > most:
            raise LimitError(f"the layer has {number} {what}", need=f"at most {most} in the explorer", at=at)
    return compile_web(spec, shape).to_json()
