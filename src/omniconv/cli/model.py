"""Opening a model and making its inputs, for the commands that take a MODEL."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from omniconv.bench.profile import CompiledLayer, StepTime
from omniconv.cli.console import err, progress
from omniconv.cli.exits import UsageProblemError
from omniconv.errors import DataError, HostWarning, ModelError, RebuildWarning, ShapeError
from omniconv.program.element import ELEMENTS
from omniconv.records import dataclass
from omniconv.runtime.network import Network
from omniconv.runtime.saved import is_saved
from omniconv.spec import Shape

Array: TypeAlias = npt.NDArray[Any]

UNREADABLE: Final = (
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    SyntaxError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises for files that are damaged or promise more than memory holds."""


class CompiledModel(Protocol):
    """What the commands use of a compiled model."""

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """Shape of each input."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Type of each input."""

    @property
    def target(self) -> object:
        """The machine it is compiled for."""

    @property
    def threads(self) -> int:
        """Threads that share each call."""

    @property
    def threads_why(self) -> str:
        """Why so many, where nobody said how many."""

    def describe_threads(self) -> str:
        """How many and why, for a line."""

    @property
    def compile_seconds(self) -> float:
        """Time compiling took [s]."""

    @property
    def kernels(self) -> Any:
        """The distinct kernels."""

    @property
    def cached_kernels(self) -> Any:
        """Those of them that came from the cache."""

    @property
    def arena_bytes(self) -> int:
        """Memory for values between steps [bytes]."""

    @property
    def tiers(self) -> object:
        """How many nodes are compiled, folded, and left to the host."""

    @property
    def layers(self) -> Sequence[CompiledLayer]:
        """The layers as they stand in the model."""

    def run(self, inputs: dict[str, Array], /) -> dict[str, Array]:
        """Compute all outputs."""

    def profile(self, x: Any, /) -> Sequence[StepTime]:
        """Time every step."""

    def explain(self) -> str:
        """The plan in words."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input that a model declares; a size that is not fixed is its name, or empty."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


def count(value: Any) -> int:
    """A number, or how many there are."""
    return int(value) if isinstance(value, int | np.integer) else len(value)


def refuse_saved(path: Path) -> None:
    """Refuse a saved network, where a model is needed.

    Raises:
        ModelError: it is one.
    """
    if is_saved(path):
        raise ModelError(f"{path} is a saved network", need="an ONNX file", fix=f"omniconv run {path}")


def read_inputs(path: Path) -> list[ModelInput]:
    """The inputs that an ONNX file declares, without those that have a stored value.

    Raises:
        ModelError: a file that is missing or is not ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ModelError(f"{path} is not a file", need="an ONNX file")
    refuse_saved(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{path} is not a readable ONNX model ({error})", need="an ONNX file") from error
    stored = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in stored:
            continue
        tensor = value.type.tensor_type
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        except (KeyError, ValueError, TypeError):
            raise ModelError(f"input {value.name!r} of {path} has no readable type", need="a tensor") from None
        sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
        found.append(ModelInput(value.name, dtype, sizes))
    return found


def fix_shapes(inputs: Sequence[ModelInput], given: Mapping[str, Shape] | None) -> dict[str, Shape]:
    """A shape for every input: as given, else as declared with a batch of 1.

    Raises:
        UsageProblemError: a size other than the batch that neither the model nor an option gives.
    """
    shapes: dict[str, Shape] = {}
    for item in inputs:
        if given is not None and item.name in given:
            shapes[item.name] = check_shape(item, given[item.name])
            continue
        sizes = [1 if axis == 0 and isinstance(size, str) else size for axis, size in enumerate(item.shape)]
        if any(isinstance(size, str) for size in sizes):
            known = ",".join(str(size) if isinstance(size, int) else "?" for size in sizes)
            raise UsageProblemError(
                f"input {item.name!r} has sizes that the model leaves open ({known}); need --shape {item.name}={known} "
                "with numbers in place of ?"
            )
        shapes[item.name] = tuple(int(size) for size in sizes)
    return shapes


def check_shape(item: ModelInput, shape: Shape) -> Shape:
    """Check a shape against what the model declares and return it.

    Raises:
        ShapeError: another rank, or another size where the model fixes one.
    """
    declared = ",".join(str(size) if isinstance(size, int) else "?" for size in item.shape)
    if len(shape) != len(item.shape) or any(
        isinstance(size, int) and size != wanted for size, wanted in zip(item.shape, shape, strict=False)
    ):
        rule = f"{declared}, any number for ?" if "?" in declared else declared
        raise ShapeError(f"shape {shape} does not fit input {item.name!r}", need=rule)
    return shape


def random_arrays(
    inputs: Sequence[ModelInput],
    shapes: Mapping[str, Shape],
    seed: int,
    dtypes: Mapping[str, np.dtype[Any]] | None = None,
) -> dict[str, Array]:
    """Standard normal values (small non-negative ones for integer inputs), the same for the same seed.

    ``dtypes`` are those of the values, by default the declared ones.
    """
    generator = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for item in inputs:
        if item.dtype.kind == "f":
            dtype = item.dtype if dtypes is None else dtypes[item.name]
            found[item.name] = generator.standard_normal(shapes[item.name], np.float32).astype(dtype)
        else:
            found[item.name] = generator.integers(0, 2, shapes[item.name]).astype(item.dtype)
    return found


def load_arrays(path: Path, inputs: Sequence[ModelInput], dtype: np.dtype[Any] | None = None) -> dict[str, Array]:
    """Inputs from a ``.npy`` file (for a model with one input) or an ``.npz`` file (one array a name).

    ``dtype`` is that of floats, by default the declared one.

    Raises:
        DataError: a file that is missing, that NumPy cannot read without running code from it, or that lacks an input.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file", need="a .npy or .npz file with the inputs")
    try:
        loaded = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise DataError(f"{path} is not readable ({error})", need="a .npy or .npz file of plain numbers") from error
    arrays: dict[str, Array]
    if isinstance(loaded, np.ndarray):
        if len(inputs) != 1:
            names = ", ".join(item.name for item in inputs)
            raise DataError(
                f"{path} holds one array and the model has {len(inputs)} inputs", need=f"an .npz with {names}"
            )
        arrays = {inputs[0].name: loaded}
    else:
        with loaded:
            missing = [item.name for item in inputs if item.name not in loaded.files]
            if missing:
                raise DataError(f"{path} has no array {', '.join(missing)}", need="an array for each input")
            try:
                arrays = {item.name: loaded[item.name] for item in inputs}
            except UNREADABLE as error:
                raise DataError(f"{path} is not readable ({error})", need="an .npz file of plain numbers") from error
    for item in inputs:
        found = arrays[item.name].dtype
        wanted = dtype if dtype is not None and item.dtype.name in ELEMENTS and dtype > item.dtype else item.dtype
        if found != wanted:
            why = "as the model declares" if wanted == item.dtype else "as --dtype says"
            raise DataError(
                f"array {item.name} of {path} has dtype {found}",
                need=f"{wanted}, {why}",
                fix=f"x.astype(numpy.{wanted})",
            )
    return arrays


def open_model(
    path: Path,
    shapes: Mapping[str, Shape],
    threads: int | None,
    *,
    tuned: bool = False,
    dtype: str = "float32",
    precision: str = "float32",
    strict: bool = False,
    exact: bool = False,
    content: Path | bytes | None = None,
) -> CompiledModel:
    """Compile a model; what of it runs on the host is named on the error stream. ``content`` stands for the file."""
    from omniconv.api import compile as compile_model

    with _showing_warnings(path), progress(f"compiling {path.name}"):
        network = compile_model(
            content if isinstance(content, bytes) else str(path),
            shapes=dict(shapes),
            threads=threads,
            tuned=tuned,
            dtype=dtype,
            precision=precision,
            strict=strict,
            exact=exact,
        )
    return cast("CompiledModel", network)


def load_model(path: Path) -> CompiledModel:
    """Load a saved network; why it is compiled anew, if it is, is said on the error stream."""
    from omniconv.runtime.saved import load

    with _showing_warnings(path), progress(f"loading {path.name}"):
        network = load(path)
    return cast("CompiledModel", network)


@contextmanager
def _showing_warnings(path: Path) -> Iterator[None]:
    """Say on the error stream, in a line each, what belongs to a model; other warnings go on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for item in caught:
        if issubclass(item.category, HostWarning | RebuildWarning):
            err().print(f"{path.name}: {item.message}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)


def list_inputs(network: Any) -> list[ModelInput]:
    """The inputs of a compiled network; a size that is open has a name, or nothing."""
    if isinstance(network, Network):
        found = []
        for name, dims in network.signature.items():
            sizes = tuple("" if size is None else size for size in dims or ())
            if network.is_channels_last(name, len(sizes)):
                sizes = (sizes[0], *sizes[2:], sizes[1])
            found.append(ModelInput(name, network.dtypes[name], sizes))
        return found
    return [ModelInput(name, network.dtypes[name], tuple(shape)) for name, shape in network.inputs.items()]


def profile_input(arrays: Mapping[str, Array]) -> Any:
    """What ``profile`` takes: the array of the only input, or all by name."""
    return next(iter(arrays.values())) if len(arrays) == 1 else dict(arrays)
