"""Batch normalisation compiled for training: the forward pass and the gradient, whose numbers come in at every call;
and convolutions, each with the batch norm of its result, one after another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omniconv.compiler.planning.options import Options
from omniconv.gradients import PARAMETERS, take_options
from omniconv.program.normalise import (
    ConvNorm,
    Norm,
    conv_norms_gradient_program,
    conv_norms_program,
    normalise_gradient_program,
    normalise_program,
)
from omniconv.program.program import Program
from omniconv.runtime.executable import Executable
from omniconv.spec import Shape
from omniconv.target.model import Target


def compile_normalise(norm: Norm, shape: Sequence[int], **options: Any) -> Executable:
    """``y`` and ``moments`` (mean, variance, n / (n - 1) times the variance) from ``x`` and, if there are some, ``w``
    and ``b``; with given moments ``y`` alone, from ``mean`` and ``variance`` as well.

    Example:
        >>> import numpy as np
        >>> f = compile_normalise(Norm(affine=False, given=False, epsilon=0.0), (2, 1, 2))
        >>> found = f.run({"x": np.float32([[[1, 3]], [[1, 3]]])})
        >>> found["y"].ravel().tolist(), found["moments"].ravel()[:2].tolist()
        ([-1.0, 1.0, -1.0, 1.0], [2.0, 1.0])

    Args:
        norm: what is normalised.
        shape: of the input, channels first.
        options: as for :func:`omniconv.gradients.compile_forward`; there is no bias.
    """
    shape, chosen, settings = take_options(norm.text(shape), shape, 2, **options)
    return Executable.of(normalise_program(norm, shape, element=chosen.element), chosen, settings, norm.text(shape))


def compile_normalise_gradient(norm: Norm, shape: Sequence[int], **options: Any) -> Executable:
    """``dx`` and ``sums`` (db and dw) from ``dy``, ``x``, ``w`` and ``b``, ``mean`` and ``variance``.

    Args: as for :func:`compile_normalise`. Where moments are not given, they are those of x.
    """
    shape, chosen, settings = take_options(norm.text(shape), shape, 3, **options)
    program = normalise_gradient_program(norm, shape, element=chosen.element)
    return Executable.of(program, chosen, settings, norm.text(shape))


def compile_conv_norms(layers: Sequence[ConvNorm], shape: Sequence[int], **options: Any) -> Executable:
    """``y``, ``z`` and ``moments`` of each layer from ``x`` and, of each, ``w``, ``b`` if there is one, ``scale`` and
    ``shift``; where statistics are tracked, also ``new_mean`` and ``new_variance`` from those so far and ``shares``.
    Behind all of these names but ``x`` is the number of the layer.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> layer = ConvNorm(oc.pointwise(in_channels=1, out_channels=1, dims=1), bias=False, epsilon=0.0)
        >>> w, one, zero = np.float32([[[2]]]), np.float32([1]), np.float32([0])
        >>> found = compile_conv_norms([layer], (1, 1, 2)).run(
        ...     {"x": np.float32([[[1, 2]]]), "w0": w, "scale0": one, "shift0": zero}
        ... )
        >>> found["y0"].ravel().tolist(), found["z0"].ravel().tolist()
        ([-1.0, 1.0], [2.0, 4.0])

    Args:
        layers: convolutions and their normalisations, one after another.
        shape: of the input, channels first.
        options: as for :func:`omniconv.gradients.compile_forward`.
    """
    shape, chosen, settings = _take(layers, shape, 1, 2, **options)
    program = conv_norms_program(layers, shape, element=chosen.element)
    return Executable.of(program, chosen, _keep_rows(settings, program), layers[0].text(shape))


def compile_conv_norms_gradient(
    layers: Sequence[ConvNorm], shape: Sequence[int], *, inner: bool = True, **options: Any
) -> Executable:
    """``dscale``, ``dshift``, ``dw``, ``db`` where there is a bias and, of an ``inner`` first layer, ``dx``; from
    ``dy``, ``x`` and, of each layer, ``z``, ``w``, ``scale``, ``shift``, ``moments`` and, but for the last one, ``y``.
    The names end as there.

    Args: as for :func:`compile_conv_norms`.
    """
    shape, chosen, settings = _take(layers, shape, 2, 3, **options)
    program = conv_norms_gradient_program(layers, shape, inner=inner, element=chosen.element)
    return Executable.of(program, chosen, _keep_rows(settings, program), layers[0].text(shape))


def _take(
    layers: Sequence[ConvNorm], shape: Sequence[int], arrays: int, each: int, **options: Any
) -> tuple[Shape, Target, Options]:
    """The options of a compilation, and the memory granted of some arrays as the input, and for each result."""
    more, sizes = 0, tuple(shape)
    for layer in layers:
        sizes = layer.conv.output_shape(sizes)
        more += each * math.prod(sizes)
    return take_options(layers[0].text(shape), shape, arrays, more, **options)


def _keep_rows(settings: Options, program: Program) -> Options:
    """The options, with what is in PyTorch's order in memory by its name without a number."""
    names = (*program.inputs, *program.outputs)
    return replace(settings, row_major=frozenset(name for name in names if name.rstrip("0123456789") in PARAMETERS))
