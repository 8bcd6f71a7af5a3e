"""Random graphs of operators that move values, on any axes of values of any rank, with what NumPy makes of them.

Values are whole numbers wherever something is computed with them, so that every result is exact and equal to the bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from tests.graph.small_models import Graph

MOST_ELEMENTS = 4096
MOST_RANK = 8
LARGEST = 1 << 20
"""Whole numbers up to here, and sums of some of them, are exact in float32."""


@dataclass
class Value:
    """A value of the graph: its name, what it is, and whether it consists of whole numbers."""

    name: str
    array: np.ndarray
    whole: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape


@dataclass
class Walk:
    """A graph that grows by random nodes.

    Attributes:
        rng: draws everything.
        moves: whether only operators are drawn that compute nothing.
    """

    rng: np.random.Generator
    moves: bool
    graph: Graph = field(default_factory=lambda: Graph(17))
    values: list[Value] = field(default_factory=list)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)

    def pick(self, *items: int) -> int:
        """One of some integers."""
        return int(self.rng.choice(items))

    def coin(self, chance: float = 0.5) -> bool:
        """Whether something happens."""
        return bool(self.rng.random() < chance)

    def factors(self, size: int, rank: int) -> tuple[int, ...]:
        """A shape of about ``rank`` axes with ``size`` elements: its prime factors thrown together, and ones."""
        primes, rest = [], size
        for prime in itertools.count(2):
            if prime * prime > rest:
                break
            while rest % prime == 0:
                primes.append(prime)
                rest //= prime
        primes += [rest] if rest > 1 else []
        if not rank:
            return () if size == 1 else (size,)
        axes = [1] * rank
        for prime in primes:
            axes[int(self.rng.integers(rank))] *= prime
        return tuple(axes)

    def draw_shape(self) -> tuple[int, ...]:
        """A shape of rank 0 to 8."""
        rank = self.pick(0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 7, 8)
        while True:
            shape = tuple(self.pick(1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 12, 17, 32) for _ in range(rank))
            if math.prod(shape) <= MOST_ELEMENTS:
                return shape

    def add_input(self, name: str, shape: Sequence[int]) -> None:
        """One more input of the graph."""
        self.graph.input(name, *shape)
        self.inputs[name] = self.rng.integers(-9, 10, shape).astype(np.float32)
        if self.moves:
            self.inputs[name] = self.rng.standard_normal(shape).astype(np.float32)
        self.values.append(Value(name, self.inputs[name], not self.moves))
        self.text.append(f"{name} {tuple(shape)}")

    def emit(
        self, op: str, xs: Sequence[Value], array: np.ndarray, *more: str, whole: bool = True, **attributes
    ) -> None:
        """One more node whose result is ``array``."""
        name = self.graph.node(op, *(x.name for x in xs), *more, **attributes)
        array = np.asarray(array, np.float32)
        self.values.append(Value(name, array, whole and all(x.whole for x in xs)))
        self.text.append(f"{op}({', '.join(x.name for x in xs)}) {attributes or ''} -> {array.shape}")

    def choose(self) -> Value:
        """A value to go on from, rather a late one."""
        late = self.values[-4:]
        return late[-1] if self.coin() else late[int(self.rng.integers(len(late)))]

    def axis(self, x: Value) -> int:
        """One of its axes, counted from either end."""
        return int(self.rng.integers(-x.array.ndim, x.array.ndim))


def reshape(walk: Walk, x: Value) -> None:
    shape = walk.factors(x.array.size, int(walk.rng.integers(0, MOST_RANK + 1)))
    given = list(shape)
    if given and walk.coin(0.3):
        given[int(walk.rng.integers(len(given)))] = -1
    walk.emit("Reshape", [x], x.array.reshape(shape), walk.graph.ints(*given))


def regroup(walk: Walk, x: Value) -> None:
    """Neighbouring axes merged or one split, as exporters do around attention and shuffles."""
    shape = list(x.shape)
    if len(shape) > 1 and walk.coin():
        at = int(walk.rng.integers(len(shape) - 1))
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    elif shape and len(shape) < MOST_RANK:
        at = int(walk.rng.integers(len(shape)))
        shape[at : at + 1] = walk.factors(shape[at], 2)
    walk.emit("Reshape", [x], x.array.reshape(shape), walk.graph.ints(*shape))


def transpose(walk: Walk, x: Value) -> None:
    perm = [int(axis) for axis in walk.rng.permutation(x.array.ndim)]
    walk.emit("Transpose", [x], x.array.transpose(perm), **({"perm": perm} if perm else {}))


def flatten(walk: Walk, x: Value) -> None:
    axis = int(walk.rng.integers(-x.array.ndim, x.array.ndim + 1))
    at = axis % x.array.ndim if axis < 0 else axis
    walk.emit("Flatten", [x], x.array.reshape(math.prod(x.shape[:at]), -1), axis=axis)


def squeeze(walk: Walk, x: Value) -> None:
    ones = [axis for axis, size in enumerate(x.shape) if size == 1 and walk.coin(0.7)]
    if ones:
        walk.emit("Squeeze", [x], x.array.squeeze(tuple(ones)), walk.graph.ints(*ones))


def unsqueeze(walk: Walk, x: Value) -> None:
    count = walk.pick(1, 1, 2, 3)
    rank = x.array.ndim + count
    if rank <= MOST_RANK:
        axes = sorted(int(axis) for axis in walk.rng.choice(rank, count, replace=False))
        walk.emit("Unsqueeze", [x], np.expand_dims(x.array, axes), walk.graph.ints(*axes))


def identity(walk: Walk, x: Value) -> None:
    walk.emit("Identity", [x], x.array)


def expand(walk: Walk, x: Value) -> None:
    shape = [walk.pick(1, 2, 3, 5) if size == 1 and walk.coin() else size for size in x.shape]
    if len(shape) < MOST_RANK and walk.coin(0.4):
        shape = [walk.pick(1, 2, 3), *shape]
    if math.prod(shape) <= MOST_ELEMENTS:
        walk.emit("Expand", [x], np.broadcast_to(x.array, shape), walk.graph.ints(*shape))


def concat(walk: Walk, x: Value) -> None:
    axis = walk.axis(x)
    at = axis % x.array.ndim
    others = [
        v
        for v in walk.values
        if v.array.ndim == x.array.ndim and v.shape[:at] == x.shape[:at] and v.shape[at + 1 :] == x.shape[at + 1 :]
    ]
    members = [others[int(walk.rng.integers(len(others)))] for _ in range(walk.pick(1, 2, 3))]
    members.insert(int(walk.rng.integers(len(members) + 1)), x)
    if sum(member.array.size for member in members) <= MOST_ELEMENTS:
        walk.emit("Concat", members, np.concatenate([m.array for m in members], at), axis=axis)


def split(walk: Walk, x: Value) -> None:
    axis = walk.axis(x)
    size = x.shape[axis]
    if size < 2:
        return
    cut = int(walk.rng.integers(1, size))
    names = walk.graph.node("Split", x.name, walk.graph.ints(cut, size - cut), count=2, axis=axis)
    for name, part in zip(names, np.split(x.array, [cut], axis), strict=True):
        walk.values.append(Value(name, part, x.whole))
    walk.text.append(f"Split({x.name}, {cut}) axis={axis} -> {names}")


def cut(walk: Walk, x: Value) -> None:
    starts, ends, steps, slices = [], [], [], []
    for size in x.shape:
        a, b = sorted(int(v) for v in walk.rng.integers(0, size + 1, 2))
        b += a == b
        a = min(a, size - 1)
        step = walk.pick(1, 1, 2, 3)
        if walk.coin(0.3):
            a, b, step = b - 1, a - 1 if a else -size - 1, -step
        starts.append(a)
        ends.append(b)
        steps.append(step)
        slices.append(slice(a, None if b < 0 else b, step))
    ints = walk.graph.ints
    axes = ints(*range(x.array.ndim))
    walk.emit("Slice", [x], x.array[tuple(slices)], ints(*starts), ints(*ends), axes, ints(*steps))


def gather(walk: Walk, x: Value) -> None:
    axis = walk.axis(x)
    size = x.shape[axis]
    if axis % x.array.ndim == 1 and walk.coin():
        indices = walk.rng.integers(-size, size, walk.pick(1, 2, 3, 8))
    elif walk.coin():
        at = int(walk.rng.integers(-size, size))
        walk.emit("Gather", [x], np.take(x.array, at, axis), walk.graph.const(at, np.int64), axis=axis)
        return
    else:
        indices = np.arange(size)[:: walk.pick(1, 2, -1)]
    walk.emit("Gather", [x], np.take(x.array, indices, axis), walk.graph.ints(*indices.tolist()), axis=axis)


def pad(walk: Walk, x: Value) -> None:
    mode = ("constant", "edge", "reflect", "wrap")[walk.pick(0, 0, 1, 2, 3)]
    pairs = []
    for size in x.shape:
        widest = {"reflect": size - 1, "wrap": size}.get(mode, 3)
        pairs.append(tuple(min(widest, walk.pick(0, 0, 0, 1, 2, 3)) for _ in range(2)))
    if math.prod(size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True)) > MOST_ELEMENTS:
        return
    more = {"constant_values": 7} if mode == "constant" else {}
    pads = walk.graph.ints(*(pair[0] for pair in pairs), *(pair[1] for pair in pairs))
    value = (walk.graph.const(7.0),) if mode == "constant" else ()
    if mode == "wrap":
        walk.graph.opset = 19
    walk.emit("Pad", [x], np.pad(x.array, pairs, mode=mode, **more), pads, *value, mode=mode)  # type: ignore[call-overload]


def depth_to_space(walk: Walk, x: Value) -> None:
    n, c, h, w = x.shape if x.array.ndim == 4 else (0, 1, 0, 0)
    if c % 4 == 0:
        shape, perm = ((n, 2, 2, c // 4, h, w), (0, 3, 4, 1, 5, 2))
        walk.emit(
            "DepthToSpace", [x], x.array.reshape(shape).transpose(perm).reshape(n, c // 4, 2 * h, 2 * w), blocksize=2
        )


def space_to_depth(walk: Walk, x: Value) -> None:
    n, c, h, w = x.shape if x.array.ndim == 4 else (0, 1, 1, 0)
    if h % 2 == w % 2 == 0 and n:
        split = x.array.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 3, 5, 1, 2, 4)
        walk.emit("SpaceToDepth", [x], split.reshape(n, 4 * c, h // 2, w // 2), blocksize=2)


def function(walk: Walk, x: Value) -> None:
    op, apply = (("Relu", lambda a: np.maximum(a, 0)), ("Neg", np.negative), ("Abs", np.abs))[walk.pick(0, 1, 2)]
    walk.emit(op, [x], apply(x.array))


def arithmetic(walk: Walk, x: Value) -> None:
    op, apply = (("Add", np.add), ("Sub", np.subtract), ("Max", np.maximum), ("Min", np.minimum))[walk.pick(0, 1, 2, 3)]
    others = [v for v in walk.values if v.whole and fits(v.shape, x.shape)]
    if walk.coin(0.4):
        shape = [1 if walk.coin(0.3) else size for size in x.shape][walk.pick(0, 0, 1, 2) :]
        array = walk.rng.integers(-9, 10, shape).astype(np.float32)
        other = Value(walk.graph.const(array), array)
    else:
        other = others[int(walk.rng.integers(len(others)))]
    pair = [x, other] if walk.coin() else [other, x]
    walk.emit(op, pair, apply(pair[0].array, pair[1].array))


def fits(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes broadcast to something small."""
    try:
        return math.prod(np.broadcast_shapes(tuple(a), tuple(b))) <= MOST_ELEMENTS
    except ValueError:
        return False


