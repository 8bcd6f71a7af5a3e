"""What LLVM IR is made of: types, values, and the functions and modules that they are written into.

A value is a type and the text by which instructions name it; an instruction is a line of text as soon as it is made
(:mod:`omniconv.compiler.emit.writer`). That takes a fifth of the time of a tree of objects that is printed in the end,
and nothing here ever looks at an instruction again.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from omniconv.errors import UnsupportedError


class Type:
    """A type. Equal ones are written alike."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Type) and self.text == other.text)

    def __hash__(self) -> int:
        return hash(self.text)


class IntType(Type):
    """An integer of so many bits."""

    __slots__ = ("width",)

    def __init__(self, width: int) -> None:
        super().__init__(f"i{width}")
        self.width = width


class VectorType(Type):
    """So many elements in a register."""

    __slots__ = ("count", "element")

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"<{count} x {element.text}>")
        self.element, self.count = element, count


class ArrayType(Type):
    """So many elements in memory."""

    __slots__ = ("count", "element")

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"[{count} x {element.text}]")
        self.element, self.count = element, count


class PointerType(Type):
    """An address; ``narrow`` of numbers that have fewer bits than a kernel computes with, which LLVM is not told."""

    __slots__ = ("narrow",)

    def __init__(self, *, narrow: bool = False) -> None:
        super().__init__("ptr")
        self.narrow = narrow


class FunctionType(Type):
    """What a function takes and returns."""

    __slots__ = ("parameters", "result")

    def __init__(self, result: Type, parameters: Sequence[Type]) -> None:
        super().__init__(f"{result.text} ({', '.join(each.text for each in parameters)})")
        self.result, self.parameters = result, tuple(parameters)


VOID: Final = Type("void")
POINTER: Final = PointerType()
NARROW_POINTER: Final = PointerType(narrow=True)
FLOAT: Final = Type("float")
DOUBLE: Final = Type("double")
BFLOAT: Final = Type("bfloat")


class IRValue:
    """A result, an argument or a constant: how instructions name it."""

    __slots__ = ("text", "type")

    def __init__(self, kind: Type, text: str) -> None:
        # Which type it is shows only when the generator runs.
        self.type: Any = kind
        self.text = text

    def __str__(self) -> str:
        return f"{self.type.text} {self.text}"


class Variable(IRValue):
    """The address of a stack slot, and what the slot holds."""

    __slots__ = ("allocated_type",)

    def __init__(self, text: str, allocated_type: Type) -> None:
        super().__init__(POINTER, text)
        self.allocated_type: Any = allocated_type


class Block:
    """Instructions, of which the last one leaves."""

    __slots__ = ("lines", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str | Phi] = []


class Phi(IRValue):
    """A value that depends on the block that was left last."""

    __slots__ = ("_incoming",)

    def __init__(self, kind: Type, text: str) -> None:
        super().__init__(kind, text)
        self._incoming: list[str] = []

    def add_incoming(self, value: IRValue, block: Block) -> None:
        """What it is behind a block."""
        self._incoming.append(f"[{value.text}, %{block.name}]")

    @property
    def line(self) -> str:
        """The instruction."""
        return f"{self.text} = phi {self.type.text} {', '.join(self._incoming)}"


class IRFunction(IRValue):
    """A function of a module: one that is written here where it has blocks, else one from elsewhere.

    Args:
        module: where it is.
        kind: what it takes and returns.
        name: its symbol.
        aligned: alignment of what an argument points to, by the argument's number [bytes].
    """

    __slots__ = ("_aligned", "args", "blocks", "count", "signature")

    def __init__(self, module: IRModule, kind: FunctionType, name: str, aligned: dict[int, int] | None = None) -> None:
        super().__init__(POINTER, f"@{name}")
        self.signature, self._aligned = kind, aligned or {}
        self.blocks: list[Block] = []
        self.args = tuple(IRValue(each, f"%a{number}") for number, each in enumerate(kind.parameters))
        self.count = 0
        """Names that were given out."""
        module.add(name, self)

    def name(self) -> str:
        """A name that no other value or block of the function has."""
        self.count += 1
        return f"v{self.count}"

    def append_basic_block(self, word: str) -> Block:
        """A new block behind the others."""
        self.blocks.append(Block(f"{word}.{self.name()}"))
        return self.blocks[-1]

    def write(self) -> Iterable[str]:
        """Its lines."""
        result, name = self.signature.result.text, self.text
        if not self.blocks:
            parameters = (
                f"{each.text} align {self._aligned[number]}" if number in self._aligned else each.text
                for number, each in enumerate(self.signature.parameters)
            )
            yield f"declare {result} {name}({', '.join(parameters)})"
            return
        yield f"define {result} {name}({', '.join(map(str, self.args))}) nounwind {{"
        for block in self.blocks:
            yield f"{block.name}:"
            for line in block.lines:
                yield line if isinstance(line, str) else line.line
        yield "}"


class GlobalTable(IRValue):
    """The address of a constant array of a module, which only that sees."""

    __slots__ = ("_content",)

    def __init__(self, module: IRModule, content: IRValue, name: str) -> None:
        super().__init__(POINTER, f"@{name}")
        self._content = content
        module.add(name, self)

    def write(self) -> Iterable[str]:
        """Its line."""
        yield f"{self.text} = private constant {self._content}"


class IRModule:
    """Functions and tables by their names, for one kind of machine."""

    def __init__(self, name: str, triple: str) -> None:
        self.name, self.triple = name, triple
        self.contents: dict[str, IRFunction | GlobalTable] = {}

    def add(self, name: str, item: IRFunction | GlobalTable) -> None:
        """Put something in.

        Raises:
            KeyError: there is something else of this name.
        """
        if name in self.contents:
            raise KeyError(name)
        self.contents[name] = item

    def __str__(self) -> str:
        lines = [f'target triple = "{self.triple}"']
        for item in self.contents.values():
            lines.extend(item.write())
        return "\n".join(lines) + "\n"


# -- constants


@lru_cache(maxsize=4096)
def integer(kind: Type, value: int) -> IRValue:
    """An integer."""
    return IRValue(kind, str(int(value)))


def number(kind: Type, value: float) -> IRValue:
    """A float, rounded to its type.

    Raises:
        UnsupportedError: it is finite, and rounds to infinity.
    """
    return IRValue(kind, _write_float(kind, value))


def splat(kind: Type, scalar: IRValue) -> IRValue:
    """A constant in every lane of a vector; the constant itself where the type is no vector."""
    return IRValue(kind, f"splat ({scalar})") if isinstance(kind, VectorType) else scalar


def vector(element: Type, items: Sequence[int]) -> IRValue:
    """A vector of integers."""
    each = element.text
    return IRValue(VectorType(element, len(items)), f"<{', '.join(f'{each} {item:d}' for item in items)}>")


def array(element: Type, items: Sequence[IRValue]) -> IRValue:
    """An array of constants."""
    return IRValue(ArrayType(element, len(items)), f"[{', '.join(map(str, items))}]")


def undefined(kind: Type) -> IRValue:
    """Any value."""
    return IRValue(kind, "undef")


def _write_float(kind: Type, value: float) -> str:
    """A float as the bits of float64, which LLVM takes for float32, too, where that has the value."""
    if kind == FLOAT and math.isfinite(value):
        try:
            (value,) = struct.unpack("<f", struct.pack("<f", value))
        except OverflowError as error:
            raise UnsupportedError(f"{value!r} is beyond float32", need="a smaller number, or float64") from error
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return f"0x{bits:016x}"
