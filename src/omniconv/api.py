"""`compile`: a layer, a chain or an ONNX network becomes an `Executable`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from omniconv.choices import as_choice, as_parts
from omniconv.compiler.planning.options import LAYOUTS, PRECISIONS, Options
from omniconv.compiler.planning.tuning_store import open_tuning
from omniconv.compiler.problem.problem import ACCURACIES, USUAL
from omniconv.errors import ModelError, ShapeError, SpecError
from omniconv.integers import as_flag, as_shape
from omniconv.limits import check_memory
from omniconv.processors import take_threads
from omniconv.program.element import FLOAT32, find_element
from omniconv.program.layer_program import LayerProgram
from omniconv.program.passes.keep_bfloat16 import check_layers
from omniconv.reference import check_weights
from omniconv.runtime.executable import Executable
from omniconv.runtime.pace import while_planning
from omniconv.runtime.threads import begin_driver
from omniconv.spec import Chain, Conv, Spec
from omniconv.target.model import Target
from omniconv.target.select import detect_host, reject_host, select_target

if TYPE_CHECKING:
    import onnx

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
    threads: int | None = None,
    layout: str = "NCHW",
    exact: bool = False,
    precision: str = FLOAT32.name,
    float32_layers: Sequence[str] = (),
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
        threads: threads that share each call, at most. Default: ``OMNICONV_THREADS``, else the cores that this process
            may use (its affinity, a container's quota; hardware threads of one core count once), fewer for small work.
            ``explain()`` says how many were taken and why. Results do not depend on it.
        layout: of the caller's arrays, ``"NCHW"`` (channels first, any number of axes) or ``"NHWC"`` (channels last).
            Of a model, that concerns its images: inputs and outputs of 3 to 5 axes which a layer of images
            (convolution, pool, batch norm, resize ...) reads or makes, itself or through operators that keep the axes.
            Everything else, such as tokens (N, T, C), masks, boxes and weights, has the axes that the model declares.
        exact: forbid Winograd filtering, whose rounding errors are about three times those of a direct sum;
            float64 never uses it.
        precision: ``"bfloat16"`` keeps weights, and values between layers, rounded to bfloat16: half the memory and its
            traffic, about 3 digits. Sums are made in float32, and inputs and outputs are float32. ``explain()`` lists
            the layers that stay as they are. The default keeps everything as it is computed.
        float32_layers: layers that stay as they are with ``"bfloat16"``, by the names in ``explain()``;
            :func:`omniconv.quantization.find_sensitive_layers` finds few that keep a signal-to-noise ratio.
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
    precision = as_choice("precision", precision, PRECISIONS)
    accuracy = as_choice("accuracy", accuracy, ACCURACIES)
    exact, tuned, strict = as_flag("exact", exact), as_flag("tuned", tuned), as_flag("strict", strict)
    taken = take_threads(threads)
    element = find_element(dtype)
    chosen = select_target(target).of(element)
    store = open_tuning(chosen) if tuned else None
    tuning = None if store is None else store.load()
    options = Options(
        layout=layout,
        threads=taken.number,
        threads_why=taken.why,
        exact=exact,
        precision=precision,
        float32_layers=_read_layers(float32_layers, precision),
        accuracy=accuracy,
        tuning=tuning,
        memory_limit=memory_limit,
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
    from omniconv.graph.images import find_images
    from omniconv.runtime.model import compile_graph

    try:
        graph = prepare(model, shapes=shapes, constants=constants, memory_limit=options.memory_limit)
    except ModelError as error:
        from omniconv.runtime.saved import point_to_load

        raise point_to_load(error, model) from error.__cause__
    if options.layout == "NHWC":
        names = {info.name for info in (*graph.inputs, *graph.outputs)}
        options = replace(options, row_major=frozenset(names - find_images(graph)))
    return compile_graph(graph, target, options, _describe(model), strict=strict)


def _read_layers(names: Any, precision: str) -> frozenset[str]:
    """Names of layers; that they exist is checked where they are known.

    Raises:
        SpecError: no names, or nothing that they would be left out of.
    """
    found = frozenset(as_parts("float32_layers", names, (str,), need="names of layers", fix='float32_layers=["name"]'))
    if found and precision == FLOAT32.name:
        raise SpecError("float32_layers without another precision", need="precision='bfloat16'")
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

    lowering = LayerProgram(spec, pairs, element)
    with while_planning():
        program = lowering(shape)[0]
        check_layers(program, options.float32_layers, at)
        found = Executable.of(program, target, options, at)
    found.lengthen = lowering
    return found
