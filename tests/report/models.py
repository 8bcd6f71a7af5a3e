"""Models that give an analysis something to find."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Nodes one behind the other."""

    def __init__(self, channels=3, size=32, seed=0, name="x"):
        self.nodes, self.weights, self.last, self.channels = [], [], name, channels
        self.input, self.size = name, size
        self.rng = np.random.default_rng(seed)

    def add(self, op, name, *, inputs=(), domain="", **attributes):
        y = f"{name}.y"
        self.nodes.append(helper.make_node(op, [self.last, *inputs], [y], name=name, domain=domain, **attributes))
        self.last = y
        return self

    def conv(self, name, out, kernel=3, *, groups=1, dilation=1, stride=1, rank=None, relu=True):
        w = self.rng.standard_normal((out, self.channels // groups, kernel, kernel)).astype(np.float32)
        if rank is not None:
            u, s, v = np.linalg.svd(w)
            w = np.float32((u[..., :rank] * s[..., None, :rank]) @ v[..., :rank, :])
        self.weights.append(numpy_helper.from_array(w, f"{name}.w"))
        pad = dilation * (kernel - 1) // 2
        self.add(
            "Conv",
            name,
            inputs=[f"{name}.w"],
            kernel_shape=[kernel] * 2,
            pads=[pad] * 4,
            group=groups,
            dilations=[dilation] * 2,
            strides=[stride] * 2,
        )
        self.channels = out
        return self.add("Relu", f"{name}/relu") if relu else self

    def up(self, name, out, kernel=3, stride=2):
        w = self.rng.standard_normal((self.channels, out, kernel, kernel)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(w, f"{name}.w"))
        self.add("ConvTranspose", name, inputs=[f"{name}.w"], kernel_shape=[kernel] * 2, strides=[stride] * 2)
        self.channels = out
        return self

    def build(self, *domains):
        first = 3 if not self.weights else numpy_helper.to_array(self.weights[0]).shape[1]
        x = helper.make_tensor_value_info(self.input, TensorProto.FLOAT, [1, first, self.size, self.size])
        y = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.weights)
        opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
        return helper.make_model(graph, opset_imports=opsets)


def awkward():
    """Overlap, gridding, groups without a shuffle, separable kernels."""
    net = Net().conv("stem", 16, stride=2).conv("blur", 16, rank=1)
    for place in (4, 5, 6):
        net.conv(f"block{place}", 16, dilation=2)
    net.conv("grouped1", 16, 1, groups=4).conv("grouped2", 16, 3, groups=4)
    return net.conv("mix", 16, 1).up("up1", 8, 4).up("up2", 4, 3).build()


def unsupported():
    """A node that ONNX knows but this package does not, then one that nobody knows."""
    net = Net().conv("stem", 8).add("Bernoulli", "odd").conv("middle", 8)
    return net.add("Gadget", "unknown", domain="some.where").conv("lost", 4).build("some.where")


HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>",
    "<a href=\"javascript:document.title='owned'\">click</a>",
    "{{ 7 * 7 }} {% raw %} ${7*7} &lt;b&gt; $\\frac{1}{2}$ \u202e\x07",
)


def hostile():
    """Names that try to become markup, script, template or formula."""
    net = Net(name=HOSTILE[0])
    for name in HOSTILE:
        net.conv(name, 8, dilation=2)
    return net.up(HOSTILE[1] + "up", 4).build()


def save(model, path):
    onnx.save(model, str(path))
    return path
