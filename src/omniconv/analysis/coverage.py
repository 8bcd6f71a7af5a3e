"""Coverage (gridding): which positions of its field a stack of dilated layers really reads, and over how many paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt

from omniconv.analysis.receptive_field import fitting_program
from omniconv.analysis.record import Record
from omniconv.analysis.subject import Subject, check_subject, find_source, find_tensor
from omniconv.analysis.support import bounding_box, check_position, fill, find_support
from omniconv.analysis.taps import AnyArray
from omniconv.analysis.trace import trace
from omniconv.errors import SpecError
from omniconv.integers import as_integer, as_integers, ceil_div
from omniconv.limits import check_memory
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.spec import Activation, Axis, Chain, Conv, Shuffle, Spec


@dataclass(frozen=True, eq=False)
class AxisCoverage(Record):
    """Coverage along one axis of a stack of convolutions.

    Attributes:
        kernels, rates, strides: of the layers, first to last; rates are dilations.
        support: over the field, whether a position is read.
        paths: over the field, the number of paths (coefficients of the product of the tap polynomials), exact.
        rule: the published figures M_2, ..., M_n; the rule asks for M_2 <= K.
        rule_holds: whether they do; ``None`` where the rule does not apply (strides, fewer than two layers, kernels
            that differ).
    """

    kernels: tuple[int, ...]
    rates: tuple[int, ...]
    strides: tuple[int, ...]
    support: npt.NDArray[np.bool_] = field(repr=False)
    paths: AnyArray = field(repr=False)
    rule: tuple[int, ...]
    rule_holds: bool | None

    @property
    def size(self) -> int:
        """Size of the field [positions]."""
        return int(self.support.size)

    @property
    def fraction(self) -> float:
        """Share of the field that is read."""
        return float(self.support.mean())

    @property
    def holes(self) -> tuple[int, ...]:
        """Positions of the field, counted from its start, that nothing reads."""
        return tuple(int(i) for i in np.flatnonzero(~self.support))


@dataclass(frozen=True, eq=False)
class Coverage(Record):
    """Coverage of a stack, or of one output position of a network.

    Attributes:
        axes: per axis, for stacks of convolutions; empty for networks, which need not be products of axes.
        support: over the field (bounding box), whether a position is read.
        paths: over the field, the number of paths through taps; exact integers for stacks.
        suggestion: rates that cover a field of the same size without holes, where this stack has some; else empty.
    """

    axes: tuple[AxisCoverage, ...]
    support: npt.NDArray[np.bool_] = field(repr=False)
    paths: AnyArray = field(repr=False)
    suggestion: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the field on each axis [positions]."""
        return tuple(self.support.shape)

    @property
    def fraction(self) -> float:
        """Share of the field that is read; 1 without holes."""
        return float(self.support.mean()) if self.support.size else 0.0

    @property
    def full(self) -> bool:
        """Whether there are no holes."""
        return bool(self.support.all())


def coverage(x: Subject, tensor: str | None = None, shape: Sequence[int] | None = None) -> Coverage:
    r"""How completely the field of a stack is read, and how evenly.

    Formula:
        paths = coefficients of the product over the layers of sum_t z^(t d S), S being the product of the strides
        before; support = where they differ from 0; fraction = support / size of the field, per axis and as a product.
        The published rule for n layers of kernel K and rates r: M_n = r_n,
        M_i = max(M_(i+1) - 2 r_i, 2 r_i - M_(i+1), r_i), M_2 <= K. It accepts stacks with holes, such as rates 2, 2, 2.

    Example:
        >>> found = coverage(dilated_stack([2, 2, 2]))
        >>> round(found.fraction, 3), found.size, found.axes[0].holes, found.axes[0].rule_holds
        (0.538, (13,), (1, 3, 5, 7, 9, 11), True)

    Args:
        x: a `Conv`, `Chain` or `Program`.
        tensor: the value whose middle position is looked at; default the result.
        shape: input shape, where a spec needs one.

    Sources:
        P. Wang et al.: Understanding Convolution for Semantic Segmentation, 2017, arXiv:1702.08502.
    """
    x = check_subject(x)
    layers = None if isinstance(x, Program) or tensor is not None else _plain_layers(x)
    if layers is None or isinstance(x, Program):
        return _of_position(x, tensor, shape)
    if shape is not None:
        x.output_shape(shape)  # the coverage is the same for every shape that fits
    axes = tuple(_axis([layer.axes()[n] for layer in layers]) for n in range(x.dims))
    check_memory(9 * math.prod(axis.size for axis in axes), "the coverage of all positions")
    support = axes[0].support
    paths = axes[0].paths
    for axis in axes[1:]:
        support = np.multiply.outer(support, axis.support)
        paths = _outer(paths, axis.paths)
    return Coverage(axes, support, paths, () if support.all() else _suggest(axes))


