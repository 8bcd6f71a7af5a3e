"""Every public function takes integers of any library as Python's own, and refuses what is none by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from tests.graph.small_models import Graph
from tests.integers_inside import find_foreign

import omniconv as oc
from omniconv import analysis, inspection
from omniconv.analysis.effective import effective_field, measured_field
from omniconv.bench.cost import count_executed_macs, count_macs, count_traffic
from omniconv.errors import OmniconvError
from omniconv.graph import to_partial_program, to_program
from omniconv.graph.export import export
from omniconv.kinds.registry import Kind
from omniconv.limits import memory_limit
from omniconv.report import LayerSizes
from omniconv.runtime.executable import Executable
from omniconv.runtime.threads import Team
from omniconv.spec import Axis, Conv, PixelShuffle, Resize, Shuffle, Split
from omniconv.study import StudySettings
from omniconv.tiles import TilePlan

torch = pytest.importorskip("torch")

Make = Callable[[int], Any]
Door = Callable[[Make], Any]


class Index:
    """An integer of a library nobody has heard of."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __float__(self) -> float:
        return float(self.value)


MAKES: dict[str, Make] = {
    "int8": np.int8,
    "int32": np.int32,
    "int64": np.int64,
    "uint16": np.uint16,
    "array": np.array,
    "index": Index,
    "tensor": torch.tensor,
}
SEQUENCES: dict[str, Callable[[tuple[int, ...]], Any]] = {
    "list": list, "int32 array": lambda shape: np.array(shape, np.int32), "array": np.array, "tensor": torch.tensor,
    "Size": torch.Size, "mixed": lambda shape: (shape[0], *np.array(shape[1:])),
}  # fmt: skip

SPEC = Conv.of(4, 6, 3, stride=2, padding="same")
UP = Conv.of(4, 4, 4, stride=2, padding=1, transposed=True)
CHAIN = oc.shuffled_grouped(8, 8, groups=2, form="layers", padding=1)
RNG = np.random.default_rng(0)
WEIGHTS = oc.random_weights(SPEC, RNG)
X = RNG.standard_normal((1, 4, 8, 9)).astype(np.float32)
IMAGE = RNG.standard_normal((1, 1, 5, 5)).astype(np.float32)


def convert(value: Any, make: Make) -> Any:
    """The same arguments with every integer made anew."""
    if isinstance(value, bool | str | oc.Activation | None):
        return value
    if isinstance(value, int):
        return make(value)
    if isinstance(value, Mapping):
        return {key: convert(item, make) for key, item in value.items()}
    return tuple(convert(item, make) for item in value) if isinstance(value, tuple | list) else value


def network() -> bytes:
    g = Graph()
    x = g.input("x", "n", 3, "h", "w")
    return g.model(g.node("Relu", g.conv(x, 5, 3), name="y")).SerializeToString()


NETWORK = network()


def compiled(executable: Any, x: np.ndarray) -> Any:
    """What can be compared of something compiled."""
    assert isinstance(executable, Executable)
    y = executable(x)
    kernels = [repr(call.recipe) for call in executable.plan.calls]
    return executable.inputs, executable.outputs, executable.threads, kernels, executable.plan.program.shapes, y


SHAPE_DOORS: dict[str, Callable[[Any], Any]] = {
    "Conv.output_shape": SPEC.output_shape,
    "Conv.check_input": SPEC.check_input,
    "Conv.resolve": SPEC.resolve,
    "Conv.phases": SPEC.phases,
    "Conv.count_macs": SPEC.count_macs,
    "Conv.adjoint": SPEC.adjoint,
    "Conv.text": SPEC.text,
    "Chain.shapes": lambda s: oc.Chain((SPEC, oc.Activation("relu"))).shapes(s),
    "Chain.layers": lambda s: list(oc.Chain((SPEC,)).layers(s)),
    "Chain.text": lambda s: oc.Chain((SPEC,)).text(s),
    "Split.output_shape": lambda s: Split((Conv.of(2, 2, 1), Conv.of(2, 2, 1))).output_shape(s),
    "Shuffle.output_shape": lambda s: Shuffle(2).output_shape(s),
    "plan_tiles": lambda s: planned(oc.plan_tiles(SPEC, s)),
    "PixelShuffle.output_shape": lambda s: PixelShuffle(2).output_shape(s),
    "Resize.output_shape": lambda s: Resize(2).output_shape(s),
    "cost": lambda s: oc.cost(SPEC, s),
    "receptive_field": lambda s: oc.receptive_field(UP, shape=s),
    "required_input": lambda s: oc.required_input(SPEC, [(0, 2), (1, 3)], shape=s),
    "explore": lambda s: oc.explore(SPEC, s).start.shape,
    "overlap": lambda s: oc.overlap(UP, s),
    "coverage": lambda s: oc.coverage(SPEC, shape=s),
    "connectivity": lambda s: oc.connectivity(SPEC, shape=s),
    "findings": lambda s: inspection.findings(SPEC, s),
    "effective_field": lambda s: effective_field(SPEC, shape=s).influence,
    "compile": lambda s: compiled(oc.compile(SPEC, s, WEIGHTS), X),
    "export": lambda s: export(SPEC, s, WEIGHTS).SerializeToString(),
    "bench": lambda s: (count_macs(SPEC, s), count_executed_macs(SPEC, s), count_traffic(SPEC, s)),
}
"""Public functions of a shape (1, 4, 8, 9)."""

