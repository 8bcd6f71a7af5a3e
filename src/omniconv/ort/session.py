"""`InferenceSession`: a compiled network behind the interface of ONNX Runtime's sessions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from omniconv.errors import DataError, OmniconvError, warn
from omniconv.forks import own_locks
from omniconv.ort.binding import IOBinding
from omniconv.ort.failures import InvalidArgument, fail, translate_load, translate_run
from omniconv.ort.feeding import check_names, check_run, read_value
from omniconv.ort.opening import OpenedModel, open_model, replace_constants
from omniconv.ort.options import SessionOptions
from omniconv.ort.presence import COLLECTION, find_theirs
from omniconv.ort.providers import CPU, check_providers
from omniconv.ort.signature import ModelMetadata, NodeArg, complete
from omniconv.ort.value import AnyArray, OrtValue

if TYPE_CHECKING:
    from omniconv.graph.nodes import Graph
    from omniconv.runtime.executable import Executable
    from omniconv.runtime.mixed import MixedExecutable
    from omniconv.runtime.network import Network

MOST_OVERRIDDEN: Final = 4
"""Networks that are kept for values of constants that calls gave."""

OWN: Final = frozenset({"_overridden", "_lock"})
"""Attributes that no other process is given."""

IGNORED: Final = frozenset({"enable_fallback", "read_config_from_model", "disabled_optimizers"})
"""Further arguments of ONNX Runtime's sessions, which change no answer."""


