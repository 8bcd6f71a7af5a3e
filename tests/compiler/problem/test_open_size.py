"""Sizes that machine code reads when it runs: their arithmetic, in Python and on the machine, and their guards."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.harness import SIGNATURE, TARGETS

from omniconv.compiler.code.build import Source, load
from omniconv.compiler.emit.builder import I64, Kernel
from omniconv.integers import ceil_div
from omniconv.open_size import Opener, OpenSize, Trace, evaluate, holds, is_open, least, most, value_of

SIZES = st.lists(st.integers(-40, 40), min_size=3, max_size=3)


@st.composite
def expressions(draw, depth=3):
    """A function of three sizes, from what lowerings do with them."""
    if depth == 0:
        index = draw(st.integers(0, 5))
        number = draw(st.integers(-9, 9))
        return (lambda s: s[index]) if index < 3 else (lambda _: number)
    a, b = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    divisor = draw(st.sampled_from([-7, -1, 1, 2, 8]))
    return draw(
        st.sampled_from(
            [
                lambda s: a(s) + b(s),
                lambda s: a(s) - b(s),
                lambda s: a(s) * b(s),
                lambda s: -a(s),
                lambda s: a(s) // divisor,
                lambda s: a(s) % 5,
                lambda s: divmod(a(s), 3)[0] - divmod(a(s), 3)[1],
                lambda s: ceil_div(a(s), most(b(s), 1)),
                lambda s: least(a(s), b(s)),
                lambda s: most(a(s), b(s)),
                lambda s: abs(a(s)),
            ]
        )
    )


@settings(max_examples=100)
@given(expressions(), SIZES, SIZES)
def test_arithmetic_is_that_of_integers(f, sizes, others):
    trace = Trace(0)
    opener = Opener(trace)
    found = f([opener.any(size) for size in sizes])
    assert value_of(found) == f(sizes)
    divisors = [relation == "==" and b == 0 and not answer for relation, _, b, answer in trace.guards]
    assert all(divisors), "nothing was decided but that divisors are not 0"
    if isinstance(found, OpenSize) and holds(list(trace.guards), others):
        assert evaluate(found.tree, others) == f(others)


@settings(max_examples=30, deadline=None)
@given(st.lists(expressions(), min_size=8, max_size=8), SIZES, SIZES)
def test_the_machine_computes_the_same(functions, sizes, others):
    target = TARGETS[0]
    opener = Opener(Trace(1))
    found = [f([opener.any(size) for size in sizes]) for f in functions]
    opener.values[:] = sizes

    def emit(name):
        k = Kernel(name, target)
        table = k.table([f if is_open(f) else int(f) for f in found])
        with k.loop(len(found)) as index:
            place = k.b.gep(k.arg(0), k.index(index), I64)
            k.b.store(k.lookup(table, index), place)
        return k.finish()

    (kernel,) = load([Source(repr([getattr(f, "tree", f) for f in found]), emit, "test")], target, cache=None)
    for values in (sizes, others):
        # Three sizes are opened for each expression.
        given_sizes, results = np.array(values * len(functions), np.int64), np.zeros(len(functions), np.int64)
        args = (ctypes.c_void_p * 2)(results.ctypes.data, given_sizes.ctypes.data)
        SIGNATURE(kernel.address)(ctypes.addressof(args), 0, 1, 0)
        assert results.tolist() == [f(values) for f in functions]


def test_what_is_asked_is_written_down():
    trace = Trace(0)
    opener = Opener(trace)
    height, width = opener(14), opener(20)
    assert min(7, width) == 7
    assert max(height, width) is width
    assert bool(width % 4) is False
    assert len(range(height)) == 14
    assert [0] * height == [0] * 14
    guards = list(trace.guards)
    assert holds(guards, [14, 20])
    assert holds(guards, [14, 24])
    for sizes in ([15, 20], [14, 21], [14, 12]):
        assert not holds(guards, sizes), sizes


def test_zero_and_one_stay_what_they_are():
    opener = Opener(Trace(0))
    assert [opener(0), opener(1)] == [0, 1]
    assert is_open(opener.any(1))
    assert opener.values == [1]


def test_it_is_no_integer():
    size = Opener(Trace(0))(8)
    assert not isinstance(size, int)
    with pytest.raises(TypeError):
        size + 0.5
