"""What a model says of itself: names, types and sizes of what enters and leaves, and who made it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.records import dataclass

if TYPE_CHECKING:
    import onnx

WORDS: Final = {
    1: ("float", "float32"), 2: ("uint8", "uint8"), 3: ("int8", "int8"), 4: ("uint16", "uint16"), 5: ("int16", "int16"),
    6: ("int32", "int32"), 7: ("int64", "int64"), 8: ("string", ""), 9: ("bool", "bool"), 10: ("float16", "float16"),
    11: ("double", "float64"), 12: ("uint32", "uint32"), 13: ("uint64", "uint64"), 14: ("complex64", "complex64"),
    15: ("complex128", "complex128"), 16: ("bfloat16", ""),
}  # fmt: skip
"""ONNX's number of an element type -> ONNX Runtime's word, and NumPy's name where there is one."""

Size: TypeAlias = int | str | None
NodeSizes: TypeAlias = tuple[Size, ...]


def name_type(number: int) -> str:
    """ONNX Runtime's words for tensors of an element type.

    Example:
        >>> name_type(1)
        'tensor(float)'
    """
    return f"tensor({WORDS[number][0] if number in WORDS else 'undefined'})"


def number_type(dtype: np.dtype[Any]) -> int:
    """ONNX's number of one of NumPy's types.

    Raises:
        UnsupportedError: it has none.
    """
    for number, (_, name) in WORDS.items():
        if name and np.dtype(name) == dtype:
            return number
    raise UnsupportedError(f"element type {dtype}", need="numbers or truth values")


def find_numpy(element: Any) -> np.dtype[Any]:
    """NumPy's type for one of NumPy's types, or a number of ONNX's.

    Raises:
        UnsupportedError: there is none.
    """
    if isinstance(element, int) and not isinstance(element, bool):
        name = WORDS.get(element, ("", ""))[1]
        if not name:
            raise UnsupportedError(f"element type {element} ({name_type(element)})", need="a type that NumPy has")
        return np.dtype(name)
    try:
        found: np.dtype[Any] = np.dtype(element)
    except (TypeError, ValueError):
        raise UnsupportedError(f"element type {element!r}", need="a type of NumPy, or a number of ONNX") from None
    number_type(found)
    return found


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input, an output or a constant: its name, its type (``tensor(float)``) and its sizes.

    A size is an integer, the name of one that is open, or ``None`` for one without a name. :attr:`shape` is a new list
    each time.
    """

    name: str
    type: str
    sizes: NodeSizes

    @property
    def shape(self) -> list[Size]:
        """The sizes."""
        return list(self.sizes)

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"


NO_VERSION: Final = 2**63 - 1
"""What ONNX Runtime gives for a model without a version."""


class ModelMetadata:
    """Who made a model, and what they wrote into it.

    Attributes:
        custom_metadata_map: whatever it is, by name.
        producer_name, graph_name, domain, description, graph_description, version: what ONNX has fields for.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.producer_name = str(model.producer_name)
        self.graph_name = str(model.graph.name)
        self.domain = str(model.domain)
        self.description = str(model.doc_string)
        self.graph_description = str(model.graph.doc_string)
        self.version = int(model.model_version) if model.HasField("model_version") else NO_VERSION
        self.custom_metadata_map = {str(item.key): str(item.value) for item in model.metadata_props}


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model says of its boundary.

    Attributes:
        inputs: what must be given.
        overridable: constants that may be given.
        outputs: what comes.
        metadata: who made it.
    """

    inputs: tuple[NodeArg, ...]
    overridable: tuple[NodeArg, ...]
    outputs: tuple[NodeArg, ...]
    metadata: ModelMetadata


OVERRIDABLE_SINCE: Final = 4
"""The version of ONNX's format since which an input with an initialiser is one that may be given; before, all of them
had to be declared so."""


def read_signature(model: onnx.ModelProto, fix: Callable[[onnx.TensorShapeProto.Dimension], Size]) -> Signature:
    """What a model says of its boundary.

    Args:
        model: as it was read.
        fix: what a size is: an integer, a name or ``None``.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [info for info in model.graph.input if info.name not in constants]
    others = [info for info in model.graph.input if info.name in constants]
    return Signature(
        _list(given, fix),
        _list(others, fix) if model.ir_version >= OVERRIDABLE_SINCE else (),
        _infer(model, _list(model.graph.output, fix), given, fix),
        ModelMetadata(model),
    )


