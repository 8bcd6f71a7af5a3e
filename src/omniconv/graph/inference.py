"""ONNX's own rules for types and shapes, asked about one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnx

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.nodes import AnyArray, Node, Subgraph, shorten
from omniconv.spec import Shape

MOST_DATA: Final = 4096
"""Elements of constants that shape inference may look at."""
LISTS: Final = frozenset({onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS})
"""Types of attributes that may be of no elements."""
_PASSED_OVER: Final = {"STFT": {"onesided": 1}}
"""Attributes whose defaults ONNX's rules for shapes pass over."""


def make_type(dtype: np.dtype[Any], shape: Shape | None) -> Any:
    """ONNX's type of a tensor; ``shape=None`` where it is not known."""
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)


def read_shape(kind: Any) -> Shape | None:
    """The shape of an inferred type, where all its sizes are known."""
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    sizes = [int(dim.dim_value) if dim.HasField("dim_value") else -1 for dim in kind.tensor_type.shape.dim]
    return tuple(sizes) if all(size >= 0 for size in sizes) else None


def to_proto(node: Node) -> onnx.NodeProto:
    """The node as ONNX writes it.

    Raises:
        UnsupportedError: an attribute that was not read (a graph, a type, a sparse tensor).
        ModelError: a list of nothing that is declared as a single value.
    """
    proto = onnx.helper.make_node(node.op, node.inputs, node.outputs, domain=node.domain)
    for key, value in node.attributes.items():
        if value is None or isinstance(value, Subgraph):
            raise UnsupportedError(f"attribute {shorten(key)!r} of {node.op}", need="numbers, texts and tensors")
        if isinstance(value, np.ndarray):
            proto.attribute.append(onnx.helper.make_attribute(key, onnx.numpy_helper.from_array(value)))
        elif value == ():
            declared = _declared(node, key) or onnx.AttributeProto.INTS
            if declared not in LISTS:
                raise ModelError(f"attribute {shorten(key)!r} of {node.op} is an empty list", need="a value")
            proto.attribute.append(onnx.helper.make_attribute(key, [], attr_type=declared))
        else:
            proto.attribute.append(onnx.helper.make_attribute(key, value))
    return proto


def name_outputs(node: Node, make: Callable[[str], str]) -> Node:
    """The node as other runtimes want it: with a name for every result that its operator always has, also where nobody
    reads it, and without places of no name at the end, which ONNX Runtime's own rewrites take for values. Nothing is
    known of an operator without a schema.

    Args:
        node: the node.
        make: a new name that begins like the one it is given.
    """
    schema, names = _find_schema(node), list(node.outputs)
    if schema is not None:
        kinds = onnx.defs.OpSchema.FormalParameterOption
        optional = {place for place, one in enumerate(schema.outputs) if one.option == kinds.Optional}
        names = [name if name or at in optional else make(f"{node.label}/unread") for at, name in enumerate(names)]
    while names and not names[-1]:
        names.pop()
    return replace(node, outputs=tuple(names))


def _find_schema(node: Node) -> Any:
    """The operator's schema, or nothing."""
    try:
        return onnx.defs.get_schema(node.op, node.version, node.domain)
    except onnx.defs.SchemaError:
        return None


def _declared(node: Node, key: str) -> Any:
    """The type that the operator's schema gives an attribute, or nothing."""
    schema = _find_schema(node)
    return None if schema is None or key not in schema.attributes else schema.attributes[key].type.value


def infer(node: Node, types: Mapping[str, Any], data: Mapping[str, AnyArray]) -> Mapping[str, Any]:
    """ONNX types of the results, as far as its rule for the operator finds them.

    Args:
        node: the node.
        types: of all its inputs.
        data: constants among them; small ones are looked at.

    Raises:
        ModelError: inputs that the rule refuses.
    """
    # The rule wants a name for every result that the operator always has, also where nobody reads it.
    outputs = tuple(name or f"{' '.join(node.inputs)} unread {index}" for index, name in enumerate(node.outputs))
    written = node if node.domain else replace(node, attributes={**_PASSED_OVER.get(node.op, {}), **node.attributes})
    known = {name: onnx.numpy_helper.from_array(array) for name, array in data.items() if array.size <= MOST_DATA}
    try:
        schema = onnx.defs.get_schema(node.op, node.version, node.domain)
        opsets = [onnx.helper.make_opsetid(node.domain, node.version)]
        found: Mapping[str, Any] = onnx.shape_inference.infer_node_outputs(
            schema, to_proto(replace(written, outputs=outputs)), dict(types), known, opset_imports=opsets
        )
    except (onnx.defs.SchemaError, UnsupportedError, KeyError):
        return {}
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        TypeError,
        RuntimeError,
    ) as e:
        raise ModelError(f"ONNX's rule for {node.op} refuses its inputs: {shorten(str(e), 300)}") from None
    return found
