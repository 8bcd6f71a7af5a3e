"""What ONNX Runtime has for a whole process: the names that code asks for, most of which mean nothing here."""

from __future__ import annotations

from importlib import metadata
from typing import Any, Final, NoReturn

from omniconv.integers import as_integer
from omniconv.ort.failures import InvalidArgument, NotImplemented, fail
from omniconv.ort.presence import NAME

INTERFACE: Final = "1.23.0"
"""The version of ONNX Runtime's interface that this one follows."""


def get_version_string() -> str:
    """The version of ONNX Runtime that is installed, whose interface code expects; else the one that this follows."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return INTERFACE


def get_build_info() -> str:
    """What computes."""
    import omniconv

    return f"Omniconv {omniconv.__version__}"


def get_device() -> str:
    """What is computed on."""
    return "CPU"


def get_ep_devices() -> list[Any]:
    """Devices of plug-in providers: none."""
    return []


def has_collective_ops() -> bool:
    """Whether several machines compute together: no."""
    return False


def set_default_logger_severity(severity: int) -> None:
    """Accepted: no log is written; warnings are Python's."""
    as_integer("severity", severity, 0, 4, error=InvalidArgument)


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted: no log is written."""
    as_integer("verbosity", verbosity, 0, error=InvalidArgument)


def set_seed(seed: int) -> None:
    """Accepted: nothing is random."""
    as_integer("seed", seed, None, None, error=InvalidArgument)


def enable_telemetry_events() -> None:
    """Accepted: nothing is sent anywhere."""


def disable_telemetry_events() -> None:
    """Accepted: nothing is sent anywhere."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None) -> None:
    """Accepted: no other libraries are needed."""


def register_execution_provider_library(name: str, path: Any) -> NoReturn:
    """Not possible: machine code from elsewhere is not called.

    Raises:
        NotImplemented: always.
    """
    raise fail(NotImplemented, f"execution provider {name!r} of library {path!r}", need="CPUExecutionProvider")
