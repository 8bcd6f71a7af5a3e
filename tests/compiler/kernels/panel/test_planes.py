"""Pointwise layers as they lie channels first: the numbers of channels last, whatever is around them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.machines import MACHINES, V2, V3, V4
from tests.registry.compiled import strictly

import omniconv as oc
from omniconv.compiler.code import build
from omniconv.compiler.kernels.panel.planes import in_planes
from omniconv.compiler.memory.layout import Layout, channels_last, row_major
from omniconv.compiler.planning.choice import choose, list_choices
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.gradients import compile_forward, compile_input_gradient
from omniconv.integers import ceil_div
from omniconv.program.element import find_element
from omniconv.spec import Conv

PLANES = Facts(x_rows=True, y_rows=True, planes=True)
LAYERS = [
    (Conv.of(3, 5, 1), (1, 3, 4, 7)),
    (Conv.of(17, 33, 1), (2, 17, 7, 7)),
    (Conv.of(300, 9, 1), (1, 300, 9, 5)),
    (Conv.of(16, 14, 1, dims=3), (2, 16, 3, 5, 2)),
    (Conv.of(40, 24, 1, dims=1), (3, 40, 67)),
    (Conv.of(6, 20, 1, transposed=True), (2, 6, 5, 9)),
    (Conv.of(5, 40, 1), (1, 5, 3, 4)),  # one panel, whose last vector is a part
]


def whole(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: str = "float32"):
    return [rng.integers(-4, 5, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("spec", "shape"), LAYERS, ids=[spec.text(shape) for spec, shape in LAYERS])
def test_layers_and_their_input_gradients(spec: Conv, shape: tuple[int, ...], dtype: str) -> None:
    x, w, b, dy = whole(
        np.random.default_rng(0), shape, spec.weight_shape, (spec.out_channels,), spec.output_shape(shape), dtype=dtype
    )
    matrix = w.reshape(w.shape[:2]).T if spec.transposed else w.reshape(w.shape[:2])
    forward = compile_forward(spec, shape, dtype=dtype, threads=2)
    back = compile_input_gradient(spec, shape, dtype=dtype, threads=2)
    assert {call.what for f in (forward, back) for call in f.plan.calls} <= {"planes", "copy"}
    y = strictly(forward, {"x": x, "w": w, "b": b})["y"]
    assert np.array_equal(y, np.einsum("oi,ni...->no...", matrix, x) + b.reshape(-1, *[1] * spec.dims))
    dx = strictly(back, {"dy": dy, "w": w})["dx"]
    assert np.array_equal(dx, np.einsum("oi,no...->ni...", matrix, dy))


def residual(height: int | str, width: int | str) -> onnx.ModelProto:
    """A layer with a factor for each channel, a sum with another value and an activation."""
    g = Graph(opset=17, seed=1)
    x, more = g.input("x", 2, 20, height, width), g.input("more", 2, 12, height, width)
    y = g.node("Mul", g.node("HardSwish", g.conv(x, 12, 20, 1)), g.random(12, 1, 1))
    return g.model(g.node("Relu", g.node("Add", y, more)))


def draw(height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(height)
    shapes = {"x": (2, 20, height, width), "more": (2, 12, height, width)}
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("threads", [1, 3])
def test_epilogues_have_the_bits_of_channels_last(threads: int) -> None:
    given = draw(9, 11)
    first, last = (
        oc.compile(residual(9, 11), layout=layout, threads=threads, target="x86-64-v3") for layout in ("NCHW", "NHWC")
    )
    assert [call.what for call in first.plan.calls] == ["planes"]
    assert [call.what for call in last.plan.calls] == ["panel"]
    turned = {name: np.ascontiguousarray(np.moveaxis(value, 1, -1)) for name, value in given.items()}
    (y,), (z,) = first.run(given).values(), last.run(turned).values()
    assert np.array_equal(y, np.moveaxis(z, -1, 1))


def test_images_of_any_size_share_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are independent: those of every image are the first ones of a long one."""
    line = draw(1, 1024)
    (want,) = oc.compile(residual(1, 1024)).run(line).values()
    net, compiled, compile_code = oc.compile(residual("h", "w")), list[int](), build._compile

    def count(*args: Any) -> Any:
        compiled.append(1)
        return compile_code(*args)

    for height, width in ((9, 11), (16, 16), (24, 17), (40, 2), (13, 13), (32, 32), (33, 1)):
        if height == 13:
            monkeypatch.setattr(build, "_compile", count)
        given = {
            name: value[..., : height * width].reshape(*value.shape[:2], height, width) for name, value in line.items()
        }
        (y,) = net.run(given).values()
        assert np.array_equal(y.reshape(2, 12, -1), want[..., 0, : height * width]), (height, width)
    assert not compiled


def test_where_positions_lie_side_by_side() -> None:
    shape = (2, 16, 5, 6)
    assert in_planes(row_major(shape))
    assert in_planes(Layout(shape, (9000, 500, 6, 1))), "images and channels may lie apart"
    assert not in_planes(Layout(shape, (9000, 500, 8, 1))), "rows may not"
    assert not in_planes(channels_last(shape))
    assert not in_planes(row_major((2, 16)))
    assert not in_planes(row_major((2, 16, 1, 1))), "that is channels last as well"


@pytest.mark.parametrize(
    ("spec", "shape", "facts", "reason"),
    [
        (Conv.of(16, 16, 1), (1, 16, 9, 9), Facts(x_rows=True, y_rows=True), "positions of input and result"),
        (Conv.of(16, 16, 1, stride=2), (1, 16, 9, 9), PLANES, "an output reads other positions"),
        (Conv.of(64, 64, 1, groups=2), (1, 64, 9, 9), PLANES, "2 groups"),
        (Conv.of(512, 512, 1), (1, 512, 1, 2), PLANES, "expected to take"),
    ],
)
def test_other_layers_say_why_not(spec: Conv, shape: tuple[int, ...], facts: Facts, reason: str) -> None:
    for target in (V2, V3, V4):
        choice = choose(Problem.of(spec, shape), target, facts)
        assert choice.family.name != "planes"
        assert any(why.startswith(f"planes: {reason}") for why in choice.rejected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_machine_has_tiles_however_long_its_lines_are(dtype: str) -> None:
    problem = replace(Problem.of(Conv.of(128, 128, 1), (1, 128, 56, 56)), rows=True)
    for target in (each.of(find_element(dtype)) for each in MACHINES.values()):
        texts = [text for items in list_choices(problem, target) for text, _ in items]
        assert choose(problem, target, PLANES).tile.text() in texts
        assert any(text.startswith("planes ") for text in texts), target


def test_tiles_are_lines_and_units_are_enough() -> None:
    for target, vectors in ((V2, 4), (V3, 2), (V4, 1)):
        choice = choose(Problem.of(Conv.of(128, 128, 1), (1, 128, 56, 56)), target, PLANES)
        assert choice.tile.vectors % vectors == 0
        assert choice.tile.block * choice.tile.rows >= 128, "each column is copied once"
        few = choose(Problem.of(Conv.of(128, 512, 1), (1, 128, 7, 7)), target, PLANES).tile
        panels = ceil_div(49, few.vectors * target.lanes)
        assert panels * ceil_div(ceil_div(512, few.rows), few.block) >= 16