def dilated_stack(rates: Sequence[int], kernel_size: int = 3, *, dims: int = 1, channels: int = 1) -> Chain:
    """A stack of convolutions with "same" padding, one for each rate.

    Example:
        >>> str(dilated_stack([1, 2]).steps[1])
        'dilated ic1 oc1 kw3 sw1 dw2 pl2 pr2 g1'
    """
    rates = as_integers("rates", rates)
    if not rates:
        raise SpecError("a stack without rates", need="at least one rate", fix="[1, 2, 5]")
    return Chain(
        tuple(Conv.of(channels, channels, kernel_size, dims=dims, dilation=rate, padding="same") for rate in rates)
    )


def _plain_layers(x: Spec) -> list[Conv] | None:
    """The convolutions of a chain that is nothing but ordinary convolutions along space."""
    layers: list[Conv] = []
    for step in x.steps if isinstance(x, Chain) else (x,):
        if isinstance(step, Conv) and not step.transposed:
            if isinstance(step.padding, str):
                step = Conv.of(
                    step.in_channels,
                    step.out_channels,
                    step.kernel_size,
                    stride=step.stride,
                    dilation=step.dilation,
                    groups=step.groups,
                    dims=step.dims,
                )
            layers.append(step)
        elif not isinstance(step, Activation | Shuffle):
            return None
    return layers


def _axis(layers: Sequence[Axis]) -> AxisCoverage:
    paths: AnyArray = np.ones(1, np.int64)
    stride = 1
    for layer in layers:
        taps = np.zeros(stride * (layer.extent - 1) + 1, np.int64)
        taps[:: stride * layer.dilation] = 1
        paths = _convolve(paths, taps)
        stride *= layer.stride
    kernels = tuple(layer.kernel for layer in layers)
    rates = tuple(layer.dilation for layer in layers)
    strides = tuple(layer.stride for layer in layers)
    figures = find_rule(rates)
    applies = len(layers) > 1 and len(set(kernels)) == 1 and set(strides) == {1}
    holds = figures[0] <= kernels[0] if applies else None
    return AxisCoverage(kernels, rates, strides, np.asarray(paths != 0, bool), paths, figures, holds)


def _convolve(a: AnyArray, taps: npt.NDArray[np.int64]) -> AnyArray:
    """Product of two polynomials in exact integers: int64 while the result fits, else Python's."""
    places = np.flatnonzero(taps)
    if a.dtype != object and int(a.max()) * len(places) >= 2**62:
        a = a.astype(object)
    out = np.zeros(a.size + taps.size - 1, a.dtype)
    for place in places:
        out[place : place + a.size] += a
    return out


def _outer(a: AnyArray, b: AnyArray) -> AnyArray:
    if not {a.dtype, b.dtype} & {np.dtype(object)} and int(a.max()) * int(b.max()) >= 2**62:
        a, b = a.astype(object), b.astype(object)
    return np.asarray(np.multiply.outer(a, b))


def find_rule(rates: Sequence[int]) -> tuple[int, ...]:
    """The published figures M_2, ..., M_n of a stack of rates r_1, ..., r_n (M_1 for a single layer).

    Example:
        >>> find_rule([1, 2, 5]), find_rule([1, 2, 9])
        ((2, 5), (5, 9))
    """
    rates = as_integers("rates", rates)
    if not rates:
        raise SpecError("a stack without rates", need="at least one rate", fix="[1, 2, 5]")
    figures = [rates[-1]]
    for rate in reversed(rates[1:-1]):
        after = figures[0]
        figures.insert(0, max(after - 2 * rate, 2 * rate - after, rate))
    return tuple(figures)


