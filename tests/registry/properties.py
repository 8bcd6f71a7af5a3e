"""Properties that every spec has, on every engine that computes it.

A property is a function of a :class:`Case` and raises ``AssertionError`` when it does not hold. ``@checks(needs...)``
names the traits of the case (those of its spec, see :func:`traits_of`, and ``direct`` of its engine) without which it
has no meaning; nothing looks at the kind. To
check another implementation, add an :class:`Engine` to :data:`ENGINES`; every property that computes then runs on it
too.

Numbers: inputs and weights are whole numbers from -4 to 4 where sums stay exact, so most comparisons are for equality;
elsewhere the tolerance is :func:`omniconv.reference.error_bound` at the engine's roundoff. No property has a tolerance
of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from tests.registry.compiled import TARGETS, run_compiled
from tests.registry.naive import naive

from omniconv.errors import UnsupportedError
from omniconv.reference import error_bound, random_weights, reference
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Split, parse

DOUBLE, SINGLE = 2.0**-53, 2.0**-24


@dataclass(frozen=True)
class Engine:
    """An implementation: ``run(spec, x, weights) -> array``, and what its results may be off by.

    Attributes:
        roundoff: unit roundoff of its arithmetic.
        direct: whether it adds up the products as they are, so that whole numbers stay whole.
        bound: of its errors on any numbers, ``(spec, x, weights, roundoff) -> array``.
    """

    name: str
    run: Callable
    roundoff: float
    direct: bool = True
    bound: Callable = error_bound

    @property
    def largest(self) -> float:
        """Whole numbers up to this one are exact."""
        return 1.0 / self.roundoff


COMPILED = [
    Engine(f"{target}-{threads}", partial(run_compiled, target=target, threads=threads), SINGLE)
    for threads in (1, 2)
    for target in TARGETS
]
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Engine("reference", reference, DOUBLE), *COMPILED)}
"""The reference, and machine code for every target of this machine on one thread and on two."""


@dataclass(frozen=True)
class Case:
    """One spec on one input shape, run by one engine."""

    spec: Conv | Chain
    shape: tuple[int, ...]
    engine: Engine
    seed: int = 0

    def __str__(self) -> str:
        return self.spec.text(self.shape)

    @cached_property
    def traits(self) -> frozenset[str]:
        return traits_of(self.spec) | ({"direct"} if self.engine.direct else set())

    def draw(self, *, shape=None, bias=True, seed=0):
        """An input and weights, whole numbers in float32; the same for the same seed."""
        rng = np.random.default_rng([self.seed, seed])
        x = rng.integers(-4, 5, shape or self.shape).astype(np.float32)
        return x, random_weights(self.spec, rng, integer=True, bias=bias)

    def run(self, x, weights, spec=None):
        """The engine's result in float64, its shape and finiteness checked."""
        spec = self.spec if spec is None else spec
        y = np.asarray(self.engine.run(spec, x, weights))
        assert y.shape == spec.output_shape(x.shape), f"produced shape {y.shape} | {spec.text(x.shape)}"
        assert np.isfinite(y).all(), f"not finite | {spec.text(x.shape)}"
        return y.astype(np.float64)

    def tolerance(self, spec, x, weights):
        """What the engine's result on these numbers may be off by: zero where every sum is exact."""
        if self.engine.direct and is_exact(spec):
            magnitude = reference(spec, np.abs(x), [(np.abs(w), None if b is None else np.abs(b)) for w, b in weights])
            if np.abs(magnitude).max() <= self.engine.largest:
                return np.zeros(magnitude.shape)
        return self.engine.bound(spec, x, weights, self.engine.roundoff)

    def layers(self):
        """Each convolution with the input shape it meets."""
        return [(self.spec, self.shape)] if isinstance(self.spec, Conv) else self.spec.layers(self.shape)


