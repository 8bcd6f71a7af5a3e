"""`Samples`: calibration data as a network takes them, one after the other, as often as they are wanted.

Nothing is kept but what the caller gave: pictures of a folder are read anew each time.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, LimitError, ModelError, OmniconvError, ShapeError, SpecError
from omniconv.graph.nodes import Dims, ValueInfo, shorten
from omniconv.graph.tensors import find_dtype
from omniconv.integers import read_integer, read_sequence
from omniconv.limits import format_size
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.mapping.read import ImageReader
from omniconv.mapping.source import MapItem, open_source
from omniconv.quantization.execute import Array, NetworkSample
from omniconv.records import dataclass
from omniconv.reference.weights import detach

LABELS: Final = "labels"
"""The array of an .npz file that holds the class of each sample, where no input has that name."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples that can be gone through again and again.

    Attributes:
        total: how many calls of the network they make.
        labels: the class of each, where that is known.
        open: starts from the first.
        rows: samples, where a call takes several of them.
    """

    total: int
    labels: npt.NDArray[np.int64] | None
    open: Callable[[], Iterator[NetworkSample]]
    rows: int = 0

    def __iter__(self) -> Iterator[NetworkSample]:
        return self.open()


def read_samples(
    data: Any,
    inputs: Sequence[ValueInfo],
    *,
    labels: Any = None,
    preprocess: Callable[[Array], Any] | None = None,
    memory_limit: int | None = None,
    name: str = "calibration",
) -> Samples:
    """Anything that :func:`omniconv.quantize` takes as data.

    Args:
        data: as there.
        inputs: of the network.
        labels: as there.
        preprocess: as there.
        memory_limit: for one sample, and for a file of arrays [bytes].
        name: of the argument, for messages.

    Raises:
        DataError: no samples, files that cannot be read, or arrays of other types.
        ShapeError: arrays of other shapes, or inputs without elements.
        LimitError: more than the memory limit.
    """
    if not inputs:
        raise ModelError("the network has no inputs", need="inputs to calibrate")
    for info in inputs:
        if 0 in (info.dims or ()):
            raise ShapeError(
                f"the network takes {show(info.dims)}, which has an empty axis",
                need="sizes from 1",
                at=shorten(f"input {info.name!r}"),
            )
    found: Samples
    if isinstance(data, str | os.PathLike):
        path = Path(os.fspath(data))
        if path.suffix.lower() == ".npz" and not path.is_dir():
            arrays = _load_arrays(path, memory_limit)
            held = None if any(info.name == LABELS for info in inputs) else arrays.pop(LABELS, None)
            found = _of_arrays(arrays, inputs, name)
            labels = held if labels is None else labels
        else:
            found = _of_pictures(os.fspath(data), inputs, preprocess, memory_limit)
    elif isinstance(data, Mapping):
        found = _of_arrays(dict(data), inputs, name)
    elif hasattr(data, "__array__") and not isinstance(data, list | tuple):
        found = _of_arrays({_only(inputs, name).name: np.asarray(detach(data))}, inputs, name)
    else:
        found = _of_items(data, inputs, name)
    if labels is not None:
        found = replace(found, labels=_read_labels(labels, found.rows or found.total))
    return found


def _only(inputs: Sequence[ValueInfo], name: str) -> ValueInfo:
    if len(inputs) != 1:
        listed = shorten(", ".join(info.name for info in inputs))
        raise DataError(f"{name} is one array for inputs {listed}", need="an array for each input by name")
    return inputs[0]


def _read_labels(labels: Any, total: int) -> npt.NDArray[np.int64]:
    numbers = [read_integer(item) for item in read_sequence(labels) or ()]
    if len(numbers) != total or any(number is None or not 0 <= number < 2**31 for number in numbers):
        raise DataError(
            f"{len(numbers)} labels for {total} samples",
            need="one class of each, an integer from 0",
            fix="labels=[0, 3, 1]",
        )
    return np.array(numbers, np.int64)


def check_sample(sample: Mapping[str, Any], inputs: Sequence[ValueInfo], place: str) -> NetworkSample:
    """One call's arrays, of the declared types and shapes.

    Raises:
        DataError: another type, or NaN and infinities.
        ShapeError: another shape, or an input that is missing.
    """
    names = {info.name for info in inputs}
    if sample.keys() != names:
        given, wanted = (shorten(", ".join(sorted(map(str, items)))) for items in (sample.keys(), names))
        raise ShapeError(f"{place} has arrays {given or 'none'}", need=f"one for each input: {wanted}")
    found = {}
    for info in inputs:
        array = np.asarray(detach(sample[info.name]))
        at = shorten(f"input {info.name!r}")
        kind = find_dtype(info.dtype, at)
        floats = kind.kind == "f" and array.dtype.kind == "f"
        if not floats and not np.can_cast(array.dtype, kind, "safe"):
            raise DataError(f"{place} is of {array.dtype}", need=f"{kind}", fix=f"x.astype('{kind}')", at=at)
        if not _fits(array.shape, info.dims):
            raise ShapeError(
                f"{place} has shape {array.shape}", need=f"{show(info.dims)}, as the network declares", at=at
            )
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, kind)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{place} holds NaN or infinities", need="finite numbers that float32 holds", at=at)
        found[info.name] = array
    return found


def _fits(shape: tuple[int, ...], dims: Dims | None) -> bool:
    if 0 in shape:
        return False
    if dims is None:
        return True
    return len(shape) == len(dims) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(dims, shape, strict=True)
    )


def show(dims: Dims | None) -> str:
    """Declared sizes for a message."""
    return (
        "any shape"
        if dims is None
        else "(" + ", ".join(str(dim) if isinstance(dim, int) else "?" for dim in dims) + ")"
    )


def _of_arrays(arrays: Mapping[str, Any], inputs: Sequence[ValueInfo], name: str) -> Samples:
    """Arrays whose first axis counts samples; so many at once as the network declares, else one."""
    checked = {key: np.asarray(detach(value)) for key, value in arrays.items()}
    if checked.keys() != {info.name for info in inputs}:
        check_sample(checked, inputs, name)  # says which are missing
    counts, batches = {}, {}
    for info in inputs:
        array, dims = checked[info.name], info.dims
        at = shorten(f"input {info.name!r}")
        if array.dtype == object or not array.ndim:
            raise DataError(
                f"{name} is an array of {array.dtype} and shape {array.shape}", need="samples along axis 0", at=at
            )
        if not array.shape[0]:
            raise DataError(f"{name} has shape {array.shape}: no samples", need="at least one sample", at=at)
        apart = dims is not None and array.ndim == len(dims) + 1
        batch = 1 if apart or dims is None or not isinstance(dims[0] if dims else None, int) else int(str(dims[0]))
        if array.shape[0] % batch:
            raise ShapeError(
                f"{name} has {array.shape[0]} samples",
                need=f"a multiple of {batch}, which the network takes at once",
                at=at,
            )
        counts[info.name], batches[info.name] = array.shape[0] // batch, 0 if apart else batch
    if len(set(counts.values())) > 1:
        raise ShapeError(f"{name} has {counts} samples of its inputs", need="equal numbers")
    total = next(iter(counts.values()))

    def take(index: int) -> NetworkSample:
        parts = {
            key: array[index] if not batches[key] else array[index * batches[key] : (index + 1) * batches[key]]
            for key, array in checked.items()
        }
        return check_sample(parts, inputs, f"{name}[{index}]")

    take(0)
    rows = total * max(1, *batches.values())
    return Samples(total, None, lambda: (take(index) for index in range(total)), rows)


def _of_items(data: Any, inputs: Sequence[ValueInfo], name: str) -> Samples:
    """A sequence of arrays or of arrays by name, or a function that returns an iterator of them."""
    make: Callable[[], Iterable[Any]]
    if callable(data) and not isinstance(data, type):
        make = data
    elif isinstance(data, Sequence) and not isinstance(data, bytes | bytearray | memoryview):
        items = data

        def make() -> Iterable[Any]:
            return items

    else:
        raise DataError(
            f"{name} is {type(data).__name__}",
            need="a folder, an .npz file, arrays by name, a list of arrays, or a function that returns an iterator of "
            "them, as samples are gone through several times",
        )

    def start() -> Iterator[NetworkSample]:
        try:
            found = iter(make())
        except OmniconvError:
            raise
        except Exception as error:
            raise DataError(
                f"{name} raised {type(error).__name__}: {error}",
                need="a function without arguments that returns an iterator",
            ) from error
        for index, item in enumerate(found):
            place = f"{name}[{index}]"
            if isinstance(item, Mapping):
                yield check_sample(item, inputs, place)
                continue
            info = _only(inputs, place)
            array = np.asarray(detach(item))
            if info.dims is not None and array.ndim == len(info.dims) - 1:
                array = array[None]
            yield check_sample({info.name: array}, inputs, place)

    total = sum(1 for _ in start())
    if not total:
        raise DataError(f"{name} has no samples", need="at least one sample")
    return Samples(total, None, start)


def _load_arrays(path: Path, memory_limit: int | None) -> dict[str, Any]:
    """The arrays of an .npz file, whose sizes are looked at before they are read."""
    limit = find_memory_limit(memory_limit)
    at = shorten(f"file {str(path)!r}")
    with _reading(at), zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > limit:
        raise LimitError(f"arrays of {format_size(size)}", need=f"at most {format_size(limit)}", at=at)
    with _reading(at), np.load(path, allow_pickle=False) as loaded:
        return {key: loaded[key] for key in loaded.files}


@contextmanager
def _reading(at: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - damaged archives raise whatever zipfile, zlib and NumPy do
        raise DataError(
            f"the file cannot be read ({type(error).__name__}: {shorten(str(error))})",
            need="an .npz file of plain numbers",
            at=at,
        ) from None


def _of_pictures(
    source: str, inputs: Sequence[ValueInfo], preprocess: Callable[[Array], Any] | None, memory_limit: int | None
) -> Samples:
    """Images of a folder or a pattern; those in folders of their own have these as classes, in order of the names."""
    info = _only(inputs, "a folder of images")
    dims = info.dims
    if dims is None or len(dims) < 3:
        raise ShapeError(f"images for input {shorten(info.name)!r} {show(dims)}", need="an input (N, C, *spatial)")
    if isinstance(dims[0], int) and dims[0] != 1:
        raise ShapeError(f"images for {dims[0]} at once", need="a network for a batch of 1 or any, or an .npz file")
    items = list(open_source(source, None, None).items)
    channels = dims[1] if isinstance(dims[1], int) else None
    limit = find_memory_limit(memory_limit)
    reader = ImageReader(len(dims), channels, find_dtype(info.dtype, info.name), limit, None, preprocess)

    def read(item: MapItem) -> NetworkSample:
        try:
            return check_sample({info.name: reader(item.content)[None]}, inputs, f"image {item.name!r}")
        except OmniconvError as error:
            raise error.but(at=shorten(f"image {item.name!r}")) from error

    return Samples(len(items), _read_classes(items), lambda: (read(item) for item in items))


def _read_classes(items: Sequence[MapItem]) -> npt.NDArray[np.int64] | None:
    """The class of each image, where every one lies in a folder of its class: the numbers of these, or their order."""
    tops = [item.name.partition("/")[0] if "/" in item.name else "" for item in items]
    names = sorted(set(tops))
    if len(names) < 2 or "" in names:
        return None
    numbers = {
        name: int(name) if all(text.isdecimal() for text in names) else index for index, name in enumerate(names)
    }
    if max(numbers.values()) >= 2**31:
        raise SpecError("folders whose numbers are no classes", need="numbers below 2**31, or names")
    return np.array([numbers[top] for top in tops], np.int64)
