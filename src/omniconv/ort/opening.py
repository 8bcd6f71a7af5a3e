"""A model as a session is given it, checked: its graph, what it says of itself, and what options fix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from omniconv.errors import DataError, ModelError, OmniconvError
from omniconv.ort.failures import (
    InvalidArgument,
    InvalidProtobuf,
    ModelLoadCanceled,
    NoSuchFile,
    NotImplemented,
    fail,
    translate_load,
)
from omniconv.ort.options import SessionOptions
from omniconv.ort.signature import NodeSizes, Signature, Size, find_numpy, read_signature
from omniconv.records import dataclass
from omniconv.runtime.container import MAGIC

if TYPE_CHECKING:
    import onnx

    from omniconv.graph.load import Parsed
    from omniconv.graph.nodes import Dims, Graph, ValueInfo
    from omniconv.ort.value import AnyArray

ORT_FORMAT: Final = b"ORTM"
"""Where the files of ONNX Runtime's own format have it: bytes 4 to 8."""


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A checked model.

    Attributes:
        graph: what is to be compiled.
        signature: what it says of its boundary, with the sizes that options fix.
        dtype: what to compute in: float64 where the model has no other floats.
    """

    graph: Graph
    signature: Signature
    dtype: str


def open_model(model: Any, options: SessionOptions) -> OpenedModel:
    """Read and check a model.

    Args:
        model: a path, or the bytes of a file.
        options: of the session.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented, RuntimeException, ModelLoadCanceled: what is wrong.
        InvalidArgument: options that do not fit.
        DataError: something else than a path or bytes.
    """
    from omniconv.graph.load import check

    if options.cancelled:
        raise fail(ModelLoadCanceled, "loading was called off", need="set_load_cancellation_flag(False)")
    parsed = _parse(model)
    try:
        graph = check(parsed)
        signature = read_signature(parsed.proto, lambda dim: _fix(dim, options))
    except OmniconvError as error:
        raise translate_load(error) from error
    graph = replace_constants(graph, {name: value.array for name, value in options.initializers.items()})
    sizes = {item.name: item.sizes for item in signature.inputs}
    # Names of open sizes are labels to a session: sizes of one name need not be equal, and all come with a run.
    graph = replace(graph, inputs=tuple(replace(info, dims=_find_dims(info, sizes)) for info in graph.inputs))
    floats = {find_numpy(info.dtype) for info in graph.inputs if info.dtype in {1, 11}}
    floats |= {array.dtype for array in graph.constants.values()}
    double = np.dtype(np.float64) in floats and np.dtype(np.float32) not in floats
    return OpenedModel(graph, signature, "float64" if double else "float32")


def replace_constants(graph: Graph, values: Mapping[str, AnyArray]) -> Graph:
    """The graph with other values for some of its constants.

    Raises:
        InvalidArgument: there is no such constant, or it is of another type or shape.
    """
    if not values:
        return graph
    for name, value in values.items():
        old = graph.constants.get(name)
        if old is None:
            raise fail(InvalidArgument, f"there is no initializer {name!r}", need="the name of one of the model's")
        if (value.dtype, value.shape) != (old.dtype, old.shape):
            problem = f"initializer {name!r} is {value.dtype} of shape {value.shape}"
            raise fail(InvalidArgument, problem, need=f"{old.dtype} of shape {old.shape}, as the model has it")
    copies = {name: np.array(value, order="C") for name, value in values.items()}
    return replace(graph, constants={**graph.constants, **copies})


def _parse(model: Any) -> Parsed:
    from omniconv.graph.load import parse

    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        if isinstance(path, bytes) or "\0" in path or not Path(path).exists():
            raise fail(NoSuchFile, f"there is no file {path!r}", need="the path of an ONNX model")
        start = _peek(Path(path))
    elif isinstance(model, bytes):
        start = model[:8]
    else:
        fix = "model.SerializeToString()" if hasattr(model, "SerializeToString") else ""
        raise DataError(f"the model is a {type(model).__name__}", need="a path, or the bytes of a file", fix=fix)
    if start[4:8] == ORT_FORMAT:
        problem = "the model is in ONNX Runtime's own format, not in ONNX's"
        raise fail(NotImplemented, problem, need="the .onnx file that it was made of")
    if start == MAGIC:
        problem = "the model is a saved network, which does not say what a session tells of a model"
        raise fail(NotImplemented, problem, need="the .onnx file that it was made of", fix="omniconv.load(path)")
    try:
        parsed = parse(model)
    except ModelError as error:
        raise fail(InvalidProtobuf, error.problem, need=error.need, fix=error.fix, at=error.at) from error
    except OmniconvError as error:
        raise translate_load(error) from error
    if not parsed.proto.HasField("graph"):
        raise fail(InvalidProtobuf, "the model holds no graph", need="an ONNX model with a graph")
    return parsed


def _find_dims(info: ValueInfo, sizes: Mapping[str, NodeSizes]) -> Dims | None:
    """What is known of the sizes of an input."""
    if info.dims is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in sizes[info.name])


def _peek(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read, which is said later."""
    if not path.is_file():  # to open a pipe would wait for a writer
        return b""
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError:
        return b""


def _fix(dim: onnx.TensorShapeProto.Dimension, options: SessionOptions) -> Size:
    """A size as a model declares it; what exporters write for an unknown one is none."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None
    name = str(dim.dim_param)
    found = options.sizes.get(name) if name else None
    return options.denoted_sizes.get(str(dim.denotation), name or None) if found is None else found
