"""A plan as it is, its packed constants and machine code: the part of a file that is believed under a seal only.

Kernels are given addresses and sizes by a plan, so one that somebody else wrote could make them read and write
anywhere. Where the seal is not this user's, or stands for another machine or another version of the compiler, nothing
of this part is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.code.build import LoadedKernel, Source, digest_of
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Call, Decision, Group, Recipe
from omniconv.compiler.memory.storage import Buffer, BufferRef
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan
from omniconv.program.element import find_kept
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.runtime.executable import Executable
from omniconv.target.model import Target

FORMAT: Final = 1
"""Of this part of a file."""


@dataclass(frozen=True, slots=True)
class SavedKernel:
    """The recipe of a kernel whose machine code is at hand: its text, which identifies the code.

    Attributes:
        text: ``repr`` of the recipe.
        units: units of work, shared out over the threads.
        serves: what sizes it is right for, in words; empty for those that it was written for.
    """

    text: str
    units: int
    serves: str

    @classmethod
    def of(cls, recipe: Recipe) -> SavedKernel:
        """Of the recipe of a call."""
        return cls(repr(recipe), recipe.units, getattr(recipe, "serves", ""))

    def __repr__(self) -> str:
        return self.text

    def emit(self, name: str, target: Target) -> str:
        """Never needed: a plan is used with its machine code, or not at all."""
        raise AssertionError(f"the machine code of {name} for {target} is not in the file")


@dataclass(frozen=True, slots=True, eq=False)
class SavedCode:
    """Machine code by digest."""

    digests: tuple[str, ...]
    objects: tuple[npt.NDArray[np.uint8], ...]

    def read(self) -> dict[str, bytes]:
        """As it is linked."""
        return {digest: bytes(code) for digest, code in zip(self.digests, self.objects, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class SavedCalls:
    """Calls of kernels as columns; what many of them have in common stands once, and is meant by its number.

    Attributes:
        kernels, why, decisions: what the numbers mean.
        rows: of each call the numbers of its kernel, reasons and decision, its step, and how many arguments it has.
        args: buffer and offset [elements] of all arguments, and the number of their element.
        elements: what these numbers mean; the first one is that of the program.
        what, how: words of each call.
        fixed: whether no size of it follows from that of an image.
    """

    kernels: tuple[SavedKernel, ...]
    why: tuple[tuple[str, ...], ...]
    decisions: tuple[Decision | None, ...]
    rows: npt.NDArray[np.int64]
    args: npt.NDArray[np.int64]
    elements: tuple[str | None, ...]
    what: tuple[str, ...]
    how: tuple[str, ...]
    fixed: tuple[bool, ...]

    @classmethod
    def of(cls, plan: Plan) -> SavedCalls:
        """The calls of a plan."""
        kernels: dict[SavedKernel, int] = {}
        why: dict[tuple[str, ...], int] = {}
        decisions: dict[Decision | None, int] = {}
        elements: dict[str | None, int] = {None: 0}
        rows, args = [], []
        for call in plan.calls:
            kernel = SavedKernel.of(call.recipe)
            number = kernels.setdefault(kernel, len(kernels))
            reasons, chosen = why.setdefault(call.why, len(why)), decisions.setdefault(call.decision, len(decisions))
            rows.append((number, reasons, chosen, call.step, len(call.args)))
            for buffer, offset, element in call.args:
                name = None if element is None else element.name
                args.append((buffer, offset, elements.setdefault(name, len(elements))))
        return cls(
            tuple(kernels),
            tuple(why),
            tuple(decisions),
            np.array(rows, np.int64).reshape(-1, 5),
            np.array(args, np.int64).reshape(-1, 3),
            tuple(elements),
            tuple(call.what for call in plan.calls),
            tuple(call.how for call in plan.calls),
            tuple(call.fixed for call in plan.calls),
        )

    def calls(self) -> tuple[Call, ...]:
        """The calls."""
        elements = [None if name is None else find_kept(name) for name in self.elements]
        refs = [BufferRef(buffer, offset, elements[number]) for buffer, offset, number in self.args.tolist()]
        found, done = [], 0
        for (kernel, why, chosen, step, count), what, how, fixed in zip(
            self.rows.tolist(), self.what, self.how, self.fixed, strict=True
        ):
            args = tuple(refs[done : done + count])
            recipe = self.kernels[kernel]
            found.append(Call(recipe, args, step, what, self.why[why], self.decisions[chosen], how, fixed))
            done += count
        return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class SavedPlan:
    """A plan, without what is computed and for which machine.

    Attributes:
        kinds, sizes, contents: of each buffer its kind, its size and number, and what it holds, where it is a constant.
    """

    calls: SavedCalls
    groups: tuple[tuple[int, tuple[int, ...]], ...]
    kinds: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    contents: tuple[npt.NDArray[np.uint8] | None, ...]
    offsets: tuple[int, ...]
    arena_bytes: int
    zero_bytes: int
    scratch_bytes: int
    inputs: Mapping[str, Layout]
    outputs: Mapping[str, Layout]
    code: SavedCode

    @classmethod
    def of(cls, net: Executable) -> SavedPlan:
        """The plan of an executable, with its constants and code."""
        plan = net.plan
        return cls(
            SavedCalls.of(plan),
            tuple((group.first, group.counts) for group in plan.groups),
            tuple(buffer.kind for buffer in plan.buffers),
            tuple((buffer.size, buffer.index) for buffer in plan.buffers),
            tuple(_content(buffer) for buffer in plan.buffers),
            plan.offsets,
            plan.arena_bytes,
            plan.zero_bytes,
            plan.scratch_bytes,
            plan.inputs,
            plan.outputs,
            code_of(net.code),
        )

    def plan(self, program: Program, target: Target, options: Options) -> Plan:
        """The plan."""
        buffers = tuple(
            Buffer(kind, size, index, make=None if content is None else partial(_same, content))
            for kind, (size, index), content in zip(self.kinds, self.sizes, self.contents, strict=True)
        )
        return Plan(
            program,
            target,
            self.calls.calls(),
            tuple(Group(first, counts) for first, counts in self.groups),
            buffers,
            self.offsets,
            self.arena_bytes,
            self.zero_bytes,
            self.scratch_bytes,
            dict(self.inputs),
            dict(self.outputs),
            options.row_major,
            options.exact,
            options.precision,
            options.float32_layers,
            options.accuracy,
        )


def code_of(kernels: Sequence[LoadedKernel]) -> SavedCode:
    """The machine code of kernels."""
    found = {kernel.digest: np.frombuffer(kernel.code, np.uint8) for kernel in kernels}
    return SavedCode(tuple(found), tuple(found.values()))


def identify(target: Target) -> bytes:
    """What machine code and a plan belong to beside what is computed: the target with all its features, LLVM, and the
    source files of this package that make them.
    """
    return digest_of(Source(f"saved {FORMAT}", str, "saved"), target).encode()


def _content(buffer: Buffer) -> npt.NDArray[np.uint8] | None:
    if buffer.make is None:
        return None
    return np.ascontiguousarray(buffer.make()).reshape(-1).view(np.uint8)


def _same(content: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return content