def traits_of(spec) -> frozenset[str]:
    """What a spec is, as far as properties depend on it: single, linear, zeros (padding everywhere), grouped
    (somewhere).
    """
    convs = (spec,) if isinstance(spec, Conv) else spec.convs
    steps = (spec,) if isinstance(spec, Conv) else spec.steps
    found = set()
    if isinstance(spec, Conv):
        found.add("single")
    if not any(isinstance(step, Activation) for step in steps):
        found.add("linear")
    if all(conv.padding_mode == "zeros" for conv in convs):
        found.add("zeros")
    if any(conv.groups > 1 for conv in convs):
        found.add("grouped")
    return frozenset(found)


def is_exact(spec) -> bool:
    """Whether whole numbers stay whole: no activation but those that keep them, no interpolation."""
    whole = {"relu", "relu6", "abs", "neg"}
    return all(
        step.name in whole if isinstance(step, Activation) else getattr(step, "mode", "nearest") == "nearest"
        for step in ((spec,) if isinstance(spec, Conv) else spec.steps)
    )


@dataclass(frozen=True)
class Property:
    name: str
    needs: frozenset[str]
    run: Callable[[Case], None]
    computes: bool

    def __call__(self, case: Case) -> None:
        self.run(case)

    def applies(self, case: Case) -> bool:
        """Whether it has a meaning for a case."""
        return self.needs <= case.traits


PROPERTIES: dict[str, Property] = {}


def checks(*needs: str, computes: bool = True):
    """Register a property; ``computes=False`` marks one that needs no engine."""

    def register(function):
        PROPERTIES[function.__name__] = Property(function.__name__, frozenset(needs), function, computes)
        return function

    return register


def agree(got, expected, tolerance, case) -> None:
    """Compare with a tolerance for each output and say where it fails first."""
    off = np.abs(got - expected)
    bad = ~(off <= tolerance)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        limit = np.broadcast_to(tolerance, off.shape)[at]
        raise AssertionError(
            f"{bad.sum()} of {bad.size} outputs differ, first at {at}: {got[at]!r} for {expected[at]!r}, "
            f"tolerance {limit:.3g} | {case} | {case.engine.name}"
        )


@checks()
def equals_brute_force(case: Case) -> None:
    x, weights = case.draw()
    expected, _ = naive(case.spec, x, weights)
    tolerance = case.tolerance(case.spec, x, weights)
    if not is_exact(case.spec):  # the brute force rounds as well
        tolerance = tolerance + error_bound(case.spec, x, weights, DOUBLE)
    agree(case.run(x, weights), expected, tolerance, case)


@checks(computes=False)
def inferred_shapes_chain(case: Case) -> None:
    """The shape after each step is what that step alone produces, and spans the channels the spec names."""
    shape = case.spec.output_shape(case.shape)
    assert shape[0] == case.shape[0]
    assert shape[1] == case.spec.out_channels
    assert len(shape) == len(case.shape)
    if isinstance(case.spec, Chain):
        assert case.spec.shapes(case.shape)[-1] == shape
    assert case.spec.weight_shapes == tuple(conv.weight_shape for conv, _ in case.layers())


@checks("linear")
def linear_in_x(case: Case) -> None:
    x, weights = case.draw(bias=False)
    other, _ = case.draw(seed=1)
    got = case.run(2 * x - other, weights)
    expected = 2 * case.run(x, weights) - case.run(other, weights)
    scale = case.tolerance(case.spec, 2 * np.abs(x) + np.abs(other), _absolute(weights))
    agree(got, expected, 2 * scale, case)


@checks("linear")
def linear_in_w(case: Case) -> None:
    """Affine in the weights of each convolution while the others stay: f(v) + f(w) = f(v + w) + f(0)."""
    x, weights = case.draw(bias=False)
    _, others = case.draw(bias=False, seed=1)
    for index, ((v, _), (w, _)) in enumerate(zip(weights, others, strict=True)):

        def replaced(array, index=index):
            return [*weights[:index], (array, None), *weights[index + 1 :]]

        left = case.run(x, replaced(v)) + case.run(x, replaced(w))
        right = case.run(x, replaced(v + w)) + case.run(x, replaced(0 * v))
        largest = _absolute(replaced(np.abs(v) + np.abs(w)))
        agree(left, right, 4 * case.tolerance(case.spec, np.abs(x), largest), case)


