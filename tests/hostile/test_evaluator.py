"""The judge's own operators: against PyTorch, ONNX Runtime and plain sums, where the evaluator of ONNX is wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph
from tests.hostile.evaluator import OPERATORS


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    names = [info.name for info in model.graph.input]
    return ReferenceEvaluator(model, new_ops=OPERATORS).run(None, dict(zip(names, inputs, strict=True)))


def test_groups_of_a_transposed_convolution() -> None:
    torch = pytest.importorskip("torch")
    g = Graph(17)
    w, b = (g.rng.standard_normal(shape).astype(np.float32) for shape in ((6, 2, 3, 2), (6,)))
    g.node("ConvTranspose", g.input("x", 2, 6, 4, 5), g.const(w), g.const(b), name="y", group=3, strides=[2, 1])
    x = g.rng.standard_normal((2, 6, 4, 5)).astype(np.float32)
    want = torch.nn.functional.conv_transpose2d(*map(torch.from_numpy, (x, w, b)), stride=(2, 1), groups=3)
    np.testing.assert_allclose(run(g.model("y"), x)[0], want.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_what_a_loop_carries_and_scans(shape: tuple[int, ...]) -> None:
    """One value, two places: the next round reads it as it is, and the scan has an axis more."""
    infos = [
        helper.make_tensor_value_info(name, kind, sizes)
        for name, kind, sizes in (("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("s", 1, shape))
    ]
    nodes = [helper.make_node("Identity", ["go"], ["next"]), helper.make_node("Add", ["s", "s"], ["r"])]
    body = helper.make_graph(nodes, "inner", infos, [onnx.ValueInfoProto(name=name) for name in ("next", "r", "r")])
    g = Graph(16)
    last, scanned = g.node("Loop", g.const(3, np.int64), g.const(True, bool), g.input("x", *shape), count=2, body=body)
    g.node("Identity", last, name="y")
    g.node("Identity", scanned, name="z")
    x = np.asarray(g.rng.standard_normal(shape), np.float32)
    y, z = run(g.model("y", "z"), x)
    np.testing.assert_array_equal(y, 8 * x)
    np.testing.assert_array_equal(z, np.stack([2 * x, 4 * x, 8 * x]))


def test_negative_padding_cuts_off() -> None:
    g = Graph(17)
    g.node("Pad", g.input("x", 3, 5), g.ints(-1, 2, 0, -4), g.const(np.float32(7)), name="y")
    x = g.rng.standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_array_equal(run(g.model("y"), x)[0], np.pad(x[1:, :1], ((0, 0), (2, 0)), constant_values=7))


def test_lrn_sums_over_channels() -> None:
    torch = pytest.importorskip("torch")
    g = Graph(17)
    g.node("LRN", g.input("x", 2, 7, 3), name="y", size=3, alpha=0.3, beta=0.6, bias=1.5)
    x = g.rng.standard_normal((2, 7, 3)).astype(np.float32)
    want = torch.nn.functional.local_response_norm(torch.from_numpy(x), 3, 0.3, 0.6, 1.5)
    np.testing.assert_allclose(run(g.model("y"), x)[0], want.numpy(), rtol=1e-5)


@pytest.mark.parametrize(("padding", "corner"), [("zeros", 0.0), ("border", 8.0), ("reflection", np.nan)])
def test_places_far_outside_and_places_that_are_no_numbers(padding: str, corner: float) -> None:
    """Of the first nobody can make the number of a pixel; those that are outside stay there."""
    g = Graph(20)
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    far = [[np.inf, np.inf], [3e38, 1.0], [np.nan, 0.0], [0.0, 0.0]]
    places = g.const(np.reshape(far, (1, 1, 4, 2)))
    g.node("GridSample", g.input("x", 1, 1, 3, 3), places, name="y", padding_mode=padding, align_corners=1)
    np.testing.assert_array_equal(run(g.model("y"), x)[0].ravel(), np.float32([corner, corner, np.nan, 4]))


def test_lengths_and_clips_of_recurrent_layers() -> None:
    """The second sequence is one time long, and the sums before functions are at most a half."""
    g = Graph(14)
    w, r = (g.rng.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 3), (1, 4, 4)))
    g.node(
        "RNN",
        g.input("x", 2, 2, 3),
        g.const(w),
        g.const(r),
        "",
        g.const([2, 1], np.int32),
        name="y",
        hidden_size=4,
        clip=0.5,
    )
    x = g.rng.standard_normal((2, 2, 3)).astype(np.float32)
    first = np.tanh(np.clip(x[0] @ w[0].T, -0.5, 0.5))
    second = np.tanh(np.clip(x[1] @ w[0].T + first @ r[0].T, -0.5, 0.5)) * [[1], [0]]
    np.testing.assert_allclose(run(g.model("y"), x)[0][:, 0], [first, second], rtol=1e-6, atol=1e-6)
