"""Machine code that several calls of one plan share.

Most calls of a network for one size have machine code of their own, into which all of their sizes are written. Some
differ in nothing but sizes that no inner loop depends on: the bands of a depthwise layer at the upper border, inside
and at the lower border, pointwise layers of several channel counts in tiles of one form. These get one kernel, which is
given the sizes. It is written with the sizes *opened* (:mod:`omniconv.open_size`), so that it is right for each of them
or not used; and it does the same operations in the same order, so that no bit changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from omniconv.compiler.code.build import Source
from omniconv.compiler.code.opened import Opened, OpenKernels
from omniconv.compiler.memory.planner import Recipe
from omniconv.compiler.memory.storage import Buffer, BufferRef
from omniconv.compiler.planning.plan import Plan
from omniconv.target.model import Target


class _CallKey(NamedTuple):
    """What identifies the machine code of a call: its recipe, where the sizes would be given, its word, and the buffers
    that keep bfloat16.
    """

    recipe: Recipe
    at: int
    what: str
    narrow: tuple[int, ...]


def share_code(plan: Plan, begin: Callable[[Sequence[Source]], object] = lambda _: None) -> Plan:
    """The plan with one kernel in the place of each set that differs in nothing but sizes that a kernel can be given.
    What nothing else is like stays as it is.

    Args:
        plan: of one size.
        begin: is told of each such kernel as soon as it is written, so that it is compiled while others are.
    """
    keys = [_CallKey(call.recipe, len(call.args), call.what, call.narrow) for call in plan.calls]
    kernels = _find_shared(dict.fromkeys(keys), plan.target, begin)
    if not kernels:
        return plan
    sizes: list[int] = []
    places: dict[_CallKey, int] = {}
    for key, opened in kernels.items():
        places[key] = len(sizes)
        sizes += opened.sizes
    table, words = len(plan.buffers), 8 // plan.target.element.bytes
    calls = [
        call.open(kernels[key].kernel, BufferRef(table, words * places[key])) if key in kernels else call
        for key, call in zip(keys, plan.calls, strict=True)
    ]
    buffer = Buffer("constant", 8 * len(sizes), make=lambda: np.asarray(sizes, np.int64))
    return replace(plan, calls=tuple(calls), buffers=(*plan.buffers, buffer), offsets=(*plan.offsets, 0))


def _find_shared(
    keys: Iterable[_CallKey], target: Target, begin: Callable[[Sequence[Source]], object]
) -> dict[_CallKey, Opened]:
    """The kernels that serve several of these."""
    kernels = OpenKernels("shared")
    found: dict[_CallKey, Opened] = {}
    users: Counter[tuple[str, str, tuple[int, ...]]] = Counter()
    alike: defaultdict[tuple[str, int, str, tuple[int, ...]], list[_CallKey]] = defaultdict(list)
    for key in keys:
        text = kernels.describe(key.recipe)
        if text is not None:
            alike[text, *key[1:]].append(key)
    for group in alike.values():
        machine = target.keeping(group[0].narrow)
        for key in group if len(group) > 1 else ():
            opened = kernels.find(key.recipe, key.at, machine)
            if opened is not None:
                found[key] = opened
                user = (opened.kernel.text, key.what, key.narrow)
                users[user] += 1
                if users[user] == 2:
                    begin([Source.of(opened.kernel, key.what, machine)])
    return {key: opened for key, opened in found.items() if users[opened.kernel.text, key.what, key.narrow] > 1}
