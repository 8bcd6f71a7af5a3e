"""A program that somebody else wrote: every rule that its steps keep by themselves where the passes of this package
make them.

What kernels read and write follows from a program, so one from a file is taken to be hostile: whatever is not refused
here must be computed as its formula says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from omniconv.errors import OmniconvError, ShapeError, SpecError
from omniconv.limits import check_memory
from omniconv.program.element import Element
from omniconv.program.functions import FUNCTIONS
from omniconv.program.program import Program
from omniconv.program.steps import (
    BINARY,
    ConcatStep,
    ConstantStep,
    ConvStep,
    DenseStep,
    LrnStep,
    PadStep,
    PoolStep,
    Posted,
    PostOp,
    ProgramStep,
    QuantisedConvStep,
    QuantisedMeanStep,
    QuantisedTableStep,
    RearrangeStep,
    RecurrentStep,
    ReduceStep,
    ResizeStep,
)
from omniconv.program.steps.quantised_conv import Requantised
from omniconv.program.steps.recurrent import FUNCTIONS as CELL_FUNCTIONS
from omniconv.program.steps.step import Move
from omniconv.spec import Shape

MOST_AXES: Final = 64
Limits: TypeAlias = tuple[int, int]
_POOLED: Final = ("max", "mean")
_REDUCED: Final = ("mean", "sum", "prod", "max", "min")
_PADDED: Final = ("constant", "reflect", "edge", "wrap")


def check_program(
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, Shape],
    steps: Sequence[ProgramStep],
    labels: Sequence[str],
    element: Element,
    limit: int | None = None,
) -> Program:
    """The program of these parts.

    Raises:
        SpecError, ShapeError: a step that breaks a rule.
        LimitError: a value that takes more memory than allowed.
    """
    if len(labels) != len(steps) or set(shapes) != {*inputs, *(step.y for step in steps)}:
        raise ShapeError(f"{len(shapes)} shapes and {len(labels)} labels of {len(steps)} steps", need="one for each")
    if len(set(inputs)) != len(inputs) or not outputs or not set(outputs) <= set(shapes):
        raise ShapeError(
            f"inputs {list(inputs)[:8]} and outputs {list(outputs)[:8]}", need="names that are defined, once"
        )
    for name, shape in shapes.items():
        if len(shape) > MOST_AXES or any(size < 1 for size in shape):
            raise ShapeError(f"value {name!r} of shape {shape[:8]}", need="positive sizes")
        check_memory(element.bytes * math.prod(shape), f"value {name!r}", limit=limit)
    program = Program(tuple(inputs), tuple(outputs), {name: shapes[name] for name in inputs}, element=element)
    limits: dict[str, Limits] = {}
    for step, label in zip(steps, labels, strict=True):
        try:
            _check(step, program.shapes, shapes[step.y], element)
            _check_integers(step, limits)
            program.add(step, shapes[step.y], label)
        except OmniconvError as error:
            raise error.but(at=label) from None
    for name in outputs:
        _demand(name not in program.elements, f"output {name!r} of integers, which callers do not see")
    return program


def _check(step: ProgramStep, shapes: Mapping[str, Shape], stated: Shape, element: Element) -> None:
    """What a step does not ask when its shape is asked for."""
    for name in step.reads:
        _demand(name in shapes, f"value {name!r} is used before it is produced")
    if isinstance(step, Posted):
        for op in step.post:
            _check_post(op, element)
    match step:
        case ConvStep():
            spec = step.spec
            _demand(spec.resolve(shapes[step.x]) == spec, "padding that is not written out")
            _check_constant(step.w, spec.weight_shape, element)
            _check_constant(step.b, (spec.out_channels,), element)
        case QuantisedConvStep():
            _demand(step.spec.resolve(shapes[step.x]) == step.spec, "padding that is not written out")
        case DenseStep():
            _demand(step.w.ndim == 2, f"dense weights of shape {step.w.shape}")
            _check_constant(step.w, step.w.shape, element)
            _check_constant(step.b, step.w.shape[:1], element)
        case ConstantStep():
            _check_constant(step.value, step.value.shape, element)
        case ConcatStep():
            _demand(bool(step.xs), "nothing side by side")
        case RearrangeStep():
            _demand(all(size >= 1 for size in step.split), f"a split into {step.split}")
        case LrnStep():
            _demand(step.size >= 1, f"a window of {step.size} channels")
        case PadStep():
            _demand(step.mode in _PADDED, f"padding {step.mode!r}")
        case PoolStep():
            _check_pool(step, shapes[step.x], stated)
        case ReduceStep():
            _demand(step.op in _REDUCED, f"a reduction {step.op!r}")
        case ResizeStep():
            _check_resize(step, shapes[step.x], element)
        case RecurrentStep():
            _check_recurrence(step, element)


def _check_integers(step: ProgramStep, limits: dict[str, Limits]) -> None:
    """What integers a step reads and makes: sums are known to fit for those that it says it reads."""
    if isinstance(step, Move):
        known = [limits[name] for name in step.reads if name in limits]
        if known:
            limits[step.y] = min(low for low, _ in known), max(high for _, high in known)
        return
    if isinstance(step, Requantised | QuantisedTableStep):
        low, high = limits.get(step.x, (0, 0))
        stated = step.x_levels
        _demand(stated.low <= low and high <= stated.high, f"integers {stated.low} to {stated.high} of {low} to {high}")
    if isinstance(step, Requantised):
        _demand(bool(np.isfinite(step.factor).all()), "a factor that is not finite")
    if isinstance(step, QuantisedMeanStep):
        _demand(math.isfinite(step.ratio), f"a ratio of {step.ratio}")
    levels = getattr(step, "levels", None)
    if levels is not None:
        limits[step.y] = levels.low, levels.high


def _check_post(op: PostOp, element: Element) -> None:
    unary = op.op == "act" or op.op in FUNCTIONS
    _demand(unary or op.op in BINARY, f"operation {op.op!r}")
    _demand((op.operand is None) == unary and (op.activation is not None) == (op.op == "act"), f"operands of {op.op!r}")
    if isinstance(op.operand, np.ndarray):
        _check_constant(op.operand, op.operand.shape, element)


def _check_pool(step: PoolStep, shape: Shape, stated: Shape) -> None:
    rows = (step.kernel, step.stride, step.dilation)
    _demand(step.op in _POOLED, f"a pool {step.op!r}")
    _demand(all(len(row) == len(step.padding) == len(shape) - 2 for row in rows), "numbers of axes that differ")
    _demand(all(value >= 1 for row in rows for value in row), "a window, stride or dilation below 1")
    for axis, size, count in zip(step.axes(), shape[2:], stated[2:], strict=False):
        first, padding = -axis.padding[0], axis.padding
        inside = first + axis.extent > 0 and first + (count - 1) * axis.stride < size
        _demand(min(padding) >= 0 and inside, f"padding {padding} of windows of {axis.extent} over {size}")


def _check_resize(step: ResizeStep, shape: Shape, element: Element) -> None:
    _demand(len(step.index) == len(step.weight) == len(shape) - 2, "tables that are not one for each axis")
    for index, weight, size in zip(step.index, step.weight, shape[2:], strict=True):
        _demand(index.ndim == 2 and index.size > 0 and index.dtype == np.int64, "a table of no positions")
        _demand(int(index.min()) >= 0 and int(index.max()) < size, "positions outside")
        _check_constant(weight, index.shape, element)


def _check_recurrence(step: RecurrentStep, element: Element) -> None:
    needed = CELL_FUNCTIONS.get(step.cell)
    directions = len(step.reverse)
    _demand(needed is not None, f"cell {step.cell!r}")
    _demand(directions in (1, 2) and (directions == 1 or step.reverse == (False, True)), f"directions {step.reverse}")
    _demand(
        len(step.functions) == directions and all(len(row) == needed for row in step.functions),
        "functions that are not those of the cell",
    )
    _demand(step.b is None or step.cell == "gru", "an inner bias")
    _demand(step.cell == "lstm" or (step.p is None and step.c is None and not step.coupled), "weights of a cell")
    _demand(step.clip is None or step.clip > 0, f"a bound of {step.clip}")
    _demand(not step.rounded or (step.cell == "lstm" and step.lengths is None), "rounded states")
    _demand(step.scale is None or step.rounded, "scales of weights")
    _demand(step.w.ndim == 3 and step.w.shape[2] >= 1, f"recurrent weights of shape {step.w.shape}")
    for array in (step.w, step.b, step.p, step.scale):
        if array is not None:
            _check_constant(array, array.shape, element)


def _check_constant(array: object, shape: Shape, element: Element) -> None:
    """A constant, where it is one: its type and shape."""
    if isinstance(array, np.ndarray) and (array.dtype != element.dtype or array.shape != tuple(shape)):
        raise ShapeError(f"a constant {array.dtype} of shape {array.shape}", need=f"{element} of shape {tuple(shape)}")


def _demand(holds: bool, problem: str) -> None:
    """Refuse what breaks a rule.

    Raises:
        SpecError: it does.
    """
    if not holds:
        raise SpecError(problem, need="a step as this package makes it")
