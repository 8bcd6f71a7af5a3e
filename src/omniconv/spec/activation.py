"""Activation functions, as data.

An :class:`Activation` is a name and its parameters. The reference evaluates it in float64, the compiler
emits it for the elements of a program; both read the one table of formulas below.
"""

from __future__ import annotations

from dataclasses import dataclass  # noqa: TID251 - PyTorch follows the standard one where it traces
from typing import Final

from omniconv.choices import as_choice
from omniconv.errors import SpecError
from omniconv.integers import read_sequence, state

FORMULAS: Final[dict[str, tuple[str, dict[str, float]]]] = {
    "relu": ("max(x, 0)", {}),
    "relu6": ("min(max(x, 0), 6)", {}),
    "clip": ("min(max(x, lo), hi)", {"lo": float("-inf"), "hi": float("inf")}),
    "leaky_relu": ("x if x >= 0 else alpha * x", {"alpha": 0.01}),
    "elu": ("x if x >= 0 else alpha * (exp(x) - 1)", {"alpha": 1.0}),
    "sigmoid": ("1 / (1 + exp(-x))", {}),
    "silu": ("x * sigmoid(x)", {}),
    "hard_sigmoid": ("min(max(alpha * x + beta, 0), 1)", {"alpha": 1.0 / 6.0, "beta": 0.5}),
    "hard_swish": ("x * min(max(x / 6 + 1/2, 0), 1)", {}),
    "tanh": ("tanh(x)", {}),
    "exp": ("exp(x)", {}),
    "sqrt": ("sqrt(x)", {}),
    "abs": ("|x|", {}),
    "neg": ("-x", {}),
    "gelu": ("x / 2 * (1 + erf(x / sqrt 2))", {}),
    "gelu_tanh": ("x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))", {}),
}
"""Name -> (formula, parameters with their defaults)."""


@dataclass(frozen=True, slots=True)
class Activation:
    """One elementwise function ``y = f(x)``.

    Example:
        >>> Activation.of("clip", lo=0.0, hi=4.0)
        Activation(name='clip', parameters=(('lo', 0.0), ('hi', 4.0)))

    Args:
        name: a key of :data:`FORMULAS`.
        parameters: the parameters of that formula, in its order.

    Raises:
        SpecError: an unknown name or parameter.
    """

    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def transcendental(self) -> bool:
        """Whether its formula has an exponential in it, which takes tens of cycles a vector."""
        return any(word in FORMULAS[self.name][0] for word in ("exp", "erf", "sigmoid", "tanh"))

    def __post_init__(self) -> None:
        as_choice("activation", self.name, FORMULAS)
        allowed = tuple(FORMULAS[self.name][1])
        items = read_sequence(self.parameters)
        pairs = [pair for pair in map(read_sequence, items or ()) if pair is not None and len(pair) == 2]
        given = tuple(str(pair[0]) for pair in pairs)
        if items is None or len(pairs) < len(items) or given != allowed:
            problem = state(f"activation {self.name} got parameters", self.parameters, "")
            raise SpecError(problem.rstrip(), need=f"pairs of exactly {allowed}, in this order, and numbers")
        numbers = tuple((str(key), _as_number(self.name, str(key), value)) for key, value in pairs)
        object.__setattr__(self, "parameters", numbers)

    @classmethod
    def of(cls, name: str, **parameters: float) -> Activation:
        """Build an activation, with defaults for the parameters that are not given."""
        as_choice("activation", name, FORMULAS)
        defaults = FORMULAS[name][1]
        unknown = sorted(set(parameters) - set(defaults))
        if unknown:
            raise SpecError(
                f"activation {name} has no parameter {', '.join(unknown)}", need=f"some of {tuple(defaults)}"
            )
        return cls(name, tuple((key, parameters.get(key, value)) for key, value in defaults.items()))

    @classmethod
    def clamp(cls, low: float, high: float) -> Activation:
        """``min(max(x, low), high)``: ReLU and ReLU6 have names of their own.

        Example:
            >>> Activation.clamp(0.0, 6.0).name, Activation.clamp(0.0, 65504.0).name
            ('relu6', 'clip')
        """
        bounds = (low, high)
        if bounds in ((0.0, float("inf")), (0.0, 6.0)):
            return cls("relu" if high > 6.0 else "relu6")
        return cls.of("clip", lo=low, hi=high)

    def __getitem__(self, key: str) -> float:
        """The value of a parameter.

        Raises:
            SpecError: the formula has none of that name.
        """
        found = dict(self.parameters)
        if key not in found:
            problem = state(f"activation {self.name}: parameter", key, "is unknown")
            raise SpecError(problem, need=f"one of {tuple(found)}")
        return found[key]


def _as_number(name: str, key: str, value: object) -> float:
    axes: object = getattr(value, "ndim", 0)
    if not (isinstance(value, str | bytes | bytearray) or axes):
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass
    raise SpecError(f"activation {name} got {state(key, value, 'is no number')}", need="a number")
