"""`MixedExecutable`: a network part of which runs on the host, in NumPy, between compiled stretches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from omniconv.compiler.code.build import LoadedKernel
from omniconv.compiler.planning.options import Options
from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.nodes import Graph
from omniconv.graph.schedule import Schedule, Unknown
from omniconv.integers import as_integer
from omniconv.program.layers import LayerInfo
from omniconv.program.tiers import Tiers
from omniconv.runtime.compiled import Compiled, show_boundary
from omniconv.runtime.executable import Executable
from omniconv.runtime.inputs import arrange, read_array, read_names
from omniconv.runtime.pieces import Pieces
from omniconv.runtime.report import StepProfile
from omniconv.runtime.runner import Array, Arrays, Context
from omniconv.spec import Shape
from omniconv.target.model import Target


class MixedExecutable(Compiled):
    """A network for exact shapes, some of whose operators run in NumPy. Thread-safe, like an `Executable`.

    Example:
        >>> import warnings
        >>> import numpy as np, onnx, omniconv as oc
        >>> nodes = [onnx.helper.make_node("Relu", ["x"], ["r"]), onnx.helper.make_node("NonZero", ["r"], ["y"])]
        >>> x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])
        >>> y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [1, None])
        >>> graph = onnx.helper.make_graph(nodes, "g", [x], [y])
        >>> model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", oc.HostWarning)
        ...     net = oc.compile(model)
        >>> print(net.tiers)
        1 node compiled, 0 folded, 1 on the host
        >>> net(np.float32([-1, 2, 0, 3]))
        array([[1, 3]])

    Values of any type that NumPy has may enter and leave. What lies behind a value whose shape depends on data is
    compiled for each set of shapes that comes up, as a `Network` is.

    Attributes:
        inputs: name -> shape of the arrays at the boundary (in the boundary's layout).
        outputs: the same; ``None`` for a shape that depends on data.
        dtypes: name -> NumPy's type of each input.
        output_dtypes: the same of each output; ``None`` for one that depends on data.
        dtype: of the inputs and outputs that the model gives its float type.
        threads: threads that share each call of a stretch, at most; ``threads_why`` says why so many, where nobody did.
        layout: of the caller's arrays, but for those that ``row_major`` names.
        target: the machine it is for.
        compile_seconds: time spent to plan, compile and pack [s].
        schedule: what runs one after the other.
        graph, options: what is compiled, and all that was asked of its plans.
    """

    strict = False

    def __init__(
        self, schedule: Schedule, context: Context, graph: Graph, *, options: Options, target: Target, at: str
    ) -> None:
        started = time.perf_counter()
        self.schedule, self._context, self.graph, self.options = schedule, context, graph, options
        self.threads, self.threads_why, self.target, self._at = options.threads, options.threads_why, target, at
        self.layout, self.row_major = options.layout, options.row_major
        given, self.dtype = context.settings.given, context.settings.element.dtype
        self.dtypes = {item.name: self.dtype if item.dtype == given.dtype else item.dtype for item in schedule.inputs}
        self.inputs = {item.name: self._outside(item.name, item.shape) for item in schedule.inputs}
        self.outputs: dict[str, Shape | None] = {
            name: None if isinstance(value, Unknown) else self._outside(name, tuple(value.shape))
            for name, value in schedule.outputs.items()
        }
        self.output_dtypes: dict[str, np.dtype[Any] | None] = {}
        for name, value in schedule.outputs.items():
            dtype = context.settings.dtype_of(value)
            self.output_dtypes[name] = self.dtype if dtype == given.dtype else dtype
        self.pieces = Pieces(schedule, context)
        self.compile_seconds = time.perf_counter() - started

    def stream(self, axis: int, chunk: int, **options: Any) -> NoReturn:
        """Not possible where operators run on the host.

        Raises:
            UnsupportedError: always; it names them.
        """
        del axis, chunk, options
        raise UnsupportedError(
            self.schedule.describe_host() or "parts of the model depend on data",
            need="a model that is compiled as a whole, to stream",
            at=self._at,
        )

    def __repr__(self) -> str:
        inputs = {name: (self.dtypes[name], shape) for name, shape in self.inputs.items()}
        outputs = {name: (self.output_dtypes[name], shape) for name, shape in self.outputs.items()}
        return show_boundary(self, inputs, outputs)

    @property
    def tiers(self) -> Tiers:
        """How many nodes are compiled, folded, and left to the host."""
        return self.schedule.tiers

    @property
    def executables(self) -> Iterator[Executable]:
        """The compiled stretches, those of branches, bodies and shapes that have come up included."""
        return self.pieces.executables()

    @property
    def code(self) -> list[LoadedKernel]:
        """The machine code of all stretches."""
        return [kernel for item in self.executables for kernel in item.code]

    @property
    def kernels(self) -> int:
        """Kernels of all stretches."""
        return sum(item.kernels for item in self.executables)

    @property
    def cached_kernels(self) -> int:
        """Those of them that came from the disk or were loaded already."""
        return sum(item.cached_kernels for item in self.executables)

    @property
    def arena_bytes(self) -> int:
        """Working memory of each concurrent caller [bytes], beside the arrays of the host."""
        return self.pieces.arena_bytes

    @property
    def constant_bytes(self) -> int:
        """Weights and tables [bytes]."""
        return self.pieces.constant_bytes

    @property
    def layers(self) -> list[LayerInfo]:
        """The layers of all stretches, in order."""
        return self.pieces.layers

    def __call__(self, x: Any) -> Array:
        """Run on one input and return the one output; see `Executable`."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise ShapeError(
                f"inputs {list(self.inputs)} and outputs {list(self.outputs)}",
                need="one input and one output",
                fix="net.run({name: array})",
                at=self._at,
            )
        return next(iter(self.run({next(iter(self.inputs)): x}).values()))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run on named inputs and return all outputs by name.

        Raises:
            ShapeError: missing or unknown inputs, or another shape than compiled for.
            DataError: another type than compiled for.
            LimitError: a value of the host that takes more memory than allowed; refused before it is computed.
            ModelError: values that an operator forbids, such as an index outside its axis.
        """
        arrays = self._gather(inputs)
        found = self.pieces.run(arrays)
        known = list(arrays.values())
        results: dict[str, Array] = {}
        for name in self.outputs:
            results[name] = self._leave(name, found[name], known)
            known.append(results[name])
        return results

    def profile(self, inputs: Any, repeat: int = 10) -> list[StepProfile]:
        """Median time of each step; see `Executable`. The kind of a step on the host is ``host`` and its operator.

        A loop on the host is one step.
        """
        named = inputs if isinstance(inputs, Mapping) else {next(iter(self.inputs)): inputs}
        found, _ = self.pieces.profile(self._gather(named), as_integer("repeat", repeat, 1))
        total = sum(step.seconds for step in found) or 1.0
        return [replace(step, share=step.seconds / total) for step in found]

    def explain(self) -> str:
        """The tiers; then for each stretch what was chosen, and for each step on the host why it is there."""
        first = f"target {self.target}; {self.describe_threads()}; {self.tiers}"
        return "\n".join([first, *self.pieces.explain()])

    def _gather(self, inputs: Mapping[str, Any]) -> Arrays:
        """The inputs, checked, channels first."""
        read_names(inputs, tuple(self.inputs), self._at)
        arrays = {name: read_array(name, inputs[name], dtype, self._at) for name, dtype in self.dtypes.items()}
        for name, array in arrays.items():
            if array.shape != self.inputs[name]:
                raise ShapeError(
                    f"input {name!r} has shape {array.shape}",
                    need=f"{self.inputs[name]}, the shape compiled for ({self.layout})",
                    at=self._at,
                )
        for name, array in arrays.items():
            arrays[name] = arrange(np.moveaxis(array, -1, 1) if self.is_channels_last(name, array.ndim) else array)
        return arrays

    def _leave(self, name: str, array: Array, others: Sequence[Array]) -> Array:
        """An output as the caller's own array, apart from all others, in the caller's layout."""
        if self.is_channels_last(name, array.ndim):
            array = np.moveaxis(array, 1, -1)
        shared = any(np.may_share_memory(array, item) for item in others)
        return array if array.flags.carray and not shared else np.array(array, order="C")
