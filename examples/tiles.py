"""Segment an image in tiles: seams with a guessed halo, and none with the one that follows from the layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import omniconv as oc


def build_model() -> onnx.ModelProto:
    """A small U-Net: two levels down by pooling, two up by transposed convolutions, skips, and a dilated bottom."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    nodes = []

    def conv(x: str, y: str, ic: int, oc_: int, *, dilation: int = 1) -> str:
        weights[f"{y}.w"] = (rng.standard_normal((oc_, ic, 3, 3)) / np.sqrt(9 * ic)).astype(np.float32)
        pads, dilations = [dilation] * 4, [dilation] * 2
        nodes.append(helper.make_node("Conv", [x, f"{y}.w"], [f"{y}.c"], name=y, pads=pads, dilations=dilations))
        nodes.append(helper.make_node("Relu", [f"{y}.c"], [y], name=f"{y}.relu"))
        return y

    def down(x: str, y: str) -> str:
        nodes.append(helper.make_node("MaxPool", [x], [y], name=y, kernel_shape=[2, 2], strides=[2, 2]))
        return y

    def up(x: str, skip: str, y: str, ic: int, oc_: int) -> str:
        weights[f"{y}.w"] = (rng.standard_normal((ic, oc_, 2, 2)) / np.sqrt(ic)).astype(np.float32)
        nodes.append(helper.make_node("ConvTranspose", [x, f"{y}.w"], [f"{y}.t"], name=y, strides=[2, 2]))
        nodes.append(helper.make_node("Concat", [f"{y}.t", skip], [y], name=f"{y}.join", axis=1))
        return y

    one = conv("x", "one", 1, 8)
    two = conv(down(one, "half"), "two", 8, 16)
    low = conv(conv(down(two, "quarter"), "low", 16, 16), "wide", 16, 16, dilation=4)
    back = conv(up(low, two, "up2", 16, 16), "back2", 32, 16)
    last = conv(up(back, one, "up1", 16, 8), "back1", 16, 8)
    conv(last, "y", 8, 2)
    graph = helper.make_graph(
        nodes,
        "u_net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_guessed_halo(net: Any, x: Any, tile: int, halo: int) -> Any:
    """What people do: each tile with some pixels around it, of which the result is cut away again."""
    y = np.empty((1, 2, *x.shape[2:]), np.float32)
    height, width = x.shape[2:]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            up, before = min(halo, top), min(halo, left)
            part = net(np.ascontiguousarray(x[:, :, top - up : top + tile + halo, left - before : left + tile + halo]))
            y[:, :, top : top + tile, left : left + tile] = part[:, :, up:, before:][:, :, :tile, :tile]
    return y


def main() -> None:
    """Print the plan, and the largest errors of both ways against the whole image."""
    size = 256
    rows, columns = np.mgrid[:size, :size] / 20
    noise = np.random.default_rng(1).standard_normal((size, size)) / 4
    x = (np.sin(rows * columns / 6) + noise).astype(np.float32)[None, None]
    net = oc.compile(build_model(), exact=True)
    whole = net(x)

    plan = oc.plan_tiles(net, x.shape, "2MB")
    print(plan)
    print(plan.picture(48))
    y = oc.tiled(net, x, memory="2MB", progress=False)
    print(f"in {plan.tiles} tiles, halo from the layers: largest error {np.abs(y - whole).max():.3g}")
    assert np.array_equal(y, whole)
    for halo in (8, 16):
        seams = np.abs(with_guessed_halo(net, x, 64, halo) - whole)
        print(f"in tiles of 64 with a guessed halo of {halo}: largest error {seams.max():.3g}")
        assert seams.max() > 1e-3


if __name__ == "__main__":
    main()