class InferenceSession:
    """A model, compiled; runs like a session of ONNX Runtime. Thread-safe; results are arrays of the caller's own.

    Example:
        >>> import numpy as np, onnx
        >>> x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])
        >>> y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])
        >>> graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
        >>> model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        >>> session = InferenceSession(model.SerializeToString())
        >>> session.get_inputs()
        [NodeArg(name='x', type='tensor(float)', shape=['n', 2])]
        >>> session.run(None, {"x": np.float32([[-1, 2]])})
        [array([[0., 2.]], dtype=float32)]

    A model whose sizes are all fixed is compiled here, another for each set of shapes that comes, at the first run.

    Args:
        path_or_bytes: of an ONNX file.
        sess_options: see `SessionOptions`.
        providers, provider_options: the CPU's; others are named in a warning.
        further: what ONNX Runtime's sessions take besides; of unknown ones a warning says so.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented, RuntimeException, ModelLoadCanceled: what is wrong.
        InvalidArgument: options or providers that do not fit.
        DataError: an argument of another type.
    """

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: Any = None,
        providers: Any = None,
        provider_options: Any = None,
        **further: Any,
    ) -> None:
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            kind = f"{type(sess_options).__module__}.{type(sess_options).__name__}"
            fix = "omniconv.ort.install() before what makes them is imported"
            raise DataError(f"sess_options is a {kind}", need="omniconv.ort.SessionOptions", fix=fix)
        unknown = sorted(set(further) - IGNORED)
        if unknown:
            warn(f"arguments {', '.join(unknown)} are not known here and change nothing", UserWarning)
        check_providers(providers, provider_options)
        self._sess_options = SessionOptions() if sess_options is None else sess_options.copy()
        opened = open_model(path_or_bytes, self._sess_options)
        # Packages such as insightface read the names that ONNX Runtime's sessions keep these under.
        self._model_path = None if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
        self._providers, self._provider_options = [CPU], {CPU: dict[str, str]()}
        self._model_meta = opened.signature.metadata
        self._inputs_meta = list(opened.signature.inputs)
        self._overridable_initializers = list(opened.signature.overridable)
        self._inputs = {item.name: item for item in opened.signature.inputs}
        self._overridable = {item.name: item for item in opened.signature.overridable}
        self._opened = opened if self._overridable else None
        self._network = self._compile(opened, opened.graph)
        self._outputs_meta = list(self._complete(opened.signature.outputs))
        self._names = [item.name for item in self._outputs_meta]
        self._overridden: dict[bytes, Executable | MixedExecutable | Network] = {}
        own_locks(self)

    def forget_locks(self) -> None:
        """Begin with a lock that nobody holds: at first, and in the child of a fork."""
        self._lock = threading.Lock()

    if not TYPE_CHECKING:

        @property
        def __class__(self) -> type:
            """ONNX Runtime's class, where it is loaded: code that has that one and asks ``isinstance(session,
            InferenceSession)`` means what runs like it. `type`, and ``isinstance`` with this class, tell the truth.
            """
            return find_theirs(COLLECTION, "InferenceSession") or InferenceSession

    def __getstate__(self) -> Any:
        return {name: value for name, value in vars(self).items() if name not in OWN}

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state)
        self._overridden = {}
        own_locks(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the network, as it is saved, and what the model says of itself; or what a subclass says of its state:
        some keep the path, and open it again.
        """
        return _make_blank, (type(self),), self.__getstate__()

    def __repr__(self) -> str:
        return f"<omniconv.ort.InferenceSession {self._network!r}>"

    @property
    def network(self) -> Executable | MixedExecutable | Network:
        """What `omniconv.compile` returned, with ``explain()`` and all."""
        return self._network

    def get_inputs(self) -> list[NodeArg]:
        """What must be given."""
        return list(self._inputs_meta)

    def get_outputs(self) -> list[NodeArg]:
        """What comes."""
        return list(self._outputs_meta)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Constants that may be given in their place; the network is compiled again for other values."""
        return list(self._overridable_initializers)

    def get_modelmeta(self) -> ModelMetadata:
        """Who made the model, and what they wrote into it."""
        return self._model_meta

    def get_session_options(self) -> SessionOptions:
        """What the session was made with."""
        return self._sess_options

    def get_providers(self) -> list[str]:
        """The execution provider that there is."""
        return list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Its options: it has none."""
        return {name: dict(options) for name, options in self._provider_options.items()}

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Accepted; others than the CPU's are named in a warning."""
        check_providers(providers, provider_options)

    def disable_fallback(self) -> None:
        """Accepted: no other provider is ever fallen back to."""

    def enable_fallback(self) -> None:
        """The same."""

    def end_profiling(self) -> str:
        """The name of no file: profiling is refused by the options."""
        return ""

    def get_profiling_start_time_ns(self) -> int:
        """The same."""
        return 0

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> list[AnyArray]:
        """Run on named inputs.

        Args:
            output_names: names, in the order in which the outputs are wanted; ``None`` or none for all of them.
            input_feed: arrays by name. Lists of numbers, `OrtValue` and what has ``__dlpack__`` are taken, too.
            run_options: see `RunOptions`.

        Raises:
            InvalidArgument: names, types or shapes that do not fit.
            NotImplemented: an operator that cannot be carried out for these shapes.
            RuntimeException: more memory than allowed.
        """
        names = check_names(output_names, self._names)
        check_run(run_options)
        found = self._run(input_feed)
        if names is None:
            return list(found.values())
        results: list[AnyArray] = []
        taken: set[str] = set()
        for name in names:
            results.append(found[name].copy() if name in taken else found[name])
            taken.add(name)
        return results

    def run_with_ort_values(
        self, output_names: Any, input_dict_ort_values: Any, run_options: Any = None
    ) -> list[OrtValue]:
        """The same with values, and values come back."""
        return [OrtValue(array) for array in self.run(output_names, input_dict_ort_values, run_options)]

    def run_async(
        self,
        output_names: Any,
        input_feed: Any,
        callback: Callable[[list[AnyArray], Any, str], object],
        user_data: Any,
        run_options: Any = None,
    ) -> None:
        """Run in another thread, which calls ``callback(results, user_data, error)``: an empty list where the run
        failed, and then the message.
        """
        if not callable(callback):
            raise DataError(f"callback is a {type(callback).__name__}", need="a function")

        def work() -> None:
            try:
                results, problem = self.run(output_names, input_feed, run_options), ""
            except OmniconvError as error:
                results, problem = [], str(error)
            callback(results, user_data, problem)

        threading.Thread(target=work, name="omniconv-run-async", daemon=True).start()

    def io_binding(self) -> IOBinding:
        """Arrays to read from and write to, named once."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: Any = None) -> None:
        """Run on what is bound; ``iobinding.get_outputs()`` has the results.

        Raises:
            InvalidArgument: a binding of another session; no outputs; and as for :meth:`run`.
        """
        if not isinstance(iobinding, IOBinding):
            raise DataError(f"iobinding is a {type(iobinding).__name__}", need="session.io_binding()")
        if iobinding.session is not self:
            raise fail(InvalidArgument, "the binding belongs to another session", need="session.io_binding()")
        names = iobinding.output_names
        if not names:
            raise fail(InvalidArgument, "no outputs are bound", need="at least one", fix=f"{self._names[0]!r}")
        iobinding.take(self.run(names, iobinding.feed, run_options))

    # -- inside

    def _compile(self, opened: OpenedModel, graph: Graph) -> Executable | MixedExecutable | Network:
        """Compile a graph; the default of threads is that of `omniconv.compile`."""
        from omniconv.api import compile as compile_model

        given = self._sess_options.intra_op_num_threads
        threads: dict[str, Any] = {"threads": given} if given else {}
        try:
            return compile_model(graph, dtype=opened.dtype, precision=self._sess_options.precision, **threads)
        except OmniconvError as error:
            raise translate_load(error) from error

    def _complete(self, outputs: tuple[NodeArg, ...]) -> tuple[NodeArg, ...]:
        """The outputs, with what is known since compiling, where all sizes are."""
        from omniconv.runtime.network import Network

        network = self._network
        if isinstance(network, Network):
            return outputs
        return complete(outputs, network.outputs, network.output_dtypes)

    def _run(self, feed: Any) -> dict[str, AnyArray]:
        network, arrays = self._network, feed
        try:
            if not (type(feed) is dict and feed.keys() == self._inputs.keys()):
                arrays, network = self._read(feed)
            if not all(type(value) is np.ndarray for value in arrays.values()):
                arrays = {name: read_value(name, value, network.dtypes.get(name)) for name, value in arrays.items()}
            return network.run(arrays)
        except OmniconvError as error:
            raise translate_run(error) from error

    def _read(self, feed: Any) -> tuple[dict[str, Any], Executable | MixedExecutable | Network]:
        """Inputs alone, and the network for the constants that were given beside them."""
        if not isinstance(feed, Mapping):
            raise DataError(f"input_feed is a {type(feed).__name__}", need="arrays by name", fix="{name: array}")
        missing = [name for name in self._inputs if name not in feed]
        if missing:
            problem = f"inputs {missing} are missing from {sorted(map(str, feed))}"
            raise fail(InvalidArgument, problem, need=f"all of {sorted(self._inputs)}")
        unknown = sorted(str(name) for name in feed if name not in self._inputs and name not in self._overridable)
        if unknown:
            raise fail(InvalidArgument, f"inputs {unknown} are unknown", need=f"exactly {sorted(self._inputs)}")
        constants = {name: read_value(name, feed[name], None) for name in feed if name in self._overridable}
        return {name: feed[name] for name in self._inputs}, self._override(constants)

    def _override(self, constants: Mapping[str, AnyArray]) -> Executable | MixedExecutable | Network:
        """The network with other constants; the last few are kept, by what they are."""
        if not constants or self._opened is None:
            return self._network
        graph = replace_constants(self._opened.graph, constants)
        digest = blake2b(repr(sorted(constants)).encode())
        for name in sorted(constants):
            digest.update(graph.constants[name].tobytes())
        key = digest.digest()
        with self._lock:
            found = self._overridden.pop(key, None)
            if found is not None:
                self._overridden[key] = found
                return found
        found = self._compile(self._opened, graph)
        with self._lock:
            self._overridden[key] = found
            while len(self._overridden) > MOST_OVERRIDDEN:
                del self._overridden[next(iter(self._overridden))]
        return found


def _make_blank(kind: type[InferenceSession]) -> InferenceSession:
    """A session whose state is to be set."""
    return kind.__new__(kind)
