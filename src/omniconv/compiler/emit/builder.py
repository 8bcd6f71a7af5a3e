"""The kernel builder: a thin layer over the writer of instructions, in the vocabulary of tiled loops.

A lowering is Python that runs while generating (tiles, taps, unrolling); what it calls on a :class:`Kernel` runs on the
machine. Indices may be Python integers or machine values: arithmetic on integers folds at once, so the same lowering
code serves static and dynamic bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.bfloat16 import HALF, keep_upper, narrow, raise_lower, widen
from omniconv.compiler.emit.machine import (
    Anything,
    Bits,
    Branch,
    Condition,
    Count,
    Index,
    Mask,
    Pointer,
    Slot,
    Value,
)
from omniconv.compiler.emit.writer import Writer
from omniconv.open_size import Expression, Known, OpenSize, least, most
from omniconv.program.element import ELEMENTS, INTEGERS, Element
from omniconv.target.model import Target

I1 = ir.IntType(1)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
PTR = ir.POINTER
I8 = ir.IntType(8)
I16 = ir.IntType(16)
SCALARS = {"float": ir.FLOAT, "double": ir.DOUBLE, "bfloat": HALF, "i16": I16, "i32": I32}
"""LLVM's types of the elements, by name; numbers that are only kept are bits to it."""
KNOWN = (int, OpenSize)
"""What arithmetic on indices folds."""
_ELEMENTS = {element.llvm: element for element in (*ELEMENTS.values(), *INTEGERS.values())}


def element_of(kind: ir.Type) -> Element:
    """The element of a type of values: kernels may hold some in a wider one than their own."""
    return _ELEMENTS[str(kind.element if isinstance(kind, ir.VectorType) else kind)]


