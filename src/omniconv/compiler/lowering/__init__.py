"""How each kind of program step becomes kernel calls: one module a family, one function a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from omniconv.compiler.lowering.convolution import lower_conv, lower_dense
from omniconv.compiler.lowering.copying import (
    lower_channels,
    lower_concat,
    lower_pad,
    lower_rearrange,
    lower_resize,
    lower_slice,
)
from omniconv.compiler.lowering.elementwise import lower_lrn, lower_map, lower_softmax
from omniconv.compiler.lowering.windows import lower_pool, lower_reduce
from omniconv.compiler.planner import Planner
from omniconv.compiler.program import (
    ChannelStep,
    ConcatStep,
    ConvStep,
    DenseStep,
    LrnStep,
    MapStep,
    PadStep,
    PoolStep,
    ProgramStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
)

LOWERINGS: Final[dict[type, Callable[[Planner, Any], None]]] = {
    ConvStep: lower_conv,
    DenseStep: lower_dense,
    PoolStep: lower_pool,
    ReduceStep: lower_reduce,
    MapStep: lower_map,
    SoftmaxStep: lower_softmax,
    LrnStep: lower_lrn,
    ChannelStep: lower_channels,
    ConcatStep: lower_concat,
    RearrangeStep: lower_rearrange,
    SliceStep: lower_slice,
    PadStep: lower_pad,
    ResizeStep: lower_resize,
}


def lower(planner: Planner, step: ProgramStep) -> None:
    """Append the calls of one step to the plan."""
    LOWERINGS[type(step)](planner, step)
