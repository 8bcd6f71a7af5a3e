"""`compile_web`: a layer as a WebAssembly module, whose weights a page fills in and changes.

A module exports ``memory`` and ``run()``. Its memory is::

    stack | addresses of the arguments of each call | tables and fixed constants | weights | zeros, working memory
    | input | output | data of the code

To use it: put the weights in their places (:meth:`WebModule.pack` says how), write x at ``input_offset`` (float32, row
major, channels first), call ``run()``, read y at ``output_offset``. Nothing makes the memory grow, so that views of it
stay what they are.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.choices import check_instance
from omniconv.compiler.code.build import Source, build_together
from omniconv.compiler.code.cache import open_cache
from omniconv.compiler.code.wasm import ALIGNMENT, STACK, link
from omniconv.compiler.memory.planner import Call
from omniconv.compiler.memory.storage import GUARD
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, plan
from omniconv.errors import LimitError
from omniconv.integers import as_shape, ceil_div
from omniconv.limits import format_size
from omniconv.program.from_spec import program_of
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv, Shape, Spec
from omniconv.target.model import Target
from omniconv.target.wasm import find_targets
from omniconv.web.packing import count_weights, find_index, flatten_weights, join_index, make_labels

MOST_MEMORY: Final = 2**30
"""Memory of a module, at most: a page gets it whole before anything runs [bytes]."""


@dataclass(frozen=True)
class WebModule:
    """A layer for inputs of one shape, compiled.

    Attributes:
        spec, shape, output: the layer, and the shapes of x and y.
        simd, relaxed: the module, for any engine with vectors and for one that has the relaxed instructions too.
        size: memory that the layer is laid out in [bytes].
        input_offset, output_offset, weights_offset: where x, y and the packed weights are [bytes].
        index: for each packed element the weight that it is, in the order w, b of the first convolution, w, b of the
            next, row major; -1 where the memory already holds what belongs there.
    """

    spec: Spec
    shape: Shape
    output: Shape
    simd: bytes = field(repr=False)
    relaxed: bytes = field(repr=False)
    size: int
    input_offset: int
    output_offset: int
    weights_offset: int
    index: npt.NDArray[np.int32] = field(repr=False)

    def pack(self, weights: Sequence[tuple[Any, Any]], packed: npt.NDArray[np.float32]) -> None:
        """Write weights where they belong, as a page does in its own language.

        Args:
            weights: one ``(w, b)`` or ``(w, None)`` for each convolution; no bias is a bias of zeros.
            packed: the memory from ``weights_offset`` on, as many float32 as ``index`` has elements.
        """
        flat = flatten_weights(self.spec, weights)
        copied = self.index >= 0
        packed[copied] = flat[self.index[copied]]

    def to_json(self) -> dict[str, Any]:
        """The module as a page gets it; see ``docs/design/0019-explorer.md``."""
        return {
            "text": self.spec.text(self.shape),
            "simd": encode(self.simd),
            "relaxed": encode(self.relaxed),
            "input": {"offset": self.input_offset, "shape": self.shape},
            "output": {"offset": self.output_offset, "shape": self.output},
            "weights": {
                "offset": self.weights_offset,
                "index": encode(self.index.astype("<i4").tobytes()),
                "count": count_weights(self.spec),
            },
        }


def encode(content: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(content).decode()


def compile_web(spec: Spec, shape: Sequence[int]) -> WebModule:
    """Compile a layer or a chain for inputs of ``shape``.

    Every convolution gets a bias, and sums are direct ones: Winograd filtering would compute with weights as it packs
    them.

    Raises:
        DataError: no spec.
        ShapeError: an input that the layer does not take.
        LimitError: more memory or more weights than a page should be given.
        UnsupportedError: a layer whose packing computes.
    """
    check_instance("spec", spec, (Conv, Chain), need="a Conv or a Chain", fix="omniconv.depthwise(8, 3)")
    shape = as_shape(shape, at=spec.text())
    at, output = spec.text(shape), spec.output_shape(shape)
    _check_size(4 * (math.prod(shape) + math.prod(output)), at)
    simd, relaxed = find_targets()
    options = Options(exact=True)
    numbers, marks = (plan(program_of(spec, shape, labels), simd, options) for labels in make_labels(spec))
    _check_size(_measure(numbers), at)
    room = _MemoryMap()
    weights, index = _place_constants(room, numbers, marks, at)
    for kind in ("zero", "scratch", "arena", "input", "output"):
        _place(room, numbers, kind)
    calls = [(repr(call.recipe), _write_arguments(room, call), call.recipe.units) for call in numbers.calls]
    recipes = {repr(call.recipe): call.recipe for call in numbers.calls}
    names = {key: f"kernel{number}" for number, key in enumerate(recipes)}
    run = _emit_run([(names[key], place, units) for key, place, units in calls])

    def build(target: Target) -> bytes:
        kernels = {names[key]: Source(key, partial(recipe.emit, target=target)) for key, recipe in recipes.items()}
        code = build_together(kernels, run, target, cache=open_cache())
        return link(code, {"run": "run"}, room.data, room.size)

    places = {buffer.kind: room.places[number] for number, buffer in enumerate(numbers.buffers)}
    return WebModule(
        spec, shape, output, build(simd), build(relaxed), room.size, places["input"], places["output"], weights, index
    )


@dataclass(slots=True)
class _MemoryMap:
    """Where everything is in the memory of a module.

    Attributes:
        size: what is laid out so far [bytes].
        places: buffer -> address.
        data: (address, content) of what is there from the start.
    """

    size: int = STACK
    places: dict[int, int] = field(default_factory=dict)
    data: list[tuple[int, bytes]] = field(default_factory=list)

    def take(self, size: int) -> int:
        """The address of so many bytes, with some behind them that may be read as well."""
        place = self.size
        self.size += _round_up(size)
        return place

    def put(self, content: bytes) -> int:
        """The address of some content; nothing is kept of zeros."""
        place = self.take(len(content))
        if any(content):
            self.data.append((place, content))
        return place


def _round_up(size: int) -> int:
    return ceil_div(size + GUARD, ALIGNMENT) * ALIGNMENT


def _check_size(needed: int, at: str) -> None:
    """Refuse before anything is made."""
    if needed > MOST_MEMORY:
        problem = f"the module needs {format_size(needed)} of memory"
        raise LimitError(problem, need=f"at most {format_size(MOST_MEMORY)}", fix="a smaller input", at=at)


def _measure(planned: Plan) -> int:
    """Memory that a module of a plan needs [bytes]."""
    loose = sum(_round_up(buffer.size) for buffer in planned.buffers if buffer.kind != "arena")
    arguments = sum(_round_up(4 * len(call.args)) for call in planned.calls)
    return STACK + loose + arguments + _round_up(planned.arena_bytes)


def _place_constants(room: _MemoryMap, numbers: Plan, marks: Plan, at: str) -> tuple[int, npt.NDArray[np.int32]]:
    """Place tables and constants, and then, together, what depends on weights: its address and where each weight is."""
    parts, sizes = [], []
    for number, (buffer, marked) in enumerate(zip(numbers.buffers, marks.buffers, strict=True)):
        if buffer.make is None or marked.make is None:
            continue
        content, other = buffer.make(), marked.make()
        index = find_index(content, other, at)
        if (index < 0).all():
            room.places[number] = room.put(np.ascontiguousarray(content).tobytes())
        else:
            fixed = np.where(index < 0, content.ravel(), np.float32(0)).astype(np.float32)
            parts.append((number, index, fixed))
            sizes.append(_round_up(buffer.size))
    first = room.size
    for number, _, fixed in parts:
        room.places[number] = room.put(fixed.tobytes())
    assert room.size == first + sum(sizes)
    elements = [((room.places[number] - first) // 4, index) for number, index, _ in parts]
    return first, join_index(elements, (room.size - first) // 4)


def _place(room: _MemoryMap, planned: Plan, kind: str) -> None:
    """Place all buffers of a kind."""
    start = room.take(planned.arena_bytes) if kind == "arena" else 0
    for number, buffer in enumerate(planned.buffers):
        if buffer.kind == kind:
            room.places[number] = start + planned.offsets[number] if kind == "arena" else room.take(buffer.size)


def _write_arguments(room: _MemoryMap, call: Call) -> int:
    """Place the addresses that a call gets."""
    addresses = [room.places[ref.buffer] + 4 * ref.offset for ref in call.args]
    return room.put(struct.pack(f"<{len(addresses)}I", *addresses))


def _emit_run(calls: Sequence[tuple[str, int, int]]) -> str:
    """The IR of ``run()``: kernels by name, with the addresses of their arguments, each for all of its units."""
    lines = [f"declare void @{name}(ptr, i64, i64, i64)" for name in dict.fromkeys(name for name, _, _ in calls)]
    lines.append("define void @run() {")
    for name, place, units in calls:
        lines.append(f"  call void @{name}(ptr inttoptr (i32 {place} to ptr), i64 0, i64 {units}, i64 0)")
    return "\n".join([*lines, "  ret void", "}"])
