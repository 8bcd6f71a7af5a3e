"""How each kind of program step becomes kernel calls: one module a family, one function a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from omniconv.compiler.kernels.cumsum import lower_cumsum
from omniconv.compiler.kernels.lrn import lower_lrn
from omniconv.compiler.kernels.mapping import lower_map
from omniconv.compiler.kernels.normalise.lower import (
    lower_moments,
    lower_normalise,
    lower_normalise_gradient,
    lower_normalise_sums,
)
from omniconv.compiler.kernels.pad import lower_pad
from omniconv.compiler.kernels.pool import lower_pool
from omniconv.compiler.kernels.quantised.lower import lower_quantised_conv, lower_quantised_dense
from omniconv.compiler.kernels.quantised.mapping import lower_quantised_map
from omniconv.compiler.kernels.quantised.mean import lower_quantised_mean
from omniconv.compiler.kernels.quantised.table import lower_quantised_table
from omniconv.compiler.kernels.recurrent.lower import lower_recurrent
from omniconv.compiler.kernels.reduction import lower_reduce
from omniconv.compiler.kernels.resize import lower_resize
from omniconv.compiler.kernels.softmax import lower_softmax
from omniconv.compiler.kernels.standardise import lower_standardise
from omniconv.compiler.kernels.views import lower_channels, lower_concat, lower_rearrange, lower_slice
from omniconv.compiler.kernels.weights.lower import lower_weight_gradient
from omniconv.compiler.lowering.arrange import lower_constant
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.planning.convolution import lower_conv, lower_dense
from omniconv.compiler.planning.product import lower_product
from omniconv.program.steps import (
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    CumSumStep,
    DenseStep,
    LrnStep,
    MapStep,
    MomentsStep,
    NormaliseGradientStep,
    NormaliseStep,
    NormaliseSumsStep,
    PadStep,
    PoolStep,
    ProductStep,
    ProgramStep,
    QuantisedConvStep,
    QuantisedDenseStep,
    QuantisedMapStep,
    QuantisedMeanStep,
    QuantisedTableStep,
    RearrangeStep,
    RecurrentStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
    StandardiseStep,
    WeightGradientStep,
)

LOWERINGS: Final[dict[type, Callable[[Planner, Any], None]]] = {
    ConvStep: lower_conv,
    DenseStep: lower_dense,
    ProductStep: lower_product,
    ConstantStep: lower_constant,
    PoolStep: lower_pool,
    ReduceStep: lower_reduce,
    MapStep: lower_map,
    SoftmaxStep: lower_softmax,
    StandardiseStep: lower_standardise,
    LrnStep: lower_lrn,
    ChannelStep: lower_channels,
    ConcatStep: lower_concat,
    RearrangeStep: lower_rearrange,
    SliceStep: lower_slice,
    PadStep: lower_pad,
    ResizeStep: lower_resize,
    CumSumStep: lower_cumsum,
    RecurrentStep: lower_recurrent,
    WeightGradientStep: lower_weight_gradient,
    MomentsStep: lower_moments,
    NormaliseStep: lower_normalise,
    NormaliseSumsStep: lower_normalise_sums,
    NormaliseGradientStep: lower_normalise_gradient,
    QuantisedMapStep: lower_quantised_map,
    QuantisedConvStep: lower_quantised_conv,
    QuantisedDenseStep: lower_quantised_dense,
    QuantisedMeanStep: lower_quantised_mean,
    QuantisedTableStep: lower_quantised_table,
}


def lower(planner: Planner, step: ProgramStep) -> None:
    """Append the calls of one step to the plan."""
    LOWERINGS[type(step)](planner, step)
