"""ONNX tensors to NumPy arrays. Sizes are computed and compared with the data before an array exists.

External data must lie inside the model's directory after all links are resolved, and inside its file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, shorten
from omniconv.program.bfloat16 import widen
from omniconv.program.element import Element

DTYPES: Final[dict[int, np.dtype[np.generic]]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
    onnx.TensorProto.INT8: np.dtype("i1"),
    onnx.TensorProto.INT16: np.dtype("<i2"),
    onnx.TensorProto.INT32: np.dtype("<i4"),
    onnx.TensorProto.INT64: np.dtype("<i8"),
    onnx.TensorProto.UINT8: np.dtype("u1"),
    onnx.TensorProto.UINT16: np.dtype("<u2"),
    onnx.TensorProto.UINT32: np.dtype("<u4"),
    onnx.TensorProto.UINT64: np.dtype("<u8"),
    onnx.TensorProto.BOOL: np.dtype("?"),
}
"""ONNX element types that are read, and how they are stored."""
_HALVES: Final = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)

_FIELDS: Final = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.UINT32: "uint64_data",
    onnx.TensorProto.UINT64: "uint64_data",
}
_DATA: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def name_dtype(number: int) -> str:
    """ONNX's name of an element type, e.g. ``FLOAT``."""
    names = {value: key for key, value in onnx.TensorProto.DataType.items()}
    return str(names.get(number, f"type {number}"))


def number_of(element: Element) -> int:
    """ONNX's number of an element."""
    return number_of_dtype(element.dtype)


def number_of_dtype(dtype: np.dtype[Any]) -> int:
    """ONNX's number of a type of NumPy that is read."""
    return next(number for number, known in DTYPES.items() if known == dtype)


def find_dtype(number: int, at: str) -> np.dtype[np.generic]:
    """The NumPy type of an ONNX element type.

    Raises:
        UnsupportedError: strings, complex numbers, and floats and integers that NumPy does not have.
    """
    if number not in DTYPES:
        known = ", ".join(name_dtype(key) for key in DTYPES)
        raise UnsupportedError(f"element type {name_dtype(number)}", need=f"one of {known}", at=at)
    return DTYPES[number]


def read_tensor(proto: onnx.TensorProto, directory: Path | None, budget: Budget, at: str) -> AnyArray:
    """The values of ``proto`` as a read-only array.

    Args:
        proto: the tensor.
        directory: where external data may lie; ``None`` where the model did not come from a file.
        budget: the memory limit; the array is taken from it.
        at: the place for error messages.

    Raises:
        ModelError: data that contradicts the declared shape, or unsafe external data.
        LimitError: more than the memory limit.
        UnsupportedError: an element type that is not read.
    """
    at = shorten(f"{at} tensor {proto.name!r}")
    return _read_values(proto, find_dtype(proto.data_type, at), directory, budget, at)


def read_bfloat16(proto: onnx.TensorProto, directory: Path | None, budget: Budget, at: str) -> AnyArray:
    """The values of a tensor of bfloat16 as the float32 numbers that they are; see `read_tensor`."""
    at = shorten(f"{at} tensor {proto.name!r}")
    bits = _read_values(proto, np.dtype("<u2"), directory, budget, at)
    budget.take(bits.shape, np.dtype(np.float32).itemsize, at)
    return widen(bits)


