"""`Network`: a model with open dimensions, compiled for each set of shapes that its inputs come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from omniconv.compiler.code.build import abandon
from omniconv.compiler.planning.options import channels_to_first
from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.expand import CONTROL
from omniconv.graph.fix_shapes import check_types, find_given, fix_shapes, input_dtypes, narrow_inputs
from omniconv.graph.host_operator import find_refusal
from omniconv.graph.lower import place, refuse_computed
from omniconv.graph.nodes import shorten
from omniconv.graph.program import lower_in_parts
from omniconv.graph.registry import find_operator, has_operator
from omniconv.graph.tensors import DTYPES
from omniconv.program.tiers import WITHOUT_STRICT
from omniconv.runtime.compiled import Compiled, show_boundary
from omniconv.runtime.executable import Executable
from omniconv.runtime.inputs import read_array, read_names
from omniconv.runtime.kept import Kept
from omniconv.runtime.mixed import MixedExecutable
from omniconv.runtime.pace import while_planning

if TYPE_CHECKING:
    from omniconv.compiler.code.build import LoadedKernel
    from omniconv.compiler.planning.options import Options
    from omniconv.compiler.planning.shared import Shared
    from omniconv.graph.nodes import Dims, Graph
    from omniconv.graph.program import Lowered
    from omniconv.program.element import Element
    from omniconv.program.program import Program
    from omniconv.runtime.inputs import Array
    from omniconv.runtime.report import StepProfile
    from omniconv.runtime.stream import Stream
    from omniconv.spec import Shape
    from omniconv.target.model import Target

    Shapes: TypeAlias = tuple[Shape, ...]
    AnyExecutable: TypeAlias = Executable | MixedExecutable

MAY_BE_EMPTY: Final = frozenset({"Pad"})
"""Operators for open sizes whose result has no elements, and is a constant, for some sizes of a computed value."""


class Network(Compiled):
    """A model with open dimensions: a call whose inputs have shapes that are not known yet plans it for them.

    Machine code and packed weights serve all shapes, as far as they can
    (:mod:`omniconv.compiler.planning.shared`). The executables used last are kept: at most :data:`MOST_KEPT`, whose
    weights and working memory together stay below the memory limit. Thread-safe: callers with other shapes do not wait
    while one compiles.

    What an `Executable` has besides (``inputs``, ``layers``, ``explain()`` ...) is that of :attr:`executable`.

    Attributes:
        signature: for each input the sizes that are known: an int, a name, or nothing; ``None`` for an unknown rank.
        layout: of the caller's arrays, but for those that ``row_major`` names.
        threads: threads that share each call, at most: sizes of little work get fewer where nobody said how many.
        threads_why: why so many, where nobody did.
        target: the machine.
        options: all that was asked of plans.
        dtype: of the inputs and outputs that have the model's float type.
        dtypes: name -> NumPy's type of each input.
        strict: whether nothing may be left to the host.
    """

    def __init__(
        self,
        build: Callable[[Mapping[str, Shape]], AnyExecutable],
        graph: Graph,
        options: Options,
        target: Target,
        *,
        strict: bool = False,
        shared: Shared | None = None,
    ) -> None:
        element = target.element
        given = find_given(graph, element)
        _check(graph, given, strict=strict)
        self._build, self._graph, self.target, self.options = build, graph, target, options
        self.layout, self.row_major = options.layout, options.row_major
        self.threads, self.threads_why = options.threads, options.threads_why
        self.dtype, self._given = element.dtype, given.dtype
        self.dtypes = {
            name: element.dtype if dtype == given.dtype else dtype for name, dtype in input_dtypes(graph, given).items()
        }
        self.signature: dict[str, Dims | None] = {info.name: info.dims for info in graph.inputs}
        self._at = shorten(f"model with inputs {', '.join(self.signature)}")
        self._kept: Kept[AnyExecutable] = Kept(options.memory_limit)
        self.strict, self._shared = strict, shared

    def __repr__(self) -> str:
        inputs = {name: (self.dtypes[name], dims) for name, dims in self.signature.items()}
        dtypes = {info.name: DTYPES.get(info.dtype) for info in self._graph.outputs}
        outputs = {name: (self.dtype if dtype == self._given else dtype, None) for name, dtype in dtypes.items()}
        return show_boundary(self, inputs, outputs)

    @property
    def graph(self) -> Graph:
        """What is compiled."""
        return self._graph

    @property
    def code(self) -> list[LoadedKernel]:
        """The machine code that is kept for all sizes."""
        kept = [kernel for item in self._kept.all for kernel in item.code]
        return [*kept, *([] if self._shared is None else self._shared.code)]

    @property
    def executable(self) -> AnyExecutable:
        """The executable that was used last.

        Raises:
            ShapeError: there is none, so that no shapes are known.
        """
        last = self._kept.last
        if last is not None:
            return last
        raise ShapeError(
            f"inputs {self.signature} have open dimensions and nothing has been compiled yet",
            need="shapes, or one call",
            fix="compile(model, shapes={name: shape}), or net.fix({name: shape})",
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not (hasattr(Executable, name) or name in Executable.__annotations__):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.executable, name)

    def __call__(self, x: Any) -> Array:
        """Run on one input and return the one output; see `Executable`."""
        if len(self.signature) != 1:
            raise ShapeError(f"inputs {list(self.signature)}", need="one input", fix="net.run({name: array})")
        name, dtype = next(iter(self.dtypes.items()))
        array = read_array(name, x, dtype, self._at)
        return self._find((self._inside(name, array.shape),))(array)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run on named inputs and return all outputs by name; see `Executable`."""
        arrays = self._read(inputs)
        return self._find_for(arrays).run(arrays)

    def profile(self, inputs: Any, repeat: int = 10) -> list[StepProfile]:
        """Median time of each step; see `Executable`."""
        named = inputs if isinstance(inputs, Mapping) else {next(iter(self.signature)): inputs}
        arrays = self._read(named)
        return self._find_for(arrays).profile(arrays, repeat)

    def lower(self, shapes: Mapping[str, Sequence[int]]) -> Lowered:
        """The program for inputs of these shapes, to be run in parts: its values may be larger than the memory limit.

        Raises:
            ShapeError: sizes that are missing or do not fit.
            UnsupportedError: an operator that is not compiled.
        """
        return lower_in_parts(self._graph, shapes, self.options.memory_limit, self.target.element)

    def stream(self, axis: int, chunk: int, *, shape: Sequence[int] | None = None, output: str | None = None) -> Stream:
        """Run along one axis on whatever has come so far; see `Executable.stream` and `omniconv.Stream`."""
        from omniconv.runtime.streams import open_stream

        if len(self.signature) != 1:
            problem = f"inputs {list(self.signature)}"
            raise ShapeError(problem, need="one input", fix="constants={name: array} in compile", at=self._at)
        ((name, dims),) = self.signature.items()
        if dims is None:
            raise ShapeError(f"input {name!r} of unknown rank", need="known axes", at=self._at)

        graph, limit, element = self._graph, self.options.memory_limit, self.target.element

        def lower(given: Shape) -> tuple[Program, frozenset[str]]:
            found = lower_in_parts(graph, {name: given}, limit, element)
            return found.program, found.truths

        return open_stream(self, lower, name, dims, self.options, axis, chunk, shape, output)

    def fix(self, shapes: Mapping[str, Sequence[int]]) -> AnyExecutable:
        """The executable for inputs of these shapes; compiled now where none is kept.

        Args:
            shapes: by name, channels first whatever the layout; inputs whose sizes follow need none.

        Raises:
            ShapeError: sizes that are missing or do not fit.
        """
        return self._find(tuple(fix_shapes(narrow_inputs(self._graph, shapes), None).values()))

    def _find(self, shapes: Shapes) -> AnyExecutable:
        """The executable for inputs of these shapes."""
        return self._kept.find(shapes, lambda: self._make(shapes))

    def _make(self, shapes: Shapes) -> AnyExecutable:
        with while_planning():
            try:
                return self._build(dict(zip(self.signature, shapes, strict=True)))
            except BaseException:
                abandon()
                raise

    def _read(self, inputs: Any) -> dict[str, Array]:
        read_names(inputs, tuple(self.signature), self._at)
        return {name: read_array(name, inputs[name], dtype, self._at) for name, dtype in self.dtypes.items()}

    def _find_for(self, arrays: Mapping[str, Array]) -> AnyExecutable:
        return self._find(tuple(self._inside(name, array.shape) for name, array in arrays.items()))

    def _inside(self, name: str, shape: Shape) -> Shape:
        """The shape of the caller's array with the channels first."""
        return channels_to_first(shape) if self.is_channels_last(name, len(shape)) else shape


def _check(graph: Graph, given: Element, *, strict: bool) -> None:
    """Refuse what no shapes would make run.

    Raises:
        UnsupportedError: an operator that runs nowhere; under ``strict``, what is not compiled.
    """
    possible = not any(node.domain or find_refusal(node) for node in graph.nodes if node.op not in CONTROL)
    try:
        if strict:
            check_types(graph, given)
            _check_computed(graph)
        for node in graph.nodes:
            if node.domain or (node.op not in CONTROL and (strict or find_refusal(node))):
                find_operator(node)
    except UnsupportedError as error:
        if not (strict and possible):
            raise
        raise error.or_else(WITHOUT_STRICT) from None


def _check_computed(graph: Graph) -> None:
    """Refuse operators that are only ever folded where they read a value that is computed whatever the sizes are.

    Raises:
        UnsupportedError: there is one.
    """
    computed = {info.name for info in graph.inputs}
    for node in graph.nodes:
        operator = has_operator(node)
        if operator is None or node.op in CONTROL or computed.isdisjoint(node.inputs):
            continue
        if operator.lower is None:
            raise place(refuse_computed(node), node)
        if operator.open_sizes and node.op not in MAY_BE_EMPTY:
            computed.update(filter(None, node.outputs))