SMALL_BYTES: Final = 1024
"""Constants above this are sizes to nobody, and left out where sizes are asked for."""


def _infer(
    model: onnx.ModelProto, outputs: tuple[NodeArg, ...], inputs: Iterable[Any], fix: Callable[[Any], Size]
) -> tuple[NodeArg, ...]:
    """The outputs with the ranks, integers and names of sizes of inputs that ONNX's rules find where none are declared.

    It is about what is shown alone: shapes that are computed with follow from the nodes, when a run has them.
    """
    if all(item.sizes and all(isinstance(size, int) for size in item.sizes) for item in outputs):
        return outputs
    import onnx

    outline = onnx.ModelProto()
    outline.ir_version = model.ir_version
    outline.opset_import.extend(model.opset_import)
    outline.functions.extend(model.functions)
    outline.graph.name = "outline"
    outline.graph.node.extend(model.graph.node)
    outline.graph.output.extend(model.graph.output)
    outline.graph.input.extend(inputs)
    for info in outline.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            size = fix(dim)
            if isinstance(size, int):
                dim.dim_value = size
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= SMALL_BYTES:
            outline.graph.initializer.append(tensor)
        else:
            outline.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    try:
        found = onnx.shape_inference.infer_shapes(outline).graph.output
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, TypeError, RuntimeError):
        return outputs
    names = {size for info in inputs for dim in info.type.tensor_type.shape.dim if isinstance(size := fix(dim), str)}
    return tuple(_merge(item, info, names) for item, info in zip(outputs, found, strict=True))


def _merge(declared: NodeArg, found: onnx.ValueInfoProto, names: Collection[str]) -> NodeArg:
    """What is declared of an output, with what was found for it."""
    sizes = [
        int(dim.dim_value) if dim.dim_value > 0 else dim.dim_param if dim.dim_param in names else None
        for dim in found.type.tensor_type.shape.dim
    ]
    known = declared.sizes or (None,) * len(sizes)
    if len(known) != len(sizes):
        return declared
    merged = tuple(
        new if old is None or (isinstance(old, str) and isinstance(new, int)) else old
        for old, new in zip(known, sizes, strict=True)
    )
    return NodeArg(declared.name, declared.type, merged)


def _list(infos: Iterable[Any], fix: Callable[[Any], Size]) -> tuple[NodeArg, ...]:
    found = []
    for info in infos:
        tensor = info.type.tensor_type
        sizes: Sequence[Size] = [fix(dim) for dim in tensor.shape.dim]
        found.append(NodeArg(str(info.name), name_type(tensor.elem_type), tuple(sizes)))
    return tuple(found)


def complete(
    outputs: Iterable[NodeArg], shapes: Mapping[str, Any], dtypes: Mapping[str, np.dtype[Any] | None]
) -> tuple[NodeArg, ...]:
    """Outputs with the sizes and types that are known since compiling.

    Args:
        outputs: as declared.
        shapes: name -> shape, ``None`` where it depends on data.
        dtypes: name -> type, the same.
    """
    found = []
    for item in outputs:
        shape, dtype = shapes.get(item.name), dtypes.get(item.name)
        sizes = item.sizes if shape is None else tuple(shape)
        found.append(NodeArg(item.name, item.type if dtype is None else name_type(number_type(dtype)), sizes))
    return tuple(found)
