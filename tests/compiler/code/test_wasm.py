"""Objects of LLVM become modules: their data is moved, their needs are named."""

from __future__ import annotations

import struct

import pytest
from tests.web.engine import Instance

from omniconv.compiler.code.build import compile_together
from omniconv.compiler.code.wasm import PAGE, STACK, link, read_object, write_number, write_signed
from omniconv.errors import UnsupportedError
from omniconv.target.wasm import find_targets

SIMD, RELAXED = find_targets()
TABLE = """
@table = private constant [3 x i64] [i64 5, i64 70, i64 900], align 8
@pointers = private global [2 x ptr] [ptr @table, ptr getelementptr (i8, ptr @table, i32 16)], align 4
define i64 @read(i32 %number) {
  %place = getelementptr i64, ptr @table, i32 %number
  %value = load i64, ptr %place
  ret i64 %value
}
define i64 @follow(i32 %number) {
  %slot = getelementptr ptr, ptr @pointers, i32 %number
  %place = load ptr, ptr %slot
  %value = load i64, ptr %place
  ret i64 %value
}
define i32 @stacked(i32 %value) {
  %room = alloca [64 x i32]
  %slot = getelementptr i32, ptr %room, i32 %value
  store volatile i32 %value, ptr %slot
  %found = load volatile i32, ptr %slot
  ret i32 %found
}
"""


@pytest.mark.parametrize("size", [STACK + 8, STACK + 65, STACK + 3 * PAGE + 5])
def test_data_is_moved_with_the_addresses_in_code_and_data(size):
    code = compile_together([TABLE], "", SIMD)
    data = [(STACK, struct.pack("<q", 41))]
    names = ("read", "follow", "stacked")
    found = Instance(link(code, {name: name for name in names}, data, size))
    read, follow, stacked = (found.exports[name] for name in names)
    assert [read(found.store, number) for number in range(3)] == [5, 70, 900]
    assert [follow(found.store, number) for number in range(2)] == [5, 900]
    assert stacked(found.store, 63) == 63
    assert bytes(found.memory.read(found.store, STACK, STACK + 8)) == struct.pack("<q", 41)
    assert found.memory.data_len(found.store) >= size
    with pytest.raises(Exception, match="out of bounds"):
        stacked(found.store, -(2**16))


def test_an_overflow_of_the_stack_stops():
    deep = """define i32 @deep(i32 %value) {
      %room = alloca [32768 x i32]
      %slot = getelementptr i32, ptr %room, i32 %value
      store volatile i32 %value, ptr %slot
      %found = load volatile i32, ptr %slot
      ret i32 %found
    }"""
    found = Instance(link(compile_together([deep], "", SIMD), {"deep": "deep"}, (), STACK))
    with pytest.raises(Exception, match="out of bounds"):
        found.exports["deep"](found.store, 1)


def test_what_is_not_there_is_named():
    code = compile_together(
        [],
        "declare float @cosf(float)\ndefine float @f(float %x) {\n  %y = call float @cosf(float %x)\n  ret float %y\n}",
        SIMD,
    )
    with pytest.raises(UnsupportedError, match="WebAssembly code calls cosf; need code that calls nothing"):
        link(code, {"f": "f"}, (), STACK)


def test_functions_are_not_called_by_address():
    code = compile_together([], "define i32 @g() {\n  ret i32 7\n}\n@p = global ptr @g\n", SIMD)
    with pytest.raises(UnsupportedError, match="calls for relocation 2 of the Linking document; need code that calls"):
        link(code, {}, (), STACK)


def test_functions_are_found_by_name():
    assert set(read_object(compile_together([TABLE], "", SIMD)).functions) >= {"read", "follow", "stacked"}


@pytest.mark.parametrize(
    ("value", "unsigned", "signed"),
    [
        (0, "00", "00"),
        (63, "3f", "3f"),
        (64, "40", "c000"),
        (127, "7f", "ff00"),
        (128, "8001", "8001"),
        (624485, "e58e26", "e58e26"),
    ],
)
def test_numbers_are_written_as_the_specification_says(value, unsigned, signed):
    assert write_number(value).hex() == unsigned
    assert write_signed(value).hex() == signed


def test_negative_numbers():
    assert write_signed(-123456).hex() == "c0bb78"
    assert write_signed(-64).hex() == "40"
    assert write_signed(-65).hex() == "bf7f"
