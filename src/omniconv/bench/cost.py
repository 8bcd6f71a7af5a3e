"""Cost of specs, for tables and for rates: parameters, MACs and traffic. 1 MAC = 2 FLOP.

How they are counted, layer by layer, is :mod:`omniconv.analysis.cost`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from omniconv.analysis import count_executed
from omniconv.integers import as_shape
from omniconv.spec import Activation, Chain, Conv, Spec, Split


def count_parameters(spec: Spec, *, bias: bool = True) -> int:
    """Number of weights, and of biases (one for each output channel of each convolution) if ``bias``.

    Example:
        >>> count_parameters(Conv.of(64, 128, 3, groups=64), bias=False)
        1152
    """
    convs = [spec] if isinstance(spec, Conv) else list(spec.convs)
    return sum(math.prod(conv.weight_shape) + (conv.out_channels if bias else 0) for conv in convs)


def count_macs(spec: Spec, shape: Sequence[int]) -> int:
    """Nominal multiply-accumulates for an input of ``shape`` ``(N, C, *spatial)`` [MAC].

    Example:
        >>> count_macs(Conv.of(64, 64, 3, padding=1), (1, 64, 56, 56)) == 56 * 56 * 64 * 64 * 9
        True
    """
    return sum(conv.count_macs(given) for conv, given in _layers(spec, shape))


def count_executed_macs(spec: Spec, shape: Sequence[int]) -> int:
    """Multiply-accumulates whose tap lands inside the input [MAC]; with other padding than zeros every tap does.

    Example:
        >>> count_executed_macs(Conv.of(1, 1, 3, dims=1, padding=1), (1, 1, 4))
        10
    """
    return sum(count_executed(conv, given) for conv, given in _layers(spec, shape))


def _layers(spec: Spec, shape: Sequence[int]) -> Iterable[tuple[Conv, Sequence[int]]]:
    return [(spec, shape)] if isinstance(spec, Conv) else spec.layers(shape)


def count_traffic(spec: Spec, shape: Sequence[int], weight_bytes: int = 4) -> tuple[int, int]:
    """Bytes that must be read and written at least: input, weights and biases once, output once [bytes].

    Values between the steps of a chain do not count: they may stay in registers. Input and output are float32.

    Example:
        >>> count_traffic(Conv.of(2, 3, 1, dims=1), (1, 2, 5))
        (76, 60)
    """
    shape = as_shape(shape)
    return 4 * math.prod(shape) + weight_bytes * count_parameters(spec), 4 * math.prod(spec.output_shape(shape))


def list_steps(spec: Spec, shape: Sequence[int]) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """One row for each step: name, problem text, output shape, parameters without bias, MACs."""
    if isinstance(spec, Conv):
        row = (spec.label, spec.text(shape), spec.output_shape(tuple(shape)))
        return [(*row, count_parameters(spec, bias=False), count_macs(spec, shape))]
    rows = []
    shapes = spec.shapes(shape)
    for step, given, produced in zip(spec.steps, shapes, shapes[1:], strict=False):
        if isinstance(step, Conv):
            rows.append(
                (step.label, step.text(given), produced, count_parameters(step, bias=False), count_macs(step, given))
            )
        elif isinstance(step, Split):
            chain = Chain((step,))
            parameters = count_parameters(chain, bias=False)
            rows.append(("split", chain.text(given), produced, parameters, count_macs(chain, given)))
        elif isinstance(step, Activation):
            rows.append((step.name, "", produced, 0, 0))
        else:
            rows.append((type(step).__name__.lower(), repr(step), produced, 0, 0))
    return rows
