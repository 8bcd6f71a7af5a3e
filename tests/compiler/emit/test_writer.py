"""Lines of IR: LLVM reads constants as they were meant; operands that do not fit are refused where they are mixed."""

import ctypes
import math
from functools import partial

import numpy as np
import pytest

import omniconv as oc
from omniconv.compiler.code.build import Source, load
from omniconv.compiler.emit import ir
from omniconv.compiler.emit.machine import Count, Mask, Pointer, Value
from omniconv.compiler.emit.writer import Writer
from omniconv.errors import UnsupportedError
from omniconv.target.select import select_target

I64 = ir.IntType(64)
VALUES = [0.0, -0.0, 1.0, 0.1, -1e-45, 3.4e38, 1e-310, math.inf, -math.inf, math.nan]


def write_values(kind, name):
    """A module that stores all values behind its argument, each in two lanes."""
    module = ir.IRModule(name, "")
    function = ir.IRFunction(module, ir.FunctionType(ir.VOID, [ir.POINTER]), name)
    b = Writer(function, function.append_basic_block("start"))
    for number, value in enumerate(VALUES):
        constant = Value(ir.splat(ir.VectorType(kind, 2), ir.number(kind, value)))
        b.store(constant, b.gep(Pointer(function.args[0]), Count(ir.integer(I64, 2 * number)), kind), 4)
    b.ret_void()
    return str(module)


@pytest.fixture
def function():
    """A function that writes behind a pointer."""
    return ir.IRFunction(ir.IRModule("m", ""), ir.FunctionType(ir.VOID, [ir.POINTER]), "f")


def test_constants_are_what_was_meant():
    """All values, of both types, stored by machine code."""
    for kind, dtype in ((ir.FLOAT, np.float32), (ir.DOUBLE, np.float64)):
        (kernel,) = load([Source(str(kind), partial(write_values, kind))], select_target(None), cache=None)
        found = np.full(2 * len(VALUES), 7, dtype)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel.address)(found.ctypes.data)
        expected = np.repeat(np.array(VALUES).astype(dtype), 2)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_a_number_that_the_type_does_not_have_is_refused():
    assert ir.number(ir.FLOAT, 3.4028235677973362e38).text == ir.number(ir.FLOAT, 3.4028234663852886e38).text
    for value in (3.4028235677973366e38, -1e39):
        with pytest.raises(UnsupportedError, match=r"is beyond float32; need a smaller number, or float64"):
            ir.number(ir.FLOAT, value)
        assert ir.number(ir.DOUBLE, value).text.startswith("0x")
    layer = oc.cross_correlation(in_channels=8, out_channels=8, kernel_size=1)
    spec = oc.Chain((layer, oc.Activation.of("elu", alpha=1e39)))
    with pytest.raises(UnsupportedError, match=r"1e\+39 is beyond float32"):
        oc.compile(spec, (1, 8, 3, 3), oc.random_weights(spec, np.random.default_rng(0)))


def test_operands_of_different_types_are_refused(function):
    b = Writer(function, function.append_basic_block("start"))
    one, two = Value(ir.number(ir.FLOAT, 1.0)), Value(ir.number(ir.DOUBLE, 1.0))
    condition = Mask(ir.integer(ir.IntType(1), 1))
    square = ir.IRFunction(ir.IRModule("n", ""), ir.FunctionType(ir.FLOAT, [ir.FLOAT]), "square")
    for mix in (
        lambda: b.fadd(one, two),
        lambda: b.fcmp_ordered("<", one, two),
        lambda: b.select(condition, one, two),
        lambda: b.shuffle_vector(one, two, [0]),
        lambda: b.call(square, [two]),
        lambda: b.call(square, [one, one]),
    ):
        with pytest.raises(TypeError, match=r"different types|takes float \(float\), not"):
            mix()
    assert b.block.lines == []


def test_a_symbol_stands_for_one_thing():
    module = ir.IRModule("n", "")
    ir.IRFunction(module, ir.FunctionType(ir.FLOAT, [ir.FLOAT]), "square")
    with pytest.raises(KeyError, match="square"):
        ir.GlobalTable(module, ir.array(I64, [ir.integer(I64, 1)]), "square")
