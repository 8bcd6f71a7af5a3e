"""Each pass: what it makes of a graph, and where it must not fire. Values are compared with those before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.graph.small_models import MODELS, Graph, draw_inputs, input_shapes
from tests.program_oracle import run_program

from omniconv.graph.fix_shapes import fix_shapes
from omniconv.graph.lower import lower
from omniconv.graph.memory import Budget
from omniconv.graph.program import prepare
from omniconv.program.passes import PASSES, run_passes
from omniconv.program.passes.merge_affine import merge_post
from omniconv.program.program import Program
from omniconv.program.steps import ChannelStep, ConvStep, DenseStep, MapStep, PadStep, RearrangeStep, SliceStep

X = (2, 6, 5, 5)


def before(model: Any) -> Program:
    """The program as lowered, before any pass."""
    graph = prepare(model, shapes=input_shapes(model))
    return lower(graph, fix_shapes(graph), graph.constants, Budget(1 << 30))


def optimised(g: Graph, *outputs: str) -> Program:
    """Run the passes one by one and compare the outputs after each with those before."""
    model = g.model(*outputs, shapes=None)
    program = before(model)
    inputs = draw_inputs(model)
    want = run_program(program, inputs)
    for run in PASSES:
        program = run(program)
        got = run_program(program, inputs)
        assert list(got) == list(dict.fromkeys(outputs))
        for name, value in got.items():
            np.testing.assert_allclose(value, want[name], rtol=1e-5, atol=1e-5, err_msg=run.__name__)
    return program


def kinds(program: Program) -> dict[str, int]:
    return dict(Counter(type(step).__name__ for step in program.steps))


def posts(step: Any) -> list[str]:
    return [op.activation.name if op.activation else op.op for op in step.post]


@pytest.mark.parametrize("name", MODELS)
def test_passes_keep_the_values_of_small_models(name: str) -> None:
    model = MODELS[name]()
    inputs = draw_inputs(model)
    program = before(model)
    done = run_passes(program)
    want = run_program(program, inputs)
    for key, value in run_program(done, inputs).items():
        np.testing.assert_allclose(value, want[key], rtol=1e-5, atol=1e-5)
    assert len(done.steps) <= len(program.steps)


# Batch norm and factors


@pytest.mark.parametrize("op", ["Conv", "grouped", "ConvTranspose", "Gemm", "MatMul"])
def test_affine_operations_fold_into_weights(op: str) -> None:
    g = Graph()
    channels = 4
    if op in ("Gemm", "MatMul"):
        x = g.node(op, g.input("x", 3, 6), g.random(6, channels))
        form = (channels,)
    else:
        x = g.input("x", *X)
        if op == "ConvTranspose":
            x = g.node(op, x, g.random(6, 2, 3, 3), group=2, strides=[2, 2])
        else:
            x = g.conv(x, channels, 6, group=2 if op == "grouped" else 1)
        x = g.norm(x, channels)
        form = (channels, 1, 1)
    x = g.node("Mul", x, g.random(*form))
    x = g.node("Add", g.const(0.5), x)
    x = g.node("Sub", g.random(*form), x)
    x = g.node("Div", x, g.random(*form, scale=0.1, shift=2.0))
    g.node("Relu", x, name="y")
    [step] = optimised(g, "y").steps
    assert isinstance(step, ConvStep | DenseStep)
    assert posts(step) == ["relu"]


@pytest.mark.parametrize(
    "case",
    [
        "read twice",
        "output",
        "full constant",
        "width constant",
        "broadcasts",
        "infinite",
        "overflow",
        "after activation",
    ],
)
def test_affine_operations_stay(case: str) -> None:
    g = Graph()
    batch = 1 if case == "broadcasts" else 2
    conv = g.conv(g.input("x", batch, 6, 5, 5), 6, 6)
    constants = {
        "full constant": (1, 6, 5, 5),
        "width constant": (5,),
        "broadcasts": (3, 1, 1, 1),
        "infinite": (),
        "overflow": (),
    }
    factor = g.random(*constants.get(case, (6, 1, 1)))
    if case in ("infinite", "overflow"):
        factor = g.const(np.inf if case == "infinite" else 3e38)
    source = g.node("Relu", conv) if case == "after activation" else conv
    scaled = g.node("Mul", source, factor, name="y")
    outputs = ["y"]
    if case == "read twice":
        scaled = g.node("Mul", scaled, g.node("Tanh", conv), name="z")
        outputs = ["z"]
    if case == "output":
        outputs = ["y", conv]
    model = g.model(*outputs)
    program = run_passes(before(model))
    original = next(step for step in before(model).steps if isinstance(step, ConvStep))
    kept = next(step for step in program.steps if isinstance(step, ConvStep))
    np.testing.assert_array_equal(kept.w, original.w)


# Activations


def sigmoid_gate(g: Graph, x: str) -> str:
    return g.node("Mul", x, g.node("Sigmoid", x))


def clip(g: Graph, x: str, shift: float = 3.0) -> str:
    return g.node("Clip", g.node("Add", x, g.const(shift)), g.const(0.0), g.const(6.0))


def gelu_tanh(g: Graph, x: str) -> str:
    cube = g.node("Mul", g.node("Mul", g.node("Mul", x, x), x), g.const(0.044715))
    inner = g.node("Tanh", g.node("Mul", g.node("Add", x, cube), g.const(np.sqrt(2 / np.pi))))
    return g.node("Mul", g.node("Mul", g.const(0.5), x), g.node("Add", g.const(1.0), inner))


def gelu_erf(g: Graph, x: str) -> str:
    inner = g.node("Erf", g.node("Mul", x, g.const(np.sqrt(0.5))))
    return g.node("Mul", g.node("Mul", x, g.const(0.5)), g.node("Add", inner, g.const(1.0)))


RECOGNISED: dict[str, tuple[str, Any]] = {
    "x sigmoid(x)": ("silu", sigmoid_gate),
    "sigmoid(x) x": ("silu", lambda g, x: g.node("Mul", g.node("Sigmoid", x), x)),
    "x hard_sigmoid(x)": ("hard_swish", lambda g, x: g.node("Mul", x, g.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))),
    "x clip(x + 3) / 6": ("hard_swish", lambda g, x: g.node("Div", g.node("Mul", x, clip(g, x)), g.const(6.0))),
    "x (clip(x + 3) / 6)": ("hard_swish", lambda g, x: g.node("Mul", x, g.node("Div", clip(g, x), g.const(6.0)))),
    "x / 6 clip(x + 3)": ("hard_swish", lambda g, x: g.node("Mul", g.node("Mul", x, g.const(1 / 6)), clip(g, x))),
    "clip(x + 3) / 6": ("hard_sigmoid", lambda g, x: g.node("Mul", clip(g, x), g.const(1 / 6))),
    "gelu, tanh": ("gelu_tanh", gelu_tanh),
    "gelu, erf": ("gelu", gelu_erf),
    "min(max(x, 0), 6)": ("relu6", lambda g, x: g.node("Min", g.node("Max", x, g.const(0.0)), g.const(6.0))),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_activations_are_recognised(name: str) -> None:
    activation, build = RECOGNISED[name]
    g = Graph()
    g.node("Identity", build(g, g.conv(g.input("x", *X), 4, 6)), name="y")
    [step] = optimised(g, "y").steps
    assert posts(step) == [activation]


def test_the_farthest_root_is_recognised_after_another_activation() -> None:
    g = Graph()
    x = g.node("Relu", g.conv(g.input("x", *X), 4, 6))
    g.node("Identity", sigmoid_gate(g, x), name="y")
    [step] = optimised(g, "y").steps
    assert posts(step) == ["relu", "silu"]


NOT_RECOGNISED: dict[str, Any] = {
    "x sigmoid(z)": lambda g, x, z: g.node("Mul", x, g.node("Sigmoid", z)),
    "x sigmoid(1.702 x)": lambda g, x, z: g.node("Mul", x, g.node("Sigmoid", g.node("Mul", x, g.const(1.702)))),
    "x clip(x + 3) / 5": lambda g, x, z: g.node("Div", g.node("Mul", x, clip(g, x)), g.const(5.0)),
    "x clip(x + 2.99) / 6": lambda g, x, z: g.node("Div", g.node("Mul", x, clip(g, x, 2.99)), g.const(6.0)),
    "hard sigmoid 0.2": lambda g, x, z: g.node("Mul", x, g.node("HardSigmoid", x)),
    "a constant a channel": lambda g, x, z: g.node("Mul", x, g.node("Sigmoid", g.node("Add", x, g.random(4, 1, 1)))),
    "clipped far away": lambda g, x, z: g.node("Min", sigmoid_gate(g, x), g.const(400.0)),
    "broadcast": lambda g, x, z: g.node("Mul", x, g.node("Sigmoid", g.node("ReduceMean", x, axes=[2, 3]))),
}


@pytest.mark.parametrize("name", NOT_RECOGNISED)
def test_other_expressions_are_not(name: str) -> None:
    g = Graph()
    x = g.conv(g.input("x", *X), 4, 6)
    z = g.conv("x", 4, 6)
    g.node("Identity", NOT_RECOGNISED[name](g, x, z), name="y")
    done = optimised(g, "y")
    found = [name for step in done.steps if isinstance(step, ConvStep | MapStep) for name in posts(step)]
    if name == "clipped far away":
        assert found == ["silu", "min"]
    else:
        assert not {"silu", "hard_swish", "gelu", "gelu_tanh"} & set(found), found


@pytest.mark.parametrize("op", ["Erf", "Sin"])
def test_functions_stay_steps_of_their_own_behind_a_layer(op: str) -> None:
    g = Graph()
    g.node(op, g.conv(g.input("x", *X), 4, 6), name="y")
    assert kinds(optimised(g, "y")) == {"ConvStep": 1, "MapStep": 1}


# Epilogues


def test_residual_block_is_one_step_each() -> None:
    g = Graph()
    x = g.node("Relu", g.conv(g.input("x", *X), 6, 6))
    inner = g.conv(g.node("Relu", g.conv(x, 6, 6)), 6, 6, 1)
    g.node("Relu", g.node("Add", x, inner), name="y")
    done = optimised(g, "y")
    assert kinds(done) == {"ConvStep": 3}
    assert [posts(step) for step in done.steps] == [["relu"], ["relu"], ["add", "relu"]]
    assert done.steps[-1].post[0].operand == done.steps[0].y  # type: ignore[union-attr]


def test_the_later_convolution_takes_the_addition_and_sides_are_exchanged() -> None:
    for op, post in (("Add", "add"), ("Sub", "rsub"), ("Div", "rdiv"), ("Mul", "mul"), ("Max", "max")):
        g = Graph()
        a = g.node("Exp", g.conv(g.input("x", *X), 4, 6))
        b = g.node("Exp", g.conv("x", 4, 6))
        g.node(op, a, b, name="y")
        done = optimised(g, "y")
        assert [posts(step) for step in done.steps] == [["exp"], ["exp", post]]


def test_elementwise_steps_merge() -> None:
    g = Graph()
    x = g.node("MaxPool", g.input("x", *X), kernel_shape=[2, 2])
    g.node("Tanh", g.node("Mul", g.node("Relu", x), g.random(6, 1, 1)), name="y")
    done = optimised(g, "y")
    assert kinds(done) == {"PoolStep": 1, "MapStep": 1}
    assert posts(done.steps[1]) == ["relu", "mul", "tanh"]


@pytest.mark.parametrize("case", ["read twice", "by the same step", "output", "broadcasts", "gate", "full constant"])
def test_epilogues_stay_apart(case: str) -> None:
    g = Graph()
    conv = g.conv(g.input("x", 1, 6, 5, 5), 6, 6)
    outputs = ["y"]
    match case:
        case "read twice":
            g.node("Concat", g.node("Relu", conv), conv, name="y", axis=1)
        case "by the same step":
            g.node("Add", conv, conv, name="y")
        case "output":
            g.node("Relu", conv, name="y")
            outputs = ["y", conv]
        case "broadcasts":
            g.node("Add", conv, g.input("z", 3, 6, 5, 5), name="y")
        case "gate":
            gate = g.conv(g.node("GlobalAveragePool", "x"), 6, 6, 1)
            g.node("Mul", conv, g.node("Sigmoid", gate), name="y")
        case "full constant":
            g.node("Mul", conv, g.random(1, 6, 5, 5), name="y")
    done = optimised(g, *outputs)
    first = next(step for step in done.steps if isinstance(step, ConvStep))
    assert posts(first) == []
    assert kinds(done)["MapStep"] == 1


# Constants within one step


def test_runs_of_affine_operations_join() -> None:
    g = Graph()
    x = g.node("MaxPool", g.input("x", *X), kernel_shape=[2, 2])
    x = g.norm(x, 6)
    x = g.node("Add", g.node("Mul", x, g.random(6, 1, 1)), g.random(6, 1, 1))
    x = g.node("Mul", g.node("Add", g.node("Relu", x), g.const(1.0)), g.const(1.0))
    g.node("Identity", x, name="y")
    done = optimised(g, "y")
    assert posts(done.steps[-1]) == ["mul", "add", "relu", "add"]


def test_runs_that_would_grow_do_not_join() -> None:
    g = Graph()
    x = g.node("MaxPool", g.input("x", *X), kernel_shape=[2, 2])
    x = g.node("Mul", g.node("Mul", x, g.random(6, 1, 1)), g.random(4))
    g.node("Identity", x, name="y")
    assert posts(optimised(g, "y").steps[-1]) == ["mul", "mul"]
    assert merge_post(()) == ()


def test_a_trivial_constant_that_broadcasts_leaves_a_broadcast() -> None:
    g = Graph()
    g.node("Add", g.input("x", 1, 3), g.const(np.zeros((4, 3))), name="y")
    [step] = optimised(g, "y").steps
    assert isinstance(step, MapStep)
    assert posts(step) == []


# Moves


def shuffled(g: Graph, x: str, channels: int, groups: int, perm: list[int], size: int = 5) -> str:
    split = g.node("Reshape", x, g.ints(0, groups, channels // groups, size, size))
    return g.node("Reshape", g.node("Transpose", split, perm=perm), g.ints(0, channels, size, size))


def test_shuffles_and_slices_become_channel_steps() -> None:
    g = Graph()
    x = shuffled(g, g.input("x", *X), 6, 2, [0, 2, 1, 3, 4])
    a, b = g.node("Split", x, g.ints(2, 4), count=2, axis=1)
    g.node("Slice", b, g.ints(3), g.ints(0), g.ints(1), g.ints(-2), name="y")
    g.node("Relu", a, name="z")
    done = optimised(g, "y", "z")
    assert kinds(done) == {"ChannelStep": 2, "MapStep": 1}
    sources = [step.source for step in done.steps if isinstance(step, ChannelStep)]
    assert set(sources) == {(0, 3), (5, 4)}
    assert all(step.x == "x" for step in done.steps if isinstance(step, ChannelStep))


def test_moves_that_cancel_are_removed() -> None:
    g = Graph()
    x = shuffled(g, shuffled(g, g.input("x", *X), 6, 2, [0, 2, 1, 3, 4]), 6, 3, [0, 2, 1, 3, 4])
    x = g.node("Transpose", g.node("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    g.node("Relu", x, name="y")
    assert kinds(optimised(g, "y")) == {"MapStep": 1}


@pytest.mark.parametrize("perm", [[0, 2, 1, 4, 3], [1, 0, 2, 3, 4], [0, 3, 1, 2, 4], [0, 1, 2, 4, 3]], ids=str)
def test_other_permutations_are_no_shuffles(perm: list[int]) -> None:
    g = Graph()
    g.node("Relu", shuffled(g, g.input("x", 2, 10, 5, 5), 10, 2, perm), name="y")
    done = optimised(g, "y")
    assert kinds(done) == {"RearrangeStep": 1, "MapStep": 1}


def test_slices_of_other_axes_are_no_channel_steps() -> None:
    g = Graph()
    g.node("Relu", g.node("Slice", g.input("x", *X), g.ints(1, 1), g.ints(3, 3), g.ints(1, 2)), name="y")
    assert isinstance(optimised(g, "y").steps[0], SliceStep)


def test_outputs_keep_their_moves_and_names() -> None:
    g = Graph()
    x = g.input("x", 2, 6)
    g.node("Identity", x, name="y")
    g.node("Identity", g.node("Relu", x, name="r"), name="z")
    g.node("Reshape", "r", g.ints(3, 4), name="w")
    done = optimised(g, "y", "z", "r", "w", "y")
    assert done.outputs == ("y", "z", "r", "w", "y")
    assert any(isinstance(step, RearrangeStep) for step in done.steps)


# Pads


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pads_fold_into_convolutions(mode: str) -> None:
    g = Graph(19)
    x = g.node("Pad", g.input("x", *X), g.ints(0, 0, 1, 2, 0, 0, 1, 0), mode=mode)
    g.node("Conv", x, g.random(4, 6, 3, 3), name="y", pads=[0, 1, 0, 1] if mode == "constant" else [0] * 4)
    [step] = optimised(g, "y").steps
    assert isinstance(step, ConvStep)
    assert step.spec.padding == (((1, 1), (3, 1)) if mode == "constant" else ((1, 1), (2, 0)))


@pytest.mark.parametrize("case", ["channels", "value", "pool", "transposed", "mixed", "read twice"])
def test_pads_stay(case: str) -> None:
    g = Graph()
    pads = [0, 1 if case == "channels" else 0, 1, 1, 0, 0, 1, 1]
    mode = "reflect" if case == "mixed" else "constant"
    x = g.node("Pad", g.input("x", *X), g.ints(*pads), g.const(1.0 if case == "value" else 0.0), mode=mode)
    match case:
        case "pool":
            g.node("AveragePool", x, name="y", kernel_shape=[3, 3])
        case "transposed":
            g.node("ConvTranspose", x, g.random(6, 4, 3, 3), name="y")
        case _:
            channels = 7 if case == "channels" else 6
            border = [1] * 4 if case == "mixed" else [0] * 4
            y = g.node("Conv", x, g.random(6, channels, 3, 3), pads=border)
            g.node("Concat", *([x, x] if case == "read twice" else [y]), name="y", axis=1)
            if case == "read twice":
                g.node("Relu", y, name="z")
    done = optimised(g, "y", *(["z"] if case == "read twice" else []))
    assert any(isinstance(step, PadStep) for step in done.steps)


# Dead steps


def test_dead_nodes_are_not_even_looked_at() -> None:
    g = Graph()
    x = g.input("x", *X)
    g.node("Relu", x, name="y")
    g.node("NonZero", x)
    a, _ = g.node("Split", g.node("Exp", x), g.ints(2, 4), count=2, axis=1)
    assert a
    assert kinds(optimised(g, "y")) == {"MapStep": 1}