def suggest_rates(size: int, kernel_size: int = 3, *, layers: int | None = None, rule: bool = True) -> tuple[int, ...]:
    """Rates of the smallest stack that reads every position of a field of at least ``size``.

    Formula:
        A stack that covers F positions without a hole still does with one more layer of rate r <= F, and then covers
        F + (k - 1) r. With ``rule``, rates also satisfy the published rule, M_2 <= k.

    Example:
        >>> suggest_rates(17), suggest_rates(27, rule=False), suggest_rates(13)
        ((1, 3, 4), (1, 3, 9), (1, 3, 3))

    Args:
        size: wanted field [positions].
        kernel_size: taps of every layer.
        layers: how many layers; default as few as will do.
        rule: keep to the published rule as well.

    Raises:
        SpecError: a field that this many layers cannot cover without holes.
    """
    size, kernel_size = as_integer("size", size), as_integer("kernel_size", kernel_size, 2)
    counts = range(1, 65) if layers is None else [as_integer("layers", layers)]
    for count in counts:
        found = _search(size, kernel_size, count, rule=rule)
        if found is not None:
            return found
    raise SpecError(
        f"{layers} layers of kernel {kernel_size} cannot cover {size} positions without holes",
        need="more layers or a smaller field",
        fix=str(suggest_rates(size, kernel_size, rule=rule)),
    )


def _search(size: int, kernel: int, count: int, *, rule: bool) -> tuple[int, ...] | None:
    """Rates 1 <= r_2 <= ..., the last as small as it may be, or ``None``.

    The prefix is the largest of its length that may be followed; its last rate is what the size needs.
    """
    rates = [1]
    field_size = kernel
    while len(rates) < count:
        left = count - len(rates)
        largest = _largest_rate(rates, field_size, kernel, rule)
        if left == 1:
            need = ceil_div(size - field_size, kernel - 1)
            if need > largest:
                return None
            rate = max(need, rates[-1])
        else:
            rate = largest
        rates.append(rate)
        field_size += (kernel - 1) * rate
    while field_size - (kernel - 1) * rates[-1] >= size and len(rates) > 1:
        field_size -= (kernel - 1) * rates.pop()
    return tuple(rates) if field_size >= size else None


def _largest_rate(rates: list[int], field_size: int, kernel: int, rule: bool) -> int:
    rate = field_size
    while rule and len(rates) > 0 and rate > 1 and find_rule([*rates, rate])[0] > kernel:
        rate -= 1
    return rate


def _suggest(axes: Sequence[AxisCoverage]) -> tuple[int, ...]:
    worst = min(axes, key=lambda axis: axis.fraction)
    if len(set(worst.kernels)) > 1 or set(worst.strides) != {1} or worst.kernels[0] < 2:
        return ()
    return suggest_rates(worst.size, worst.kernels[0], rule=worst.kernels[0] == 3)


def _of_position(x: Subject, tensor: str | None, shape: Sequence[int] | None) -> Coverage:
    """Coverage of the middle output position of any network, by tracing it back."""
    program = fitting_program(x, shape)
    tensor, source = find_tensor(program, tensor), find_source(program, None)
    place = check_position(program.shapes[tensor], None)
    support = find_support(program, tensor, source, place)
    box: tuple[slice, ...] = tuple(slice(a, b) for a, b in bounding_box(support))
    demand = np.zeros(program.shapes[tensor])
    fill(demand, place, 1.0 / max(1, math.prod(demand.shape[:2])))
    found = trace(program, tensor, demand, mode="mean").get(source)
    if found is None or not box:
        empty = np.zeros((0,) * support.ndim)
        return Coverage((), empty.astype(bool), empty)
    paths: AnyArray = found.sum(axis=(0, 1))
    return Coverage((), support[box], paths[box])