@checks()
def bias_is_added(case: Case) -> None:
    """Without a bias is the same as with a bias of zero."""
    x, weights = case.draw(bias=False)
    zeros = [
        (w, np.zeros(conv.out_channels, np.float32)) for (w, _), (conv, _) in zip(weights, case.layers(), strict=True)
    ]
    agree(case.run(x, weights), case.run(x, zeros), 2 * case.tolerance(case.spec, x, weights), case)


@checks("single", "zeros")
def adjoint(case: Case) -> None:
    """<A x, y> = <x, A* y>, and the adjoint of the adjoint is the layer again."""
    x, ((w, _),) = case.draw(bias=False)
    spec = case.spec.resolve(case.shape)
    try:
        back = spec.adjoint(case.shape)
    except UnsupportedError:  # output padding beyond the stride has no Conv as its adjoint
        return
    produced = spec.output_shape(case.shape)
    assert back.weight_shape == spec.weight_shape
    assert back.output_shape(produced) == case.shape
    y = np.random.default_rng(case.seed).integers(-4, 5, produced).astype(np.float32)
    left, right = case.run(x, (w, None), spec) * y, case.run(y, (w, None), back) * x
    bound = (case.tolerance(spec, x, [(w, None)]) * np.abs(y)).sum()
    assert abs(left.sum() - right.sum()) <= bound, f"{left.sum()} is not {right.sum()} | {case}"
    if all(a < s for a, s in zip(spec.output_padding, spec.stride, strict=True)):
        assert back.adjoint(produced) == spec


@checks()
def batch_is_one_by_one(case: Case) -> None:
    count = case.shape[0] if case.shape[0] > 1 else 3  # a batch that other properties compile as well
    x, weights = case.draw(shape=(count, *case.shape[1:]))
    whole = case.run(x, weights)
    single = np.concatenate([case.run(x[i : i + 1], weights) for i in range(count)])
    agree(whole, single, 2 * case.tolerance(case.spec, x, weights), case)


@checks()
def inputs_are_left_alone(case: Case) -> None:
    """Strided, read-only inputs give the same result, and nothing is written to them."""
    x, weights = case.draw()
    expected = case.run(x, weights)
    spread = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, np.float32)
    spread[..., ::2] = x
    view = spread[..., ::2]
    view.flags.writeable = False
    agree(case.run(view, weights), expected, 0.0, case)
    assert np.array_equal(view, x)


@checks("grouped")
def groups_are_sliced_dense(case: Case) -> None:
    """g groups are g dense layers on slices of the channels."""
    for conv, shape in case.layers():
        if conv.groups == 1:
            continue
        rng = np.random.default_rng(case.seed)
        x = rng.integers(-4, 5, shape).astype(np.float32)
        [(w, b)] = random_weights(conv, rng, integer=True)
        g, wide, narrow = conv.groups, conv.in_channels // conv.groups, conv.out_channels // conv.groups
        dense = replace(conv, in_channels=wide, out_channels=narrow, groups=1)
        rows = w.shape[0] // g
        parts = [
            case.run(
                x[:, i * wide : (i + 1) * wide],
                (w[i * rows : (i + 1) * rows], b[i * narrow : (i + 1) * narrow]),
                dense,
            )
            for i in range(g)
        ]
        agree(case.run(x, (w, b), conv), np.concatenate(parts, axis=1), 2 * case.tolerance(conv, x, [(w, b)]), case)


