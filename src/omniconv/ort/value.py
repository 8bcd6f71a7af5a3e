"""`OrtValue`: an array in the form that code written for ONNX Runtime hands around, and `OrtDevice`, where it lies."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, UnsupportedError
from omniconv.integers import as_integer, as_integers
from omniconv.limits import check_memory
from omniconv.ort.failures import InvalidArgument, NotImplemented, fail, translate_run
from omniconv.ort.signature import find_numpy, name_type, number_type

AnyArray: TypeAlias = npt.NDArray[Any]


class OrtDevice:
    """Where values lie: always in the memory of the CPU."""

    def __init__(self, device_id: int = 0) -> None:
        self._id = device_id

    @classmethod
    def make(cls, name: Any, device_id: int = 0, vendor_id: int = -1) -> OrtDevice:
        """The device of a name.

        Raises:
            NotImplemented: it is not the CPU.
        """
        del vendor_id
        if not isinstance(name, str) or name.lower() != "cpu":
            raise fail(NotImplemented, f"device {name!r}", need="'cpu'")
        return cls(device_id)

    @staticmethod
    def cpu() -> int:
        """The number of this kind of device."""
        return 0

    @staticmethod
    def default_memory() -> int:
        """The number of this kind of memory."""
        return 0

    def device_type(self) -> int:
        """The number of this kind of device."""
        return 0

    def device_id(self) -> int:
        """Which of the devices of this kind."""
        return self._id

    def device_mem_type(self) -> int:
        """The number of this kind of memory."""
        return 0

    def device_vendor_id(self) -> int:
        """Nobody's."""
        return 0