def matmul(walk: Walk, x: Value) -> None:
    columns = walk.pick(0, 1, 3, 8, 17)
    rows = x.shape[-1]
    shape = ((rows, columns) if x.array.ndim < 3 or walk.coin() else (1, rows, columns)) if columns else (rows,)
    b = walk.rng.integers(-1, 2, shape).astype(np.float32)
    if x.array.size // rows * max(columns, 1) <= MOST_ELEMENTS:
        walk.emit("MatMul", [x], np.matmul(x.array, b), walk.graph.const(b))


def reduce(walk: Walk, x: Value) -> None:
    op = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean")[walk.pick(0, 1, 2, 3)]
    axes = tuple(axis for axis in range(x.array.ndim) if walk.coin()) or (0,)
    keep = walk.pick(0, 1)
    apply = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceMean": np.sum}[op]
    y = np.asarray(apply(x.array.astype(np.float64), axis=axes, keepdims=bool(keep)), np.float32)
    if op == "ReduceMean":
        y = y / np.float32(math.prod(x.shape[axis] for axis in axes))
    if op == "ReduceSum":
        walk.emit(op, [x], y, walk.graph.ints(*axes), keepdims=keep)
    else:
        walk.emit(op, [x], y, axes=list(axes), keepdims=keep, whole=op != "ReduceMean")


