"""Elementwise expressions of one value x in closed form, exactly: what two ways to write a function have in common.

A `Form` is a polynomial with rational coefficients in x and in a few functions of such polynomials::

    sigma(f) = 1 / (1 + exp(-f))      phi(f) = (1 + erf(f)) / 2      exp(f)      clamp(f, lo, hi) = min(max(f, lo), hi)

Everything else is rewritten by identities of real numbers: ``tanh f = 2 sigma(2 f) - 1``, ``erf f = 2 phi(f) - 1``,
``1 / (1 + exp f) = sigma(-f)``, ``k clamp(f, lo, hi) = clamp(k f, k lo, k hi)`` for k > 0, a clamp of a clamp as
one (:func:`join_clamps`), and ``max(f, 0) + a min(f, 0)`` for leaky ReLU. Products are multiplied out. No coefficient
is ever rounded, so that forms that are equal are equal functions of every finite x; and nothing is divided by but what
is positive everywhere. What has no such form is ``None``.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from omniconv.program.element import FLOAT32, Element
from omniconv.program.steps import PostOp
from omniconv.spec import Activation

ClampBound: TypeAlias = Fraction | float
"""A bound of a clamp: a fraction, or an infinity."""
Form: TypeAlias = "tuple[Term, ...]"
"""A sum of terms, in an order that does not depend on the coefficients; no coefficient is zero."""
Term: TypeAlias = "tuple[tuple[Atom, ...], Fraction]"
"""Factors and a coefficient."""


class Atom(NamedTuple):
    """x, or a function of a form: ``sigma``, ``phi``, ``exp`` or ``clamp`` with its bounds."""

    name: str
    form: Form = ()
    low: ClampBound = 0.0
    high: ClampBound = 0.0


MAX_TERMS: Final = 8
MAX_FACTORS: Final = 4
X: Final[Form] = (((Atom("x"),), Fraction(1)),)
_ROOT_HALF: Final = Fraction(math.sqrt(0.5))
_GELU_SLOPE: Final = Fraction(2 * math.sqrt(2 / math.pi))
_GELU_CUBE: Final = Fraction("0.044715")


def _outline(item: object) -> str:
    """The item without its numbers, to sort by."""
    if isinstance(item, tuple):
        return f"({','.join(map(_outline, item))})"
    return item if isinstance(item, str) else ""


def _order(item: object) -> tuple[str, str]:
    return _outline(item), repr(item)


def _collect(terms: list[Term]) -> Form | None:
    """The sum of the terms, or ``None`` if it is too long."""
    total: Counter[tuple[Atom, ...]] = Counter()
    for factors, coefficient in terms:
        total[factors] += coefficient  # type: ignore[assignment]
    kept = [(factors, Fraction(coefficient)) for factors, coefficient in total.items() if coefficient]
    return tuple(sorted(kept, key=_order)) if len(kept) <= MAX_TERMS else None


def constant(value: Fraction) -> Form:
    """The form of a number."""
    return (((), value),) if value else ()


def scale(form: Form, factor: Fraction) -> Form:
    """``factor * form``."""
    return tuple((factors, coefficient * factor) for factors, coefficient in form) if factor else ()


def add(a: Form, b: Form) -> Form | None:
    """``a + b``."""
    return _collect([*a, *b])


def multiply(a: Form, b: Form) -> Form | None:
    """``a * b``, multiplied out."""
    terms = [(tuple(sorted((*p, *q), key=_order)), c * d) for p, c in a for q, d in b]
    if len(terms) > MAX_TERMS**2 or any(len(factors) > MAX_FACTORS for factors, _ in terms):
        return None
    return _collect(terms)


def _function(name: str, argument: Form) -> Form:
    return (((Atom(name, argument),), Fraction(1)),)


def divide(a: Form, b: Form) -> Form | None:
    """``a / b`` where b is a number other than 0, or ``c * (1 + exp f)``."""
    numbers = [coefficient for factors, coefficient in b if not factors]
    if len(b) == 1 and numbers:
        return scale(a, 1 / numbers[0])
    if len(b) != 2 or not numbers:
        return None
    (factors, coefficient) = next(term for term in b if term[0])
    if len(factors) != 1 or factors[0].name != "exp" or coefficient != numbers[0]:
        return None
    return multiply(a, scale(_function("sigma", scale(factors[0].form, Fraction(-1))), 1 / coefficient))


def join_clamps(
    first: tuple[ClampBound, ClampBound], second: tuple[ClampBound, ClampBound]
) -> tuple[ClampBound, ClampBound]:
    """``(lo, hi)`` of the one clamp that equals the second after the first, for every x.

    A clamp never decreases, so it can be applied to the bounds of the one before it. Where ``lo > hi``, it is ``hi``.
    """
    low, high = second
    return min(max(min(first), low), high), min(max(first[1], low), high)


def clamp(form: Form, low: ClampBound, high: ClampBound) -> Form | None:
    """``min(max(form, low), high)``, scaled so that the first coefficient of what is clamped is 1."""
    low = min(low, high)
    lead = next((coefficient for factors, coefficient in form if factors), None)
    if lead is None:
        return None
    low, high = (low / lead, high / lead) if lead > 0 else (high / lead, low / lead)
    inner = scale(form, 1 / lead)
    match inner:
        case (((Atom("clamp") as before,), _),):
            low, high = join_clamps((before.low, before.high), (low, high))
            inner = before.form
    return (((Atom("clamp", inner, low, high),), lead),)


def _leaky(form: Form, slope: Fraction) -> Form | None:
    above, below = clamp(form, Fraction(0), math.inf), clamp(form, -math.inf, Fraction(0))
    return None if above is None or below is None else add(above, scale(below, slope))


def _gelu_tanh(form: Form) -> Form | None:
    square = multiply(form, form)
    cube = None if square is None else multiply(square, form)
    inner = None if cube is None else add(form, scale(cube, _GELU_CUBE))
    return None if inner is None else multiply(form, _function("sigma", scale(inner, _GELU_SLOPE)))


def _hard_sigmoid(form: Form, slope: ClampBound, offset: ClampBound) -> Form | None:
    if not isinstance(slope, Fraction) or not isinstance(offset, Fraction):
        return None
    line = add(scale(form, slope), constant(offset))
    return None if line is None else clamp(line, Fraction(0), Fraction(1))


def exact(value: float) -> ClampBound:
    """A number as a fraction; infinities and NaN stay."""
    return Fraction(value) if math.isfinite(value) else value


def activate(activation: Activation, form: Form, element: Element = FLOAT32) -> Form | None:
    """The form of an activation of a form; its parameters are numbers of ``element``."""
    one = Fraction(1)
    parameters = [exact(float(element.dtype.type(value))) for _, value in activation.parameters]
    match activation.name, parameters:
        case "relu", _:
            return clamp(form, Fraction(0), math.inf)
        case "relu6", _:
            return clamp(form, Fraction(0), Fraction(6))
        case "clip", [low, high]:
            return clamp(form, low, high)
        case "leaky_relu", [Fraction() as slope]:
            return _leaky(form, slope)
        case "sigmoid", _:
            return _function("sigma", form)
        case "silu", _:
            return multiply(form, _function("sigma", form))
        case "hard_sigmoid", [slope, offset]:
            return _hard_sigmoid(form, slope, offset)
        case "hard_swish", _:
            gate = _hard_sigmoid(form, one / 6, one / 2)
            return None if gate is None else multiply(form, gate)
        case "tanh", _:
            return add(scale(_function("sigma", scale(form, 2 * one)), 2 * one), constant(-one))
        case "exp", _:
            return _function("exp", form)
        case "neg", _:
            return scale(form, -one)
        case "gelu", _:
            return multiply(form, _function("phi", scale(form, _ROOT_HALF)))
        case "gelu_tanh", _:
            return _gelu_tanh(form)
    return None


def _larger(v: Form, a: Form, *, smaller: bool) -> Form | None:
    """``max(v, a)`` or ``min(v, a)``: with a number, or of f and ``k f`` for ``0 < k < 1``."""
    for one, other in ((v, a), (a, v)):
        if all(not factors for factors, _ in other):
            bound = other[0][1] if other else Fraction(0)
            return clamp(one, -math.inf, bound) if smaller else clamp(one, bound, math.inf)
        if not smaller and one and other:
            slope = other[0][1] / one[0][1]
            if 0 < slope < 1 and scale(one, slope) == other:
                return _leaky(one, slope)
    return None


def apply(op: PostOp, v: Form, a: Form | None, element: Element = FLOAT32) -> Form | None:
    """The form of one operation on v, with the operand a where it has one."""
    return _apply(op.op, op.activation, v, a, element)


@lru_cache(maxsize=1024)
def _apply(op: str, activation: Activation | None, v: Form, a: Form | None, element: Element) -> Form | None:
    """:func:`apply`, remembered: networks repeat a few activations many times."""
    if op == "act":
        assert activation is not None
        return activate(activation, v, element)
    if op == "erf":
        return add(scale(_function("phi", v), Fraction(2)), constant(Fraction(-1)))
    if a is None:
        return None
    match op:
        case "add":
            return add(v, a)
        case "sub":
            return add(v, scale(a, Fraction(-1)))
        case "rsub":
            return add(a, scale(v, Fraction(-1)))
        case "mul":
            return multiply(v, a)
        case "div":
            return divide(v, a)
        case "rdiv":
            return divide(a, v)
        case "max" | "min":
            return _larger(v, a, smaller=op == "min")
        case "prelu" if all(not factors for factors, _ in a):
            return _leaky(v, a[0][1] if a else Fraction(0))
    return None
