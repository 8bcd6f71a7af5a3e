"""Plans of one network for images of many sizes: same bits as plans for one size, shared machine code and weights."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.compiler.code.opened import OpenKernel
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.planning import shared as shared_module
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.compiler.planning.shared import Shared
from omniconv.graph import to_program
from omniconv.kinds import kinds
from omniconv.program.element import FLOAT64
from omniconv.program.from_spec import program_of
from omniconv.program.steps import ConvStep
from omniconv.reference import random_weights
from omniconv.runtime.arena import PAGE
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv
from omniconv.target.select import select_target

TARGET = select_target(None)


def vary(shape, rng, count):
    """The shape, and others of the same rank and channels."""
    yield shape
    for _ in range(count):
        sizes = (max(1, size + int(rng.integers(-3, 20))) for size in shape[2:])
        yield (int(rng.integers(1, 4)), shape[1], *sizes)


def agree(program_for, shapes, options, target=TARGET):
    """Every size gives the bits of a plan of its own; returns the executables."""
    shared, found = Shared(), []
    for shape in shapes:
        program = program_for(shape)
        x = {
            name: np.random.default_rng(sum(shape)).standard_normal(program.shapes[name]).astype(program.element.dtype)
            for name in program.inputs
        }
        if options.layout == "NHWC":
            x = {name: np.ascontiguousarray(np.moveaxis(value, 1, -1)) for name, value in x.items()}
        alone = Executable(plan(program, target, options), threads=options.threads, layout=options.layout)
        open_ = Executable(
            plan(program, target, options, shared), threads=options.threads, layout=options.layout, shared=shared
        )
        for name, want in alone.run(x).items():
            np.testing.assert_array_equal(open_.run(x)[name], want, err_msg=f"{shape} {name}")
        found.append(open_)
    return found


@pytest.mark.parametrize("name", sorted(kinds()))
@pytest.mark.parametrize("more", [False, pytest.param(True, marks=pytest.mark.wide)])
def test_every_kind(name, more):
    kind, rng = kinds()[name], np.random.default_rng(len(name))
    for number, sample in enumerate(kind.samples if more else kind.samples[:1]):
        spec = kind.build(sample)
        weights = random_weights(spec, rng)

        def program(shape, spec=spec, weights=weights):
            return program_of(spec, shape, weights, TARGET.element)

        fitting = [shape for shape in vary(sample.shape, rng, 2) if _fits(spec, shape)]
        agree(program, fitting, Options(threads=1 + number % 3 // 2))


def _fits(spec, shape):
    try:
        spec.output_shape(shape)
    except ValueError:
        return False
    return True


def detector():
    """A network with a stem, depthwise and dense layers, gates, pools, a neck of resized sums, transposed layers."""
    g = Graph(opset=17, seed=5)
    x = g.input("x", "n", 3, "h", "w")
    x = g.node("HardSwish", g.conv(x, 16, 3, strides=[2, 2]))
    y = g.node("Relu", g.conv(x, 16, 16, group=16))
    gate = g.conv(g.node("Relu", g.conv(g.node("GlobalAveragePool", y), 8, 16, 1)), 16, 8, 1)
    y = g.node("Mul", y, g.node("HardSigmoid", gate))
    c1 = g.node("Add", x, g.conv(y, 16, 16, 1))
    y = g.node("Relu", g.conv(c1, 48, 16, 1))
    y = g.node("Clip", g.conv(y, 48, 48, 5, group=48, strides=[2, 2]), g.const(0.0), g.const(6.0))
    c2 = g.conv(y, 24, 48, 1)
    c3 = g.node("MaxPool", c2, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c3 = g.node("AveragePool", c3, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    up = g.node("Resize", g.conv(c3, 24, 24, 3), "", g.const([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    up = g.node("Slice", up, g.ints(0, 0), g.node("Slice", g.node("Shape", c2), g.ints(2), g.ints(4)), g.ints(2, 3))
    neck = g.node("Add", g.conv(c2, 24, 24, 1), up)
    neck = g.node("Relu", g.conv(neck, 24, 24, 3))
    y = g.node("ConvTranspose", neck, g.random(24, 8, 2, 2, scale=0.2), g.random(8), strides=[2, 2])
    g.node("Sigmoid", g.conv(y, 1, 8), name="y")
    g.node("Softmax", g.node("Flatten", g.node("GlobalMaxPool", c3)), name="z")
    return g.model("y", "z")


SIZES = [
    (1, 3, 64, 96),
    (1, 3, 32, 32),
    (2, 3, 96, 64),
    (1, 3, 160, 128),
    (1, 3, 36, 52),
    (3, 3, 8, 12),
    (1, 3, 33, 47),
]


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        pytest.param(Options(threads=2, layout="NHWC"), marks=pytest.mark.wide),
        pytest.param(Options(exact=True), marks=pytest.mark.wide),
    ],
)
def test_a_network(options):
    model = detector()
    sizes = SIZES[:2] if options == Options() else SIZES
    found = agree(lambda shape: to_program(model, shapes={"x": shape}), sizes, options)
    recipes = {call.recipe for call in found[0].plan.calls}
    assert sum(isinstance(recipe, OpenKernel) for recipe in recipes) >= 15


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        pytest.param(
            Conv.of(32, 24, 5, padding=2),
            [(1, 32, 28, 31), (2, 32, 25, 19), (1, 32, 40, 23)],
            id="5x5",
            marks=pytest.mark.wide,
        ),
        pytest.param(
            Conv.of(32, 48, (1, 7), padding=((0, 0), (3, 3))),
            [(1, 32, 17, 43), (1, 32, 20, 31), (3, 32, 9, 50)],
            id="1x7",
            marks=pytest.mark.wide,
        ),
        pytest.param(
            Conv.of(32, 48, 4, padding=1, stride=2),
            [(1, 32, 44, 40), (1, 32, 41, 47), (2, 32, 30, 33)],
            id="strided",
            marks=pytest.mark.wide,
        ),
        pytest.param(
            Conv.of(32, 24, 4, padding=1, stride=2, transposed=True),
            [(1, 32, 16, 17), (2, 32, 9, 20)],
            id="transposed",
        ),
        pytest.param(
            Conv.of(16, 24, 3, padding=1, dims=3),
            [(1, 16, 8, 15, 17), (1, 16, 11, 18, 13), (2, 16, 5, 9, 21)],
            id="3-D",
            marks=pytest.mark.wide,
        ),
    ],
)
def test_filtered_layers(spec, shapes):
    weights, target = random_weights(spec, np.random.default_rng(0)), select_target("x86-64-v2")
    found = agree(lambda shape: program_of(spec, shape, weights), shapes, Options(), target)
    assert any(call.what == "winograd_output" for f in found for call in f.plan.calls)


@pytest.mark.wide
def test_bits_do_not_depend_on_the_sizes_before():
    model = detector()
    agree(lambda shape: to_program(model, shapes={"x": shape}), SIZES[::-1], Options())


@pytest.mark.wide
def test_float64():
    agree(
        lambda shape: to_program(detector(), shapes={"x": shape}, element=FLOAT64),
        SIZES[:3],
        Options(),
        TARGET.of(FLOAT64),
    )


def test_machine_code_and_weights_are_shared():
    spec = Conv.of(24, 32, 3, padding=1)
    weights = random_weights(spec, np.random.default_rng(0))
    shapes = [(1, 24, 40, 56), (1, 24, 48, 64), (1, 24, 64, 40)]
    found = agree(lambda shape: program_of(spec, shape, weights, TARGET.element), shapes, Options(exact=True))
    codes = [{kernel.address for kernel in each._code} for each in found]
    assert codes[0] == codes[1] == codes[2]
    first, second, third = ({block.address for block in each._blocks} for each in found)
    assert len(first & second & third) == 2, "weights and bias"


def test_equal_layers_read_their_sizes_in_one_place():
    g = Graph()
    x = g.conv(g.input("x", 1, 8, 20, 24), 16, 8)
    for _ in range(3):
        x = g.node("Relu", g.conv(x, 16, 16))
    found = plan(to_program(g.model(g.conv(x, 8, 16))), TARGET, Options(exact=True), Shared())
    layers = [call for call in found.calls if call.decision is not None]
    assert len(layers) == 5
    assert len({call.args[-1] for call in layers[1:4]}) == 1
    assert len({call.args[-1] for call in layers}) == 3
    table = found.buffers[layers[0].args[-1].buffer].make()
    first, step = layers[1].args[-1].offset, 8 // TARGET.element.bytes
    sizes = table[first // step :][: len(table) // 3].tolist()
    assert {20, 24} <= set(sizes)


def test_weights_are_hashed_and_packed_once(monkeypatch):
    """Of three sizes of a network the first one alone works on its weights."""
    hashed, packed = [], []
    pack, hashes = Panel.pack_weights, shared_module.hash_array
    monkeypatch.setattr(Panel, "pack_weights", lambda self, w, **how: packed.append(1) or pack(self, w, **how))
    monkeypatch.setattr(shared_module, "hash_array", lambda array: hashed.append(1) or hashes(array))
    g = Graph(seed=2)
    x = g.node("Relu", g.norm(g.conv(g.input("x", 1, 3, "h", "w"), 24, 3), 24))
    g.conv(g.node("Relu", g.norm(g.conv(x, 32, 24, 1), 32)), 8, 32, 1)
    model = g.model(g.nodes[-1].output[0])
    net, kept = oc.compile(model, exact=True), []
    for size in (24, 40, 33):
        kept.append(net.fix({"x": (1, 3, size, size)}))
        assert (len(hashed), len(packed)) == (6, 3), "three layers, each with weights and bias"


def test_what_is_said_of_arrays_goes_with_them():
    asked = []
    hash_of = shared_module._OfArrays(lambda array: asked.append(1) or shared_module.hash_array(array))
    weights = [np.ones((4, 4, 1), np.float32), np.ones((4, 4, 1), np.float32)]
    step = ConvStep("x", "y", Conv.of(4, 4, 1, dims=1), weights[0])
    digest = shared_module._hash_step(step, hash_of)
    assert digest == shared_module._hash_step(step, hash_of)
    assert len(asked) == 1
    assert digest == shared_module._hash_step(replace(step, w=weights[1]), hash_of)
    assert digest != shared_module._hash_step(replace(step, w=2 * weights[0]), hash_of)
    del step
    weights.clear()
    gc.collect()
    assert not hash_of._found


def test_sizes_compute_in_the_same_memory():
    """Where many sizes come one after the other, each would pay for fresh pages."""
    net = oc.compile(detector())
    sizes = SIZES[:2]
    first = [net.fix({"x": shape}) for shape in sizes]
    images = [np.random.default_rng(7).standard_normal(shape).astype(np.float32) for shape in sizes]
    results = [each.run({"x": image}) for each, image in zip(first, images, strict=True)]
    largest = max(each.arena_bytes for each in first)
    assert {id(each._pool) for each in first} == {id(first[0]._pool)}
    assert largest <= first[0]._pool.size < largest + 2 * PAGE
    for shape, image, got in zip(sizes, images, results, strict=True):
        want = oc.compile(detector(), shapes={"x": shape}).run({"x": image})
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-4)


def test_weights_of_a_shuffled_value_are_packed_in_another_order():
    """Two layers with the same numbers, of which one reads its input channels in another order."""
    g = Graph(seed=3)
    w = g.random(16, 32, 1, 1)
    y = g.node("Relu", g.node("Conv", g.input("x", "n", 32, "h", "w"), g.random(32, 32, 1, 1)))
    shape = g.node("Shape", y)
    ends = [g.node("Slice", shape, g.ints(first), g.ints(last)) for first, last in ((0, 1), (2, 4))]
    parts = g.node("Concat", ends[0], g.ints(4, 8), ends[1], axis=0)
    turned = g.node("Transpose", g.node("Reshape", y, parts), perm=[0, 2, 1, 3, 4])
    g.node("Conv", y, w, name="a")
    g.node("Conv", g.node("Reshape", turned, shape), w, name="b")
    model = g.model("a", "b")
    shapes = [(1, 32, 8, 12), (1, 32, 10, 6)]
    agree(lambda shape: to_program(model, shapes={"x": shape}), shapes, Options(exact=True))


def test_explain_says_so():
    model = detector()
    shared = Shared()
    program = to_program(model, shapes={"x": SIZES[0]})
    assert "for images of any size" in Executable(plan(program, TARGET, Options(), shared), shared=shared).explain()
    assert "for images of any size" not in Executable(plan(program, TARGET, Options())).explain()


def test_weights_are_known_by_their_content():
    """Two networks that differ in nothing but their numbers never get one another's."""
    spec, shared = Conv.of(24, 32, 3, padding=1), Shared()
    for seed in (0, 1, 0):
        weights = random_weights(spec, np.random.default_rng(seed))
        program = program_of(spec, (1, 24, 20, 20), weights, TARGET.element)
        x = np.random.default_rng(9).standard_normal((1, 24, 20, 20)).astype(np.float32)
        want = Executable(plan(program, TARGET, Options(exact=True)))(x)
        executable = Executable(plan(program, TARGET, Options(exact=True), shared), shared=shared)
        np.testing.assert_array_equal(executable(x), want)
    assert len(shared.packed) == 2, "only what some executable uses is kept"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_plans():
    """Nobody in the child will ever free a lock that a thread of its parent holds."""
    shared, held, done = Shared(), threading.Event(), threading.Event()

    def hold():
        with shared.lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if not child:
        os._exit(0 if shared.lock.acquire(timeout=10) else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
