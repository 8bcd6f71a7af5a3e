"""Sessions in the interface of ONNX Runtime, for code that is written for it.

`InferenceSession` takes a model, compiles it, and runs like a session of ONNX Runtime's; `install` gives it to code
that imports onnxruntime itself. ONNX Runtime need not be installed. ``docs/guide/sessions.md`` says what is covered.
"""

from __future__ import annotations

from omniconv.ort import capi
from omniconv.ort.binding import IOBinding
from omniconv.ort.enums import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, OrtExecutionProviderDevicePolicy
from omniconv.ort.environment import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_build_info,
    get_device,
    get_ep_devices,
    get_version_string,
    has_collective_ops,
    preload_dlls,
    register_execution_provider_library,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from omniconv.ort.option_table import OPTIONS, RUN_OPTIONS
from omniconv.ort.options import RunOptions, SessionOptions
from omniconv.ort.providers import get_all_providers, get_available_providers
from omniconv.ort.session import InferenceSession
from omniconv.ort.signature import ModelMetadata, NodeArg
from omniconv.ort.standing import Installation, install, is_installed, uninstall
from omniconv.ort.value import OrtDevice, OrtValue, copy_tensors

__version__ = get_version_string()
"""Of the interface, as code that asks for it expects."""

__all__ = [
    "OPTIONS",
    "RUN_OPTIONS",
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "Installation",
    "ModelMetadata",
    "NodeArg",
    "OrtDevice",
    "OrtExecutionProviderDevicePolicy",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "capi",
    "copy_tensors",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_ep_devices",
    "get_version_string",
    "has_collective_ops",
    "install",
    "is_installed",
    "preload_dlls",
    "register_execution_provider_library",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "uninstall",
]
