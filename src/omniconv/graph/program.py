"""`to_program`: a model to a `Program`, with all shapes fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, ModelWarning, ShapeError, warn
from omniconv.graph.dynamic import find_dynamic_layers
from omniconv.graph.fix_shapes import check_given, find_given, fix_shapes, input_dtypes, narrow_inputs, show
from omniconv.graph.load import ModelLike, load
from omniconv.graph.lower import lower
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Dims, Graph, ValueInfo, shorten
from omniconv.graph.partial import Gap, Gaps, split_inputs
from omniconv.graph.quantised import find_quantised_layers
from omniconv.graph.schedule import Body, HostRef, Schedule, Settings, Unknown
from omniconv.graph.tensors import DTYPES, name_dtype, number_of, number_of_dtype
from omniconv.graph.walk import make_schedule
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.program.element import FLOAT32, Element
from omniconv.program.open_program import OpenOrigin
from omniconv.program.passes import run_passes
from omniconv.program.program import Program
from omniconv.program.tiers import Tiers
from omniconv.records import dataclass
from omniconv.reference.weights import detach
from omniconv.spec import Shape


def input_signature(model: ModelLike, *, memory_limit: int | None = None) -> dict[str, Dims]:
    """Names and declared sizes of the inputs, in order: an int, the name of a symbolic size, or ``None``.

    An input whose rank is not declared has no sizes here, and needs ``shapes``. Inputs with an initialiser are
    constants and do not appear.
    """
    return {info.name: info.dims or () for info in load(model, memory_limit=memory_limit).inputs}


def prepare(
    model: ModelLike,
    *,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    constants: Mapping[str, npt.ArrayLike] | None = None,
    memory_limit: int | None = None,
) -> Graph:
    """Read and check a model, make inputs constants, and write what is known of their sizes into the other inputs.

    Args:
        model: as for :func:`to_program`.
        shapes: the sizes of inputs, by name; ``None`` in place of a size that is not known yet.
        constants: as for :func:`to_program`. They are copied.
        memory_limit: as for :func:`to_program`.

    Returns:
        The graph. Its inputs are those that are still to be given.

    Raises:
        ModelError: a damaged, inconsistent or unsafe model.
        ShapeError, DataError: shapes or constants that do not fit.
        LimitError: more memory than allowed.
    """
    graph = load(model, memory_limit=memory_limit)
    bound = _bind(graph, constants)
    free = tuple(info for info in graph.inputs if info.name not in bound)
    known = [(info, bound[info.name].shape) for info in graph.inputs if info.name in bound]
    graph = find_dynamic_layers(replace(graph, inputs=free, constants={**graph.constants, **bound}))
    return narrow_inputs(graph, shapes, known)


def to_program(
    model: ModelLike,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, npt.ArrayLike] | None = None,
    memory_limit: int | None = None,
    element: Element = FLOAT32,
    truths: set[str] | None = None,
) -> Program:
    """Read, check, fold and lower a model.

    Args:
        model: a path, the bytes of a file, an ``onnx.ModelProto``, or a `Graph` from :func:`load`.
        shapes: the shape of each input whose sizes are not all declared, by name.
        constants: inputs whose values are known now, by name; they become constants of the program.
        memory_limit: most bytes that constants together, or any single value, may take; default half of the machine's
            memory, or ``OMNICONV_MEMORY_LIMIT``.
        element: what is computed with: the type of the model's floats, or a wider one.
        truths: where given, names of outputs are added that are boolean to the model; in the program they are 0 and 1.

    Returns:
        The program; its inputs are the model's inputs without ``constants``, its outputs the model's outputs, by name.

    Raises:
        ModelError: a damaged, inconsistent or unsafe model.
        ShapeError: shapes that are missing or do not fit.
        UnsupportedError: an operator, attribute or element type that is not handled.
        LimitError: more memory than allowed.

    Numerics:
        Batch norm and per-channel factors are folded into weights in float64 and rounded to the element once. What a
        model computes from constants alone is computed in the model's own types.
    """
    graph = prepare(model, shapes=shapes, constants=constants, memory_limit=memory_limit)
    found = lower_graph(graph, fix_shapes(graph, find_given(graph, element)), memory_limit, element)
    found.check_outputs(graph)
    if truths is not None:
        truths.update(found.truths)
    return found.program


@dataclass(frozen=True, slots=True)
class Lowered:
    """The program of a graph.

    Attributes:
        program: the program, passes done.
        given: the type of the graph's floats.
        tiers: how many nodes are compiled and how many folded.
        truths: names of outputs that are boolean to the model.
        origin: the program with open sizes that it comes from, if it comes from one.
    """

    program: Program
    given: Element
    tiers: Tiers
    truths: frozenset[str]
    origin: OpenOrigin | None = field(default=None, compare=False)

    def check_outputs(self, graph: Graph) -> None:
        """Compare the outputs with what is declared of them; see :func:`_check_outputs`."""
        _check_outputs(graph, self.program, self.given, self.truths)


def lower_graph(
    graph: Graph, shapes: Mapping[str, Shape], memory_limit: int | None, element: Element, *, in_parts: bool = False
) -> Lowered:
    """The program of a graph for inputs of these shapes, whose sizes may be open.

    With ``in_parts`` it is never run as a whole, and values may be larger than the memory limit.
    """
    given, tiers, truths = find_given(graph, element), Tiers(), set[str]()
    budget = replace(_open_budget(graph, memory_limit, given, element), in_parts=in_parts)
    if element == given == FLOAT32:
        graph = find_quantised_layers(graph)
    program = lower(graph, shapes, graph.constants, budget, element, given, truths, tiers=tiers)
    return Lowered(run_passes(program), given, tiers, frozenset(truths))


def lower_in_parts(
    graph: Graph, shapes: Mapping[str, Sequence[int]], memory_limit: int | None, element: Element
) -> Lowered:
    """The program of a graph for inputs of these shapes, whose values may be larger than memory: it is run in parts.

    Args:
        graph: from :func:`prepare`.
        shapes: by name; inputs whose sizes follow need none.
        memory_limit: most bytes that constants may take together.
        element: what is computed with.

    Raises:
        ShapeError: sizes that are missing or do not fit.
        UnsupportedError: an operator that is not compiled.
    """
    graph = narrow_inputs(graph, shapes)
    return lower_graph(graph, fix_shapes(graph, find_given(graph, element)), memory_limit, element, in_parts=True)


def to_schedule(graph: Graph, *, memory_limit: int | None = None, element: Element = FLOAT32) -> Schedule:
    """Like :func:`to_program`, but what cannot be compiled is left to the host.

    Args:
        graph: from :func:`prepare`, with all shapes fixed.
        memory_limit, element: as for :func:`to_program`.

    Raises:
        UnsupportedError: an operator that runs nowhere.
        ModelError, ShapeError, LimitError: as for :func:`to_program`.
    """
    given = find_given(graph, element)
    settings = Settings(find_memory_limit(memory_limit), element, given)
    dtypes = input_dtypes(graph, given)
    entering = {name: HostRef(name, dtypes[name], shape) for name, shape in fix_shapes(graph, None).items()}
    outputs = tuple(info.name for info in graph.outputs)
    schedule = make_schedule(Body(graph.nodes, dtypes, outputs, graph.constants), entering, settings)
    for info in graph.outputs:
        value = schedule.outputs[info.name]
        shape = None if isinstance(value, Unknown) else tuple(value.shape)
        dtype = settings.dtype_of(value)
        _check_output(info, shape, None if dtype is None else number_of_dtype(dtype))
    return schedule


def to_partial_program(
    model: ModelLike,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, npt.ArrayLike] | None = None,
    memory_limit: int | None = None,
    element: Element = FLOAT32,
) -> tuple[Program, tuple[Gap, ...]]:
    """Like :func:`to_program`, but nodes and inputs that are not supported are left out: for analyses, not for running.

    Returns:
        The program, and what is missing from it. Values that a missing node produces, as far as their shapes can be
        inferred, are further inputs; the outputs are those of the model that can be computed, then what missing nodes
        read. Without problems it is the program of :func:`to_program`.

    Raises:
        UnsupportedError: nothing of the model can be analysed.
        ModelError, ShapeError, LimitError: as for :func:`to_program`.
    """
    graph = prepare(model, shapes=shapes, constants=constants, memory_limit=memory_limit)
    given = find_given(graph, element)
    check_given(graph, given)
    budget = _open_budget(graph, memory_limit, given, element)
    gaps = Gaps(budget, given)
    known = split_inputs(graph, gaps)
    program = lower(known, fix_shapes(known, given), known.constants, budget, element, given, gaps.booleans, gaps)
    if not gaps.problems:
        _check_outputs(graph, program, given, gaps.booleans)
    return run_passes(program), tuple(gaps.problems)


def _open_budget(graph: Graph, memory_limit: int | None, given: Element, element: Element) -> Budget:
    """The memory limit, less the constants as they are and, where they are of another type, as they will be."""
    taken = sum(array.nbytes for array in graph.constants.values())
    if given != element:
        floats = (array.size for array in graph.constants.values() if array.dtype == given.dtype)
        taken += element.bytes * sum(floats)
    return Budget(find_memory_limit(memory_limit), taken)


def _bind(graph: Graph, constants: Mapping[str, npt.ArrayLike] | None) -> dict[str, AnyArray]:
    declared = {info.name: info for info in graph.inputs}
    bound: dict[str, AnyArray] = {}
    if constants is not None and not isinstance(constants, Mapping):
        raise DataError(
            f"constants is a {type(constants).__name__}", need="arrays by name", fix="constants={name: array}"
        )
    for name, value in (constants or {}).items():
        info = declared.get(name)
        if info is None:
            raise ShapeError(
                f"constants for {shorten(repr(name))}, which is no input",
                need="names among " + shorten(", ".join(map(repr, declared)) or "none"),
            )
        try:
            array = np.asarray(detach(value)).copy()
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"constant for input {shorten(name)!r} cannot be read as a NumPy array: {error}", need="an array"
            ) from None
        if DTYPES.get(info.dtype) != array.dtype:
            raise DataError(
                f"constant for input {shorten(name)!r} is {array.dtype}", need=f"{name_dtype(info.dtype)}, as declared"
            )
        dims = info.dims
        if dims is not None and (
            len(dims) != array.ndim
            or any(isinstance(dim, int) and dim != size for dim, size in zip(dims, array.shape, strict=True))
        ):
            raise ShapeError(f"constant for input {shorten(name)!r} has shape {array.shape}", need=show(dims))
        bound[name] = array
    return bound


def _check_outputs(graph: Graph, program: Program, given: Element, booleans: Collection[str] = ()) -> None:
    """Compare the outputs with what is declared of them: the shapes that the nodes produce count.

    Exporters leave wrong ones behind, such as that of a pool whose windows are counted otherwise, or ``()``.

    Raises:
        ShapeError: an output of another element type than declared.
    """
    for info in graph.outputs:
        number = number_of_dtype(np.dtype(bool)) if info.name in booleans else number_of(given)
        _check_output(info, program.shapes[info.name], number)


def _check_output(info: ValueInfo, shape: Shape | None, number: int | None) -> None:
    """Compare an output's declaration with what the nodes produce, as far as that is known."""
    at = shorten(f"output {info.name!r}")
    if number is not None and info.dtype not in (0, number):
        name = name_dtype(number)
        raise ShapeError(f"the output is declared {name_dtype(info.dtype)}, the nodes produce {name}", need=name, at=at)
    if info.dims is None or shape is None:
        return
    if len(info.dims) != len(shape) or any(
        isinstance(dim, int) and dim != size for dim, size in zip(info.dims, shape, strict=True)
    ):
        message = f"{at} is declared {show(info.dims)}, the nodes produce {shape}; what they produce counts"
        warn(message, ModelWarning)
