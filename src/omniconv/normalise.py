"""Batch normalisation compiled for training: the forward pass and the gradient, whose numbers come in at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omniconv.gradients import take_options
from omniconv.program.normalise import Norm, normalise_gradient_program, normalise_program
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
