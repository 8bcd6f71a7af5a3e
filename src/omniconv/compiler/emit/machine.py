"""The types of what runs on the machine, each its own to the type checker.

To LLVM a pixel's address, the number of a row and a vector of pixels are all values; here a :data:`Pointer`, a
:data:`Count` and a :data:`Value` are three types, and taking one for another is an error before any code is made.
While a kernel is generated all of them are values of IR.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NewType, TypeAlias, TypeVar

from omniconv.compiler.emit import ir
from omniconv.open_size import OpenSize

Value = NewType("Value", ir.NamedValue)
"""An element, or a vector of them."""
Pointer = NewType("Pointer", ir.NamedValue)
"""An address."""
Mask = NewType("Mask", ir.NamedValue)
"""An i1, or a vector of them."""
Count = NewType("Count", ir.NamedValue)
"""An i64: a size or a position."""
Bits = NewType("Bits", ir.NamedValue)
"""The bits of a :data:`Value`: an integer as wide as the element, or a vector of them."""
Slot = NewType("Slot", ir.Variable)
"""A variable that holds a :data:`Value`."""

Index: TypeAlias = int | OpenSize | Count
"""A position or a size that is known while generating, follows from the sizes that the kernel is given, or is only
known in the middle of the code."""
Condition: TypeAlias = bool | Mask
"""Whether something holds is known while generating, or only on the machine."""
Branch: TypeAlias = AbstractContextManager[object]
"""One side of a choice that is made on the machine."""

Anything = TypeVar("Anything", Value, Pointer, Mask, Count, Bits)
Integer = TypeVar("Integer", Count, Bits)
Logical = TypeVar("Logical", Mask, Bits)