MODEL_DOORS: dict[str, Callable[[Any], Any]] = {
    "compile": lambda s: compiled(oc.compile(NETWORK, shapes={"x": s}), np.ones((1, 3, 7, 6), np.float32)),
    "to_program": lambda s: to_program(NETWORK, shapes={"x": s}).shapes,
    "to_partial_program": lambda s: to_partial_program(NETWORK, shapes={"x": s})[0].shapes,
    "cost of a model": lambda s: oc.cost(NETWORK, shapes={"x": s}),
    "a Program": lambda s: oc.cost(to_program(NETWORK, shapes={"x": (1, 3, 7, 6)}), s),
}
"""Public functions of the shape (1, 3, 7, 6) of a model's input."""

INTEGER_DOORS: dict[str, Door] = {
    "Conv.of": lambda n: Conv.of(
        n(4),
        n(8),
        (n(3), n(1)),
        stride=n(2),
        dilation=[n(1), n(2)],
        padding=((n(1), n(0)), (n(2), n(1))),
        groups=n(2),
        dims=n(2),
    ),
    "tiled": lambda n: oc.tiled(SPEC, X, weights=WEIGHTS, tile=(n(2), n(3)), threads=n(1), level=n(0), progress=False),
    "quantize": lambda n: oc.quantize(NETWORK, X[:, :3], threads=n(1), labels=[n(0)]).SerializeToString(),
    "map": lambda n: oc.map(SPEC, [X[0]], weights=WEIGHTS, batch=n(1), threads=n(1), progress=False).results,
    "Stream": lambda n: streamed(oc.compile(SPEC, X.shape, WEIGHTS).stream(n(3), n(2))),
    "Conv.of, transposed": lambda n: Conv.of(
        n(4), n(8), n(3), stride=(n(2),), output_padding=n(1), transposed=True, padding=n(1)
    ),
    "Conv": lambda n: Conv(n(4), n(8), (n(3),), (n(2),), (n(1),), ((n(1), n(0)),), n(2)),
    "Axis": lambda n: (
        (axis := Axis(n(3), n(2), n(2), (n(1), n(0)))).phases(n(8)),
        axis.infer_output(n(8)),
        axis.infer_input(n(1), n(2)),
    ),
    "Shuffle": lambda n: (Shuffle(n(2)), Shuffle(2).source(n(4))),
    "PixelShuffle": lambda n: PixelShuffle(n(2)),
    "Resize": lambda n: Resize(n(2)),
    "Activation": lambda n: oc.Activation("clip", (("lo", n(0)), ("hi", n(6)))),
    "compile": lambda n: compiled(oc.compile(SPEC, X.shape, WEIGHTS, threads=n(2)), X),
    "profile": lambda n: len(oc.compile(SPEC, X.shape, WEIGHTS).profile(X, repeat=n(2))),
    "Team": lambda n: Team(n(2)).threads,
    "memory_limit": lambda n: memory_limit(n(100)),
    "box": lambda n: oc.required_input(SPEC, ((n(0), n(2)), (n(1), n(3))), shape=X.shape),
    "position": lambda n: oc.receptive_field(SPEC, shape=X.shape, position=(n(1), n(2))),
    "measured_field": lambda n: (
        measured_field(lambda x: x + np.roll(x, 1, -1), IMAGE, position=(n(2), n(1)), patch=n(1)).influence
    ),
    "coverage of rates": lambda n: oc.coverage([n(1), n(2), n(5)]),
    "dilated_stack": lambda n: analysis.dilated_stack([n(1), n(2)], n(3), dims=n(2), channels=n(1)),
    "find_rule": lambda n: analysis.find_rule([n(1), n(2), n(9)]),
    "suggest_rates": lambda n: analysis.suggest_rates(n(17), n(3), layers=n(4)),
    "least_layers": lambda n: analysis.least_layers(n(64), n(8)),
    "separability": lambda n: oc.separability(np.ones((4, 2, 3, 3)), groups=n(2)).errors,
    "factorise": lambda n: analysis.factorise(Conv.of(2, 3, 3), np.ones((3, 2, 3, 3)), form="spatial", rank=n(1)).spec,
    "StudySettings": lambda n: StudySettings(
        seeds=n(3), first_seed=n(2), width=n(8), epochs=n(4), decoder_steps=n(5), most_images=n(40)
    ),
    "LayerSizes": lambda n: LayerSizes(n(8), n(8), kernel_size=n(3), size=n(16), stride=n(1), groups=n(4), dims=n(2)),
}
"""Public functions of single integers."""


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, down to the type of every number."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if type(a) is not type(b):
        return False
    if is_dataclass(a):
        return all(same(getattr(a, item.name), getattr(b, item.name)) for item in fields(a))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def streamed(stream: Any) -> Any:
    """What can be compared of a stream."""
    return stream.hop, stream.latency.exact, stream.push(X[:, :, :, :5]), stream.flush()


