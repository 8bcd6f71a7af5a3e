from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.machines import V3, V4

from omniconv.compiler.code import build
from omniconv.compiler.code.build import (
    LoadedKernel,
    Source,
    compile_assembly,
    compile_object,
    digest_of,
    load,
    symbol_of,
)
from omniconv.compiler.code.cache import ObjectCache
from omniconv.target.model import Target
from omniconv.target.select import available_targets, detect_host, select_target

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def emit_fill(name: str, value: int = 1) -> str:
    """``a[begin:end] = value``, through a function of the C library and a constant in memory."""
    return f"""
@value = private constant [2 x i64] [i64 0, i64 {value}]
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define void @{name}(ptr %args, i64 %begin, i64 %end) {{
  %a = load ptr, ptr %args
  %first = getelementptr i64, ptr %a, i64 %begin
  %count = sub i64 %end, %begin
  %bytes = mul i64 %count, 8
  call void @llvm.memset.p0.i64(ptr %first, i8 0, i64 %bytes, i1 false)
  br label %loop
loop:
  %i = phi i64 [ %begin, %0 ], [ %next, %loop ]
  %at = getelementptr i64, ptr %a, i64 %i
  %where = getelementptr i64, ptr @value, i64 1
  %v = load i64, ptr %where
  store i64 %v, ptr %at
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def fill(value: int, note: str = "") -> Source:
    return Source(f"fill {value} {note}", lambda name: emit_fill(name, value), "fill")


def run(kernel: LoadedKernel, size: int, begin: int, end: int) -> list[int]:
    values = np.full(size, -1, np.int64)
    args = np.array([values.ctypes.data], np.int64)
    CALL(kernel.address)(args.ctypes.data, begin, end)
    return values.tolist()


def forbidden(name: str) -> str:
    raise AssertionError(f"IR of {name} was generated")


@pytest.fixture
def target() -> Target:
    return select_target("native")


def test_kernels_do_their_share(target: Target) -> None:
    first, second = load([fill(7), fill(9)], target, cache=None)
    assert run(first, 6, 1, 4) == [-1, 7, 7, 7, -1, -1]
    assert run(second, 3, 0, 3) == [9, 9, 9]
    assert first.name == symbol_of(fill(7), first.digest)
    assert not first.cached
    assert len(first.code) > 100
    assert first.seconds > 0


def test_equal_sources_share_one_kernel_in_the_process(target: Target) -> None:
    one, two, three = load([fill(1), fill(2), fill(1)], target, cache=None)
    assert one is three
    assert one is not two
    (again,) = load([Source(fill(1).key, forbidden, "fill")], target, cache=None)
    assert again is one


def test_machine_code_goes_with_its_last_user(target: Target) -> None:
    (kernel,) = load([fill(11)], target, cache=None)
    digest = kernel.digest
    assert digest in build._LOADED
    del kernel
    gc.collect()
    assert digest not in build._LOADED


def test_nothing_is_generated_when_the_disk_has_it(target: Target, tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    (kernel,) = load([fill(3)], target, cache=cache)
    assert not kernel.cached
    del kernel
    gc.collect()
    (kernel,) = load([Source(fill(3).key, forbidden, "fill")], target, cache=cache)
    assert kernel.cached
    assert run(kernel, 2, 0, 2) == [3, 3]


def test_a_damaged_entry_is_rebuilt_and_written_again(target: Target, tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    path = cache.path(digest_of(fill(4), target))
    load([fill(4)], target, cache=cache)
    gc.collect()
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    (kernel,) = load([fill(4)], target, cache=cache)
    assert not kernel.cached
    assert run(kernel, 1, 0, 1) == [4]
    assert path.read_bytes() == good


def test_identity_is_everything_that_decides_the_code(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(target, cpu="another")
    digests = [digest_of(fill(1), target), digest_of(fill(2), target), digest_of(fill(1), other)]
    digests.append(digest_of(Source(fill(1).key, fill(1).emit, "other"), target))
    monkeypatch.setattr(build, "_TOOLS", ("another version",))
    digests.append(digest_of(fill(1), target))
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)
    # No two lists of parts read the same when they are joined.
    assert digest_of(Source("a", forbidden, "b\0c"), target) != digest_of(Source("a\0b", forbidden, "c"), target)


def test_hash_of_the_generators_is_stable_and_not_random() -> None:
    assert build._hash_generators() == build._hash_generators()
    assert len(build._hash_generators()) == 64


def test_what_machine_code_is_made_by_is_part_of_its_key() -> None:
    """Whatever a hashed file imports of the package is hashed, too, or decides nothing of the code."""
    root = Path(build.__file__).parents[2]
    parts = [root / part for part in build._GENERATORS]
    assert all(part.exists() for part in parts)
    files = [file for part in parts for file in ([part] if part.suffix else part.rglob("*.py"))]
    hashed = {part.removesuffix(".py") for part in build._GENERATORS}
    nothing = {
        "errors",
        "forks",
        "limits",
        "processors",
        "choices",
        "inline",
        "kinds",
        "graph",
        "reference",
        "analysis",
        "api",
    }
    for file in files:
        for module in re.findall(r"^ *(?:from|import) omniconv\.(\w+)", file.read_text("utf-8"), re.MULTILINE):
            assert module in hashed | nothing, (file, module)


@pytest.mark.parametrize("name", available_targets(detect_host()))
def test_every_target_of_this_machine_runs(name: str) -> None:
    (kernel,) = load([fill(5)], select_target(name), cache=None)
    assert run(kernel, 4, 2, 4) == [-1, -1, 5, 5]


WIDE = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
define void @f(ptr %args, i64 %begin, i64 %end) {
  %a = load <16 x float>, ptr %args, align 4
  %b = call <16 x float> @llvm.fma.v16f32(<16 x float> %a, <16 x float> %a, <16 x float> %a)
  store <16 x float> %b, ptr %args, align 4
  ret void
}
"""


