"""`install`: code that imports onnxruntime gets what is here, and `uninstall` gives back what it had."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import Any, Final, Self

from omniconv.errors import UnsupportedError
from omniconv.ort import enums, environment, failures, options, providers
from omniconv.ort.binding import IOBinding
from omniconv.ort.presence import COLLECTION, MARK, NAME, STATE, replaced
from omniconv.ort.session import InferenceSession
from omniconv.ort.signature import ModelMetadata, NodeArg
from omniconv.ort.value import OrtDevice, OrtValue, copy_tensors

_VALUES: Final[dict[str, object]] = {
    "ModelMetadata": ModelMetadata,
    "NodeArg": NodeArg,
    "RunOptions": options.RunOptions,
    "SessionOptions": options.SessionOptions,
    **{
        name: getattr(enums, name)
        for name in (
            "ExecutionMode", "ExecutionOrder", "GraphOptimizationLevel", "OrtExecutionProviderDevicePolicy",
        )
    },
}  # fmt: skip
_FUNCTIONS: Final[dict[str, object]] = {
    "get_available_providers": providers.get_available_providers,
    "get_all_providers": providers.get_all_providers,
    **{
        name: getattr(environment, name)
        for name in (
            "disable_telemetry_events", "enable_telemetry_events", "get_build_info", "get_device", "get_ep_devices",
            "get_version_string", "has_collective_ops", "register_execution_provider_library",
            "set_default_logger_severity", "set_default_logger_verbosity", "set_seed",
        )
    },
}  # fmt: skip
_CLASSES: Final[dict[str, object]] = {
    "IOBinding": IOBinding,
    "InferenceSession": InferenceSession,
    "OrtDevice": OrtDevice,
    "OrtValue": OrtValue,
    "copy_tensors": copy_tensors,
}
_EXCEPTIONS: Final[dict[str, object]] = {
    name: kind
    for name, kind in vars(failures).items()
    if isinstance(kind, type) and issubclass(kind, failures.Failure) and kind is not failures.Failure
}
_CAPI: Final = "onnxruntime.capi"
_PYBIND: Final = "onnxruntime.capi._pybind_state"

NAMES: Final[dict[str, dict[str, object]]] = {
    NAME: {**_VALUES, **_FUNCTIONS, **_CLASSES, "preload_dlls": environment.preload_dlls},
    _CAPI: {},
    STATE: {**_VALUES, **_FUNCTIONS, **_EXCEPTIONS},
    _PYBIND: {**_VALUES, **_FUNCTIONS, **_EXCEPTIONS},
    COLLECTION: _CLASSES,
}
"""Module -> the names of ONNX Runtime that are here."""

_OVER_THEIRS: Final[dict[str, frozenset[str]]] = {
    NAME: frozenset(NAMES[NAME]),
    STATE: frozenset(_VALUES),
    _PYBIND: frozenset(_VALUES),
    COLLECTION: frozenset({"InferenceSession"}),
}
"""What is replaced in modules of ONNX Runtime that are loaded. Whatever its own sessions use among themselves stays, so
that those that exist go on."""


class _StandIn(ModuleType):
    """A module in the place of one of ONNX Runtime's that is not loaded."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        raise AttributeError(f"omniconv.ort stands in for {self.__name__}, and has no {name!r}")


class Installation:
    """That `install` was called. As a context it calls `uninstall` at its end, if it was the call that installed."""

    def __init__(self, *, first: bool) -> None:
        self.first = first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.first:
            uninstall()


_lock: Final = threading.Lock()
_standing: Final[dict[str, ModuleType]] = {}
_blocked: Final[list[str]] = []


def is_installed() -> bool:
    """Whether ``import onnxruntime`` gives what is here."""
    return bool(_standing or replaced)


def install() -> Installation:
    """From now on, code that imports onnxruntime gets what is here.

    Where ONNX Runtime is loaded, names in its modules are replaced: packages that asked for them before go on with
    what they have. Where it is not, modules of ours stand in its place, whether it is installed or not. A second call
    changes nothing.

    Example:
        >>> import omniconv.ort
        >>> with omniconv.ort.install():
        ...     from onnxruntime import InferenceSession
        >>> InferenceSession is omniconv.ort.InferenceSession
        True

    Raises:
        UnsupportedError: ONNX Runtime is being loaded at this moment.
    """
    with _lock:
        if is_installed():
            return Installation(first=False)
        theirs = sys.modules.get(NAME)
        if theirs is None:
            _stand_in()
        elif all(hasattr(theirs, name) for name in ("InferenceSession", "SessionOptions")):
            _replace()
        else:
            problem = f"module {NAME!r} is loaded in part"
            raise UnsupportedError(problem, need="install() before it is imported, or after", at=str(theirs))
        return Installation(first=True)


def uninstall() -> None:
    """Undo `install`. What was imported meanwhile stays with those who did; sessions go on.

    Modules that other code has put in the place of ours since then stay.
    """
    with _lock:
        for (module, name), before in replaced.items():
            found = sys.modules.get(module)
            if found is not None and vars(found).get(name) is NAMES[module][name]:
                setattr(found, name, before)
        replaced.clear()
        if _standing and sys.modules.get(NAME) is _standing[NAME]:
            for name in [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]:
                del sys.modules[name]
            sys.modules.update(dict.fromkeys(_blocked))  # type: ignore[arg-type]
        _standing.clear()


def _replace() -> None:
    for module, names in _OVER_THEIRS.items():
        found = sys.modules.get(module)
        for name in sorted(names):
            if found is not None and name in vars(found):
                replaced[module, name] = vars(found)[name]
                setattr(found, name, NAMES[module][name])


def _stand_in() -> None:
    spec = find_spec(NAME)
    _blocked[:] = [name for name in NAMES if name in sys.modules]  # by None, which says that nothing may be imported
    for name, contents in NAMES.items():
        module = _StandIn(name, "Omniconv's sessions in the place of ONNX Runtime's.")
        module.__dict__.update(contents)
        module.__spec__ = ModuleSpec(name, None, is_package=name in {NAME, _CAPI})
        if name in {NAME, _CAPI}:
            # What is not here, such as onnxruntime.quantization, is ONNX Runtime's own where it is installed.
            places = [] if spec is None or name == _CAPI else list(spec.submodule_search_locations or ())
            module.__path__ = module.__spec__.submodule_search_locations = places
        setattr(module, MARK, True)
        _standing[name] = module
    _standing[NAME].__dict__["__version__"] = environment.get_version_string()
    for name, stand_in in _standing.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(_standing[parent], child, stand_in)
    sys.modules.update(_standing)