def _read_values(
    proto: onnx.TensorProto, dtype: np.dtype[np.generic], directory: Path | None, budget: Budget, at: str
) -> AnyArray:
    """The values as they are stored."""
    dims = tuple(int(size) for size in proto.dims[:64])
    if any(size < 0 for size in dims):
        raise ModelError(f"dims {dims} hold a negative size", need="sizes of 0 or more", at=at)
    budget.take(dims, dtype.itemsize, at)
    count = math.prod(dims)
    if proto.HasField("segment"):
        raise UnsupportedError("a tensor stored in segments", need="whole tensors", at=at)
    sources = [field for field in _DATA if len(getattr(proto, field))]
    external = proto.data_location == onnx.TensorProto.EXTERNAL
    if proto.HasField("raw_data") and len(proto.raw_data):
        sources.append("raw_data")
    if len(sources) + external > 1:
        raise ModelError(f"data given more than once ({', '.join(sources)})", need="one kind of data", at=at)
    if external:
        return _read_external(proto, dims, dtype, directory, at)
    if not sources:
        if count:
            raise ModelError(f"dims {dims} promise {count} values and there are none", need=f"{count} values", at=at)
        return np.zeros(dims, dtype)
    if sources == ["raw_data"]:
        raw = proto.raw_data
        if len(raw) != count * dtype.itemsize:
            raise ModelError(
                f"raw_data holds {len(raw)} bytes, dims {dims} of {dtype.name} promise {count * dtype.itemsize}",
                need="equal numbers of bytes",
                at=at,
            )
        return np.frombuffer(raw, dtype).reshape(dims)
    field = _FIELDS.get(proto.data_type, "int32_data")
    if sources != [field]:
        raise ModelError(f"{name_dtype(proto.data_type)} values in {sources[0]}", need=field, at=at)
    given = getattr(proto, field)
    if len(given) != count:
        raise ModelError(
            f"{field} holds {len(given)} values, dims {dims} promise {count}", need="equal numbers of values", at=at
        )
    if proto.data_type in _HALVES:
        return np.array(given, np.int64).astype(np.uint16).view(dtype).reshape(dims)
    wide = np.array(given, np.uint64 if field == "uint64_data" else None)
    return wide.astype(dtype).reshape(dims)


def _read_external(
    proto: onnx.TensorProto, dims: tuple[int, ...], dtype: np.dtype[np.generic], directory: Path | None, at: str
) -> AnyArray:
    entries: dict[str, str] = {}
    for entry in proto.external_data[:16]:
        if entry.key in entries:
            raise ModelError(f"external data key {shorten(entry.key)!r} given twice", need="each key once", at=at)
        entries[entry.key] = entry.value
    location = entries.get("location", "")
    shown = shorten(location)
    if directory is None:
        raise ModelError(
            f"external data {shown!r} of a model that is not a file", need="the path of the model file", at=at
        )
    path = _locate(location, directory, at)
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "")
        if text and (not text.isascii() or not text.isdigit() or len(text) > 18):
            raise ModelError(f"external data {key}={shorten(text)!r}", need="a number of bytes, 0 or more", at=at)
        numbers[key] = int(text) if text else None
    size = math.prod(dims) * dtype.itemsize
    offset, length = numbers["offset"] or 0, numbers["length"]
    if length is not None and length != size:
        raise ModelError(
            f"external data length={length}, dims {dims} of {dtype.name} promise {size}", need="equal lengths", at=at
        )
    available = path.stat().st_size
    if offset + size > available:
        raise ModelError(
            f"external data {shown!r} needs bytes {offset} to {offset + size} of a file of {available}",
            need="data inside the file",
            fix="copy the whole data file next to the model",
            at=at,
        )
    if not size:
        return np.zeros(dims, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=dims)


def _locate(location: str, directory: Path, at: str) -> Path:
    shown = shorten(location)
    if not location or "\0" in location or len(location) > 4096:
        raise ModelError(f"external data location {shown!r}", need="a path relative to the model file", at=at)
    try:
        root = directory.resolve(strict=True)
        path = (root / location).resolve(strict=True)
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"external data file {shown!r} cannot be opened ({type(error).__name__})",
            need="the data file next to the model",
            at=at,
        ) from None
    if Path(location).is_absolute() or not path.is_relative_to(root):
        raise ModelError(
            f"external data {shown!r} lies outside the model's directory", need="a file inside that directory", at=at
        )
    if not is_file:
        raise ModelError(f"external data {shown!r} is not a regular file", need="a regular file", at=at)
    return path
