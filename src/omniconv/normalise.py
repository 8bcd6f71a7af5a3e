"""Batch normalisation compiled for training: the forward pass and the gradient, whose numbers come in at every call;
and both together with the convolution in front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omniconv.gradients import take_options
from omniconv.program.normalise import (
    ConvNorm,
    Norm,
    conv_norm_gradient_program,
    conv_norm_program,
    normalise_gradient_program,
    normalise_program,
)
from omniconv.runtime.executable import Executable


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


def compile_conv_norm(layer: ConvNorm, shape: Sequence[int], **options: Any) -> Executable:
    """``y``, ``z`` and ``moments`` from ``x``, ``w``, ``b`` where there is one, ``scale`` and ``shift``; where
    statistics are tracked, also: ``new_mean`` and ``new_variance`` from running ones and ``shares``.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> layer = ConvNorm(oc.pointwise(in_channels=1, out_channels=1, dims=1), bias=False, epsilon=0.0)
        >>> w, one, zero = np.float32([[[2]]]), np.float32([1]), np.float32([0])
        >>> found = compile_conv_norm(layer, (1, 1, 2)).run(
        ...     {"x": np.float32([[[1, 2]]]), "w": w, "scale": one, "shift": zero}
        ... )
        >>> found["y"].ravel().tolist(), found["z"].ravel().tolist()
        ([-1.0, 1.0], [2.0, 4.0])

    Args:
        layer: the convolution and its normalisation.
        shape: of the input, channels first.
        options: as for :func:`omniconv.gradients.compile_forward`.
    """
    more = 2 * math.prod(layer.conv.output_shape(tuple(shape)))
    shape, chosen, settings = take_options(layer.text(shape), shape, 1, more, **options)
    return Executable.of(conv_norm_program(layer, shape, element=chosen.element), chosen, settings, layer.text(shape))


def compile_conv_norm_gradient(
    layer: ConvNorm, shape: Sequence[int], *, inner: bool = True, **options: Any
) -> Executable:
    """``sums``, ``dw``, ``db`` where there is a bias and, of an ``inner`` layer, ``dx``; from ``dy``, ``z``, ``x``,
    ``w``, ``scale``, ``shift`` and ``moments``.

    Args: as for :func:`compile_conv_norm`.
    """
    more = 3 * math.prod(layer.conv.output_shape(tuple(shape)))
    shape, chosen, settings = take_options(layer.text(shape), shape, 2, more, **options)
    program = conv_norm_gradient_program(layer, shape, inner=inner, element=chosen.element)
    return Executable.of(program, chosen, settings, layer.text(shape))
