"""Pass: recognise activations that the exporter wrote out, e.g. ``x * sigmoid(x)`` or ``x * clip(x + 3, 0, 6) / 6``.

A value that is an elementwise function of one other value, with scalar constants only, is evaluated in float64 on a
grid and compared with the known formulas. The grid holds every constant of the expression and its neighbourhood, where
such functions have their kinks. So the order of the operations, and how constants are split up, do not matter.

It must not fire on: ``x * sigmoid(y)``; constants of one value a channel; ``x * sigmoid(1.702 x)`` and other functions
that are only close (the tolerance is a few roundings, of float32 where that is what the constants are rounded to);
single operations, which are what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import UnsupportedError
from omniconv.program.element import FLOAT32, FLOAT64, Element
from omniconv.program.functions import erf
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import MapStep, PostOp
from omniconv.reference.activation import evaluate_activation
from omniconv.spec import Activation

Float64: TypeAlias = npt.NDArray[np.float64]

KNOWN: Final = tuple(map(Activation.of, ("silu", "hard_swish", "gelu", "gelu_tanh", "hard_sigmoid", "relu6", "relu")))
MAX_DEPTH: Final = 12
"""Longest expression looked at [steps]; the tanh form of GELU has 8."""
ROUNDINGS: Final = 2e-6 * 2.0**24
"""Unit roundoffs that a function may differ by: some 34."""
_BASE: Final = np.concatenate([np.linspace(-9, 9, 145), [-1e3, -50, -20, -12, 12, 20, 50, 1e3]])


def _is_scalar(step: MapStep, program: Program) -> bool:
    """Whether the step is a function of single elements: no broadcasting, no constants with several values."""
    shape = program.shapes[step.y]
    if program.shapes[step.x] != shape:
        return False
    return all(
        op.operand is None
        or (program.shapes[op.operand] == shape if isinstance(op.operand, str) else op.operand.size == 1)
        for op in step.post
    )


def _sources(step: MapStep) -> Iterator[str]:
    yield step.x
    for op in step.post:
        if isinstance(op.operand, str):
            yield op.operand


def _apply(op: PostOp, v: Float64, a: Float64) -> Float64:
    match op.op:
        case "act":
            assert op.activation is not None
            return evaluate_activation(op.activation, v)
        case "erf":
            return erf(v)
        case "add":
            return v + a
        case "sub":
            return v - a
        case "rsub":
            return a - v
        case "mul":
            return v * a
        case "div":
            return v / a
        case "rdiv":
            return a / v
        case "max":
            return np.maximum(v, a)
        case "min":
            return np.minimum(v, a)
        case "prelu":
            return np.where(v >= 0, v, a * v)
    raise NotImplementedError(f"operation {op.op}")


def _collect(y: str, maps: dict[str, MapStep]) -> list[str]:
    """``y`` and the values it is computed from elementwise, nearest first, as far as :data:`MAX_DEPTH` steps."""
    found, queue = {y: 0}, [y]
    for name in queue:
        step = maps.get(name)
        if step is None or found[name] >= MAX_DEPTH:
            continue
        for source in _sources(step):
            if source not in found and len(found) < 2 * MAX_DEPTH:
                found[source] = found[name] + 1
                queue.append(source)
    return queue


def _evaluate(y: str, maps: dict[str, MapStep], known: dict[str, Float64 | None], depth: int = 0) -> Float64 | None:
    """``y`` on the grid, from the values that are ``known``; ``None`` where it depends on anything else."""
    if y in known or depth > MAX_DEPTH:
        return known.get(y)
    known[y] = None
    step = maps.get(y)
    value = _evaluate(step.x, maps, known, depth + 1) if step is not None else None
    for op in step.post if step is not None else ():
        operand: Float64 | None = None
        if isinstance(op.operand, str):
            operand = _evaluate(op.operand, maps, known, depth + 1)
        elif op.operand is not None:
            operand = op.operand.astype(np.float64).reshape(1)
        else:
            operand = value
        if value is None or operand is None:
            return None
        value = _apply(op, value, operand)
    known[y] = value
    return value


def _grid(names: list[str], maps: dict[str, MapStep]) -> Float64:
    constants: list[float] = []
    for name in names:
        step = maps.get(name)
        for op in step.post if step else ():
            if isinstance(op.operand, np.ndarray):
                constants.append(float(op.operand.reshape(-1)[0]))
            elif op.activation is not None:
                constants.extend(value for _, value in op.activation.parameters)
    around = np.array([c for c in constants if abs(c) < 1e6] or [0.0])
    return np.concatenate([_BASE, *(sign * around + shift for sign in (1, -1) for shift in (-0.01, 0.0, 0.01))])


@cache
def _known_on_base() -> Float64:
    """Every known formula on the fixed part of the grid, one a row."""
    return np.stack([evaluate_activation(activation, _BASE) for activation in KNOWN])


def _find_element(names: list[str], maps: dict[str, MapStep]) -> Element:
    """The narrowest element that holds the constants of an expression: their exporter may have rounded them to it."""
    operands = [op.operand for name in names if name in maps for op in maps[name].post]
    constants = [operand for operand in operands if isinstance(operand, np.ndarray)]
    with np.errstate(over="ignore"):
        narrow = all(np.array_equal(constant, constant.astype(np.float32)) for constant in constants)
    return FLOAT32 if narrow else FLOAT64


def _agrees(value: Float64, want: Float64, grid: Float64, element: Element) -> npt.NDArray[np.bool_]:
    near = np.abs(value - want) <= ROUNDINGS * element.roundoff * np.maximum(1.0, np.abs(grid))
    return np.asarray(near.all(axis=-1))


def _match(y: str, maps: dict[str, MapStep]) -> tuple[str, Activation] | None:
    """The value that ``y`` is a known activation of, and which; the farthest such value."""
    names = _collect(y, maps)
    if sum(len(maps[name].post) for name in names if name in maps) < 2:
        return None
    grid, element = _grid(names, maps), _find_element(names, maps)
    with np.errstate(all="ignore"):
        for root in reversed(names[1:]):
            value = _evaluate(y, maps, {root: grid})
            if value is None:
                continue
            for index in np.flatnonzero(_agrees(value[: _BASE.size], _known_on_base(), _BASE, element)):
                if _agrees(value, evaluate_activation(KNOWN[index], grid), grid, element):
                    return root, KNOWN[index]
    return None


def recognise_activations(program: Program) -> Program:
    """Replace written-out activations by one step each."""
    maps: dict[str, MapStep] = {}
    items: list[Item] = []
    for step, label in with_labels(program):
        if isinstance(step, MapStep) and step.post and _is_scalar(step, program):
            maps[step.y] = step
            found = _match(step.y, maps)
            if found is not None:
                step = MapStep(found[0], step.y, (PostOp("act", activation=found[1]),))
                maps[step.y] = step
        items.append((step, label))
    return reject_leftovers(drop_dead(rebuild(program, items)))


def reject_leftovers(program: Program) -> Program:
    """The program, if every operation in it is one that a `Program` knows.

    Raises:
        UnsupportedError: an Erf that is not part of GELU.
    """
    for step, label in with_labels(program):
        if isinstance(step, MapStep) and any(op.op == "erf" for op in step.post):
            raise UnsupportedError(
                "Erf that is not part of GELU",
                need="x / 2 * (1 + erf(x / sqrt 2))",
                fix="Gelu",
                at=f"Erf node {label!r}",
            )
    return program
