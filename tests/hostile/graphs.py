"""Nodes and graphs in attributes, for models that are to be damaged."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

INT64, INT32, UINT8, INT8, BOOL = (
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.BOOL,
)


def graph(nodes: list[onnx.NodeProto], outputs: list[str], inputs: dict[str, int] | None = None) -> onnx.GraphProto:
    """A graph for an attribute; what enters as an integer or a bool counts steps or says whether to go on."""
    infos = [
        helper.make_tensor_value_info(name, kind, [] if kind in (INT64, BOOL) else None)
        for name, kind in (inputs or {}).items()
    ]
    return helper.make_graph(nodes, "inner", infos, [onnx.ValueInfoProto(name=name) for name in outputs])


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)
