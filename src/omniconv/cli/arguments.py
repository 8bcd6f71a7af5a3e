"""Constructor arguments of a kind, from the command line or by default."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from omniconv.cli.exits import UsageProblemError
from omniconv.errors import OmniconvError
from omniconv.kinds import Kind
from omniconv.spec import Shape, Spec

TYPICAL: Final[Mapping[str, Any]] = {
    "in_channels": 64,
    "out_channels": 64,
    "kernel_size": 3,
    "groups": 4,
    "dilation": 2,
    "stride": 2,
    "factor": 2,
    "scale": 2,
    "upscale": 2,
    "bottleneck_channels": 16,
    "middle_channels": 64,
    "hidden_channels": 64,
    "kernel_sizes": (3, 5),
    "rank": 1,
}
"""Values for arguments that a constructor requires."""


def required_arguments(kind: Kind) -> list[str]:
    """Names of the arguments without a default."""
    parameters = inspect.signature(kind.constructor).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]


def typical_arguments(kind: Kind) -> dict[str, Any]:
    """Values for the required arguments, those of the first sample where nothing typical is known; padding "same"."""
    known = inspect.signature(kind.constructor).parameters
    sample = dict(kind.samples[0].arguments) if kind.samples else {}
    found = {name: TYPICAL.get(name, sample.get(name)) for name in required_arguments(kind)}
    if "padding" in known:
        found["padding"] = "same"
    return found


def build_example(kind: Kind, shape: Shape) -> Spec | None:
    """A layer of this kind with typical arguments, or ``None`` where it does not take an input of ``shape``."""
    try:
        spec = kind.constructor(**typical_arguments(kind))
        spec.output_shape(shape)
    except (OmniconvError, TypeError):
        return None
    return spec


def parse_value(text: str) -> Any:
    """Read an integer, a tuple of integers or a name.

    Example:
        >>> parse_value("3"), parse_value("(1, 2)"), parse_value("1,2"), parse_value("same")
        (3, (1, 2), (1, 2), 'same')
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text.strip()


def parse_settings(kind: Kind, texts: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` settings of a constructor.

    Raises:
        UsageProblemError: a setting without ``=``, or a name that the constructor does not have.
    """
    known = list(inspect.signature(kind.constructor).parameters)
    found: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not separator:
            raise UsageProblemError(f"{text!r} is not a setting; need name=value, e.g. stride=2")
        if name not in known:
            raise UsageProblemError(f"{kind.name} has no argument {name!r}; it takes {', '.join(known)}")
        found[name] = parse_value(value)
    return found
