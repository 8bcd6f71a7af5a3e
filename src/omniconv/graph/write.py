"""A checked `Graph` as the bytes of an ONNX model that reads as the same graph again.

Constants of the outermost graph are inputs of the model, so that their numbers can be kept elsewhere: reading it with
``prepare(model, constants=...)`` gives the graph. Of an attribute that nothing reads it is kept that it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import onnx

from omniconv.errors import UnsupportedError
from omniconv.graph.inference import to_proto
from omniconv.graph.nodes import AnyArray, Graph, Node, Subgraph, ValueInfo, shorten
from omniconv.graph.tensors import number_of_dtype

_IR: Final = 8


def write_graph(graph: Graph) -> bytes:
    """The bytes.

    Raises:
        UnsupportedError: nodes of one domain from several opsets, or a description above 2 GB.
    """
    constants = [ValueInfo(name, array.shape, number_of_dtype(array.dtype)) for name, array in graph.constants.items()]
    proto = _write(graph.nodes, (*graph.inputs, *constants), graph.outputs, {})
    opsets: dict[str, int] = {"": onnx.defs.onnx_opset_version()}
    found: dict[str, int] = {}
    for node in _walk(graph.nodes):
        if found.setdefault(node.domain, node.version) != node.version:
            raise UnsupportedError(
                f"nodes of opsets {found[node.domain]} and {node.version}",
                need="one opset for each domain",
                at=node.place,
            )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in (opsets | found).items()]
    model = onnx.helper.make_model(proto, opset_imports=imports, ir_version=_IR)
    try:
        return bytes(model.SerializeToString())
    except ValueError as error:
        raise UnsupportedError(f"the nodes cannot be written: {shorten(str(error))}", need="less than 2 GB") from None


def _walk(nodes: Sequence[Node]) -> list[Node]:
    """All nodes, those of graphs in attributes included."""
    found: list[Node] = []
    for node in nodes:
        found.append(node)
        for value in node.attributes.values():
            if isinstance(value, Subgraph):
                found += _walk(value.nodes)
    return found


def _write(
    nodes: Sequence[Node], inputs: Sequence[ValueInfo], outputs: Sequence[ValueInfo], constants: Mapping[str, AnyArray]
) -> onnx.GraphProto:
    return onnx.helper.make_graph(
        [_write_node(node) for node in nodes],
        "graph",
        [_write_info(info) for info in inputs],
        [_write_info(info) for info in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )


def _write_info(info: ValueInfo) -> onnx.ValueInfoProto:
    if not info.dtype and info.dims is None:  # a declaration inside an attribute's graph that says but the name
        return onnx.ValueInfoProto(name=info.name)
    found: onnx.ValueInfoProto = onnx.helper.make_tensor_value_info(info.name, info.dtype, info.dims)
    return found


def _write_node(node: Node) -> onnx.NodeProto:
    plain = {key: value for key, value in node.attributes.items() if not (value is None or isinstance(value, Subgraph))}
    proto = to_proto(replace(node, attributes=plain))
    proto.name = node.name
    for key, value in node.attributes.items():
        if isinstance(value, Subgraph):
            inner = _write(value.nodes, value.inputs, value.outputs, value.constants)
            proto.attribute.append(onnx.helper.make_attribute(key, inner))
        elif value is None:
            proto.attribute.append(onnx.AttributeProto(name=key, type=onnx.AttributeProto.TYPE_PROTO))
    return proto
