"""Plain networks of ONNX's opset 9, computed by PyTorch in float64: an oracle that shares nothing with ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch.nn import functional

Tensor = torch.Tensor
Attributes = dict[str, Any]


def _pad(x: Tensor, given: Attributes, value: float) -> Tensor:
    """x with the pads of ONNX: all beginnings, then all ends."""
    pads = given.get("pads", [0, 0, 0, 0])
    return functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value) if any(pads) else x


def _conv(given: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    strides, dilations = given.get("strides", 1), given.get("dilations", 1)
    return functional.conv2d(_pad(x, given, 0.0), w, b, strides, 0, dilations, given.get("group", 1))


def _max_pool(given: Attributes, x: Tensor) -> Tensor:
    return functional.max_pool2d(_pad(x, given, -torch.inf), given["kernel_shape"], given.get("strides", 1))


def _average_pool(given: Attributes, x: Tensor) -> Tensor:
    """Padding does not count, unless the node says so."""
    window = given["kernel_shape"], given.get("strides", 1)
    total = functional.avg_pool2d(_pad(x, given, 0.0), *window)
    counted = torch.ones_like(x) if not given.get("count_include_pad", 0) else None
    return total if counted is None else total / functional.avg_pool2d(_pad(counted, given, 0.0), *window)


def _lrn(given: Attributes, x: Tensor) -> Tensor:
    return functional.local_response_norm(x, given["size"], given["alpha"], given["beta"], given["bias"])


def _gemm(given: Attributes, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return a @ (b.T if given.get("transB", 0) else b) + c


def _softmax(given: Attributes, x: Tensor) -> Tensor:
    """Before opset 13: over all axes from the one that is given on."""
    return x.flatten(given.get("axis", 1)).softmax(-1).reshape(x.shape)


def _unsqueeze(given: Attributes, x: Tensor) -> Tensor:
    for axis in sorted(given["axes"]):
        x = x.unsqueeze(axis)
    return x


def _batch_norm(given: Attributes, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, b, eps=given.get("epsilon", 1e-5))


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv, "MaxPool": _max_pool, "AveragePool": _average_pool, "LRN": _lrn, "Gemm": _gemm,
    "Softmax": _softmax, "Unsqueeze": _unsqueeze, "BatchNormalization": _batch_norm,
    "Relu": lambda _, x: x.relu(), "Dropout": lambda _, x: x,
    "Add": lambda _, a, b: a + b, "Mul": lambda _, a, b: a * b,
    "Sum": lambda _, *items: sum(items[1:], items[0]), "Concat": lambda given, *items: torch.cat(items, given["axis"]),
    "Reshape": lambda _, x, shape: x.reshape([n or x.shape[i] for i, n in enumerate(shape.long().tolist())]),
    "Transpose": lambda given, x: x.permute(given["perm"]),
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
}  # fmt: skip


def _constant(node: NodeProto, values: dict[str, Tensor]) -> Tensor:
    value = numpy_helper.to_array(node.attribute[0].t)
    return torch.full(values[node.input[0]].long().tolist(), float(value[0]), dtype=torch.float64)


def run_torch(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The one output for the one input."""
    assert model.opset_import[0].version == 9
    values = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float64))
        for tensor in model.graph.initializer
    }
    [name] = [info.name for info in model.graph.input if info.name not in values]
    values[name] = torch.from_numpy(x)
    for node in model.graph.node:
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "ConstantOfShape":
            found = _constant(node, values)
        else:
            found = _OPERATORS[node.op_type](given, *(values[key] for key in node.input))
        values[node.output[0]] = found
    return values[model.graph.output[0].name].numpy()