@pytest.mark.parametrize("cpu", ["skylake-avx512", "icelake-server", "sapphirerapids", "znver4", "x86-64-v4"])
def test_wide_vectors_stay_wide(cpu: str) -> None:
    text = compile_assembly(WIDE, replace(V4, cpu=cpu))
    assert "zmm" in text
    assert "ymm" not in text


def test_a_forced_level_uses_nothing_above_it() -> None:
    text = compile_assembly(WIDE, V3)
    assert "ymm" in text
    assert "zmm" not in text


@pytest.mark.parametrize(
    ("ir", "problem"),
    [
        ("this is not IR", "expected top-level entity"),
        ("define void @f() { %x = add i64 %y, 1\n ret void }", "undefined value"),
        (
            "declare void @omniconv_no_such(ptr)\ndefine void @f() { call void @omniconv_no_such(ptr null) ret void }",
            "calls omniconv_no_such",
        ),
    ],
)
def test_wrong_ir_is_an_error_and_not_the_end_of_the_process(ir: str, problem: str, target: Target) -> None:
    with pytest.raises(RuntimeError, match=problem):
        compile_object(ir, target)


def test_ir_that_defines_another_name_is_an_error(target: Target) -> None:
    with pytest.raises(RuntimeError, match="does not define oc_k_e_y_"):
        load([Source("misnamed", lambda _: emit_fill("other"), "k.e y")], target, cache=None)


def test_threads_load_at_the_same_time(target: Target) -> None:
    kernels: list[LoadedKernel] = []
    threads = [
        threading.Thread(target=lambda: kernels.extend(load([fill(21), fill(22)], target, cache=None)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kernels) == 16
    assert len({kernel.address for kernel in kernels}) == 2


PROCESS = """
import ctypes, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_build import fill, run
from omniconv.compiler.code.build import load
from omniconv.compiler.code.cache import ObjectCache
from omniconv.target.select import select_target
kernels = load([fill(value, "process") for value in range(20)], select_target("native"), cache=ObjectCache(sys.argv[1]))
for value, kernel in enumerate(kernels):
    assert run(kernel, 3, 1, 3) == [-1, value, value]
print(sum(kernel.cached for kernel in kernels))
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PROCESS, str(tmp_path / "shared"), str(Path(__file__).parent)]
    together = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for _ in range(3)
    ]
    for process in together:
        out, error = process.communicate()
        assert process.returncode == 0, error
        assert 0 <= int(out) <= 20
    assert subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout.strip() == "20"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_while_another_thread_compiles(target: Target) -> None:
    stop = threading.Event()

    def compile_on_and_on() -> None:
        while not stop.is_set():
            compile_object(emit_fill("f"), target)

    thread = threading.Thread(target=compile_on_and_on)
    thread.start()
    try:
        for round_ in range(5):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    (kernel,) = load([fill(31, str(round_))], target, cache=None)
                    code = 0 if run(kernel, 1, 0, 1) == [31] else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


def test_engines_in_reference_cycles_are_freed_in_any_order(target: Target) -> None:
    """The collector may finalise what belongs to an engine before the engine (in a process of its own: it crashed)."""
    code = """
import gc
from omniconv.compiler.code.build import Source, load
from omniconv.target.select import select_target
emit = "define void @{}(i8* %a, i64 %b, i64 %e) {{ ret void }}".format
for i in range(200):
    (kernel,) = load([Source(f"cycle {i}", emit)], select_target("native"), cache=None)
    cycle = [kernel]
    cycle.append(cycle)
    del kernel, cycle
    gc.collect()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
