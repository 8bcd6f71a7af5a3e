"""Small random steps of every kind, with the shapes of what they read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from omniconv.program.element import INT16
from omniconv.program.from_spec import plan_resize
from omniconv.program.levels import Levels
from omniconv.program.program import Program
from omniconv.program.sampling import Sampling, plan_axis
from omniconv.program.steps import (
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    CumSumStep,
    DenseStep,
    LrnStep,
    MapStep,
    MomentsStep,
    NormaliseGradientStep,
    NormaliseStep,
    NormaliseSumsStep,
    PadStep,
    PoolStep,
    PostOp,
    ProductStep,
    QuantisedConvStep,
    QuantisedDenseStep,
    QuantisedMapStep,
    QuantisedMeanStep,
    QuantisedTableStep,
    RearrangeStep,
    RecurrentStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
    StandardiseStep,
    WeightGradientStep,
)
from omniconv.program.steps.recurrent import FUNCTIONS, GATES
from omniconv.spec import Activation, Conv, Resize

Drawn = tuple[Any, dict[str, tuple[int, ...]], tuple[int, ...]]
"""A step, the shapes of what it reads, and the shape of its result."""
DRAWS: dict[type, Callable[[Random], Drawn]] = {}


def draws(kind: type) -> Callable[[Callable[[Random], Drawn]], Callable[[Random], Drawn]]:
    def register(draw: Callable[[Random], Drawn]) -> Callable[[Random], Drawn]:
        DRAWS[kind] = draw
        return draw

    return register


def shape_of(r: Random, rank: int | None = None, largest: int = 4) -> tuple[int, ...]:
    rank = r.randint(3, 4) if rank is None else rank
    return (r.randint(1, 2), *(r.randint(1, largest) for _ in range(rank - 1)))


def weights(r: Random, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(r.randrange(2**30)).uniform(0.5, 1.5, shape).astype(np.float32)


def posts(r: Random, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]]) -> tuple[PostOp, ...]:
    """Operations that grow with every operand, on positive values; their operands are values and constants."""
    found = []
    for number in range(r.randint(0, 3)):
        part = tuple(size if r.random() < 0.6 else 1 for size in shape)[r.randint(0, len(shape) - 1) :]
        match r.choice(("act", "value", "value", "constant")):
            case "act":  # of small values, where no function is flat
                found.append(PostOp("mul", np.full(1, 1 / 16, np.float32)))
                found.append(PostOp("act", activation=Activation.of(r.choice(("sigmoid", "exp", "sqrt", "tanh")))))
            case "value":
                shapes[f"a{number}"] = part
                found.append(PostOp(r.choice(("add", "mul", "add")), f"a{number}"))
            case _:
                found.append(PostOp(r.choice(("add", "mul", "div")), weights(r, part)))
    return tuple(found)


@draws(ConvStep)
def _conv(r: Random) -> Drawn:
    dims = r.randint(1, 2)
    groups = r.choice((1, 1, 2))
    shape = (r.randint(1, 2), groups * r.randint(1, 2), *(r.randint(3, 5) for _ in range(dims)))
    transposed = r.random() < 0.35
    mode = "zeros" if transposed else r.choice(("zeros", "zeros", "reflect", "replicate", "circular"))
    spec = Conv.of(
        shape[1],
        groups * r.randint(1, 2),
        [r.randint(1, 3) for _ in range(dims)],
        dims=dims,
        stride=[r.randint(1, 3) for _ in range(dims)],
        dilation=1 if r.random() < 0.7 else [r.randint(1, 2)] * dims,
        padding=0 if transposed else [(r.randint(0, 2), r.randint(0, 2)) for _ in range(dims)],
        groups=groups,
        transposed=transposed,
        padding_mode=mode,
        flip=r.random() < 0.3,
    )
    try:
        result = spec.output_shape(shape)
    except ValueError:
        return _conv(r)
    shapes = {"x": shape}
    w = factor(r, "w", spec.weight_shape, shapes)
    bias = factor(r, "b", (spec.out_channels,), shapes) if r.random() < 0.5 else None
    return ConvStep("x", "y", spec, w, bias, posts(r, result, shapes)), shapes, result


def factor(r: Random, name: str, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]]) -> np.ndarray | str:
    """Weights or a bias: a constant, or a value."""
    if r.random() < 0.7:
        return weights(r, shape)
    shapes[name] = shape
    return name


@draws(DenseStep)
def _dense(r: Random) -> Drawn:
    shape = shape_of(r, r.randint(1, 4))
    outputs = r.randint(1, 4)
    result = (*shape[:-1], outputs)
    shapes = {"x": shape}
    return DenseStep("x", "y", weights(r, (outputs, shape[-1])), None, posts(r, result, shapes)), shapes, result


@draws(ProductStep)
def _product(r: Random) -> Drawn:
    batch = tuple(r.randint(1, 3) for _ in range(r.randint(0, 3)))
    rows, inner, columns = (r.randint(1, 4) for _ in range(3))
    part = lambda: tuple(size if r.random() < 0.6 else 1 for size in batch)[r.choice((0, 0, len(batch) // 2)) :]
    shapes = {"x": (*part(), rows, inner), "w": (*part(), inner, columns)}
    result = (*np.broadcast_shapes(shapes["x"][:-2], shapes["w"][:-2]), rows, columns)
    return ProductStep("x", "y", "w", posts(r, result, shapes)), shapes, result


@draws(ConstantStep)
def _constant(r: Random) -> Drawn:
    value = weights(r, shape_of(r, r.randint(0, 4)) if r.random() < 0.8 else ())
    return ConstantStep("y", value), {}, value.shape


@draws(PoolStep)
def _pool(r: Random) -> Drawn:
    shape = (1, r.randint(1, 2), *(r.randint(3, 6) for _ in range(r.randint(1, 2))))
    rows = []
    for size in shape[2:]:
        k, s, d = r.randint(1, 3), r.randint(1, 3), r.choice((1, 1, 2))
        pair = (r.randint(0, k // 2), r.randint(0, k // 2)) if d == 1 else (0, 0)
        if d * (k - 1) + 1 > size:
            k, d, pair = 1, 1, (0, 0)
        room = size + sum(pair) - d * (k - 1) - 1
        count = -(-room // s) + 1 if r.random() < 0.5 else room // s + 1
        if (count - 1) * s >= size + pair[0]:
            count -= 1
        rows.append((k, s, d, pair, count))
    kernel, stride, dilation, padding, counts = zip(*rows, strict=True)
    # A mean alone: each input moves it, while a maximum has one winner.
    return (
        PoolStep("x", "y", "mean", kernel, stride, dilation, padding, r.random() < 0.5),
        {"x": shape},
        (*shape[:2], *counts),
    )


@draws(ReduceStep)
def _reduce(r: Random) -> Drawn:
    shape = shape_of(r)
    result = shape[:2] if r.random() < 0.5 else (*shape[:2], *(1,) * (len(shape) - 2))
    ops = ("mean", "sum", "prod") if math.prod(shape[2:]) > 1 else ("mean", "sum")  # one factor alone is linear
    return ReduceStep("x", "y", r.choice(ops)), {"x": shape}, result


@draws(MapStep)
def _map(r: Random) -> Drawn:
    result = shape_of(r, r.randint(1, 4))
    shape = tuple(size if r.random() < 0.7 else 1 for size in result)[r.choice((0, 0, len(result) // 2)) :]
    shapes = {"x": shape}
    return MapStep("x", "y", posts(r, result, shapes)), shapes, result


@draws(SoftmaxStep)
def _softmax(r: Random) -> Drawn:
    shape = tuple(size + 1 for size in shape_of(r, r.randint(1, 4), 3))
    return SoftmaxStep("x", "y", r.randint(-len(shape), len(shape) - 1), r.random() < 0.5), {"x": shape}, shape


@draws(StandardiseStep)
def _standardise(r: Random) -> Drawn:
    shape = tuple(size + 1 for size in shape_of(r, r.randint(1, 4), 3))
    shapes = {"x": shape, "a": shape[-1:]}
    post = (PostOp("mul", weights(r, shape[-1:])), PostOp("add", "a"))
    return StandardiseStep("x", "y", 0.5, r.randint(1, len(shape)), post), shapes, shape


@draws(LrnStep)
def _lrn(r: Random) -> Drawn:
    shape = shape_of(r, largest=5)
    return LrnStep("x", "y", r.randint(1, 7), 0.5, 0.75, 1.0), {"x": shape}, shape


@draws(ChannelStep)
def _channels(r: Random) -> Drawn:
    shape = shape_of(r)
    source = tuple(r.randrange(shape[1]) for _ in range(r.randint(1, 5)))
    return ChannelStep("x", "y", source), {"x": shape}, (shape[0], len(source), *shape[2:])


@draws(ConcatStep)
def _concat(r: Random) -> Drawn:
    shape = shape_of(r)
    axis = r.randrange(len(shape))
    names = [r.choice("abc") for _ in range(r.randint(1, 4))]
    sizes = {name: r.randint(1, 3) for name in names}
    shapes = {name: (*shape[:axis], size, *shape[axis + 1 :]) for name, size in sizes.items()}
    total = sum(sizes[name] for name in names)
    return ConcatStep(tuple(names), "y", axis), shapes, (*shape[:axis], total, *shape[axis + 1 :])


@draws(RearrangeStep)
def _rearrange(r: Random) -> Drawn:
    split = tuple(r.randint(1, 3) for _ in range(r.randint(2, 5)))
    perm = r.sample(range(len(split)), len(split))
    merged = lambda sizes: _merge(r, sizes)
    return (
        RearrangeStep("x", "y", split, tuple(perm)),
        {"x": merged(split)},
        merged(tuple(split[axis] for axis in perm)) if r.random() < 0.8 else _scatter(r, math.prod(split)),
    )


def _merge(r: Random, sizes: tuple[int, ...]) -> tuple[int, ...]:
    found = [sizes[0]]
    for size in sizes[1:]:
        if r.random() < 0.4:
            found[-1] *= size
        else:
            found.append(size)
    return tuple(found)


def _scatter(r: Random, count: int) -> tuple[int, ...]:
    first = r.choice([d for d in range(1, count + 1) if count % d == 0])
    return (first, count // first)


@draws(SliceStep)
def _slice(r: Random) -> Drawn:
    shape = shape_of(r, r.randint(1, 4))
    rows = []
    for size in shape:
        step = r.choice((1, 1, 2, -1, -2))
        start = r.randrange(size)
        most = (size - 1 - start) // step + 1 if step > 0 else start // -step + 1
        rows.append((start, step, r.randint(1, most)))
    starts, steps, counts = zip(*rows, strict=True)
    return SliceStep("x", "y", starts, steps), {"x": shape}, counts


@draws(PadStep)
def _pad(r: Random) -> Drawn:
    shape = shape_of(r, r.randint(1, 4))
    mode = r.choice(("constant", "reflect", "edge", "wrap"))
    most = lambda size: min(3, {"reflect": size - 1, "wrap": size}.get(mode, 3))
    pads = tuple((r.randint(0, most(size)), r.randint(0, most(size))) for size in shape)
    return (
        PadStep("x", "y", pads, mode, 1.0),
        {"x": shape},
        tuple(size + sum(pair) for size, pair in zip(shape, pads, strict=True)),
    )


@draws(ResizeStep)
def _resize(r: Random) -> Drawn:
    shape = (1, r.randint(1, 2), *(r.randint(2, 5) for _ in range(r.randint(1, 2))))
    if r.random() < 0.4:
        step = Resize(r.randint(2, 3), r.choice(("nearest", "linear")))
        return plan_resize(step, "x", "y", shape), {"x": shape}, step.output_shape(shape)
    how = Sampling(r.choice(("nearest", "linear")), r.choice(("half_pixel", "align_corners", "asymmetric")))
    sizes = tuple(r.randint(1, 7) for _ in shape[2:])
    tables = [plan_axis(how, size, result) for size, result in zip(shape[2:], sizes, strict=True)]
    step = ResizeStep("x", "y", tuple(index for index, _ in tables), tuple(weight for _, weight in tables))
    return step, {"x": shape}, (*shape[:2], *sizes)


@draws(CumSumStep)
def _cumsum(r: Random) -> Drawn:
    shape = shape_of(r, r.randint(1, 4))
    axis = r.randint(-len(shape), len(shape) - 1)
    return CumSumStep("x", "y", axis, r.random() < 0.5, r.random() < 0.5), {"x": shape}, shape


@draws(WeightGradientStep)
def _weight_gradient(r: Random) -> Drawn:
    """Of layers whose every weight has a product somewhere."""
    dims, groups, transposed = r.randint(1, 2), r.choice((1, 1, 2)), r.random() < 0.4
    kernel = [r.randint(1, 3) for _ in range(dims)]
    dilation = [r.randint(1, 2) for _ in range(dims)]
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    shape = (r.randint(1, 2), groups * r.randint(1, 2), *(r.randint(extent, extent + 2) for extent in extents))
    spec = Conv.of(
        shape[1],
        groups * r.randint(1, 2),
        kernel,
        dims=dims,
        stride=[r.randint(1, 2) for _ in range(dims)],
        dilation=dilation,
        groups=groups,
        transposed=transposed,
        flip=r.random() < 0.3,
        padding=0 if transposed else [(r.randint(0, e // 2), r.randint(0, e // 2)) for e in extents],
    )
    shapes = {"x": shape, "dy": spec.output_shape(shape)}
    return WeightGradientStep("x", "y", "dy", spec), shapes, spec.weight_shape


@draws(MomentsStep)
def _moments(r: Random) -> Drawn:
    shape = images(r)
    return MomentsStep("x", "y"), {"x": shape}, (3, shape[1])


def images(r: Random) -> tuple[int, ...]:
    """Of more than one element for each channel."""
    return (r.randint(2, 3), *shape_of(r, r.randint(2, 4), 3)[1:])


def normal(r: Random) -> tuple[tuple[Any, ...], dict[str, tuple[int, ...]], tuple[int, ...]]:
    """What a normalisation has: its numbers, an activation that is bent, and the shapes of all."""
    shape, affine = images(r), r.random() < 0.6
    pick = lambda: r.choice(((shape[1],), (1, shape[1])))
    names = ("mean", "variance", *(("w", "b") if affine else ()))
    activation = Activation.of(r.choice(("silu", "tanh", "sigmoid", "gelu")))
    numbers = ("mean", "variance", *(("w", "b") if affine else (None, None)), 0.01, activation)
    return numbers, {"x": shape, **{name: pick() for name in names}}, shape


@draws(NormaliseStep)
def _normalise(r: Random) -> Drawn:
    numbers, shapes, shape = normal(r)
    return NormaliseStep("x", "y", *numbers), shapes, shape


@draws(NormaliseSumsStep)
def _normalise_sums(r: Random) -> Drawn:
    numbers, shapes, shape = normal(r)
    return NormaliseSumsStep("x", "y", *numbers, dy="dy"), {**shapes, "dy": shape}, (2, shape[1])


@draws(NormaliseGradientStep)
def _normalise_gradient(r: Random) -> Drawn:
    numbers, shapes, shape = normal(r)
    sums = r.random() < 0.6
    shapes |= {"dy": shape} | ({"sums": (2, shape[1])} if sums else {})
    return NormaliseGradientStep("x", "y", *numbers, dy="dy", sums="sums" if sums else None), shapes, shape


@draws(RecurrentStep)
def _recurrent(r: Random) -> Drawn:
    return recurrence(r, r.randint(1, 3), r.randint(1, 2), r.randint(1, 3))


def recurrence(r: Random, times: int, batch: int, hidden: int, spread: float = 0.3) -> Drawn:
    """A recurrent layer with all that it may have; weights within ``spread``, where no function of small sums is flat.

    Functions that are flat or straight in parts, and a bound, are drawn by :func:`flat_recurrence` alone.
    """
    cell = r.choice(tuple(GATES))
    reverse = r.choice(((False,), (True,), (False, True)))
    d, g = len(reverse), GATES[cell]
    rng = np.random.default_rng(r.randrange(2**30))
    draw = lambda *shape: rng.uniform(-spread, spread, shape).astype(np.float32)
    shapes = {"x": (times, batch, d * g * hidden)}
    states = [name for name in ("h", "c") if (name == "h" or cell == "lstm") and r.random() < 0.5]
    shapes.update(dict.fromkeys(states, (d, batch, hidden)))
    pick = lambda: Activation.of(r.choice(("sigmoid", "tanh")))
    one = tuple(pick() for _ in range(FUNCTIONS[cell]))
    step = RecurrentStep(
        "x",
        "y",
        cell,
        draw(d, g * hidden, hidden),
        reverse,
        tuple(one if r.random() < 0.7 else tuple(pick() for _ in one) for _ in reverse),
        *(name if name in states else None for name in ("h", "c")),
        draw(d, hidden) if cell == "gru" and r.random() < 0.5 else None,
        draw(d, 3 * hidden) if cell == "lstm" and r.random() < 0.5 else None,
        tuple(r.randint(1, times) for _ in range(batch)) if r.random() < 0.3 else None,
        coupled=cell == "lstm" and r.random() < 0.3,
    )
    return step, shapes, (times + step.states, d, batch, hidden)


def flat_recurrence(r: Random, times: int, batch: int, hidden: int) -> Drawn:
    """The same with any function, a bound of the sums, and larger weights."""
    step, shapes, result = recurrence(r, times, batch, hidden, 1.5 / math.sqrt(hidden))
    names = ("relu", "sigmoid", "tanh", "elu", "leaky_relu", "hard_sigmoid")
    functions = tuple(
        tuple(Activation.of(r.choice(names)) if r.random() < 0.3 else f for f in one) for one in step.functions
    )
    clip = r.uniform(0.5, 2.0) if r.random() < 0.3 else None
    return replace(step, functions=functions, clip=clip), shapes, result


LEVELS = Levels(1 / 16, 0, 255)
"""Nothing below 0, so that no step is linear: each makes less than that of zeros."""


def integers(r: Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """The constants of a layer: an entry that is moved by a quarter moves a result by two steps."""
    rng, outputs = np.random.default_rng(r.randrange(2**30)), shape[0]
    w = rng.choice((5, 10), shape).astype(np.int16)
    factor = np.full(outputs, 1.6, np.float32)
    return {
        "w": w,
        "b": np.full(outputs, -2, np.int32),
        "factor": factor,
        "x_levels": Levels(1.0, 0, 255),
        "levels": LEVELS,
    }


@draws(QuantisedConvStep)
def _quantised_conv(r: Random) -> Drawn:
    groups = r.choice((1, 1, 2))
    shape = (r.randint(1, 2), groups * r.randint(1, 2), *(r.randint(3, 5) for _ in range(r.randint(1, 2))))
    dims = len(shape) - 2
    kernel = [r.randint(1, 2) for _ in range(dims)]
    spec = Conv.of(
        shape[1],
        groups * r.randint(1, 2),
        kernel,
        dims=dims,
        stride=[r.randint(1, 3) for _ in range(dims)],
        dilation=1 if r.random() < 0.7 else 2,
        padding=[(r.randint(0, k - 1), r.randint(0, k - 1)) for k in kernel],
        groups=groups,
        flip=r.random() < 0.3,
    )
    step = QuantisedConvStep(x="x", y="y", spec=spec, **integers(r, spec.weight_shape))
    return step, {"x": shape}, spec.output_shape(shape)


@draws(QuantisedDenseStep)
def _quantised_dense(r: Random) -> Drawn:
    shape = shape_of(r, r.randint(1, 4))
    outputs = r.randint(1, 4)
    known = integers(r, (outputs, shape[-1]))
    step = QuantisedDenseStep("x", "y", **(known | {"levels": None} if r.random() < 0.3 else known))
    return step, {"x": shape}, (*shape[:-1], outputs)


@draws(QuantisedMeanStep)
def _quantised_mean(r: Random) -> Drawn:
    shape = (*shape_of(r, 2), *(r.randint(1, 3) for _ in range(r.randint(1, 2))))
    result = shape[:2] if r.random() < 0.5 else (*shape[:2], *(1,) * (len(shape) - 2))
    return QuantisedMeanStep("x", "y", 200.0, Levels(1 / 16, 2, 255)), {"x": shape}, result


@draws(QuantisedTableStep)
def _quantised_table(r: Random) -> Drawn:
    shape, low = shape_of(r, r.randint(1, 4)), r.randint(-128, -64)
    table = np.array(r.sample(range(-100, 156), 256), np.int16)
    return QuantisedTableStep("x", "y", Levels(1.0, low, low + 255), table, Levels(0.5, -100, 155)), {"x": shape}, shape


@draws(QuantisedMapStep)
def _quantised_map(r: Random) -> Drawn:
    result = shape_of(r, r.randint(1, 4))
    part = lambda: tuple(size if r.random() < 0.7 else 1 for size in result)[r.choice((0, 0, len(result) // 2)) :]
    shapes, scale = {"x": part()}, lambda: r.choice((1.0, None))
    post, scales = [PostOp("sub", np.full(1, 0.2, np.float32))], []
    if r.random() < 0.6:
        shapes["a"] = part()
        post.insert(0, PostOp(r.choice(("add", "mul")), "a"))
        scales.append(scale())
    levels = LEVELS if r.random() < 0.8 else None
    return QuantisedMapStep("x", "y", scale(), tuple(post), tuple(scales), levels), shapes, result


def elements_of(step: Any) -> dict[str, Any]:
    """The elements of the inputs of a step that reads integers."""
    if isinstance(step, QuantisedMapStep):
        return {name: INT16 for name, scale in zip(step.reads, (step.x_scale, *step.scales), strict=True) if scale}
    quantised = QuantisedConvStep | QuantisedDenseStep | QuantisedMeanStep | QuantisedTableStep
    return {"x": INT16} if isinstance(step, quantised) else {}


def program_of(drawn: Drawn) -> Program:
    """A program of one step."""
    step, shapes, result = drawn
    program = Program(tuple(shapes), shapes=dict(shapes), elements=elements_of(step))
    program.add(step, result, "step")
    program.outputs = ("y",)
    return program
