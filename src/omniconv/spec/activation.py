"""Activation functions, as data.

An :class:`Activation` is a name and its parameters. The reference evaluates it in float64, the compiler
emits it in float32; both read the one table of formulas below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omniconv.errors import SpecError

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
        if self.name not in FORMULAS:
            raise SpecError(f"activation={self.name!r} is unknown", need="one of " + ", ".join(FORMULAS))
        allowed = tuple(FORMULAS[self.name][1])
        given = tuple(key for key, _ in self.parameters)
        if given != allowed:
            raise SpecError(f"activation {self.name} got parameters {given}", need=f"exactly {allowed}, in this order")
        numbers = tuple((key, _as_number(self.name, key, value)) for key, value in self.parameters)
        object.__setattr__(self, "parameters", numbers)

    @classmethod
    def of(cls, name: str, **parameters: float) -> Activation:
        """Build an activation, with defaults for the parameters that are not given."""
        if name not in FORMULAS:
            raise SpecError(f"activation={name!r} is unknown", need="one of " + ", ".join(FORMULAS))
        defaults = FORMULAS[name][1]
        unknown = sorted(set(parameters) - set(defaults))
        if unknown:
            raise SpecError(
                f"activation {name} has no parameter {', '.join(unknown)}", need=f"some of {tuple(defaults)}"
            )
        return cls(name, tuple((key, parameters.get(key, value)) for key, value in defaults.items()))

    def __getitem__(self, key: str) -> float:
        return dict(self.parameters)[key]


def _as_number(name: str, key: str, value: object) -> float:
    if isinstance(value, str | bytes):
        raise SpecError(f"activation {name} got {key}={value!r}", need="a number")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise SpecError(f"activation {name} got {key}={value!r}", need="a number") from None
