"""Values as JSON: dataclasses by the names and types of their fields, arrays as numbers of sections.

What is read is taken apart by the type that is expected at its place, so that nothing else comes out: a name selects
among the classes that may stand there, and constructors check what they always check. Sequences are tuples; floats that
are not finite are words; specs are the line of text that describes them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, UnsupportedError
from omniconv.limits import check_memory
from omniconv.spec import Chain, Conv, parse

ARRAY_TYPES: Final = {
    name: np.dtype(name)
    for name in ("<f4", "<f8", "<f2", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1")
}
MOST_AXES: Final = 64
_JSON_BYTES: Final = 40
"""Memory that a byte of JSON may become [bytes]."""
_ARRAY: Final = "array"
_FLOATS: Final = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class ValueWriter:
    """Writes values; arrays become sections, an array that stands in several places becomes one.

    Args:
        sections: that are there; new ones are appended.
    """

    def __init__(self, sections: list[Any]) -> None:
        self.sections = sections
        self._known: dict[int, tuple[Any, Any]] = {}

    def write(self, value: Any) -> Any:
        """A value as what JSON knows.

        Raises:
            UnsupportedError: something that has no form here.
        """
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | np.integer):
            return int(value)
        if isinstance(value, float | np.floating):
            number = float(value)
            return number if math.isfinite(number) else {"float": str(number)}
        if isinstance(value, np.ndarray):
            return self.add(value)
        if isinstance(value, Conv | Chain):
            text = value.text()
            if parse(text)[0] != value:
                raise UnsupportedError(
                    f"{text!r} describes another layer than the one that is saved", need="a spec of the registry"
                )
            return {"spec": text}
        if isinstance(value, Mapping):
            return [[self.write(key), self.write(item)] for key, item in value.items()]
        if isinstance(value, frozenset):
            return sorted(map(self.write, value))
        if isinstance(value, Sequence):
            return [self.write(item) for item in value]
        if dataclasses.is_dataclass(value):
            return {
                type(value).__name__: {
                    item.name: self.write(getattr(value, item.name)) for item in dataclasses.fields(value)
                }
            }
        raise UnsupportedError(
            f"{type(value).__name__} cannot be saved", need="numbers, texts, arrays and descriptions"
        )

    def add(self, array: npt.NDArray[Any]) -> Any:
        """An array, or what is written of the one like it."""
        known = self._known.get(id(array))
        if known is None:
            dtype = array.dtype.newbyteorder("<").str
            if dtype not in ARRAY_TYPES:
                raise UnsupportedError(f"an array of {array.dtype} cannot be saved", need="numbers or truths")
            self.sections.append(array.astype(dtype, copy=False))
            known = self._known[id(array)] = array, {_ARRAY: [len(self.sections) - 1, dtype, list(array.shape)]}
        return known[1]


class ValueReader:
    """Reads values of expected types.

    Args:
        sections: of the file.
        at: for messages.
    """

    def __init__(self, sections: Sequence[npt.NDArray[np.uint8]], at: str) -> None:
        self._sections, self._at = sections, at
        self._known: dict[tuple[int, str, tuple[int, ...]], npt.NDArray[Any]] = {}

    def read(self, kind: Any, value: Any) -> Any:
        """The value of a type.

        Raises:
            ModelError: it is of another one, or refused by it.
        """
        origin, inner = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            return self._read_one_of(inner, value)
        if kind is None or kind is types.NoneType:
            if value is None:
                return None
        elif kind is bool or kind is str:
            if type(value) is kind:
                return value
        elif kind is int:
            if type(value) is int and abs(value) < 2**62:
                return value
        elif kind is float:
            if type(value) in (int, float):
                return value
            if isinstance(value, dict) and list(value) == ["float"] and value["float"] in _FLOATS:
                return _FLOATS[value["float"]]
        elif kind is np.ndarray or origin is np.ndarray:
            return self._read_array(value)
        elif kind in (Conv, Chain):
            return self._read_spec(kind, value)
        elif origin is tuple and isinstance(value, list):
            if len(inner) == 2 and inner[1] is Ellipsis:
                return tuple(self.read(inner[0], item) for item in value)
            if len(inner) == len(value):
                return tuple(self.read(each, item) for each, item in zip(inner, value, strict=True))
        elif origin is frozenset and isinstance(value, list):
            return frozenset(self.read(inner[0], item) for item in value)
        elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, list):
            return self._read_mapping(inner, value)
        elif isinstance(kind, type) and isinstance(value, dict) and list(value) == [kind.__name__]:
            return self._read_fields(kind, value[kind.__name__])
        raise ModelError(
            f"{_show(value)} stands where {getattr(kind, '__name__', kind)} belongs", need=_NEED, at=self._at
        )

    def _read_one_of(self, kinds: Sequence[Any], value: Any) -> Any:
        """The value of the one type that has its form."""
        named = [kind for kind in kinds if _has_form(kind, value)]
        if len(named) != 1 and not (named and _has_form(Conv, value)):
            raise ModelError(
                f"{_show(value)} stands where one of {len(kinds)} other kinds belongs", need=_NEED, at=self._at
            )
        return self._read_spec(tuple(named), value) if named[0] in (Conv, Chain) else self.read(named[0], value)

    def _read_mapping(self, kinds: Sequence[Any], value: list[Any]) -> dict[Any, Any]:
        pairs = [item for item in value if isinstance(item, list) and len(item) == 2]
        found = {self.read(kinds[0], key): self.read(kinds[1], item) for key, item in pairs}
        if len(found) != len(value):
            raise ModelError("names appear twice, or without a value", need=_NEED, at=self._at)
        return found

    def _read_fields(self, kind: Any, value: Any) -> Any:
        hints = _hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            raise ModelError(f"{kind.__name__} has fields {_show(list(value))}", need=", ".join(hints), at=self._at)
        return kind(**{name: self.read(hint, value[name]) for name, hint in hints.items()})

    def _read_spec(self, kinds: Any, value: Any) -> Any:
        text = value.get("spec") if isinstance(value, dict) and len(value) == 1 else None
        spec = parse(text)[0] if isinstance(text, str) else None
        if not isinstance(spec, kinds):
            raise ModelError(f"{_show(value)} stands where a spec belongs", need=_NEED, at=self._at)
        return spec

    def _read_array(self, value: Any) -> npt.NDArray[Any]:
        row = value.get(_ARRAY) if isinstance(value, dict) and len(value) == 1 else None
        if isinstance(row, list) and len(row) == 3:
            number, name, shape = row
            sizes = (
                isinstance(shape, list)
                and len(shape) <= MOST_AXES
                and all(type(size) is int and size >= 0 for size in shape)
            )
            if (
                type(number) is int
                and 0 <= number < len(self._sections)
                and isinstance(name, str)
                and name in ARRAY_TYPES
                and sizes
            ):
                key = number, name, tuple(shape)
                if key not in self._known:
                    dtype, data = ARRAY_TYPES[name], self._sections[number]
                    if math.prod(shape) * dtype.itemsize == data.size:
                        self._known[key] = data.view(dtype).reshape(shape)
                if key in self._known:
                    return self._known[key]
        raise ModelError(f"{_show(value)} stands where an array belongs", need=_NEED, at=self._at)


_NEED: Final = "a file that omniconv saved"


def _has_form(kind: Any, value: Any) -> bool:
    """Whether a value is written as those of a type are."""
    origin = get_origin(kind)
    if isinstance(value, dict):
        word = next(iter(value)) if len(value) == 1 else ""
        special = {_ARRAY: origin is np.ndarray, "spec": kind in (Conv, Chain), "float": kind is float}
        return special.get(word, bool(word) and getattr(kind, "__name__", "") == word)
    if isinstance(value, list):
        return origin in (tuple, frozenset) or (isinstance(origin, type) and issubclass(origin, Mapping))
    return kind is type(value) or (kind is float and type(value) is int)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass, in order."""
    found = get_type_hints(kind)
    return {item.name: found[item.name] for item in dataclasses.fields(kind)}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_json(value: Any) -> bytes:
    """JSON, in ASCII and without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def from_json(data: npt.NDArray[np.uint8], at: str, limit: int | None) -> Any:
    """What JSON says.

    Raises:
        ModelError: it is none, names something twice, or is nested too deeply.
        LimitError: it may become larger than the memory limit.
    """
    check_memory(_JSON_BYTES * data.size, "the description in the file", limit=limit, at=at)
    try:
        return json.loads(bytes(data).decode("ascii"), object_pairs_hook=_take_pairs, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the description in the file is no JSON: {_show(str(error))}", need=_NEED, at=at) from None


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(word)
