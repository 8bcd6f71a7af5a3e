"""Options of sessions and of runs, by the table that says whether each is used, means nothing here, or is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from omniconv.errors import DataError, warn
from omniconv.integers import as_integer
from omniconv.ort.enums import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, Numbered
from omniconv.ort.failures import InvalidArgument, NotImplemented, fail
from omniconv.ort.option_table import ENTRIES, OPTIONS, PRECISION, REFUSED, RUN_OPTIONS, SessionOption
from omniconv.ort.providers import CPU, check_providers
from omniconv.program.element import FLOAT32

if TYPE_CHECKING:
    from omniconv.ort.value import OrtValue


class _Checked:
    """Attributes of a table, each of the type of its default."""

    _table: Mapping[str, SessionOption]
    _entries: dict[str, str]

    def __init__(self) -> None:
        self.__dict__.update({name: item.default for name, item in self._table.items()})
        self.__dict__["_entries"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        item = self._table.get(name)
        if item is None:
            known = ", ".join(sorted(self._table))
            raise AttributeError(f"{type(self).__name__} has no option {name!r}; need one of {known}")
        value = _as_kind(name, value, item.default)
        if item.effect == REFUSED and value != item.default:
            raise fail(NotImplemented, f"option {name}={value!r}", need=repr(item.default), fix=item.why)
        self.__dict__[name] = value

    def _add_entry(self, key: Any, value: Any) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise DataError(f"configuration entry {key!r}: {value!r}", need="texts")
        if key != PRECISION and not key.startswith(ENTRIES):
            warn(f"configuration entry {key!r} is not known here and changes nothing", UserWarning)
        self._entries[key] = value

    def _find_entry(self, key: str) -> str:
        if key not in self._entries:
            raise fail(InvalidArgument, f"there is no configuration entry {key!r}", need="one that was added")
        return self._entries[key]


def _as_kind(name: str, value: Any, default: Any) -> Any:
    """A value of the type of the default."""
    if isinstance(default, Numbered):
        # A choice of ONNX Runtime's own type, which is no number by itself, has the same name.
        if type(value).__name__ == type(default).__name__:
            return type(default)(int(value))
        raise DataError(f"{name} is {value!r}", need=f"a {type(default).__name__}", fix=str(default))
    if isinstance(default, bool):
        if not isinstance(value, bool | int | np.bool_):
            raise DataError(f"{name} is {value!r}", need="True or False")
        return bool(value)
    if isinstance(default, int):
        return as_integer(name, value, min(default, 0), error=InvalidArgument)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise DataError(f"{name} is {value!r}", need="a text")
    return value


class SessionOptions(_Checked):
    """What a session is made with. `OPTIONS` says of each attribute what it does.

    Example:
        >>> options = SessionOptions()
        >>> options.intra_op_num_threads = 2
        >>> options.optimized_model_filepath = "optimised.onnx"
        Traceback (most recent call last):
            ...
        omniconv.ort.failures.NotImplemented: option optimized_model_filepath='optimised.onnx'; need '', e.g. ...
    """

    _table = OPTIONS

    intra_op_num_threads: int
    inter_op_num_threads: int
    execution_mode: ExecutionMode
    execution_order: ExecutionOrder
    graph_optimization_level: GraphOptimizationLevel
    enable_cpu_mem_arena: bool
    enable_mem_pattern: bool
    enable_mem_reuse: bool
    use_deterministic_compute: bool
    use_per_session_threads: bool
    log_severity_level: int
    log_verbosity_level: int
    logid: str
    profile_file_prefix: str
    enable_profiling: bool
    optimized_model_filepath: str

    def __init__(self) -> None:
        super().__init__()
        self.__dict__.update(_sizes={}, _denoted={}, _initializers={}, _providers=[], _cancelled=False)

    _sizes: dict[str, int]
    _denoted: dict[str, int]
    _initializers: dict[str, OrtValue]
    _providers: list[str]
    _cancelled: bool

    @property
    def sizes(self) -> Mapping[str, int]:
        """Symbolic size -> what it is."""
        return self._sizes

    @property
    def denoted_sizes(self) -> Mapping[str, int]:
        """Denotation of a size -> what it is."""
        return self._denoted

    @property
    def initializers(self) -> Mapping[str, OrtValue]:
        """Name -> value, of constants that the model's are replaced by."""
        return self._initializers

    @property
    def cancelled(self) -> bool:
        """Whether loading was called off."""
        return self._cancelled

    def copy(self) -> Self:
        """The same options, which later changes of these do not reach."""
        found = type(self)()
        found.__dict__.update(
            {name: value if name == "_initializers" else deepcopy(value) for name, value in self.__dict__.items()}
        )
        found.__dict__["_initializers"] = dict(self._initializers)
        return found

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Note a configuration entry. ``"omniconv.precision"`` is what `compile` takes as ``precision``; no other one
        changes an answer, and of unknown ones a warning says so.

        Raises:
            InvalidArgument: a precision that is not known.
        """
        from omniconv.compiler.planning.options import PRECISIONS

        if key == PRECISION and value not in PRECISIONS:
            raise fail(InvalidArgument, f"{key} is {value!r}", need="one of " + ", ".join(PRECISIONS))
        self._add_entry(key, value)

    @property
    def precision(self) -> str:
        """What weights, and values between layers, are kept in."""
        return self._entries.get(PRECISION, FLOAT32.name)

    def get_session_config_entry(self, key: str) -> str:
        """A configuration entry that was added."""
        return self._find_entry(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix a symbolic size of the model's inputs."""
        self._sizes[_as_text("name", name)] = as_integer("size", size, error=InvalidArgument)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Fix the open sizes of the model's inputs that have this denotation."""
        self._denoted[_as_text("denotation", denotation)] = as_integer("size", size, error=InvalidArgument)

    def add_initializer(self, name: str, value: OrtValue) -> None:
        """Replace a constant of the model by another of the same type and shape."""
        from omniconv.ort.value import OrtValue

        if not isinstance(value, OrtValue):
            raise DataError(f"initializer {name!r} is a {type(value).__name__}", need="an OrtValue")
        self._initializers[_as_text("name", name)] = value

    def add_provider(self, provider: str, options: Mapping[str, str]) -> None:
        """Ask for an execution provider; others than the CPU's are named in a warning."""
        check_providers([(provider, options)], None)
        self._providers.append(provider)

    def add_provider_for_devices(self, devices: Any, options: Mapping[str, str]) -> NoReturn:
        """Not possible: there are no devices of plug-in providers.

        Raises:
            NotImplemented: always.
        """
        del options
        raise fail(NotImplemented, f"execution providers for {devices!r}", need=CPU, fix="providers=None")

    def has_providers(self) -> bool:
        """Whether execution providers were asked for."""
        return bool(self._providers)

    def set_provider_selection_policy(self, policy: Any) -> None:
        """Accepted: there is one provider to select."""

    def set_load_cancellation_flag(self, cancel: bool) -> None:
        """Whether sessions that are made with these options from now on raise `ModelLoadCanceled`."""
        self.__dict__["_cancelled"] = bool(cancel)

    def register_custom_ops_library(self, path: Any) -> NoReturn:
        """Not possible: machine code from elsewhere is not called.

        Raises:
            NotImplemented: always.
        """
        raise fail(
            NotImplemented, f"custom operators of library {path!r}", need="operators of ONNX, or functions of the model"
        )

    def add_external_initializers(self, names: Any, values: Any) -> NoReturn:
        """Not possible: external data is read from the files that the model names.

        Raises:
            NotImplemented: always.
        """
        del values
        raise fail(NotImplemented, f"external initializers {names!r}", need="data files next to the model")

    def add_external_initializers_from_files_in_memory(self, names: Any, buffers: Any, lengths: Any) -> NoReturn:
        """Not possible: external data is read from the files that the model names.

        Raises:
            NotImplemented: always.
        """
        del buffers, lengths
        raise fail(NotImplemented, f"external data {names!r} in memory", need="data files next to the model")


class RunOptions(_Checked):
    """What one run is made with. `RUN_OPTIONS` says of each attribute what it does."""

    _table = RUN_OPTIONS

    terminate: bool
    only_execute_path_to_fetches: bool
    log_severity_level: int
    log_verbosity_level: int
    logid: str

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Note a configuration entry; see `SessionOptions.add_session_config_entry`."""
        self._add_entry(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """A configuration entry that was added."""
        return self._find_entry(key)

    def add_active_adapter(self, adapter: Any) -> NoReturn:
        """Not possible: weights are packed when compiling.

        Raises:
            NotImplemented: always.
        """
        raise fail(NotImplemented, f"adapter {adapter!r}", need="a model with the adapter's weights in it")


def _as_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{name} is {value!r}", need="a text")
    return value