class Kernel:
    """One function ``void name(ptr args, i64 begin, i64 end, i64 own)`` under construction.

    ``args`` points to an array of buffer addresses; ``begin`` and ``end`` are this thread's share of the units of work,
    and ``own`` is where its memory begins behind that of the first thread [bytes]. Vectors have ``lanes`` lanes, those
    of the target where nothing else is asked for; their elements are those of the target, ``scalar`` to LLVM. Loads
    from the buffers that the target calls narrow widen numbers to these, and stores round them.
    """

    def __init__(self, name: str, target: Target, lanes: int | None = None) -> None:
        self.target = target
        self.element, self.scalar = target.element, SCALARS[target.element.llvm]
        self.lanes = target.lanes if lanes is None else lanes
        self.module = ir.IRModule(name, target.triple)
        function = ir.IRFunction(self.module, ir.FunctionType(ir.VOID, [PTR, I64, I64, I64]), name)
        args, begin, end, own = function.args
        self._args, self.begin, self.end, self._own = Pointer(args), Count(begin), Count(end), Count(own)
        self._entry = Writer(function, function.append_basic_block("entry"))
        start = function.append_basic_block("start")
        self.b = Writer(function, start)
        self._start = start
        self._cache: dict[int, Pointer] = {}
        self._sizes: dict[Expression, Count] = {}
        self._numbers: dict[tuple[float, ...], Pointer] = {}
        self._intrinsics: dict[str, ir.IRFunction] = {}

    def finish(self) -> str:
        """Close the function and return the module's text."""
        self.b.ret_void()
        self._entry.branch(self._start)
        return str(self.module)

    # -- arguments and scalars

    def arg(self, index: int) -> Pointer:
        """The buffer address at ``args[index]``, loaded once on entry."""
        if index not in self._cache:
            slot = self._entry.gep(self._args, self.index(index), PTR)
            kind = ir.NARROW_POINTER if index in self.target.narrow else PTR
            self._cache[index] = Pointer(self._entry.load(slot, kind))
        return self._cache[index]

    def own(self, index: int) -> Pointer:
        """The memory of this thread, where ``args[index]`` is that of the first one. Kernels of other steps may run
        beside this one on other threads: how far apart threads are is for the whole plan, not what one kernel takes.
        """
        return self.b.gep(self.arg(index), self.index(self._own), I8)

    def word(self, index: int) -> Count:
        """The 32-bit integer at ``args[index]``, where addresses have 32 bits as well; loaded once on entry."""
        slot = self._entry.gep(self._args, self.index(index), I32)
        return self._entry.sext(Bits(self._entry.load(slot, I32)), I64)

    def lookup_word(self, table: Pointer, index: Index) -> Count:
        """``table[index]`` of 32-bit integers."""
        place = self.b.gep(table, self.index(index), I32)
        return self.b.sext(Bits(self.b.load(place, I32)), I64)

    def index(self, value: Index) -> Count:
        """A machine value for an index. What follows from open sizes is computed once, on entry."""
        if isinstance(value, int):
            return Count(ir.integer(I64, value))
        if isinstance(value, OpenSize):
            return self._compute(value.tree, value.trace.at)
        return value

    def _compute(self, tree: Expression, at: int) -> Count:
        """An expression of open sizes, which argument ``at`` holds."""
        if isinstance(tree, int):
            return Count(ir.integer(I64, tree))
        if tree not in self._sizes:
            b, (operation, *parts) = self._entry, tree
            if operation == "size":
                place = b.gep(self.arg(at), self.index(cast("int", parts[0])), I64)
                self._sizes[tree] = Count(b.load(place, I64))
                return self._sizes[tree]
            one, other = (self._compute(cast("Expression", part), at) for part in parts)
            match operation:
                case "+":
                    value = b.add(one, other, nsw=True)
                case "-":
                    value = b.sub(one, other, nsw=True)
                case "*":
                    value = b.mul(one, other, nsw=True)
                case "min":
                    value = b.select(b.icmp_signed("<", one, other), one, other)
                case "max":
                    value = b.select(b.icmp_signed(">", one, other), one, other)
                case _:  # rounded down, also below zero: where remainder and divisor have different signs
                    quotient = b.sdiv(one, other)
                    below = b.icmp_signed("<", b.mul(b.sub(one, b.mul(quotient, other)), other), self.index(0))
                    value = b.select(below, b.sub(quotient, self.index(1)), quotient)
            self._sizes[tree] = value
        return self._sizes[tree]

    def add(self, a: Index, b: Index) -> Index:
        """a + b."""
        if isinstance(a, KNOWN) and isinstance(b, KNOWN):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        if isinstance(b, int) and b == 0:
            return a
        return self.b.add(self.index(a), self.index(b), nsw=True)

    def sub(self, a: Index, b: Index) -> Index:
        """a - b."""
        if isinstance(a, KNOWN) and isinstance(b, KNOWN):
            return a - b
        if isinstance(b, int) and b == 0:
            return a
        return self.b.sub(self.index(a), self.index(b), nsw=True)

    def mul(self, a: Index, b: Index) -> Index:
        """a * b."""
        if isinstance(a, KNOWN) and isinstance(b, KNOWN):
            return a * b
        for one, other in ((a, b), (b, a)):
            if isinstance(one, int) and one == 0:
                return 0
            if isinstance(one, int) and one == 1:
                return other
        return self.b.mul(self.index(a), self.index(b), nsw=True)

    def divmod(self, a: Index, b: Known) -> tuple[Index, Index]:
        """Quotient and remainder of a non-negative index by a positive size."""
        if isinstance(a, KNOWN):
            return divmod(a, b)
        if isinstance(b, int) and b == 1:
            return a, 0
        quotient = self.b.udiv(a, self.index(b))
        return quotient, self.b.sub(a, self.b.mul(quotient, self.index(b)))

    def split(self, unit: Index, *sizes: Known) -> list[Index]:
        """Digits of ``unit`` in the mixed radix ``sizes``, most significant first."""
        digits: list[Index] = []
        for size in reversed(sizes[1:]):
            unit, digit = self.divmod(unit, size)
            digits.append(digit)
        return [unit, *reversed(digits)]

    def min(self, a: Index, b: Index) -> Index:
        """The smaller index."""
        if isinstance(a, KNOWN) and isinstance(b, KNOWN):
            return least(a, b)
        a, b = self.index(a), self.index(b)
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def max(self, a: Index, b: Index) -> Index:
        """The larger index."""
        if isinstance(a, KNOWN) and isinstance(b, KNOWN):
            return most(a, b)
        a, b = self.index(a), self.index(b)
        return self.b.select(self.b.icmp_signed(">", a, b), a, b)

    def compare(self, relation: str, a: Index, b: Index) -> Condition:
        """``a relation b`` as a Python bool when both are known, else an i1."""
        if isinstance(a, int) and isinstance(b, int):
            return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[relation]
        return self.b.icmp_signed(relation, self.index(a), self.index(b))

    def both(self, a: Condition, b: Condition) -> Condition:
        """Logical and of two conditions (Python bools or i1)."""
        if isinstance(a, bool):
            return b if a else False
        if isinstance(b, bool):
            return a if b else False
        return self.b.and_(a, b)

    def within(self, index: Index, size: Index) -> Condition:
        """``0 <= index < size``, as one unsigned comparison where it is not known."""
        if isinstance(index, int) and isinstance(size, int):
            return 0 <= index < size
        return self.b.icmp_unsigned("<", self.index(index), self.index(size))

    def choose(self, condition: Condition, a: Anything, b: Anything) -> Anything:
        """``a if condition else b``."""
        if isinstance(condition, bool):
            return a if condition else b
        return self.b.select(condition, a, b)

    def table(self, values: Sequence[Known]) -> Pointer:
        """An array of 64-bit integers, constant where they are known; returns its address."""
        if any(isinstance(value, OpenSize) for value in values):
            place = Pointer(self._entry.alloca(I64, len(values)))
            for number, value in enumerate(values):
                each = self._entry.gep(place, self.index(number), I64)
                self._entry.store(cast("Value", self.index(value)), each)
            return place
        return self._constants("table", ir.array(I64, [ir.integer(I64, int(value)) for value in values]))

    def _constants(self, word: str, content: ir.IRValue) -> Pointer:
        """A constant array of the module."""
        return Pointer(ir.GlobalTable(self.module, content, f"{self.module.name}_{word}{len(self.module.contents)}"))

    def lookup(self, table: Pointer, index: Index) -> Count:
        """``table[index]`` of a :meth:`table`."""
        return Count(self.b.load(self.b.gep(table, self.index(index), I64), I64))

    def numbers(self, values: tuple[float, ...]) -> Pointer:
        """A constant array of float64 numbers, made once; returns its address."""
        if values not in self._numbers:
            content = ir.array(ir.DOUBLE, [ir.number(ir.DOUBLE, value) for value in values])
            self._numbers[values] = self._constants("numbers", content)
        return self._numbers[values]

    # -- control

    @contextmanager
    def repeat(self, condition: Callable[[], Mask]) -> Iterator[None]:
        """``while condition():``; what it asks about are variables that the body changes."""
        function = self.b.function
        head, body, done = (function.append_basic_block(n) for n in ("head", "body", "done"))
        self.b.branch(head)
        self.b.position_at_end(head)
        self.b.cbranch(condition(), body, done)
        self.b.position_at_end(body)
        yield
        self.b.branch(head)
        self.b.position_at_end(done)

    def any(self, mask: Mask) -> Mask:
        """Whether some lane of a mask is set."""
        kind = mask.type
        if not isinstance(kind, ir.VectorType):
            return mask
        bits = ir.IntType(kind.count)
        return self.b.icmp_unsigned("!=", self.b.bitcast(mask, bits), Bits(ir.integer(bits, 0)))

    @contextmanager
    def loop(self, count: Index, start: Index = 0, step: int = 1) -> Iterator[Index]:
        """``for i in range(start, count, step)``; a loop known to run once is not a loop."""
        if isinstance(count, int) and isinstance(start, int) and len(range(start, count, step)) == 1:
            yield start
            return
        function = self.b.function
        head, body, done = (function.append_basic_block(n) for n in ("head", "body", "done"))
        before = self.b.block
        self.b.branch(head)
        self.b.position_at_end(head)
        phi = self.b.phi(I64)
        i = Count(phi)
        phi.add_incoming(self.index(start), before)
        self.b.cbranch(self.b.icmp_signed("<", i, self.index(count)), body, done)
        self.b.position_at_end(body)
        yield i
        phi.add_incoming(self.b.add(i, self.index(step), nsw=True), self.b.block)
        self.b.branch(head)
        self.b.position_at_end(done)

    @contextmanager
    def when(self, condition: Condition) -> Iterator[None]:
        """Run the body only if ``condition`` holds (emit nothing special when it is known to)."""
        if condition is True:
            yield
            return
        if condition is False:
            condition = Mask(ir.integer(I1, 0))
        with self.b.if_then(condition):
            yield

    @contextmanager
    def branches(self, condition: Mask) -> Iterator[tuple[Branch, Branch]]:
        """``with k.branches(c) as (then, otherwise): with then: ...; with otherwise: ...``."""
        with self.b.if_else(condition) as pair:
            yield pair

    def both_ways(self, condition: Condition, body: Callable[[bool], None]) -> None:
        """Emit ``body(True)`` for when a condition holds and ``body(False)`` for when not; only one where it is
        known.
        """
        if isinstance(condition, bool):
            body(condition)
            return
        with self.branches(condition) as (then, otherwise):
            with then:
                body(True)
            with otherwise:
                body(False)

    # -- memory

    def shift(self, pointer: Pointer, elements: Index) -> Pointer:
        """``pointer + elements``."""
        if isinstance(elements, int) and elements == 0:
            return pointer
        return self.b.gep(pointer, self.index(elements), self._kept(pointer))

    def _kept(self, pointer: Pointer) -> ir.Type:
        """The type of the numbers at an address."""
        return HALF if pointer.type.narrow else self.scalar

    def anchor(self, pointer: Pointer) -> Pointer:
        """The same pointer, its origin hidden from the optimiser.

        LLVM's loop strength reduction looks for common parts in the sums behind all addresses of a loop, which takes
        most of the compile time of an unrolled tile and gains nothing: the tile's offsets are constants already.
        """
        found = self.b.call(self.intrinsic("llvm.launder.invariant.group.p0", PTR, [PTR]), [pointer])
        found.type = pointer.type
        return Pointer(found)

    def join(self, low: Value, high: Value) -> Value:
        """The lower half of one vector and the upper half of another."""
        half = low.type.count // 2
        return self.b.select(self.first_lanes(half, 2 * half), low, high)

    def hold(self, value: Value) -> Value:
        """The same vector, made in a register as it stands: LLVM would merge the shuffles before and after into other
        ones. No instruction; nothing where the letter of such a register is not known.
        """
        letter = self.target.traits.vector_letter
        if not letter:
            return value
        kind = ir.FunctionType(value.type, [value.type])
        return Value(self.b.asm(kind, f"={letter},0", [value], side_effect=False))

    def fence(self) -> None:
        """Keep what is loaded after this from being loaded before it: LLVM would gather the loads of a long block at
        its start and then run out of registers. No instruction.
        """
        self.b.asm(ir.FunctionType(ir.VOID, []), "~{memory}", [], side_effect=True)

    def variable(self, kind: ir.Type, initial: Value | None = None) -> Slot:
        """A stack slot; the optimiser turns it into a register."""
        slot = self._entry.alloca(kind)
        if initial is not None:
            self.b.store(initial, slot)
        return slot

    def get(self, slot: Slot) -> Value:
        """The content of a :meth:`variable`."""
        return Value(self.b.load(slot, slot.allocated_type))

    def set(self, slot: Slot, value: Value) -> None:
        """Overwrite a :meth:`variable`."""
        self.b.store(value, slot)

    def vector_type(self, lanes: int | None = None) -> ir.Type:
        """A vector of so many elements; the element itself for one lane."""
        lanes = self.lanes if lanes is None else lanes
        return self.scalar if lanes == 1 else ir.VectorType(self.scalar, lanes)

    def first_lanes(self, count: int, lanes: int) -> Mask:
        """The mask of the first ``count`` of so many lanes."""
        return Mask(ir.vector(I1, [lane < count for lane in range(lanes)]))

    def load(
        self, pointer: Pointer, elements: Index = 0, *, count: int | None = None, lanes: int | None = None
    ) -> Value:
        """Load one vector; with ``count`` only the first lanes are touched, the others are zero."""
        lanes = self.lanes if lanes is None else lanes
        address, scalar = self.shift(pointer, elements), self._kept(pointer)
        kind = scalar if lanes == 1 else ir.VectorType(scalar, lanes)
        found = self._load(address, kind, count if count is None or count < lanes else None)
        return widen(self.b, Bits(found)) if pointer.type.narrow else found

    def _load(self, address: Pointer, kind: ir.Type, count: int | None) -> Value:
        """Load one vector of numbers as they are kept."""
        scalar = self._kept(address)
        size = self._size(address)
        if count is None or not isinstance(kind, ir.VectorType):
            return Value(self.b.load(address, kind, size))
        count = int(count)  # one that is open is pinned: masks and parts are of a known number
        zero = self.splat(0.0, kind)
        if count == 1:
            return self.b.insert_element(zero, Value(self.b.load(address, scalar, size)), 0)
        mask = self.first_lanes(count, kind.count)
        function = self.intrinsic(
            f"llvm.masked.load.{self.suffix(kind)}.p0", kind, [PTR, mask.type, kind], aligned={0: size}
        )
        return Value(self.b.call(function, [address, mask, zero], noundef=0))

    def _size(self, pointer: Pointer) -> int:
        """Size of the numbers at an address [bytes]."""
        return HALF.width // 8 if pointer.type.narrow else self.element.bytes

    def load_scalar(self, pointer: Pointer, elements: Index = 0) -> Value:
        """Load one element."""
        return self.load(pointer, elements, lanes=1)

    def load_splat(self, pointer: Pointer, elements: Index = 0, *, lanes: int | None = None) -> Value:
        """Load one element into every lane. Of a bfloat16 what follows it is read as well, and then moved out: LLVM
        would widen it outside of vector registers, were it not held in one.
        """
        lanes = self.lanes if lanes is None else lanes
        if pointer.type.narrow and lanes >= 4:
            address = self.shift(pointer, elements)
            word = Value(self.b.load(address, I32, self._size(address)))
            return raise_lower(self.b, Bits(self.hold(self._spread(word, ir.VectorType(I32, lanes)))))
        return self.spread(self.load_scalar(pointer, elements), lanes)

    def load_pairs(self, pointer: Pointer, elements: Index, lanes: int) -> Bits:
        """Load so many pairs of bfloat16, each as a word of 32 bits."""
        address = self.shift(pointer, elements)
        return Bits(self.b.load(address, ir.VectorType(I32, lanes), self._size(address)))

    def load_half(self, pointer: Pointer, elements: Index, half: int, *, lanes: int) -> Value:
        """Load the first (0) or the second (1) number of each of so many pairs of bfloat16: one operation, where a
        vector of them is spread out first.
        """
        words = self.load_pairs(pointer, elements, lanes)
        return keep_upper(self.b, words) if half else raise_lower(self.b, words)

    def spread_pair(self, pointer: Pointer, elements: Index, lanes: int, *, alone: bool = False) -> Bits:
        """Load one pair of bfloat16 into every lane; a number that is ``alone`` is beside a zero."""
        address = self.shift(pointer, elements)
        word = Bits(self.b.load(address, HALF if alone else I32, self._size(address)))
        word = self.b.zext(word, I32) if alone else word
        return cast("Bits", self._spread(cast("Value", word), ir.VectorType(I32, lanes)))

    def add_pairs(self, total: Value, a: Bits, b: Bits) -> Value:
        """total + a b, for each lane the products of both numbers of its pairs; by the machine's own rounding."""
        kind, halves = total.type, ir.VectorType(ir.BFLOAT, 2 * total.type.count)
        name = self.target.traits.pair_sums.format(32 * kind.count)
        function = self.intrinsic(name, kind, [kind, halves, halves])
        return Value(self.b.call(function, [total, *(self.b.bitcast(each, halves) for each in (a, b))]))

    def store(self, value: Value, pointer: Pointer, elements: Index = 0, *, count: int | None = None) -> None:
        """Store one vector; with ``count`` only its first lanes."""
        address, size = self.shift(pointer, elements), self._size(pointer)
        kept = value
        if pointer.type.narrow:
            self.fence()  # else LLVM would round all results of a tile before it stores one, and spill them
            kept = Value(narrow(self.b, value))
        kind = kept.type
        if count is None or count >= kind.count:
            self.b.store(kept, address, size)
            return
        count = int(count)  # as in `load`
        if not self.target.traits.masked_store_cheap:
            self._store_parts(kept, address, count)
            return
        mask = self.first_lanes(count, kind.count)
        function = self.intrinsic(
            f"llvm.masked.store.{self.suffix(kind)}.p0", ir.VOID, [kind, PTR, mask.type], aligned={1: size}
        )
        self.b.call(function, [kept, address, mask])

    def _store_parts(self, kept: Value, address: Pointer, count: int) -> None:
        """Store the first ``count`` lanes as vectors of falling powers of two."""
        first, size = 0, self._size(address)
        while first < count:
            lanes = 1 << ((count - first).bit_length() - 1)
            part = (
                self.b.extract_element(kept, first)
                if lanes == 1
                else self.permute(kept, list(range(first, first + lanes)))
            )
            self.b.store(part, self.shift(address, first), size)
            first += lanes

    def store_scalar(self, value: Value, pointer: Pointer, elements: Index = 0) -> None:
        """Store one element."""
        self.store(value, pointer, elements)

    def prefetch(self, pointer: Pointer, elements: Index = 0, *, write: bool = False, level: int = 1) -> None:
        """Ask for the cache line of an address that will be read, or written, soon, into a level of the caches; the
        address may be anything.
        """
        found = self.intrinsic("llvm.prefetch.p0", ir.VOID, [PTR, I32, I32, I32])
        what, near, data = (ir.integer(I32, value) for value in (int(write), 4 - level, 1))
        self.b.call(found, [self.shift(pointer, elements), what, near, data])

    # -- arithmetic on vectors (or scalars: the type follows the operands)

    def intrinsic(
        self, name: str, result: ir.Type, parameters: list[ir.Type], aligned: dict[int, int] | None = None
    ) -> ir.IRFunction:
        """One of LLVM's own functions."""
        if name not in self._intrinsics:
            signature = ir.FunctionType(result, parameters)
            self._intrinsics[name] = ir.IRFunction(self.module, signature, name, aligned)
        return self._intrinsics[name]

    def suffix(self, kind: ir.Type) -> str:
        """The type of numbers in the names of intrinsics."""
        suffix = element_of(kind).suffix
        return f"v{kind.count}{suffix}" if isinstance(kind, ir.VectorType) else suffix

    def call(self, operation: str, *values: Value, flags: str = "") -> Value:
        """An LLVM intrinsic of one type, e.g. ``call("sqrt", x)``, with what it may assume."""
        kind = values[0].type
        name = f"llvm.{operation}.{self.suffix(kind)}"
        return Value(self.b.call(self.intrinsic(name, kind, [kind] * len(values)), values, flags=flags))

    def splat(self, value: float, like: ir.Type | None = None) -> Value:
        """A constant in every lane."""
        kind = self.vector_type() if like is None else like
        scalar = kind.element if isinstance(kind, ir.VectorType) else kind
        number = ir.integer(scalar, int(value)) if isinstance(scalar, ir.IntType) else ir.number(scalar, value)
        return Value(ir.splat(kind, number))

    def spread(self, scalar: Value, lanes: int | None = None) -> Value:
        """A scalar in every lane."""
        kind = self.vector_type(lanes)
        assert isinstance(kind, ir.VectorType)
        return self._spread(scalar, kind)

    def _spread(self, scalar: Value, kind: ir.VectorType) -> Value:
        undefined = Value(ir.undefined(kind))
        first = self.b.insert_element(undefined, scalar, 0)
        return self.b.shuffle_vector(first, undefined, [0] * kind.count)

    def gather(self, scalars: Sequence[Value]) -> Value:
        """A vector of scalars."""
        result = Value(ir.undefined(self.vector_type(len(scalars))))
        for lane, scalar in enumerate(scalars):
            result = self.b.insert_element(result, scalar, lane)
        return result

    def scatter(self, value: Value) -> list[Value]:
        """The scalars of a vector."""
        return [self.b.extract_element(value, lane) for lane in range(value.type.count)]

    def permute(self, value: Value, lanes: list[int]) -> Value:
        """``value[lanes]``, with constant lane numbers."""
        if lanes == list(range(value.type.count)):
            return value
        return self.b.shuffle_vector(value, Value(ir.undefined(value.type)), lanes)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, fused where the machine can."""
        if self.target.fma:
            return self.call("fma", a, b, c)
        relaxed, kind = self.target.traits.relaxed_madd, a.type
        if relaxed and kind == self.vector_type(self.target.lanes):
            name = f"{relaxed}.{self.suffix(kind)}"
            return Value(self.b.call(self.intrinsic(name, kind, [kind] * 3), [a, b, c]))
        return self.b.fadd(self.b.fmul(a, b), c)

    def larger(self, a: Value, b: Value) -> Value:
        """``a if a > b else b``: one instruction; a NaN in ``b`` survives, one in ``a`` does not."""
        return self.b.select(self.b.fcmp_ordered(">", a, b), a, b)

    def smaller(self, a: Value, b: Value) -> Value:
        """``a if a < b else b``: one instruction; a NaN in ``b`` survives, one in ``a`` does not."""
        return self.b.select(self.b.fcmp_ordered("<", a, b), a, b)
