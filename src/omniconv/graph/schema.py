"""Checks a node against ONNX's own schema of its operator: arity, attributes and element types.

What passes here can be relied on by the operators, so none of them repeats these checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import onnx.defs

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.contributed import ROUNDED
from omniconv.graph.nodes import Attribute, Node, Subgraph, shorten
from omniconv.graph.operands import Ref
from omniconv.program.element import Element
from omniconv.records import dataclass

_TYPES: Final = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "float16": "tensor(float16)",
    "bool": "tensor(bool)",
    **{f"{sign}int{bits}": f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


FLAGS: Final = frozenset(
    """align_corners allowzero antialias broadcast ceil_mode center_point_box count_include_pad detect_negative
    detect_positive exclude_outside exclusive fmod input_forget interleaved inverse is_causal is_test keepdims largest
    layout linear_before_reset noop_with_empty_axes onesided periodic reverse saturate select_last_index sorted
    storage_order training_mode transA transB upper""".split()
)
"""Attributes that say yes or no; what other integers mean is stated nowhere, and runtimes differ."""


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    required: bool
    type_name: str
    types: frozenset[str]
    homogeneous: bool


@dataclass(frozen=True, slots=True)
class _Schema:
    inputs: tuple[_Input, ...]
    variadic: bool
    arity: tuple[int, int]
    outputs: tuple[int, int]
    results: tuple[str, ...]
    attributes: dict[str, str]
    required: tuple[str, ...]


@lru_cache(maxsize=1024)
def _find(op: str, version: int, domain: str) -> _Schema | None:
    try:
        schema = onnx.defs.get_schema(op, version, "" if domain == ROUNDED else domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    single, many = onnx.defs.OpSchema.FormalParameterOption.Single, onnx.defs.OpSchema.FormalParameterOption.Variadic
    inputs = tuple(
        _Input(item.name, item.option == single, item.type_str, frozenset(item.types), item.is_homogeneous)
        for item in schema.inputs
    )
    low, high = schema.min_input, schema.max_input
    if domain == ROUNDED:  # has the scales of R behind the inputs of ONNX's
        inputs, high = (*inputs, replace(inputs[2], name="scale of R")), high + 1
    variadic = bool(schema.inputs) and schema.inputs[-1].option == many
    kinds = {name: item.type.name for name, item in schema.attributes.items()}
    required = tuple(name for name, item in schema.attributes.items() if item.required)
    return _Schema(
        inputs,
        variadic,
        (low, high),
        (schema.min_output, schema.max_output),
        tuple(item.type_str for item in schema.outputs),
        kinds,
        required,
    )


def _kind_of(value: Attribute, declared: str) -> str:
    match value:
        case bool() | int():
            return "INT"
        case float():
            return "FLOAT"
        case bytes():
            return "STRING"
        case np.ndarray():
            return "TENSOR"
        case Subgraph():
            return "GRAPH"
        case ():
            return declared if declared.endswith("S") else "empty list"
        case tuple():
            return {int: "INTS", float: "FLOATS", bytes: "STRINGS"}[type(value[0])]
    return declared if declared in ("GRAPH", "GRAPHS", "SPARSE_TENSOR", "TYPE_PROTO") else "another kind"


def exists(node: Node) -> bool:
    """Whether the operator of a node is in its opset."""
    return _find(node.op, node.version, node.domain) is not None


class Typed(Protocol):
    """A value of a type of its own: a constant, or a value on the host."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type of its elements."""


_Given = TypeVar("_Given", bound=Ref | Typed | None)


def check_node(node: Node, operands: Sequence[_Given], given: Element) -> tuple[_Given | None, ...]:
    """Check a node and its operands; returns the operands, with ``None`` appended for optional ones left out.

    Values of a program are of the type ``given``, quantised, or truths.

    Raises:
        ModelError: numbers of inputs or outputs, attributes or element types that the schema forbids.
        UnsupportedError: an operator that does not exist in this opset, or left it.
    """
    schema = _find(node.op, node.version, node.domain)
    if schema is None:
        raise UnsupportedError(
            f"{node.op} does not exist in opset {node.version}",
            need="an operator of that opset",
            fix="onnx.version_converter.convert_version(model, 17)",
        )
    for what, count, (low, high) in (
        ("inputs", len(operands), schema.arity),
        ("outputs", len(node.outputs), schema.outputs),
    ):
        if not low <= count <= high:
            raise ModelError(f"{node.op} has {count} {what}", need=f"{low} to {high}" if low != high else f"{low}")
    for key, value in node.attributes.items():
        if key not in schema.attributes:
            raise ModelError(
                f"attribute {shorten(key)!r} does not exist on {node.op} of opset {node.version}",
                need="one of " + (", ".join(sorted(schema.attributes)) or "none"),
            )
        declared = schema.attributes[key]
        if _kind_of(value, declared) != declared:
            raise ModelError(f"attribute {key} is {_kind_of(value, declared)}", need=declared)
        if key in FLAGS and value not in (0, 1):
            raise ModelError(f"attribute {key}={value!r}", need="0 or 1")
    for key in schema.required:
        if key not in node.attributes:
            raise ModelError(f"attribute {key} of {node.op} is missing", need=f"{key}, {schema.attributes[key]}")
    bound: dict[str, str] = {}
    for index, operand in enumerate(operands):
        declared_input = schema.inputs[min(index, len(schema.inputs) - 1)]
        if operand is None:
            if declared_input.required:
                raise ModelError(f"input {declared_input.name} of {node.op} is left out", need="this input")
            continue
        _check_type(node, declared_input, operand, given, bound)
    if schema.variadic:
        return tuple(operands)
    return (*operands, *(None,) * (len(schema.inputs) - len(operands)))


def check_truths(node: Node, operands: Sequence[object], results: Sequence[object]) -> None:
    """Check that results whose type is that of an input which is a truth are truths as well.

    Raises:
        UnsupportedError: an operator that takes truths for numbers, and would lose that they are none.
    """
    schema = _find(node.op, node.version, node.domain)
    if schema is None or not schema.results:
        return
    truths = {
        schema.inputs[min(index, len(schema.inputs) - 1)].type_name
        for index, item in enumerate(operands)
        if isinstance(item, Ref) and item.truth
    }
    for index, result in enumerate(results):
        name = schema.results[min(index, len(schema.results) - 1)]
        if isinstance(result, Ref) and not result.truth and name in truths:
            raise UnsupportedError(f"{node.op} of booleans", need="numbers", fix="Cast to float before it")


def _check_type(node: Node, declared: _Input, operand: Ref | Typed, given: Element, bound: dict[str, str]) -> None:
    if not isinstance(operand, Ref):
        dtype = operand.dtype.name
    elif operand.form is not None:
        dtype = operand.form.dtype
    else:
        dtype = "bool" if operand.truth else given.name
    name = _TYPES.get(dtype, dtype)
    if name not in declared.types:
        raise ModelError(
            f"input {declared.name} of {node.op} is {dtype}", need="one of " + ", ".join(sorted(declared.types))
        )
    if declared.homogeneous and bound.setdefault(declared.type_name, name) != name:
        raise ModelError(
            f"input {declared.name} of {node.op} is {name}, another input is {bound[declared.type_name]}",
            need="equal element types",
        )
