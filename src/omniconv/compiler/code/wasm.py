"""From a WebAssembly object of LLVM to a module that an engine takes: what is elsewhere a linker's work.

An object of one translation unit has its functions, types and code in their final form. What is missing is a memory, a
stack, the addresses of its data, and exports. The memory that it gets is::

    0          the stack, which grows downwards, so that an overflow is an access below 0, where an engine stops
    STACK      what the caller lays out, up to ``size``; given as ``data``, zero elsewhere
    size ...   the object's own data, to which its addresses are moved

The formats are those of the core specification and of the tool conventions' Linking document, version 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from omniconv.errors import UnsupportedError
from omniconv.integers import ceil_div
from omniconv.records import dataclass

STACK: Final = 2**16
"""Bytes of the stack: kernels keep vectors in locals, and little else in memory."""
PAGE: Final = 2**16
"""A memory's size is a number of pages [bytes]."""
ALIGNMENT: Final = 64

HEAD: Final = b"\0asm\1\0\0\0"
CUSTOM, TYPES, IMPORTS, FUNCTIONS, MEMORIES, GLOBALS, EXPORTS, CODE, DATA, DATA_COUNT = 0, 1, 2, 3, 5, 6, 7, 10, 11, 12
"""Sections that are read or written."""
FUNCTION, TABLE, MEMORY, GLOBAL = 0, 1, 2, 3
"""Kinds of imports and exports."""
SYMBOL_TABLE: Final = 8
FUNCTION_SYMBOL, DATA_SYMBOL, SECTION_SYMBOL = 0, 1, 3
UNDEFINED, EXPLICIT_NAME = 0x10, 0x40
MEMORY_ADDRESSES: Final = {3: 5, 4: 5, 5: 4}
"""Relocations of addresses in memory -> their width [bytes]: unsigned and signed LEB128, and 32 bits."""
RESOLVED: Final = frozenset({0, 6, 7})
"""Relocations of functions, types and globals, which are right where one object is all there is."""
I32_CONST, END = 0x41, 0x0B


@dataclass(slots=True)
class WasmObject:
    """What is read of an object.

    Attributes:
        sections: number -> content, custom ones left out.
        functions: name -> index of the functions that it defines.
        moves: (section, place, kind of relocation) of the addresses in its sections that move with its data.
        wanted: names of functions and variables that it needs from elsewhere, and what else it cannot do without.
        has_stack: whether it uses the stack pointer, its first global.
    """

    sections: dict[int, bytearray] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    moves: list[tuple[int, int, int]] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    has_stack: bool = False


class _Reader:
    """Numbers and names in their order."""

    def __init__(self, content: bytes | bytearray, place: int = 0) -> None:
        self.content, self.place = bytes(content), place

    def __bool__(self) -> bool:
        return self.place < len(self.content)

    def byte(self) -> int:
        self.place += 1
        return self.content[self.place - 1]

    def number(self) -> int:
        """An unsigned number."""
        return self._read()[0]

    def signed(self) -> int:
        """A signed number."""
        value, bits = self._read()
        return value - (1 << bits) if value >> (bits - 1) else value

    def _read(self) -> tuple[int, int]:
        """A number without its sign, and how many bits it takes; seven in each byte, the lowest first."""
        value = bits = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << bits
            bits += 7
            if byte < 128:
                return value, bits

    def take(self, size: int) -> bytes:
        self.place += size
        return self.content[self.place - size : self.place]

    def name(self) -> str:
        return self.take(self.number()).decode()


def write_number(value: int, width: int = 1) -> bytes:
    """An unsigned number in LEB128, in at least ``width`` bytes.

    Example:
        >>> write_number(300).hex(), write_number(1, 3).hex()
        ('ac02', '818000')
    """
    out = bytearray()
    while value > 127 or len(out) < width - 1:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_signed(value: int, width: int = 1) -> bytes:
    """A signed number in LEB128, in at least ``width`` bytes.

    Example:
        >>> write_signed(-1).hex(), write_signed(64).hex(), write_signed(64, 5).hex()
        ('7f', 'c000', 'c080808000')
    """
    out = bytearray()
    while not -64 <= value < 64 or len(out) < width - 1:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value & 127)
    return bytes(out)


def read_object(code: bytes) -> WasmObject:
    """Read an object that LLVM made."""
    assert code[:8] == HEAD
    found, order = WasmObject(), list[int]()
    late: list[tuple[str, _Reader]] = []
    reader = _Reader(code, 8)
    while reader:
        number, size = reader.byte(), reader.number()
        content = reader.take(size)
        order.append(number)
        if number != CUSTOM:
            found.sections[number] = bytearray(content)
            continue
        inner = _Reader(content)
        late.append((inner.name(), inner))
    _read_imports(found)
    for name, inner in late:
        if name == "linking":
            _read_symbols(found, inner)
        elif name in ("reloc.CODE", "reloc.DATA"):
            _read_moves(found, inner, order)
    return found


