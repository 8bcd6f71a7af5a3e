"""Pass: recognise activations that the exporter wrote out, e.g. ``x * sigmoid(x)`` or ``x * clip(x + 3, 0, 6) / 6``.

A value that is an elementwise function of one other value, with scalar constants only, is brought into closed form
(:mod:`omniconv.program.closed_form`) and compared with the forms of the known activations: sigmoid, tanh, SiLU, hard
sigmoid, hard swish, GELU and its tanh form, leaky ReLU. So the order of the operations, and how constants are split up,
do not matter. The closed form is exact for finite x. Infinities and NaN are three values, which are tried.

What is kept: for every x, the result is that of the written-out function as a function of real numbers, with its
constants moved by at most 4 u of their size, u the unit roundoff of the program's element: 2^-22 in float32 (its 1/6,
0.044715, sqrt(1/2), sqrt(2 / pi) are some such), 2^-51 in float64. Then it is computed within the errors of
:mod:`omniconv.compiler.emit.elementary`. Constants that are 0, 1/2, 1 or 2 in the known form are those exactly.

So constants that were rounded to float32 are not those of float64. In a program in float64, hard swish with float32's
1/6 is x times a hard sigmoid of that slope, and the tanh form of GELU with float32's constants stays as it is written.
GELU with float32's sqrt(1/2), c, is ``x phi(c x) = gelu(k x) / k`` with ``k = c / sqrt(1/2)``; where ``|x|`` is within
2^-22 of the largest number, k x may become infinite, as ``x (1 + erf(c x))`` does from half of it on.

Where a written-out intermediate would overflow or lose its digits but the function does not, as ``x^3`` in GELU or
``x * 6`` in hard swish, the function's value is the result.

It must not fire on: ``x * sigmoid(y)``; constants of one value a channel; ``x * sigmoid(1.702 x)`` and other functions
that are only close, among them any with a further clamp or epsilon, and in float64 any with a constant that was rounded
to float32; constants above 2^16 or below 2^-16, between which float32 could lose what the function keeps; single
operations, which are what they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import field
from fractions import Fraction
from functools import cache, lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.closed_form import Atom, Form, X, activate, apply, constant
from omniconv.program.element import FLOAT32, Element
from omniconv.program.evaluate import evaluate_op
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import Array, MapStep, PostOp
from omniconv.records import dataclass
from omniconv.reference.activation import evaluate_activation
from omniconv.spec import Activation

Float64: TypeAlias = npt.NDArray[np.float64]

KNOWN: Final = tuple(map(Activation.of, ("silu", "hard_swish", "gelu", "gelu_tanh", "sigmoid", "tanh")))
"""Those without parameters; hard sigmoid and leaky ReLU are beside them."""
MAX_DEPTH: Final = 12
"""Longest expression looked at [steps]; the tanh form of GELU has 8."""
ROUNDOFFS: Final = 4
"""How far a constant may be off, as a share of itself [unit roundoffs]: two units in the last place."""
GELU: Final = Activation.of("gelu")
MODERATE: Final = (2.0**-16, 2.0**16)
_EXACT: Final = tuple(Fraction(sign * value) for value in (0.0, 0.5, 1.0, 2.0) for sign in (-1, 1))
_NOT_FINITE: Final = np.array([math.inf, -math.inf, math.nan])


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


def _constant(operand: Array) -> float | None:
    """A constant of moderate size."""
    value = float(operand.reshape(-1)[0])
    return value if value == 0.0 or MODERATE[0] <= abs(value) <= MODERATE[1] else None


@dataclass(slots=True)
class _Expression:
    """What is computed from ``root``: in closed form, and where the root is not finite."""

    root: str
    maps: dict[str, MapStep]
    element: Element
    forms: dict[str, Form | None] = field(default_factory=dict)
    values: dict[str, Float64] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forms[self.root], self.values[self.root] = X, _NOT_FINITE

    def form(self, y: str, depth: int = 0) -> Form | None:
        """The closed form of ``y``; ``None`` where it has none or depends on anything but the root."""
        if y in self.forms or depth > MAX_DEPTH:
            return self.forms.get(y)
        self.forms[y] = None
        step = self.maps.get(y)
        form = None if step is None else self.form(step.x, depth + 1)
        for op in () if step is None else step.post:
            operand: Form | None = None
            if isinstance(op.operand, str):
                operand = self.form(op.operand, depth + 1)
            elif op.operand is not None:
                value = _constant(op.operand)
                operand = None if value is None else constant(Fraction(value))
            if form is None or (op.operand is not None and operand is None):
                return None
            form = apply(op, form, operand, self.element)
        self.forms[y] = form
        return form

    def value(self, y: str) -> Float64:
        """``y`` for roots that are not finite, once it has a form."""
        if y not in self.values:
            step = self.maps[y]
            value = self.value(step.x)
            for op in step.post:
                match op.operand:
                    case str(name):
                        operand = self.value(name)
                    case None:
                        operand = value
                    case array:
                        operand = array.astype(np.float64).reshape(1)
                value = evaluate_op(op, value, operand)
            self.values[y] = value
        return self.values[y]


@cache
def _form(activation: Activation, element: Element) -> Form | None:
    return activate(activation, X, element)


def _tolerance(element: Element) -> Fraction:
    return ROUNDOFFS * Fraction(element.roundoff)


def _near(found: object, want: object, tolerance: Fraction) -> bool:
    """Whether two forms are the same but for the rounding of constants."""
    if isinstance(want, tuple):
        return (
            isinstance(found, tuple)
            and len(found) == len(want)
            and all(_near(*pair, tolerance) for pair in zip(found, want, strict=True))
        )
    if isinstance(want, Fraction) and isinstance(found, Fraction) and want not in _EXACT:
        return abs(found - want) <= tolerance * abs(want)
    return found == want


def _identify(form: Form, element: Element) -> Activation | None:
    """The activation with this form."""
    tolerance = _tolerance(element)
    for known in KNOWN:
        if _near(form, _form(known, element), tolerance):
            return known
    match form:
        case (((Atom("clamp", ((line, _), *offset), low, Fraction() as high),), slope),):
            # A line that ends at 0 and, but for rounding, at 1.
            ends = low == 0 and abs(slope * high - 1) <= tolerance
            if ends and line == X[0][0] and all(not factors for factors, _ in offset):
                beta = slope * sum((number for _, number in offset), Fraction(0))
                return Activation.of("hard_sigmoid", alpha=float(slope), beta=float(beta))
        case ((_, a), (_, b)):
            for slope in (a, b):
                leaky = Activation.of("leaky_relu", alpha=float(slope))
                if form == _form(leaky, element):
                    return leaky
    return None


def _scaled_gelu(form: Form, element: Element) -> float | None:
    """k with ``form = gelu(k x) / k``, where k is 1 but for the rounding of sqrt(1/2) to float32."""
    gelu = _form(GELU, element)
    if gelu is None or not _near(form, gelu, _tolerance(FLOAT32)):
        return None
    c, root_half = (atom.form[0][1] for each in (form, gelu) for atom in each[0][0] if atom.name == "phi")
    return float(c / root_half)


@lru_cache(maxsize=1024)
def _as_post(form: Form, element: Element) -> tuple[Activation, tuple[PostOp, ...]] | None:
    """The activation that a form is, and the operations that compute it."""
    known = _identify(form, element)
    if known is not None:
        return known, (PostOp("act", activation=known),)
    k = _scaled_gelu(form, element)
    if k is None:
        return None
    return GELU, (PostOp("mul", np.array(k)), PostOp("act", activation=GELU), PostOp("mul", np.array(1 / k)))


def _match(y: str, maps: dict[str, MapStep], element: Element) -> tuple[str, tuple[PostOp, ...]] | None:
    """The value that ``y`` is a known activation of, and the operations of it; the farthest such value."""
    names = _collect(y, maps)
    if sum(len(maps[name].post) for name in names if name in maps) < 2:
        return None
    for root in reversed(names[1:]):
        expression = _Expression(root, maps, element)
        form = expression.form(y)
        found = None if form is None else _as_post(form, element)
        if found is not None:
            known, post = found
            with np.errstate(all="ignore"):
                value, want = expression.value(y), evaluate_activation(known, _NOT_FINITE)
                same = np.allclose(value, want, rtol=float(_tolerance(element)), atol=0.0, equal_nan=True)
            if same:
                return root, post
    return None


def recognise_activations(program: Program) -> Program:
    """Replace written-out activations by one step each."""
    maps: dict[str, MapStep] = {}
    items: list[Item] = []
    for step, label in with_labels(program):
        if isinstance(step, MapStep) and step.post and _is_scalar(step, program):
            maps[step.y] = step
            found = _match(step.y, maps, program.element)
            if found is not None:
                step = MapStep(found[0], step.y, found[1])
                maps[step.y] = step
        items.append((step, label))
    return drop_dead(rebuild(program, items))