def convolve(walk: Walk, x: Value) -> None:
    """A pointwise, a dense or a depthwise layer: its result has pixels a whole number of vectors apart."""
    n, c, *sizes = x.shape
    width, group = walk.pick(1, 3), walk.pick(1, 1, c)
    out = c if group > 1 else walk.pick(1, 4, 6, 9, 24)
    w = walk.rng.integers(-1, 2, (out, c // group, *(width,) * len(sizes))).astype(np.float32)
    taps = list(itertools.product(range(width), repeat=len(sizes)))
    if n * out * math.prod(sizes) > MOST_ELEMENTS or c // group * len(taps) > 128:
        return
    wide = np.pad(x.array.astype(np.float64), [(0, 0), (0, 0), *((width // 2,) * 2,) * len(sizes)])
    y = np.zeros((n, group, out // group, *sizes))
    for tap in taps:
        window = wide[(slice(None), slice(None), *(slice(t, t + s) for t, s in zip(tap, sizes, strict=True)))]
        part = w[(slice(None), slice(None), *tap)].reshape(group, out // group, c // group)
        y += np.einsum("goi,ngi...->ngo...", part, window.reshape(n, group, c // group, *sizes))
    pads = [width // 2] * (2 * len(sizes))
    walk.emit(
        "Conv",
        [x],
        y.reshape(n, out, *sizes),
        walk.graph.const(w),
        group=group,
        pads=pads,
        kernel_shape=[width] * len(sizes),
    )


Step = Callable[[Walk, Value], None]
MOVES: tuple[Step, ...] = (
    reshape,
    reshape,
    reshape,
    regroup,
    regroup,
    transpose,
    transpose,
    flatten,
    squeeze,
    unsqueeze,
    identity,
    expand,
    depth_to_space,
    space_to_depth,
)
CUTS: tuple[Step, ...] = (concat, split, cut, gather, pad)
WORK: tuple[Step, ...] = (function, arithmetic, arithmetic, matmul, reduce, convolve, convolve)
NEEDS_AXES: frozenset[Step] = frozenset({concat, split, gather, pad, matmul, reduce})


def grow(seed: int, *, moves: bool) -> tuple[onnx.ModelProto, dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """A model, its inputs, its outputs as NumPy computes them, and what it does in words."""
    walk = Walk(np.random.default_rng(seed), moves)
    for index in range(1 if walk.coin(0.8) else 2):
        walk.add_input(f"x{index}", walk.draw_shape())
    if not moves and walk.coin() and 3 <= walk.values[0].array.ndim <= 5:
        convolve(walk, walk.values[0])
    for _ in range(int(walk.rng.integers(1, 7))):
        x = walk.choose()
        steps = MOVES + CUTS if moves else MOVES + CUTS + WORK * 2
        step = steps[int(walk.rng.integers(len(steps)))]
        fitting = x.array.ndim or step not in NEEDS_AXES
        if step is convolve:
            fitting = 3 <= x.array.ndim <= 5
        if step in WORK and not (x.whole and np.abs(x.array).max() < LARGEST // 64):
            continue
        if fitting:
            step(walk, x)
    outputs = {walk.values[-1].name: walk.values[-1]}
    for _ in range(walk.pick(0, 0, 1, 2)):
        extra = walk.values[int(walk.rng.integers(len(walk.values)))]
        if extra.name not in walk.inputs:
            outputs[extra.name] = extra
    if walk.values[-1].name in walk.inputs:
        identity(walk, walk.values[-1])
        outputs = {walk.values[-1].name: walk.values[-1]}
    model = walk.graph.model(*outputs)
    return model, walk.inputs, {name: value.array for name, value in outputs.items()}, "; ".join(walk.text)