def planned(plan: TilePlan) -> tuple[Any, ...]:
    """What can be compared of a plan of tiles: all but the network."""
    return tuple(getattr(plan, field.name) for field in fields(plan) if not field.name.startswith("_"))


def check(found: Any, again: Any) -> None:
    """What came of another library's integers, and what then comes of Python's."""
    assert not list(find_foreign(found))
    assert same(found, again)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize("door", INTEGER_DOORS.values(), ids=INTEGER_DOORS)
def test_integers(door: Door, make: Make) -> None:
    check(door(make), door(int))


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("door", SHAPE_DOORS.values(), ids=SHAPE_DOORS)
def test_shapes(door: Callable[[Any], Any], make: Callable[[tuple[int, ...]], Any]) -> None:
    check(door(make((1, 4, 8, 9))), door((1, 4, 8, 9)))


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("door", MODEL_DOORS.values(), ids=MODEL_DOORS)
def test_shapes_of_models(door: Callable[[Any], Any], make: Callable[[tuple[int, ...]], Any]) -> None:
    check(door(make((1, 3, 7, 6))), door((1, 3, 7, 6)))


@pytest.mark.sampled
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize("kind", oc.kinds().values(), ids=oc.kinds())
def test_kinds(kind: Kind, make: Make) -> None:
    for sample in kind.samples:
        check(kind.constructor(**convert(dict(sample.arguments), make)), kind.build(sample))


def test_kinds_take_arrays() -> None:
    assert oc.cross_correlation(4, 4, np.array([3, 5]), padding=np.array([[1, 1], [2, 2]])) == oc.cross_correlation(
        4, 4, (3, 5), padding=((1, 1), (2, 2))
    )
    assert oc.mixed(6, np.array([3, 5]), splits=np.array([2, 4])) == oc.mixed(6, (3, 5), splits=(2, 4))
    assert oc.causal(1, 1, 3, axes=np.array([0]), dims=2) == oc.causal(1, 1, 3, axes=(0,), dims=2)


def test_a_refused_shape_leaves_nothing_behind() -> None:
    """Sizes that no other test uses: what is asked first is what a cache keeps."""
    spec = Conv.of(3, 5, 3, padding=1, dilation=2)
    weights = oc.random_weights(spec, np.random.default_rng(1))
    f = oc.compile(spec, (1, 3, *np.array([23, 29])), weights)
    g = oc.compile(spec, (1, 3, 23, 29), weights)
    x = np.random.default_rng(2).standard_normal((1, 3, 23, 29)).astype(np.float32)
    assert np.array_equal(f(x), g(x))
    assert not list(find_foreign(f.plan))


def test_counts_do_not_overflow() -> None:
    spec = Conv.of(512, 512, 3, padding=1)
    shape = np.array([64, 512, 256, 256], np.int32)
    macs = 64 * 512 * 256 * 256 * 512 * 9
    assert spec.count_macs(shape) == oc.cost(spec, shape).macs == count_macs(spec, shape) == macs
    assert count_traffic(spec, shape)[0] > 4 * 64 * 512 * 256 * 256
    assert Axis(3, np.int32(2**16), transposed=True).infer_output(np.int32(2**20)) > 2**35


@dataclass(frozen=True)
class Argument:
    """One argument of one public function, and whether it may be left out."""

    name: str
    call: Callable[[Any], Any]
    optional: bool = False


