"""`compile`: a layer, a chain or an ONNX network becomes an `Executable`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from omniconv.choices import as_choice
from omniconv.compiler.planning.options import LAYOUTS, Options
from omniconv.compiler.planning.shared import Shared
from omniconv.compiler.planning.tuning_store import open_tuning
from omniconv.compiler.problem.problem import ACCURACIES, USUAL
from omniconv.errors import HostWarning, OmniconvError, ShapeError, SpecError, UnsupportedError, warn
from omniconv.integers import as_flag, as_integer, as_shape
from omniconv.limits import check_memory
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.program.element import find_element
from omniconv.program.from_spec import program_of
from omniconv.records import dataclass
from omniconv.reference import check_weights
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.runtime.pace import while_planning
from omniconv.runtime.threads import MAX_THREADS, begin_driver
from omniconv.spec import Chain, Conv, Shape, Spec
from omniconv.target.model import Target
from omniconv.target.select import detect_host, reject_host, select_target

if TYPE_CHECKING:
    import onnx

    from omniconv.graph.nodes import Graph
    from omniconv.graph.open_program import OpenPrograms
    from omniconv.program.program import Program
    from omniconv.runtime.mixed import MixedExecutable
    from omniconv.runtime.network import Network

Model: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto"


def compile(  # noqa: A001 - the name of the public interface
    model: Spec | Model,
    shape: Sequence[int] | None = None,
    weights: Sequence[Any] | None = None,
    *,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    constants: Mapping[str, Any] | None = None,
    threads: int = 1,
    layout: str = "NCHW",
    exact: bool = False,
    accuracy: str = USUAL,
    tuned: bool = False,
    target: str | None = None,
    dtype: Any = "float32",
    memory_limit: int | None = None,
    strict: bool = False,
) -> Executable | MixedExecutable | Network:
    """Compile a layer, a chain or a trained network, for its exact shapes where all of them are known.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> spec = oc.depthwise(in_channels=4, kernel_size=3, padding="same")
        >>> weights = oc.random_weights(spec, np.random.default_rng(0))
        >>> f = oc.compile(spec, (1, 4, 8, 8), weights)
        >>> x = np.ones((1, 4, 8, 8), np.float32)
        >>> bool(np.allclose(f(x), oc.reference(spec, x, weights), atol=1e-6))
        True

    Args:
        model: a `Conv` or `Chain`; or an ONNX model as a path, bytes or ``ModelProto``.
        shape: for a spec, the input shape, channels first whatever ``layout`` says.
        weights: for a spec, one ``(w, b)`` or ``(w, None)``; for a chain, one pair for each convolution.
        shapes: for a model, shapes of inputs by name, channels first; ``None`` in place of a size that stays open.
            Where some sizes stay open, the result is a `Network`, which is planned for every set of shapes; machine
            code and weights serve all of them.
        constants: for a model, values that replace inputs by name (weights that are fed from outside, for example).
        threads: threads that share each call. Results do not depend on it.
        layout: of the caller's arrays, ``"NCHW"`` (channels first, any number of axes) or ``"NHWC"`` (channels last).
            Of a model, that concerns its images: inputs and outputs of 3 to 5 axes which a layer of images
            (convolution, pool, batch norm, resize ...) reads or makes, itself or through operators that keep the axes.
            Everything else, such as tokens (N, T, C), masks, boxes and weights, has the axes that the model declares.
        exact: forbid Winograd filtering, whose rounding errors are about three times those of a direct sum;
            float64 never uses it.
        accuracy: how far filtering may go where it is not forbidden: ``"usual"``; ``"close"`` for forms whose errors
            are expected to be at most twice those of a direct sum; ``"wide"`` for such of eight points along two axes
            too, whose errors are about twice the usual ones.
        tuned: use the choices that ``omniconv tune`` has measured and kept on this machine, where there are some.
        target: instruction set (``"native"``, ``"x86-64-v3"``, ``"aarch64"`` ...); default: ``OMNICONV_TARGET``, else
            this machine's. What it cannot run is compiled all the same, and refuses to be called.
        dtype: what is computed with, and the type of the arrays of each call: ``"float32"`` or ``"float64"``, as a
            name, a NumPy type or dtype. Weights are converted, and so is a model.
        memory_limit: most memory to use [bytes]; default: ``OMNICONV_MEMORY_LIMIT``, else half of the machine's.
        strict: for a model, refuse what cannot be compiled. Otherwise it runs on the host, in NumPy, between compiled
            stretches; one `HostWarning` names it, and so do ``explain()`` and ``profile()``.

    Raises:
        SpecError, ShapeError, DataError: arguments that do not fit one another.
        ModelError: a damaged or unsafe model file.
        UnsupportedError: an operator that is not supported, or a target that is not known.
        LimitError: more memory than allowed; nothing has been allocated then.
    """
    layout = as_choice("layout", layout, LAYOUTS)
    accuracy = as_choice("accuracy", accuracy, ACCURACIES)
    exact, tuned, strict = as_flag("exact", exact), as_flag("tuned", tuned), as_flag("strict", strict)
    threads = as_integer("threads", threads, 1, MAX_THREADS)
    element = find_element(dtype)
    chosen = select_target(target).of(element)
    store = open_tuning(chosen) if tuned else None
    tuning = None if store is None else store.load()
    options = Options(
        layout=layout, threads=threads, exact=exact, accuracy=accuracy, tuning=tuning, memory_limit=memory_limit
    )
    if isinstance(model, Conv | Chain):
        if shape is None or weights is None:
            raise ShapeError(
                "a spec is compiled for a shape and with weights", need="compile(spec, shape, weights)", at=model.text()
            )
        if shapes is not None or constants is not None:
            raise SpecError("shapes= and constants= belong to models", need="shape and weights", at=model.text())
        return _compile_spec(model, shape, weights, chosen, options)
    if (shape is not None or weights is not None) and not hasattr(model, "state_dict"):
        raise SpecError("shape and weights belong to specs", need='shapes={"input": shape} for a model')
    with while_planning():
        return _compile_model(model, shapes, constants, chosen, options, strict=strict)


def _compile_model(
    model: Model,
    shapes: Mapping[str, Sequence[int | None]] | None,
    constants: Mapping[str, Any] | None,
    target: Target,
    options: Options,
    *,
    strict: bool,
) -> Executable | MixedExecutable | Network:
    if reject_host(target, detect_host()) is None:
        begin_driver()  # while this thread imports and reads
    from omniconv.graph import prepare
    from omniconv.graph.fix_shapes import is_fixed
    from omniconv.graph.images import find_images
    from omniconv.graph.open_program import OpenPrograms
    from omniconv.runtime.network import Network

    graph = prepare(model, shapes=shapes, constants=constants, memory_limit=options.memory_limit)
    if options.layout == "NHWC":
        names = {info.name for info in (*graph.inputs, *graph.outputs)}
        options = replace(options, row_major=frozenset(names - find_images(graph)))
    build = _ModelCompiler(graph, target, options, _describe(model), strict)
    if all(is_fixed(info.dims) for info in graph.inputs):
        return build({})
    build.programs, build.shared, build.pool = (
        OpenPrograms(graph, options.memory_limit, target.element),
        Shared(),
        ArenaPool(),
    )
    return Network(build, graph, options, target, strict=strict)


@dataclass(slots=True)
class _ModelCompiler:
    """Compiles a graph for the shapes of its inputs, and warns once of what it leaves to the host."""

    graph: Graph
    target: Target
    options: Options
    at: str
    strict: bool
    programs: OpenPrograms | None = None
    shared: Shared | None = None
    pool: ArenaPool | None = None
    _warned: bool = False

    def __call__(self, shapes: Mapping[str, Sequence[int]]) -> Executable | MixedExecutable:
        from omniconv.graph.fix_shapes import find_given, fix_shapes, narrow_inputs
        from omniconv.graph.program import lower_graph

        graph, element = narrow_inputs(self.graph, shapes), self.target.element
        try:
            fixed = fix_shapes(graph, find_given(graph, element))
            if self.programs is None:
                found = lower_graph(graph, fixed, self.options.memory_limit, element)
            else:
                found = self.programs.find(fixed)
            found.check_outputs(graph)
        except UnsupportedError as error:
            if not self.strict:
                return self._compile_mixed(graph)
            raise self._explain(error, graph) from None
        return Executable.of(
            found.program,
            self.target,
            self.options,
            self.at,
            tiers=found.tiers,
            shared=self.shared,
            truths=found.truths,
            pool=self.pool,
        )

    def _explain(self, error: UnsupportedError, graph: Graph) -> UnsupportedError:
        """A refusal under ``strict``, which says so where the model runs without."""
        from omniconv.graph import to_schedule
        from omniconv.graph.tiers import WITHOUT_STRICT

        try:
            to_schedule(graph, memory_limit=self.options.memory_limit, element=self.target.element)
        except OmniconvError:
            return error
        return error.or_else(WITHOUT_STRICT)

    def _compile_mixed(self, graph: Graph) -> MixedExecutable:
        from omniconv.graph import to_schedule
        from omniconv.graph.fix_shapes import find_given
        from omniconv.graph.schedule import Settings
        from omniconv.runtime.mixed import MixedExecutable
        from omniconv.runtime.runner import Context

        limit, element = self.options.memory_limit, self.target.element
        schedule = to_schedule(graph, memory_limit=limit, element=element)
        inner = replace(self.options, layout="NCHW", row_major=frozenset())
        context = Context(
            lambda program: Executable.of(program, self.target, inner, self.at, shared=self.shared, pool=self.pool),
            Settings(find_memory_limit(limit), element, find_given(graph, element)),
        )
        found = MixedExecutable(schedule, context, options=self.options, target=self.target, at=self.at)
        message = schedule.describe_host()
        if message and not self._warned:
            self._warned = True
            warn(f"{message} | {self.at}", HostWarning)
        return found


def _describe(model: Model) -> str:
    """Where a model came from, for messages."""
    return f"file {os.fspath(model)!r}" if isinstance(model, str | os.PathLike) else "model"


def _compile_spec(
    spec: Spec, shape: Sequence[int], weights: Sequence[Any], target: Target, options: Options
) -> Executable:
    result = spec.output_shape(shape := as_shape(shape, at=spec.text()))
    at = spec.text(shape)
    element = target.element
    needed = element.bytes * (math.prod(shape) + math.prod(result))
    check_memory(needed, "input and output together", limit=options.memory_limit, at=at)
    pairs = tuple(
        (np.asarray(w, element.dtype), None if b is None else np.asarray(b, element.dtype))
        for w, b in check_weights(spec, weights)
    )

    def lengthen(other: Shape) -> tuple[Program, frozenset[str]]:
        return program_of(spec, other, pairs, element), frozenset()

    with while_planning():
        found = Executable.of(program_of(spec, shape, pairs, element), target, options, at)
    found.lengthen = lengthen
    return found