class OrtValue:
    """An array: what sessions are given and return, and may write into.

    Example:
        >>> value = OrtValue.ortvalue_from_numpy(np.zeros((2, 3), np.float32))
        >>> value.data_type(), value.shape(), value.device_name()
        ('tensor(float)', [2, 3], 'cpu')
    """

    def __init__(self, array: AnyArray) -> None:
        try:
            self._number = number_type(array.dtype)
        except UnsupportedError as error:
            raise translate_run(error) from error
        self.array = array

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: AnyArray, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """The array itself, where it is contiguous; else a copy."""
        OrtDevice.make(device_type, device_id, vendor_id)
        if not isinstance(numpy_obj, np.ndarray):
            raise DataError(f"the value is a {type(numpy_obj).__name__}", need="a NumPy array")
        return cls(np.asarray(numpy_obj, order="C"))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: AnyArray, /, onnx_element_type: int) -> OrtValue:
        """The array itself, which must be of this type: there is none that NumPy does not have.

        Raises:
            NotImplemented: it would be read as another type.
        """
        found = cls.ortvalue_from_numpy(data)
        if found.element_type() != onnx_element_type:
            wanted = name_type(onnx_element_type)
            raise fail(NotImplemented, f"{found.data_type()} as {wanted}", need="an array of the type itself")
        return found

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: None = None,
    ) -> OrtValue:
        """Zeros.

        Raises:
            InvalidArgument: sizes below 0.
            RuntimeException: more memory than allowed.
        """
        if memory_info is not None:
            raise fail(NotImplemented, "memory_info", need="memory of the CPU, by device_type='cpu'")
        OrtDevice.make(device_type, device_id, vendor_id)
        try:
            dtype = find_numpy(element_type)
            sizes = as_integers("shape", shape, 0, error=InvalidArgument)
            check_memory(math.prod(sizes) * dtype.itemsize, "the value")
        except (UnsupportedError, MemoryError) as error:
            raise translate_run(error) from error  # type: ignore[arg-type]
        return cls(np.zeros(sizes, dtype))

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """A value over the memory of an object with ``__dlpack__``, such as a tensor of PyTorch."""
        if not hasattr(data, "__dlpack__"):
            raise DataError(f"the value is a {type(data).__name__}", need="an object with __dlpack__")
        try:
            return cls.ortvalue_from_numpy(np.from_dlpack(data))
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            problem = f"the value cannot be read as a NumPy array: {error}"
            raise fail(InvalidArgument, problem, need="an array in host memory") from error

    @classmethod
    def ort_value_from_sparse_tensor(cls, sparse_tensor: Any) -> NoReturn:
        """Not possible.

        Raises:
            NotImplemented: always.
        """
        raise fail(NotImplemented, f"a sparse tensor ({type(sparse_tensor).__name__})", need="a dense one")

    def numpy(self) -> AnyArray:
        """The array itself."""
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        wanted = self.array.dtype if dtype is None else np.dtype(dtype)
        if copy is False and wanted != self.array.dtype:
            raise ValueError(f"{self.array.dtype} is no {wanted}; need a copy")
        return self.array.astype(wanted, copy=bool(copy))

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def update_inplace(self, data: AnyArray | OrtValue) -> None:
        """Write other numbers of the same type and shape into the array.

        Raises:
            InvalidArgument: they do not fit.
        """
        new = data.array if isinstance(data, OrtValue) else data
        if not isinstance(new, np.ndarray):
            raise DataError(f"data is a {type(data).__name__}", need="a NumPy array or an OrtValue")
        if new.dtype != self.array.dtype or new.shape != self.array.shape:
            problem = f"data is {new.dtype} of shape {new.shape}"
            raise fail(InvalidArgument, problem, need=f"{self.array.dtype} of shape {self.array.shape}")
        if not self.array.flags.writeable:
            raise fail(InvalidArgument, "the value lies in memory that is not to be written to", need="a copy of it")
        self.array[...] = new

    def data_ptr(self) -> int:
        """The address of the first number."""
        return int(self.array.ctypes.data)

    def device_name(self) -> str:
        """Where it lies."""
        return "cpu"

    def shape(self) -> list[int]:
        """The sizes."""
        return list(self.array.shape)

    def data_type(self) -> str:
        """The type, such as ``tensor(float)``."""
        return name_type(self._number)

    def element_type(self) -> int:
        """ONNX's number of the type."""
        return self._number

    def tensor_size_in_bytes(self) -> int:
        """The size of all numbers [bytes]."""
        return int(self.array.nbytes)

    def has_value(self) -> bool:
        """Whether there is an array: always."""
        return True

    def is_tensor(self) -> bool:
        """Whether it is an array: always."""
        return True

    def is_sparse_tensor(self) -> bool:
        """Never."""
        return False

    def is_tensor_sequence(self) -> bool:
        """Never."""
        return False


def view_memory(element_type: Any, shape: Any, address: Any) -> AnyArray:
    """An array over memory of the caller's, who sees to it that it is there.

    Raises:
        InvalidArgument: sizes or an address that are no integers.
        NotImplemented: a type that is none of NumPy's.
    """
    try:
        dtype = find_numpy(element_type)
    except UnsupportedError as error:
        raise translate_run(error) from error
    sizes = as_integers("shape", shape, 0, error=InvalidArgument)
    place = as_integer("buffer_ptr", address, 0, None, error=InvalidArgument)
    size = math.prod(sizes) * dtype.itemsize
    if not size:
        return np.zeros(sizes, dtype)
    if not place or place % dtype.itemsize:
        raise fail(InvalidArgument, f"buffer_ptr={place}", need=f"an address that {dtype.itemsize} divides")
    memory: Any = (ctypes.c_char * size).from_address(place)
    found: AnyArray = np.frombuffer(memory, dtype).reshape(sizes)
    return found


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: None = None) -> None:
    """Write the numbers of values into others.

    Raises:
        InvalidArgument: they do not fit.
    """
    del stream
    if len(src) != len(dst):
        raise fail(InvalidArgument, f"{len(src)} values are copied to {len(dst)}", need="as many")
    for one, other in zip(src, dst, strict=True):
        other.update_inplace(one)