ARGUMENTS = [
    *(
        Argument(name, lambda v, name=name: Conv.of(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, name: v}))
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups", "output_padding")
    ),
    Argument("dims", lambda v: Conv.of(4, 4, 3, dims=v), optional=True),
    *(
        Argument(name, lambda v, name=name: Conv(**{
            "in_channels": 4, "out_channels": 4, "kernel_size": (3,), "stride": (1,), "dilation": (1,),
            "padding": ((0, 0),), "groups": 1, name: v,
        }))
        for name in ("in_channels", "out_channels", "groups")
    ),
    *(
        Argument(name, lambda v, name=name: Conv(**{
            "in_channels": 4, "out_channels": 4, "kernel_size": (3,), "stride": (1,), "dilation": (1,),
            "padding": ((0, 0),), name: (v,),
        }))
        for name in ("kernel_size", "stride", "dilation", "output_padding")
    ),
    Argument("padding", lambda v: Conv(4, 4, (3,), (1,), (1,), ((0, v),))),
    Argument("kernel", Axis),
    Argument("size", lambda v: Axis(3).infer_output(v)),
    Argument("size", lambda v: Axis(3).phases(v)),
    Argument("groups", Shuffle),
    Argument("channels", lambda v: Shuffle(1).source(v)),
    Argument("factor", PixelShuffle),
    Argument("factor", Resize),
    *(
        Argument(
            key, lambda v, kind=kind, key=key: kind.constructor(**{**kind.samples[0].arguments, key: v}),
            optional=key == "dims",
        )
        for kind in oc.kinds().values()
        for key, value in kind.samples[0].arguments.items()
        if type(value) is int
    ),
    *(
        Argument("shape", lambda v, door=door: door((1, 4, v, 9)))
        for name, door in SHAPE_DOORS.items()
        if not name.endswith("text")
    ),
    *(Argument("shapes['x']", lambda v, door=door: door((1, 3, v, 6)), optional=True)  # None leaves a size open
      for name, door in MODEL_DOORS.items() if name != "a Program"),
    Argument("threads", lambda v: oc.compile(SPEC, X.shape, WEIGHTS, threads=v), optional=True),
    Argument("threads", Team),
    Argument("memory_limit", lambda v: oc.compile(SPEC, X.shape, WEIGHTS, memory_limit=v), optional=True),
    Argument("tile", lambda v: oc.plan_tiles(SPEC, X.shape, tile=(v, 2))),
    Argument("repeat", lambda v: oc.compile(SPEC, X.shape, WEIGHTS).profile(X, repeat=v)),
    Argument("box", lambda v: oc.required_input(SPEC, [(0, v), (0, 2)], shape=X.shape)),
    Argument("position", lambda v: oc.receptive_field(SPEC, shape=X.shape, position=(0, v))),
    Argument("patch", lambda v: measured_field(lambda x: x, IMAGE, patch=v)),
    Argument("rates", lambda v: analysis.dilated_stack([1, v])),
    Argument("rates", lambda v: analysis.find_rule([1, v])),
    Argument("rates", lambda v: oc.coverage([1, v])),
    Argument("size", analysis.suggest_rates),
    Argument("layers", lambda v: analysis.suggest_rates(9, layers=v), optional=True),
    Argument("channels", lambda v: analysis.least_layers(v, 2)),
    Argument("groups", lambda v: analysis.least_layers(8, v)),
    Argument("groups", lambda v: oc.separability(np.ones((4, 4, 3, 3)), groups=v)),
    Argument("rank", lambda v: analysis.factorise(Conv.of(2, 3, 3), np.ones((3, 2, 3, 3)), form="spatial", rank=v)),
    *(Argument(name, lambda v, name=name: LayerSizes(**{"in_channels": 8, "out_channels": 8, name: v}))
      for name in ("in_channels", "kernel_size", "size", "stride", "groups", "dims")),
]  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("value", [8.0, np.float32(8), "8", True, np.True_, None, -1], ids=repr)
@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda argument: argument.name)
def test_what_is_no_integer_is_refused_by_name(argument: Argument, value: Any) -> None:
    if value is None and argument.optional:
        return
    with pytest.raises(OmniconvError) as caught:
        argument.call(value)
    assert argument.name in caught.value.problem


NO_INTEGERS = {"kinds", "load", "parse", "random_weights", "reference"}
"""Public functions without integers: problem lines are text, arrays carry shapes of their own; tests/saved has those of
files."""


def test_no_door_is_forgotten() -> None:
    doors = {name.partition(".")[0].partition(",")[0] for name in (*SHAPE_DOORS, *MODEL_DOORS, *INTEGER_DOORS)}
    public = {name for name in oc.__all__ if not name.endswith(("Error", "Warning"))}
    assert public - doors - set(oc.kinds()) - NO_INTEGERS == set()
