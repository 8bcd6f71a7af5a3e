"""The places where code written for ONNX Runtime looks for its exceptions."""

from __future__ import annotations

from omniconv.ort.capi import onnxruntime_pybind11_state

__all__ = ["onnxruntime_pybind11_state"]