def _read_imports(found: WasmObject) -> None:
    if IMPORTS not in found.sections:
        return
    reader = _Reader(found.sections[IMPORTS])
    for _ in range(reader.number()):
        reader.name()
        name, kind = reader.name(), reader.byte()
        if kind == FUNCTION:
            reader.number()
        elif kind == GLOBAL:
            reader.take(2)
        else:
            if kind == TABLE:
                reader.byte()
            bounded = reader.number() & 1
            reader.number()
            if bounded:
                reader.number()
        if name == "__stack_pointer":
            found.has_stack = True
        elif name not in ("__linear_memory", "__indirect_function_table"):
            found.wanted.append(name)


def _read_segments(found: WasmObject) -> Iterator[tuple[int, bytes]]:
    """(address, content) of the object's data."""
    reader = _Reader(found.sections.get(DATA, b"\0"))
    for _ in range(reader.number()):
        assert (reader.number(), reader.byte()) == (0, I32_CONST)  # active, in the one memory
        address = reader.signed()
        assert reader.byte() == END
        yield address, reader.take(reader.number())


def _read_symbols(found: WasmObject, reader: _Reader) -> None:
    assert reader.number() == 2, "version of the Linking document"
    while reader:
        number, size = reader.byte(), reader.number()
        inner = _Reader(reader.take(size))
        if number != SYMBOL_TABLE:
            continue
        for _ in range(inner.number()):
            kind, flags = inner.byte(), inner.number()
            defined = not flags & UNDEFINED
            if kind == DATA_SYMBOL:
                name = inner.name()
                if defined:
                    inner.number(), inner.number(), inner.number()
                else:
                    found.wanted.append(name)
            elif kind == SECTION_SYMBOL:
                inner.number()
            else:
                index = inner.number()
                name = inner.name() if defined or flags & EXPLICIT_NAME else ""
                if kind == FUNCTION_SYMBOL and defined:
                    found.functions[name] = index


def _read_moves(found: WasmObject, reader: _Reader, order: Sequence[int]) -> None:
    section = order[reader.number()]
    for _ in range(reader.number()):
        kind, place, _ = reader.byte(), reader.number(), reader.number()
        if kind in MEMORY_ADDRESSES:
            reader.signed()
            found.moves.append((section, place, kind))
        elif kind not in RESOLVED:
            found.wanted.append(f"for relocation {kind} of the Linking document")
            return


def link(code: bytes, exports: Mapping[str, str], data: Sequence[tuple[int, bytes]], size: int) -> bytes:
    """A module with a memory of its own, exported as ``memory``.

    Args:
        code: an object.
        exports: name -> symbol of the functions that a page calls.
        data: (address, content) of what the memory holds at first, from :data:`STACK` on.
        size: of the memory that is laid out, without the object's own data [bytes].

    Raises:
        UnsupportedError: the code calls functions that no module has, e.g. of a C library.
    """
    found = read_object(code)
    if found.wanted:
        raise UnsupportedError(
            f"WebAssembly code calls {', '.join(sorted(set(found.wanted)))}", need="code that calls nothing"
        )
    base = ceil_div(size, ALIGNMENT) * ALIGNMENT
    _move(found, base)
    own = [(base + address, content) for address, content in _read_segments(found)]
    total = max([base, *(address + len(content) for address, content in own)])
    segments = [*data, *own]
    listed: list[tuple[int, bytes]] = [
        (TYPES, bytes(found.sections[TYPES])),
        (FUNCTIONS, bytes(found.sections[FUNCTIONS])),
        (MEMORIES, write_number(1) + b"\0" + write_number(ceil_div(total, PAGE))),
        (GLOBALS, write_number(1) + b"\x7f\1" + _constant(STACK) if found.has_stack else b""),
        (EXPORTS, _list([_name("memory") + bytes([MEMORY, 0]), *_exports(found, exports)])),
        (DATA_COUNT, write_number(len(segments)) if DATA_COUNT in found.sections else b""),
        (CODE, bytes(found.sections[CODE])),
        (DATA, _list([b"\0" + _constant(place) + write_number(len(each)) + each for place, each in segments])),
    ]
    return HEAD + b"".join(bytes([number]) + write_number(len(each)) + each for number, each in listed if each)


def _move(found: WasmObject, base: int) -> None:
    """Add ``base`` to every address of the object's data."""
    for section, place, kind in found.moves:
        content, width = found.sections[section], MEMORY_ADDRESSES[kind]
        reader = _Reader(content, place)
        if width == 4:
            written = (int.from_bytes(reader.take(4), "little") + base).to_bytes(4, "little")
        elif kind == 4:
            written = write_signed(reader.signed() + base, width)
        else:
            written = write_number(reader.number() + base, width)
        assert len(written) == width
        content[place : place + width] = written


def _exports(found: WasmObject, exports: Mapping[str, str]) -> list[bytes]:
    return [_name(name) + bytes([FUNCTION]) + write_number(found.functions[symbol]) for name, symbol in exports.items()]


def _list(items: Sequence[bytes]) -> bytes:
    return write_number(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    return write_number(len(text.encode())) + text.encode()


def _constant(value: int) -> bytes:
    return bytes([I32_CONST]) + write_signed(value) + bytes([END])
