"""A layer compiled for training: its forward pass and its gradients, with weights that come in at every call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omniconv.choices import as_choice, check_instance
from omniconv.compiler.planning.options import LAYOUTS, Options
from omniconv.integers import as_flag, as_shape
from omniconv.limits import check_memory
from omniconv.processors import take_threads
from omniconv.program.element import find_element
from omniconv.program.gradients import forward_program, input_gradient_program, weight_gradient_program
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv, Shape
from omniconv.target.model import Target
from omniconv.target.select import select_target

PARAMETERS = frozenset(
    {"w", "b", "dw", "db", "scale", "shift", "mean", "variance", "moments", "sums"}
    | {"running_mean", "running_variance", "shares", "new_mean", "new_variance", "dscale", "dshift"}
)
"""Weights and biases and their gradients, and numbers of channels, which are in PyTorch's order in memory whatever the
layout of the rest."""


def compile_forward(
    spec: Conv,
    shape: Sequence[int],
    *,
    bias: bool = True,
    threads: int | None = None,
    layout: str = "NCHW",
    dtype: Any = "float32",
    target: str | None = None,
    memory_limit: int | None = None,
    exact: bool = False,
) -> Executable:
    """``y`` from ``x``, ``w`` and, with a bias, ``b``: a layer whose weights are inputs.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> spec = oc.depthwise(in_channels=2, kernel_size=3, padding=1)
        >>> f = compile_forward(spec, (1, 2, 4, 4), bias=False)
        >>> x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((2, 1, 3, 3), np.float32)
        >>> f.run({"x": x, "w": w})["y"][0, 0].tolist()
        [[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]

    Args:
        spec: one layer; chains are trained layer by layer.
        shape: of the input, channels first whatever ``layout`` says.
        bias: whether there is one.
        threads: threads that share each call, at most; default: as for :func:`omniconv.compile`.
        layout: of ``x``, ``y`` and their gradients, ``"NCHW"`` or ``"NHWC"``; weights are always as in PyTorch,
            ``(out, in / groups, *kernel)`` or, transposed, ``(in, out / groups, *kernel)``, row major.
        dtype, target, memory_limit, exact: as for :func:`omniconv.compile`.

    Raises:
        SpecError, ShapeError: arguments that do not fit one another.
        LimitError: more memory than allowed; nothing has been allocated then.
    """
    shape, chosen, options = _take(spec, shape, threads, layout, dtype, target, memory_limit, exact)
    program = forward_program(spec, shape, bias=as_flag("bias", bias), element=chosen.element)
    return Executable.of(program, chosen, options, spec.text(shape))


def compile_input_gradient(
    spec: Conv,
    shape: Sequence[int],
    *,
    threads: int | None = None,
    layout: str = "NCHW",
    dtype: Any = "float32",
    target: str | None = None,
    memory_limit: int | None = None,
    exact: bool = False,
) -> Executable:
    """``dx`` from ``dy`` and ``w``, for an input of ``shape``: the adjoint of the layer.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> f = compile_input_gradient(oc.pointwise(in_channels=2, out_channels=1, dims=1), (1, 2, 2))
        >>> f.run({"dy": np.float32([[[1, 2]]]), "w": np.float32([[[3], [4]]])})["dx"].tolist()
        [[[3.0, 6.0], [4.0, 8.0]]]

    Args and Raises: as for :func:`compile_forward`.
    """
    shape, chosen, options = _take(spec, shape, threads, layout, dtype, target, memory_limit, exact)
    return Executable.of(input_gradient_program(spec, shape, element=chosen.element), chosen, options, spec.text(shape))


def compile_weight_gradient(
    spec: Conv,
    shape: Sequence[int],
    *,
    bias: bool = True,
    threads: int | None = None,
    layout: str = "NCHW",
    dtype: Any = "float32",
    target: str | None = None,
    memory_limit: int | None = None,
    exact: bool = False,
) -> Executable:
    """``dw`` and, with a bias, ``db`` from ``x`` and ``dy``, for an input of ``shape``.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> f = compile_weight_gradient(oc.pointwise(in_channels=2, out_channels=1, dims=1), (1, 2, 2))
        >>> found = f.run({"x": np.float32([[[1, 2], [3, 4]]]), "dy": np.float32([[[1, 10]]])})
        >>> found["dw"].tolist(), found["db"].tolist()
        ([[[21.0], [43.0]]], [11.0])

    Args and Raises: as for :func:`compile_forward`.
    """
    shape, chosen, options = _take(spec, shape, threads, layout, dtype, target, memory_limit, exact)
    program = weight_gradient_program(spec, shape, bias=as_flag("bias", bias), element=chosen.element)
    return Executable.of(program, chosen, options, spec.text(shape))


def _take(
    spec: Conv,
    shape: Sequence[int],
    threads: int | None,
    layout: str,
    dtype: Any,
    target: str | None,
    memory_limit: int | None,
    exact: bool,
) -> tuple[Shape, Target, Options]:
    """Arguments that are checked, and the memory that input and result need granted."""
    check_instance("spec", spec, Conv, need="one layer", fix="oc.depthwise(in_channels=32, kernel_size=3)")
    options = {"threads": threads, "layout": layout, "dtype": dtype, "target": target, "memory_limit": memory_limit}
    shape, exact = as_shape(shape, at=spec.text()), as_flag("exact", exact)
    taken = take_options(spec.text(shape), shape, 1, math.prod(spec.output_shape(shape)), **options)
    return *taken[:2], replace(taken[2], exact=exact)


def take_options(
    at: str,
    shape: Sequence[int],
    arrays: int,
    more: int = 0,
    *,
    threads: int | None = None,
    layout: str = "NCHW",
    dtype: Any = "float32",
    target: str | None = None,
    memory_limit: int | None = None,
) -> tuple[Shape, Target, Options]:
    """The options of a compilation, checked, and the memory granted of some arrays of a shape and so many elements
    more.
    """
    layout = as_choice("layout", layout, LAYOUTS)
    taken = take_threads(threads)
    chosen = select_target(target).of(find_element(dtype))
    shape = as_shape(shape, at=at)
    needed = chosen.element.bytes * (arrays * math.prod(shape) + more)
    check_memory(needed, "input and output together", limit=memory_limit, at=at)
    options = Options(
        layout=layout,
        threads=taken.number,
        threads_why=taken.why,
        memory_limit=memory_limit,
        row_major=PARAMETERS,
    )
    return shape, chosen, options
