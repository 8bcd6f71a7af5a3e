"""Omniconv: a compiler for convolutions, every kind described once and compiled for its exact shapes.

Importing this package loads descriptions and errors only; NumPy, LLVM and ONNX load when a name that needs them is
used. Where a function has the name of a subpackage (``kinds``, ``reference``), the name means the function; what else
the subpackage holds is imported from it: ``from omniconv.reference import random_weights``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from omniconv.errors import (
    DataError,
    HostWarning,
    LimitError,
    ModelError,
    ModelWarning,
    OmniconvError,
    RebuildWarning,
    RecompileWarning,
    ShapeError,
    SpecError,
    StorageError,
    StreamError,
    UnsupportedError,
    VerificationError,
)
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split, parse

if TYPE_CHECKING:
    from omniconv.analysis import separability
    from omniconv.api import compile  # noqa: A004
    from omniconv.explorer import explore
    from omniconv.inspection import connectivity, cost, coverage, overlap, receptive_field, required_input
    from omniconv.kinds import (
        asymmetric,
        blueprint_separable,
        causal,
        convolution,
        cross_correlation,
        depthwise,
        depthwise_separable,
        dilated,
        factorised,
        flattened,
        grouped,
        kinds,
        mixed,
        pointwise,
        pointwise_grouped,
        resize_conv,
        shuffled_grouped,
        spatially_separable,
        sub_pixel,
        transposed,
    )
    from omniconv.mapping import map  # noqa: A004 - the name of the public interface
    from omniconv.quantization import quantize
    from omniconv.reference import random_weights, reference
    from omniconv.runtime.saved import load
    from omniconv.runtime.stream import Stream
    from omniconv.tiles import plan_tiles, tiled

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Chain",
    "Conv",
    "DataError",
    "HostWarning",
    "LimitError",
    "ModelError",
    "ModelWarning",
    "OmniconvError",
    "PixelShuffle",
    "RebuildWarning",
    "RecompileWarning",
    "Resize",
    "ShapeError",
    "Shuffle",
    "SpecError",
    "Split",
    "StorageError",
    "Stream",
    "StreamError",
    "UnsupportedError",
    "VerificationError",
    "asymmetric",
    "blueprint_separable",
    "causal",
    "compile",
    "connectivity",
    "convolution",
    "cost",
    "coverage",
    "cross_correlation",
    "depthwise",
    "depthwise_separable",
    "dilated",
    "explore",
    "factorised",
    "flattened",
    "grouped",
    "kinds",
    "load",
    "map",
    "mixed",
    "overlap",
    "parse",
    "plan_tiles",
    "pointwise",
    "pointwise_grouped",
    "quantize",
    "random_weights",
    "receptive_field",
    "reference",
    "required_input",
    "resize_conv",
    "separability",
    "shuffled_grouped",
    "spatially_separable",
    "sub_pixel",
    "tiled",
    "transposed",
]

_LAZY: Final = {
    "compile": "omniconv.api",
    "connectivity": "omniconv.inspection",
    "cost": "omniconv.inspection",
    "coverage": "omniconv.inspection",
    "explore": "omniconv.explorer",
    "kinds": "omniconv.kinds",
    "load": "omniconv.runtime.saved",
    "map": "omniconv.mapping",
    "overlap": "omniconv.inspection",
    "plan_tiles": "omniconv.tiles",
    "quantize": "omniconv.quantization",
    "random_weights": "omniconv.reference",
    "receptive_field": "omniconv.inspection",
    "reference": "omniconv.reference",
    "required_input": "omniconv.inspection",
    "Stream": "omniconv.runtime.stream",
    "separability": "omniconv.analysis",
    "tiled": "omniconv.tiles",
}
"""Name -> module that defines it. Every other lazy name is a constructor of :mod:`omniconv.kinds`."""


class _Package(ModuleType):
    """Keeps the name of a function where the import system would set a subpackage of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _LAZY and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    else:
        kind = import_module("omniconv.kinds").__dict__["kinds"]().get(name)
        if kind is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = kind.constructor
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
