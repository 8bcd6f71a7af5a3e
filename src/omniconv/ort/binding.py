"""`IOBinding`: arrays that a session reads from and writes to, named once and used by many runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from omniconv.errors import DataError
from omniconv.ort.failures import InvalidArgument, fail
from omniconv.ort.signature import NodeArg
from omniconv.ort.value import AnyArray, OrtDevice, OrtValue, view_memory


class Bindable(Protocol):
    """What has inputs and outputs with names: a session."""

    def get_inputs(self) -> Sequence[NodeArg]:
        """What must be given."""

    def get_outputs(self) -> Sequence[NodeArg]:
        """What comes."""


class IOBinding:
    """What a session reads and writes. `InferenceSession.run_with_iobinding` runs on it.

    Inputs are read when the session runs, so that what lies at the same place may change between runs. Outputs are
    written to where they were bound to, and are new arrays otherwise. One run at a time uses it.
    """

    def __init__(self, session: Bindable) -> None:
        self._session = session
        self._inputs: dict[str, AnyArray] = {}
        self._outputs: dict[str, AnyArray | None] = {}
        self._results: list[OrtValue] = []

    @property
    def session(self) -> Bindable:
        """The session that it is for."""
        return self._session

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Read an input from an array; as it is now, where it is not contiguous."""
        if not isinstance(arr_on_cpu, np.ndarray):
            raise DataError(f"input {name!r} is a {type(arr_on_cpu).__name__}", need="a NumPy array")
        self._bind_input(name, np.asarray(arr_on_cpu, order="C"))

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, buffer_ptr: Any
    ) -> None:
        """Read an input from memory."""
        OrtDevice.make(device_type, device_id)
        self._bind_input(name, view_memory(element_type, shape, buffer_ptr))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Read an input from a value."""
        self._bind_input(name, _read_value(name, ortvalue))

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: Any = None,
    ) -> None:
        """Ask for an output: a new array, or written to memory where ``buffer_ptr`` says where."""
        OrtDevice.make(device_type, device_id)
        if buffer_ptr is not None and (element_type is None or shape is None):
            problem = f"output {name!r} has memory, but no type or shape"
            raise fail(InvalidArgument, problem, need="element_type and shape beside buffer_ptr")
        room = None if buffer_ptr is None else view_memory(element_type, shape, buffer_ptr)
        self._bind_output(name, room)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Write an output to a value."""
        self._bind_output(name, _read_value(name, ortvalue))

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        self._outputs.clear()
        self._results = []

    def synchronize_inputs(self) -> None:
        """Nothing is to be waited for."""

    def synchronize_outputs(self) -> None:
        """Nothing is to be waited for."""

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order in which they were bound."""
        return list(self._results)

    def get_outputs_as_ortvaluevector(self) -> list[OrtValue]:
        """The same."""
        return self.get_outputs()

    def copy_outputs_to_cpu(self) -> list[AnyArray]:
        """Copies of the outputs of the last run."""
        return [value.array.copy() for value in self._results]

    @property
    def feed(self) -> dict[str, AnyArray]:
        """The inputs."""
        return dict(self._inputs)

    @property
    def output_names(self) -> list[str]:
        """The outputs that are asked for."""
        return list(self._outputs)

    def take(self, found: list[AnyArray]) -> None:
        """Keep the outputs of a run; those that have memory are written there, if all of them fit.

        Raises:
            InvalidArgument: an output of another type or shape than the memory that was bound for it.
        """
        pairs = list(zip(self._outputs.items(), found, strict=True))
        for (name, room), array in pairs:
            if room is not None and (room.dtype, room.shape) != (array.dtype, array.shape):
                raise fail(
                    InvalidArgument,
                    f"output {name!r} is {array.dtype} of shape {array.shape}",
                    need=f"{room.dtype} of shape {room.shape}, as it was bound",
                )
        for (_, room), array in pairs:
            if room is not None:
                np.copyto(room, array)
        self._results = [OrtValue(array if room is None else room) for (_, room), array in pairs]

    def _bind_input(self, name: str, array: AnyArray) -> None:
        self._check("input", name, [item.name for item in self._session.get_inputs()])
        self._inputs[name] = array

    def _bind_output(self, name: str, room: AnyArray | None) -> None:
        self._check("output", name, [item.name for item in self._session.get_outputs()])
        if room is not None and not (room.flags.c_contiguous and room.flags.writeable):
            raise fail(InvalidArgument, f"output {name!r} has memory that is not to be written to", need="an own array")
        self._outputs[name] = room

    def _check(self, what: str, name: str, known: list[str]) -> None:
        if name not in known:
            raise fail(InvalidArgument, f"{what} {name!r} is unknown", need="one of " + ", ".join(map(repr, known)))


def _read_value(name: str, value: Any) -> AnyArray:
    if not isinstance(value, OrtValue):
        raise DataError(f"{name!r} is a {type(value).__name__}", need="an OrtValue")
    return value.array
