"""The steps of a program: what is to be computed, before any decision on layout, tiles or threads.

Values are named arrays of fixed, logical, channels-first shape ``(N, C, *spatial)`` (or any rank where a step says so).
Weights and other constants are NumPy arrays inside the steps; weights may be values as well. A spec, a chain and a
network all become a `Program`; :mod:`omniconv.compiler.planning.plan` then lays its values out in memory and turns each
step into kernels.

Each step has a file: its formula, the rule for its shape, its word in tables, its work and its dependence
(:mod:`omniconv.program.dependence`).
"""

from __future__ import annotations

from typing import TypeAlias

from omniconv.program.steps.channels import ChannelStep
from omniconv.program.steps.concat import ConcatStep
from omniconv.program.steps.constant import ConstantStep
from omniconv.program.steps.conv import ConvStep
from omniconv.program.steps.cumsum import CumSumStep
from omniconv.program.steps.dense import DenseStep
from omniconv.program.steps.elementwise import MapStep
from omniconv.program.steps.lrn import LrnStep
from omniconv.program.steps.normalise import MomentsStep, NormaliseGradientStep, NormaliseStep, NormaliseSumsStep
from omniconv.program.steps.pad import PadStep
from omniconv.program.steps.pool import PoolStep
from omniconv.program.steps.post import BINARY, COMPARISONS, SWAPPED, Posted, PostOp
from omniconv.program.steps.product import ProductStep
from omniconv.program.steps.quantised_conv import QuantisedConvStep, QuantisedDenseStep
from omniconv.program.steps.quantised_map import QuantisedMapStep
from omniconv.program.steps.quantised_mean import QuantisedMeanStep
from omniconv.program.steps.quantised_table import QuantisedTableStep
from omniconv.program.steps.rearrange import RearrangeStep
from omniconv.program.steps.recurrent import RecurrentStep
from omniconv.program.steps.reduction import ReduceStep
from omniconv.program.steps.resize import ResizeStep
from omniconv.program.steps.slicing import SliceStep
from omniconv.program.steps.softmax import SoftmaxStep
from omniconv.program.steps.standardise import StandardiseStep
from omniconv.program.steps.step import Array, Shapes, Step, Work
from omniconv.program.steps.weight_gradient import WeightGradientStep

ProgramStep: TypeAlias = (
    ConvStep
    | DenseStep
    | ProductStep
    | ConstantStep
    | PoolStep
    | ReduceStep
    | MapStep
    | SoftmaxStep
    | LrnStep
    | ChannelStep
    | ConcatStep
    | RearrangeStep
    | SliceStep
    | PadStep
    | ResizeStep
    | CumSumStep
    | RecurrentStep
    | StandardiseStep
    | WeightGradientStep
    | MomentsStep
    | NormaliseStep
    | NormaliseSumsStep
    | NormaliseGradientStep
    | QuantisedMapStep
    | QuantisedConvStep
    | QuantisedDenseStep
    | QuantisedMeanStep
    | QuantisedTableStep
)

__all__ = [
    "BINARY", "COMPARISONS", "SWAPPED", "Array", "ChannelStep", "ConcatStep", "ConstantStep", "ConvStep",
    "CumSumStep", "DenseStep", "LrnStep", "MapStep", "MomentsStep", "NormaliseGradientStep", "NormaliseStep",
    "NormaliseSumsStep", "PadStep", "PoolStep", "PostOp", "Posted", "ProductStep", "ProgramStep",
    "QuantisedConvStep", "QuantisedDenseStep", "QuantisedMapStep", "QuantisedMeanStep", "QuantisedTableStep",
    "RearrangeStep", "RecurrentStep", "ReduceStep", "ResizeStep", "Shapes", "SliceStep", "SoftmaxStep",
    "StandardiseStep", "Step", "WeightGradientStep", "Work",
]  # fmt: skip