@checks()
def shift_equivariant_inside(case: Case) -> None:
    """Shifting the input along one axis shifts the outputs whose whole receptive field lies inside."""
    steps = (case.spec,) if isinstance(case.spec, Conv) else case.spec.steps
    shape, axes = case.shape, range(len(case.shape) - 2)
    rates = [_rates(steps, axis) for axis in axes]
    for _ in range(5):
        insides = [_interior(steps, shape, axis) for axis in axes]
        if all(len(inside) > up for inside, (_, up) in zip(insides, rates, strict=True)):
            break
        shape = (
            *shape[:2],
            *(
                size if len(inside) > up else 2 * size + 2 * down
                for size, inside, (down, up) in zip(shape[2:], insides, rates, strict=True)
            ),
        )
    else:
        raise AssertionError(f"no interior up to {shape} | {case}")
    x, weights = case.draw(shape=shape)
    y, tolerance = case.run(x, weights), case.tolerance(case.spec, x, weights)
    for axis, (down, up), inside in zip(axes, rates, insides, strict=True):
        z = case.run(np.roll(x, down, 2 + axis), weights)
        # np.roll wraps the last `down` inputs to the front: outputs that read them are left out on both sides.
        reach = [o for o in inside if o + up in inside and _hull(steps, shape, axis, o + up)[0] >= down]
        here, there = np.take(y, reach, 2 + axis), np.take(z, [o + up for o in reach], 2 + axis)
        agree(there, here, 2 * np.take(tolerance, reach, 2 + axis), case)


@checks("direct")
def receptive_field_is_support(case: Case) -> None:
    """Along each axis, output o depends on exactly the inputs that the formula names, all inside the hull."""
    spec = without_activations(case.spec)
    steps = (spec,) if isinstance(spec, Conv) else spec.steps
    ones = [(np.ones(shape, np.float32), None) for shape in spec.weight_shapes]
    supports = []
    for axis in range(len(case.shape) - 2):
        expected, shape = np.eye(case.shape[2 + axis], dtype=bool), case.shape
        for step in steps:
            expected = expected @ _support(step, shape, axis)
            shape = step.output_shape(shape)
        supports.append(expected)
    places = [(axis, i) for axis, expected in enumerate(supports) for i in range(len(expected))]
    x = np.zeros((len(places), *case.shape[1:]), np.float32)
    for image, (axis, i) in zip(x, places, strict=True):
        np.moveaxis(image, 1 + axis, 0)[i] = 1.0
    images = np.split(case.run(x, ones, spec), np.cumsum([len(expected) for expected in supports])[:-1])
    for axis, (expected, y) in enumerate(zip(supports, images, strict=True)):
        size = len(expected)
        depends = np.moveaxis(y != 0, 2 + axis, 1).any(axis=tuple(range(2, y.ndim)))  # input position, output position
        if not all(other.any() for other in supports):  # on some axis every tap misses the input
            assert not depends.any(), f"sees what it must not | {case}"
            continue
        assert np.array_equal(depends, expected), f"support differs from the formula on axis {axis} | {case}"
        for o in range(expected.shape[1]):
            seen = np.flatnonzero(expected[:, o])
            low, high = _hull(steps, case.shape, axis, o)
            if "zeros" in case.traits and seen.size:
                assert low <= seen[0] <= seen[-1] <= high, f"output {o} sees beyond its hull | {case}"
            if isinstance(spec, Conv) and not spec.transposed and low >= 0 and high < size:
                assert (seen[0], seen[-1]) == (low, high), f"hull of output {o} is not tight | {case}"


@checks(computes=False)
def counted_macs(case: Case) -> None:
    """Products counted from the phases are those a loop carries out."""
    x, weights = case.draw()
    counted = 0
    for conv, shape in case.layers():
        if conv.padding_mode == "zeros":
            axes = [
                sum(high - low for phase in phases for low, high in (phase.inside(o, n) for _, o in phase.taps))
                for phases, n in zip(conv.phases(shape), shape[2:], strict=True)
            ]
        else:
            axes = [n * k for n, k in zip(conv.output_shape(shape)[2:], conv.kernel_size, strict=True)]
        counted += math.prod(axes) * shape[0] * conv.out_channels * conv.in_channels // conv.groups
    assert counted == naive(case.spec, x, weights)[1], f"counted {counted} | {case}"


@checks(computes=False)
def text_round_trip(case: Case) -> None:
    line = case.spec.text(case.shape)
    assert parse(line) == (case.spec, case.shape)
    assert parse(case.spec.text()) == (case.spec, None)
    assert parse(line + "  # a comment")[0].text(case.shape) == line


def without_activations(spec):
    """The linear part of a spec."""
    if isinstance(spec, Conv):
        return spec
    return Chain(tuple(step for step in spec.steps if not isinstance(step, Activation)))


