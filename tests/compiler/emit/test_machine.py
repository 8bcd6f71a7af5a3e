"""The type checker tells what a kernel computes on apart: addresses, sizes, conditions and values."""

import subprocess
import sys
from pathlib import Path

SETTINGS = """
[mypy]
strict = true
mypy_path = {root}/src:{root}/typings
namespace_packages = true
explicit_package_bases = true
follow_imports = skip
[mypy-omniconv.compiler.emit.*,omniconv.open_size,llvmlite.*]
follow_imports = silent
"""
"""Nothing but the emitter and what it stands on is read, which takes a fifth of the time."""

SNIPPET = """
from omniconv.compiler.emit.arithmetic import integers_of
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Count, Index, Mask, Pointer, Slot, Value


def sound(k: Kernel, pointer: Pointer, size: Index, table: Pointer, slot: Slot) -> Value:
    with k.loop(size, start=k.begin) as i:
        pixel = k.shift(pointer, k.add(i, k.lookup(table, i)))
        pixel = k.choose(k.within(i, size), pixel, pointer)
        value = k.load(pixel, i)
        k.set(slot, k.b.select(k.b.fcmp_ordered("<", value, k.get(slot)), value, k.splat(0.0)))
        with k.when(k.both(k.compare("<", i, 4), True)):
            k.store(k.get(slot), pointer, i)
    return k.get(slot)


def mixed(
    k: Kernel, pointer: Pointer, value: Value, mask: Mask, count: Count, index: Index, slot: Slot, holds: Condition
) -> None:
    k.load(index)  # refused
    k.load(count)  # refused
    k.load(value)  # refused
    k.load(slot)  # refused
    k.load(pointer, value)  # refused
    k.load_scalar(mask)  # refused
    k.store(mask, pointer)  # refused
    k.store(pointer, pointer)  # refused
    k.store(count, pointer)  # refused
    k.store(value, value)  # refused
    k.store(pointer, value)  # refused
    k.store(value, pointer, mask)  # refused
    k.shift(pointer, pointer)  # refused
    k.shift(index, pointer)  # refused
    k.shift(pointer, 1.5)  # refused
    k.add(index, pointer)  # refused
    k.mul(value, 2)  # refused
    k.min(index, mask)  # refused
    k.divmod(pointer, 2)  # refused
    k.compare("<", pointer, pointer)  # refused
    k.compare("<", value, value)  # refused
    k.both(index, holds)  # refused
    k.within(pointer, 3)  # refused
    k.choose(index, value, value)  # refused
    k.choose(holds, value, pointer)  # refused
    k.lookup(index, pointer)  # refused
    k.lookup(value, index)  # refused
    k.set(slot, pointer)  # refused
    k.set(pointer, value)  # refused
    k.get(pointer)  # refused
    k.fma(value, index, value)  # refused
    k.call("sqrt", count)  # refused
    k.spread(index)  # refused
    k.permute(mask, [0])  # refused
    k.b.fadd(value, pointer)  # refused
    k.b.fadd(value, count)  # refused
    k.b.select(value, value, value)  # refused
    k.b.select(holds, value, value)  # refused
    k.b.select(mask, value, mask)  # refused
    k.b.add(count, k.b.bitcast(value, integers_of(k, value)))  # refused
    k.b.mul(value, value)  # refused
    index + 1  # refused
    with k.loop(pointer):  # refused
        pass
    with k.loop(index) as i:
        k.load(i)  # refused
    with k.when(index):  # refused
        pass
    with k.when(value):  # refused
        pass
    with k.branches(holds):  # refused
        pass
    found: Value = k.compare("<", index, 3)  # refused
    place: Index = k.load(pointer)  # refused
    address: Pointer = k.lookup(pointer, 0)  # refused
    known: int = k.add(index, 1)  # refused
    begin: Value = k.begin  # refused
"""


def test_the_type_checker_refuses_to_mix_them(tmp_path):
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS.format(root=Path(__file__).parents[3]))
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--no-error-summary", str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    strangers = [line for line in errors if not line.startswith(file.name)]
    assert not strangers, f"{strangers[0]}\n{done.stderr}"
    lines = SNIPPET.splitlines()
    refused = {lines[int(line.split(":")[1]) - 1].strip() for line in errors}
    expected = {line.strip() for line in lines if line.endswith("# refused")}
    assert refused == expected, done.stderr
