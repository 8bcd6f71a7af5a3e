"""A typical layer of each kind: values for the arguments that its constructor requires."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from omniconv.errors import OmniconvError
from omniconv.kinds.registry import Kind
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