def _absolute(weights):
    return [(np.abs(w), None if b is None else np.abs(b)) for w, b in weights]


def _rates(steps, axis):
    """The smallest sure shift of the input and the shift of the output that follows from it."""
    down = up = 1
    for step in steps:
        conv = step.branches[0] if isinstance(step, Split) else step
        if isinstance(conv, Conv) and not conv.transposed:
            down *= conv.stride[axis]
    for step in steps:
        conv = step.branches[0] if isinstance(step, Split) else step
        if isinstance(conv, Conv):
            up *= conv.stride[axis] if conv.transposed else 1
        elif isinstance(step, PixelShuffle | Resize):
            up *= step.factor
    return down, up


def _levels(steps, shape, axis):
    """Each step with the size of the axis that it meets, as (map of intervals, size), last step first."""
    found = []
    for step in steps:
        found.append((_interval_map(step, shape, axis), shape[2 + axis]))
        shape = shape if isinstance(step, Activation) else step.output_shape(shape)
    return found[::-1], shape[2 + axis]


def _interval_map(step, shape, axis):
    if isinstance(step, Conv):
        return step.resolve(shape).axes()[axis].infer_input
    if isinstance(step, Split):
        maps = [_interval_map(b, (shape[0], b.in_channels, *shape[2:]), axis) for b in step.branches]
        return lambda a, b: (min(m(a, b)[0] for m in maps), max(m(a, b)[1] for m in maps))
    if isinstance(step, PixelShuffle) or (isinstance(step, Resize) and step.mode == "nearest"):
        return lambda a, b: (a // step.factor, b // step.factor)
    if isinstance(step, Resize):
        return lambda a, b: (a // step.factor - 1, b // step.factor + 1)
    return lambda a, b: (a, b)


def _hull(steps, shape, axis, o):
    """Interval of inputs that output ``o`` may read, not clipped."""
    levels, _ = _levels(steps, shape, axis)
    low = high = o
    for interval, _ in levels:
        low, high = interval(low, high)
    return low, high


def _interior(steps, shape, axis):
    """Outputs that depend on no border at any step."""
    levels, outputs = _levels(steps, shape, axis)
    inside = []
    for o in range(outputs):
        low = high = o
        for interval, size in levels:
            low, high = interval(low, high)
            if low < 0 or high >= size:
                break
        else:
            inside.append(o)
    return inside


def _support(step, shape, axis):
    """Boolean (input position, output position) of one step, written out from its formula."""
    size = shape[2 + axis]
    if isinstance(step, Split):
        parts = [_support(b, (shape[0], b.in_channels, *shape[2:]), axis) for b in step.branches]
        return np.logical_or.reduce(parts)
    if not isinstance(step, Conv):
        factor = step.factor if isinstance(step, PixelShuffle | Resize) else 1
        seen = np.kron(np.eye(size, dtype=bool), np.ones((1, factor), bool))
        if isinstance(step, Resize) and step.mode == "linear":
            for o in range(size * factor):
                at = (o + 0.5) / factor - 0.5
                seen[:, o] = [abs(i - min(max(at, 0), size - 1)) < 1 - 1e-9 for i in range(size)]
        return seen
    conv = step.resolve(shape)
    outputs = step.output_shape(shape)[2 + axis]
    seen = np.zeros((size, outputs), bool)
    stride, dilation, before = conv.stride[axis], conv.dilation[axis], conv.padding[axis][0]
    taps = range(conv.kernel_size[axis])
    if conv.transposed:
        for i, t in itertools.product(range(size), taps):
            o = i * stride + t * dilation - before
            if 0 <= o < outputs:
                seen[i, o] = True
        return seen
    wrap = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(conv.padding_mode)
    positions = np.arange(size)
    positions = np.pad(positions, conv.padding[axis], **({"mode": wrap} if wrap else {"constant_values": -1}))
    for o, t in itertools.product(range(outputs), taps):
        i = positions[o * stride + t * dilation]
        if i >= 0:
            seen[i, o] = True
    return seen
