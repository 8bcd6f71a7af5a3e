"""The writer of instructions: each of its methods writes one line of LLVM IR and returns what the line computes.

Operands whose types differ where LLVM wants the same are refused at once, where the generator still stands at the line
that mixed them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast, overload

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.machine import (
    Anything,
    Bits,
    Branch,
    Count,
    Integer,
    Logical,
    Mask,
    Pointer,
    Slot,
    Value,
)

_I1: Final = ir.IntType(1)
_I32: Final = ir.IntType(32)
_RELATIONS: Final = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


class Writer:
    """Writes at the end of a block of a function."""

    def __init__(self, function: ir.IRFunction, block: ir.Block) -> None:
        self.function = function
        self.position_at_end(block)

    def position_at_end(self, block: ir.Block) -> None:
        """Write there from now on."""
        self.block = block
        self._line = block.lines.append

    def _put(self, kind: ir.Type, instruction: str) -> ir.IRValue:
        """An instruction that has a result."""
        function = self.function
        function.count += 1
        name = f"%v{function.count}"
        self._line(f"{name} = {instruction}")
        return ir.IRValue(kind, name)

    def _binary(self, operation: str, a: Anything, b: Anything) -> Anything:
        """An instruction with two operands of one type, and a result of that type."""
        kind = _same(a, b)
        return cast("Anything", self._put(kind, f"{operation} {kind.text} {a.text}, {b.text}"))

    def _compare(self, operation: str, a: ir.IRValue, b: ir.IRValue) -> Mask:
        kind = _same(a, b)
        result = ir.VectorType(_I1, kind.count) if isinstance(kind, ir.VectorType) else _I1
        return Mask(self._put(result, f"{operation} {kind.text} {a.text}, {b.text}"))

    def _convert(self, operation: str, value: ir.IRValue, kind: ir.Type) -> ir.IRValue:
        if value.type == kind:
            return value
        return self._put(kind, f"{operation} {value} to {kind.text}")

    # -- control

    def branch(self, target: ir.Block) -> None:
        """Go on in a block."""
        self._line(f"br label %{target.name}")

    def cbranch(self, condition: Mask, then: ir.Block, otherwise: ir.Block) -> None:
        """Go on in one of two blocks."""
        self._line(f"br {condition}, label %{then.name}, label %{otherwise.name}")

    def ret_void(self) -> None:
        """Leave the function."""
        self._line("ret void")

    def phi(self, kind: ir.Type) -> ir.Phi:
        """A value that depends on where the machine comes from, at the start of a block."""
        found = ir.Phi(kind, f"%{self.function.name()}")
        self._line(found)
        return found

    @contextmanager
    def if_then(self, condition: Mask) -> Iterator[None]:
        """What is written inside runs only if a condition holds."""
        then, end = (self.function.append_basic_block(word) for word in ("if", "endif"))
        self.cbranch(condition, then, end)
        with self._branch(then, end):
            yield
        self.position_at_end(end)

    @contextmanager
    def if_else(self, condition: Mask) -> Iterator[tuple[Branch, Branch]]:
        """Two contexts: what is written inside the first runs if a condition holds, else that inside the second."""
        then, otherwise, end = (self.function.append_basic_block(word) for word in ("if", "else", "endif"))
        self.cbranch(condition, then, otherwise)
        yield self._branch(then, end), self._branch(otherwise, end)
        self.position_at_end(end)

    @contextmanager
    def _branch(self, block: ir.Block, end: ir.Block) -> Iterator[None]:
        self.position_at_end(block)
        yield
        self.branch(end)

    # -- memory

    def alloca(self, kind: ir.Type, size: int | None = None) -> Slot:
        """Room on the stack."""
        name = f"%{self.function.name()}"
        self._line(f"{name} = alloca {kind.text}" + ("" if size is None else f", i32 {size}"))
        return Slot(ir.Variable(name, kind))

    def gep(self, pointer: Pointer, index: Count, kind: ir.Type) -> Pointer:
        """The address of an element of an array of this type, of numbers of the same width."""
        return Pointer(self._put(pointer.type, f"getelementptr {kind.text}, ptr {pointer.text}, {index}"))

    def load(self, pointer: Pointer | Slot, kind: ir.Type, align: int | None = None) -> ir.IRValue:
        """What is at an address."""
        aligned = "" if align is None else f", align {align}"
        return self._put(kind, f"load {kind.text}, ptr {pointer.text}{aligned}")

    def store(self, value: Value, pointer: Pointer | Slot, align: int | None = None) -> None:
        """Put a value at an address."""
        aligned = "" if align is None else f", align {align}"
        self._line(f"store {value}, ptr {pointer.text}{aligned}")

    # -- calls, whose types are those of the function

    def call(
        self, function: ir.IRFunction, args: Sequence[ir.IRValue], *, flags: str = "", noundef: int = -1
    ) -> ir.IRValue:
        """Call a function, of which argument ``noundef`` is defined.

        Raises:
            TypeError: arguments are not what the function takes.
        """
        signature = function.signature
        if tuple(each.type for each in args) != signature.parameters:
            raise TypeError(f"{function.text} takes {signature.text}, not {', '.join(map(str, args))}")
        given = ", ".join(
            f"{each.type.text} noundef {each.text}" if number == noundef else f"{each.type.text} {each.text}"
            for number, each in enumerate(args)
        )
        return self._call(signature, f"call {flags and flags + ' '}{signature.result.text} {function.text}({given})")

    def asm(
        self, signature: ir.FunctionType, constraint: str, args: Sequence[ir.IRValue], *, side_effect: bool
    ) -> ir.IRValue:
        """An empty piece of assembly, which says what it reads and changes."""
        effect, given = " sideeffect" if side_effect else "", ", ".join(map(str, args))
        return self._call(signature, f'call {signature.result.text} asm{effect} "", "{constraint}"({given})')

    def _call(self, signature: ir.FunctionType, instruction: str) -> ir.IRValue:
        if signature.result is ir.VOID:
            self._line(instruction)
            return ir.IRValue(ir.VOID, "")
        return self._put(signature.result, instruction)

    # -- integers; ``nsw``: the result is known to fit

    def add(self, a: Integer, b: Integer, *, nsw: bool = False) -> Integer:
        """a + b."""
        return self._binary("add nsw" if nsw else "add", a, b)

    def sub(self, a: Integer, b: Integer, *, nsw: bool = False) -> Integer:
        """a - b."""
        return self._binary("sub nsw" if nsw else "sub", a, b)

    def mul(self, a: Count, b: Count, *, nsw: bool = False) -> Count:
        """Their product."""
        return self._binary("mul nsw" if nsw else "mul", a, b)

    def udiv(self, a: Count, b: Count) -> Count:
        """The quotient of sizes."""
        return self._binary("udiv", a, b)

    def sdiv(self, a: Count, b: Count) -> Count:
        """The quotient of integers, rounded towards 0."""
        return self._binary("sdiv", a, b)

    def shl(self, a: Bits, b: Bits) -> Bits:
        """Bits moved up."""
        return self._binary("shl", a, b)

    def ashr(self, a: Bits, b: Bits) -> Bits:
        """Bits moved down, the sign filled in."""
        return self._binary("ashr", a, b)

    def lshr(self, a: Bits, b: Bits) -> Bits:
        """Bits moved down, zeros filled in."""
        return self._binary("lshr", a, b)

    def and_(self, a: Logical, b: Logical) -> Logical:
        """Bits that are in both."""
        return self._binary("and", a, b)

    def or_(self, a: Logical, b: Logical) -> Logical:
        """Bits that are in either."""
        return self._binary("or", a, b)

    def xor(self, a: Logical, b: Logical) -> Logical:
        """Bits that are in one of two."""
        return self._binary("xor", a, b)

    def icmp_signed(self, relation: str, a: Integer, b: Integer) -> Mask:
        """Whether a relation of integers holds."""
        word = _RELATIONS[relation]
        return self._compare(f"icmp {word}" if relation in ("==", "!=") else f"icmp s{word}", a, b)

    def icmp_unsigned(self, relation: str, a: Integer, b: Integer) -> Mask:
        """The same where integers have no sign."""
        word = _RELATIONS[relation]
        return self._compare(f"icmp {word}" if relation in ("==", "!=") else f"icmp u{word}", a, b)

    def sext(self, value: Bits, kind: ir.Type) -> Count:
        """The same integer with more bits."""
        return Count(self._convert("sext", value, kind))

    def zext(self, value: Bits, kind: ir.Type) -> Bits:
        """The same integer without a sign with more bits."""
        return Bits(self._convert("zext", value, kind))

    def trunc(self, value: Bits, kind: ir.Type) -> Bits:
        """The lower bits of an integer."""
        return Bits(self._convert("trunc", value, kind))

    def imul(self, a: Bits, b: Bits) -> Bits:
        """The lower bits of a product."""
        return self._binary("mul", a, b)

    # -- floats

    def fadd(self, a: Value, b: Value) -> Value:
        """a + b."""
        return self._binary("fadd", a, b)

    def fsub(self, a: Value, b: Value) -> Value:
        """a - b."""
        return self._binary("fsub", a, b)

    def fmul(self, a: Value, b: Value) -> Value:
        """Their product."""
        return self._binary("fmul", a, b)

    def fdiv(self, a: Value, b: Value) -> Value:
        """a / b."""
        return self._binary("fdiv", a, b)

    def fneg(self, value: Value) -> Value:
        """-value, of NaN as well."""
        return Value(self._put(value.type, f"fneg {value}"))

    def fcmp_ordered(self, relation: str, a: Value, b: Value) -> Mask:
        """Whether a relation holds; it does not where either is NaN."""
        return self._compare(f"fcmp o{_RELATIONS[relation]}", a, b)

    def fcmp_unordered(self, relation: str, a: Value, b: Value) -> Mask:
        """Whether a relation holds or either is NaN."""
        return self._compare(f"fcmp u{_RELATIONS[relation]}", a, b)

    def unordered(self, a: Value, b: Value) -> Mask:
        """Whether either is NaN."""
        return self._compare("fcmp uno", a, b)

    # -- from one to the other

    @overload
    def bitcast(self, value: Value | Mask, kind: ir.Type) -> Bits: ...
    @overload
    def bitcast(self, value: Bits, kind: ir.Type) -> Value: ...
    def bitcast(self, value: Value | Bits | Mask, kind: ir.Type) -> ir.IRValue:
        """The same bits as another type."""
        return self._convert("bitcast", value, kind)

    def fpext(self, value: Value, kind: ir.Type) -> Value:
        """The same number with more digits."""
        return Value(self._convert("fpext", value, kind))

    def fptrunc(self, value: Value, kind: ir.Type) -> Value:
        """A number rounded to fewer digits."""
        return Value(self._convert("fptrunc", value, kind))

    def sitofp(self, value: Count | Bits, kind: ir.Type) -> Value:
        """An integer as a float."""
        return Value(self._convert("sitofp", value, kind))

    def fptosi(self, value: Value, kind: ir.Type) -> Bits:
        """A float without its fraction as an integer, which has to hold it."""
        return Bits(self._convert("fptosi", value, kind))

    def select(self, condition: Mask, a: Anything, b: Anything) -> Anything:
        """One of two, in each lane. An address stands for numbers as wide as those at the first one."""
        kind = _same(a, b)
        return cast("Anything", self._put(kind, f"select {condition}, {a}, {b}"))

    def extract_element(self, vector: Anything, lane: int) -> Anything:
        """One lane of a vector."""
        return cast("Anything", self._put(vector.type.element, f"extractelement {vector}, i32 {lane}"))

    def insert_element(self, vector: Value, value: Value, lane: int) -> Value:
        """The vector with another value in one lane."""
        return Value(self._put(vector.type, f"insertelement {vector}, {value}, i32 {lane}"))

    def shuffle_vector(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lanes of two vectors; those of ``b`` are counted on from those of ``a``."""
        _same(a, b)
        kind = ir.VectorType(a.type.element, len(lanes))
        return Value(self._put(kind, f"shufflevector {a}, {b}, {ir.vector(_I32, lanes)}"))


def _same(a: ir.IRValue, b: ir.IRValue) -> ir.Type:
    """The type of two values.

    Raises:
        TypeError: they have none in common.
    """
    kind: ir.Type = a.type
    if kind is not b.type and kind != b.type:
        raise TypeError(f"{a} and {b} are of different types")
    return kind
