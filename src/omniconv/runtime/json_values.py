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
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, NoReturn, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

import omniconv
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


Read: TypeAlias = "Callable[[ValueReader, Any], Any]"


class ValueReader:
    """Reads values of expected types.

    Args:
        sections: of the file.
        at: for messages.
    """

    def __init__(self, sections: Sequence[npt.NDArray[np.uint8]], at: str) -> None:
        self.sections, self.at = sections, at
        self.known: dict[tuple[int, str, tuple[int, ...]], npt.NDArray[Any]] = {}

    def read(self, kind: Any, value: Any) -> Any:
        """The value of a type.

        Raises:
            ModelError: it is of another one, or refused by it.
        """
        return _find_reader(kind)(self, value)

    def refuse(self, value: Any, what: str) -> NoReturn:
        """Refuse a value.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{_show(value)} stands where {what} belongs", need=_NEED, at=self.at)


@cache
def _find_reader(kind: Any) -> Read:
    """What reads values of a type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _read_one_of(inner)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind is np.ndarray or origin is np.ndarray:
        return _read_array
    if kind in (Conv, Chain):
        return partial(_read_spec, kind)
    if origin is tuple and inner[1:] == (Ellipsis,):
        return partial(_read_row, _find_reader(inner[0]))
    if origin is tuple:
        return partial(_read_fixed, tuple(map(_find_reader, inner)))
    if origin is frozenset:
        row = partial(_read_row, _find_reader(inner[0]))
        return lambda reader, value: frozenset(row(reader, value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return partial(_read_mapping, _find_reader(inner[0]), _find_reader(inner[1]))
    readers = {name: _find_reader(hint) for name, hint in _list_fields(kind).items()}
    return partial(_read_fields, kind, readers, _list_required(kind))


def _read_none(reader: ValueReader, value: Any) -> None:
    if value is not None:
        reader.refuse(value, "nothing")


def _read_bool(reader: ValueReader, value: Any) -> bool:
    return value if type(value) is bool else reader.refuse(value, "true or false")


def _read_text(reader: ValueReader, value: Any) -> str:
    return value if type(value) is str else reader.refuse(value, "a text")


def _read_integer(reader: ValueReader, value: Any) -> int:
    return value if type(value) is int and abs(value) < _MOST else reader.refuse(value, "an integer")


def _read_number(reader: ValueReader, value: Any) -> float:
    """A float that is finite is written as one, or as an integer where it was one."""
    if isinstance(value, dict) and list(value) == ["float"] and value["float"] in _FLOATS:
        return _FLOATS[value["float"]]
    if (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < _MOST):
        found: float = value
        return found
    return reader.refuse(value, "a number")


_PLAIN: Final[Mapping[Any, Read]] = {
    types.NoneType: _read_none,
    bool: _read_bool,
    str: _read_text,
    int: _read_integer,
    float: _read_number,
}


def _read_one_of(kinds: Sequence[Any]) -> Read:
    """What reads values of the one of several types whose form they have."""
    forms: dict[Any, Read] = {}
    specs = tuple(kind for kind in kinds if kind in (Conv, Chain))
    for kind in kinds:
        origin = get_origin(kind)
        if kind in specs:
            form: Any = "spec"
        elif kind in _PLAIN:
            form = kind
        elif origin is np.ndarray:
            form = _ARRAY
        else:
            form = list if origin is not None else kind.__name__
        assert kind in specs or form not in forms, kinds
        forms[form] = partial(_read_spec, specs) if kind in specs else _find_reader(kind)
    if float in forms:
        forms["float"] = forms[float]
        forms.setdefault(int, forms[float])

    def read(reader: ValueReader, value: Any) -> Any:
        form = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else type(value)
        found = forms.get(form)
        return reader.refuse(value, f"one of {len(kinds)} other kinds") if found is None else found(reader, value)

    return read


def _read_row(each: Read, reader: ValueReader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        reader.refuse(value, "a list")
    return tuple([each(reader, item) for item in value])


def _read_fixed(readers: tuple[Read, ...], reader: ValueReader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(readers):
        reader.refuse(value, f"a list of {len(readers)}")
    return tuple([each(reader, item) for each, item in zip(readers, value, strict=True)])


def _read_mapping(keys: Read, values: Read, reader: ValueReader, value: Any) -> dict[Any, Any]:
    pairs = value if isinstance(value, list) else reader.refuse(value, "names and values")
    if any(not isinstance(item, list) or len(item) != 2 for item in pairs):
        reader.refuse(value, "names and values")
    found = {keys(reader, key): values(reader, item) for key, item in pairs}
    return found if len(found) == len(pairs) else reader.refuse(value, "names that are there once")


def _read_fields(
    kind: Any, readers: Mapping[str, Read], required: frozenset[str], reader: ValueReader, value: Any
) -> Any:
    """A dataclass; a field that came later, which a file from before lacks, is what it is by default."""
    found = value.get(kind.__name__) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(found, dict):
        reader.refuse(value, f"a {kind.__name__}")
    if not required <= found.keys() <= readers.keys():
        _refuse_fields(kind, [name for name in readers if name in required], list(readers), list(found), reader.at)
    return kind(**{name: readers[name](reader, item) for name, item in found.items()})


def _refuse_fields(kind: Any, required: Sequence[str], known: Sequence[str], found: Sequence[str], at: str) -> NoReturn:
    """Refuse a dataclass that has other fields here, as it had in another version of this package."""
    without = [name for name in required if name not in found]
    further = [_show(name) for name in found if name not in known][:_MOST_NAMED]
    parts = [f"without {', '.join(without)}"] if without else []
    parts += [f"with {', '.join(further)}"] if further else []
    raise ModelError(
        f"the file has a {kind.__name__} {' and '.join(parts)}, which Omniconv {omniconv.__version__} does not read",
        need=f"the fields {', '.join(known)}",
        fix="compiling the model anew, and saving that",
        at=at,
    )


def _read_spec(kinds: Any, reader: ValueReader, value: Any) -> Any:
    text = value.get("spec") if isinstance(value, dict) and len(value) == 1 else None
    spec = parse(text)[0] if isinstance(text, str) else None
    return spec if isinstance(spec, kinds) else reader.refuse(value, "a spec")


def _read_array(reader: ValueReader, value: Any) -> npt.NDArray[Any]:
    row = value.get(_ARRAY) if isinstance(value, dict) and len(value) == 1 else None
    number, name, shape = row if isinstance(row, list) and len(row) == 3 else (None, None, None)
    if not (type(number) is int and isinstance(name, str) and isinstance(shape, list) and len(shape) <= MOST_AXES):
        reader.refuse(value, "an array")
    sizes = all(type(size) is int and size >= 0 for size in shape)
    if not (0 <= number < len(reader.sections) and name in ARRAY_TYPES and sizes):
        reader.refuse(value, "an array of a section")
    key = number, name, tuple(shape)
    if key not in reader.known:
        dtype, data = ARRAY_TYPES[name], reader.sections[number]
        if math.prod(shape) * dtype.itemsize != data.size:
            reader.refuse(value, f"an array of {data.size} bytes")
        reader.known[key] = data.view(dtype).reshape(shape)
    return reader.known[key]


_NEED: Final = "a file that omniconv saved"
_MOST: Final = 2**62
"""Integers are smaller."""
_MOST_NAMED: Final = 8
"""Fields that a message names."""


def _list_fields(kind: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass, in order."""
    found = get_type_hints(kind)
    return {item.name: found[item.name] for item in dataclasses.fields(kind)}


def _list_required(kind: Any) -> frozenset[str]:
    """The names of the fields of a dataclass that have no default."""
    none = dataclasses.MISSING
    return frozenset(
        item.name for item in dataclasses.fields(kind) if item.default is none and item.default_factory is none
    )


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
