"""ONNX Runtime's own names, where its modules are loaded: what ours are taken for."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

NAME: Final = "onnxruntime"
STATE: Final = "onnxruntime.capi.onnxruntime_pybind11_state"
COLLECTION: Final = "onnxruntime.capi.onnxruntime_inference_collection"

MARK: Final = "__omniconv__"
"""An attribute of the modules that :func:`omniconv.ort.install` puts in the place of missing ones."""

replaced: Final[dict[tuple[str, str], object]] = {}
"""Module and name -> what stood there before :func:`omniconv.ort.install`."""


def loaded(module: str) -> ModuleType | None:
    """A module of ONNX Runtime, where it is loaded; never one of ours that stands in for it."""
    found = sys.modules.get(module)
    return None if found is None or hasattr(found, MARK) else found


def find_theirs(module: str, name: str) -> type | None:
    """A class of ONNX Runtime, where it is loaded, whatever stands in its place by now."""
    found = loaded(module)
    if found is None:
        return None
    theirs = replaced.get((module, name), getattr(found, name, None))
    return theirs if isinstance(theirs, type) else None
