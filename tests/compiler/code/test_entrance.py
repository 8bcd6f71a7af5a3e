"""Several threads inside LLVM: those that compile pass llvmlite's lock, all others queue, and a fork waits for all."""

import os
import threading
import time
from traceback import walk_tb

import llvmlite.binding as llvm
import pytest

from omniconv.compiler.code import entrance
from omniconv.compiler.code.build import Source, build_objects, compile_assembly, compile_object, compile_together
from omniconv.compiler.code.entrance import CALLS, LOCKS, count_compilers, enter
from omniconv.compiler.emit.builder import Kernel
from omniconv.target.select import select_target


def inside(*, entered):
    """Whether a thread comes through every door while this one holds llvmlite's lock."""
    through = threading.Event()

    def come():
        if entered:
            enter()
        for name in CALLS:
            with getattr(llvm.ffi.lib, name)._lock:
                pass
        through.set()

    with llvm.ffi.lib._lock:
        thread = threading.Thread(target=come)
        thread.start()
        found = through.wait(30 if entered else 0.1)
    thread.join()
    return found


def test_threads_that_compile_pass_and_others_queue():
    assert inside(entered=True)
    assert not inside(entered=False)


def write(name, target, number):
    """A kernel that is a little different for each number."""
    k = Kernel(name, target)
    with k.loop(k.end, start=k.begin) as i:
        value = k.load(k.arg(0), k.mul(i, k.lanes))
        for each in range(number % 7 + 3):
            value = k.fma(value, k.splat(each + number), value)
        k.store(value, k.arg(1), k.mul(i, k.lanes))
    return k.finish()


def test_many_at_once_make_the_code_that_one_makes():
    target, mark = select_target(None), os.urandom(8).hex()
    sources = [
        Source(f"{mark} {number}", lambda name, number=number: write(name, target, number), "test")
        for number in range(40)
    ]
    for number, found in enumerate(build_objects(sources, target, cache=None)):
        assert found.code == compile_object(write(found.name, target, number), target)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_until_nobody_is_inside():
    left, come = threading.Event(), threading.Event()

    def stay():
        with LOCKS[-1]:
            come.set()
            time.sleep(0.1)
            left.set()

    thread = threading.Thread(target=stay)
    thread.start()
    assert come.wait(30)
    child = os.fork()
    if not child:
        os._exit(0 if left.is_set() and not any(lock.locked() for lock in LOCKS) else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_lets_a_thread_inside_free_what_it_finds():
    """The garbage collector may run there, and frees what is of LLVM's through llvmlite's lock."""
    inside, freed = threading.Event(), []

    def stay():
        enter()
        with getattr(llvm.ffi.lib, CALLS[0])._lock:
            inside.set()
            time.sleep(0.1)  # the fork begins
            lock = llvm.ffi.lib._lock._lock
            freed.append(lock.acquire(timeout=5))
            if freed[0]:
                lock.release()

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if not child:
        os._exit(0)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert freed == [True]


def test_a_module_is_freed_before_its_context_whatever_is_raised():
    """An error that is kept with its traceback may lie in a cycle, which is freed in any order."""
    target = select_target(None)
    ir = "declare void @nobody_has_this()\ndefine void @f() {\n call void @nobody_has_this()\n ret void\n}\n"
    for make in (compile_object, compile_assembly, lambda ir, target: compile_together([ir], ir, target)):
        with pytest.raises(RuntimeError, match="calls nobody_has_this, which this process does not have") as error:
            make(ir, target)
        found = [value for frame, _ in walk_tb(error.tb) for value in frame.f_locals.values()]
        modules = [value for value in found if isinstance(value, llvm.ModuleRef)]
        assert modules
        assert all(module.closed for module in modules)


def test_an_llvmlite_that_keeps_its_lock_elsewhere_lets_threads_queue(monkeypatch):
    monkeypatch.setattr(entrance, "CALLS", ("LLVMPY_NobodyHasThis",))
    entrance._open()
    monkeypatch.setattr(entrance, "CALLS", CALLS)
    monkeypatch.setattr(llvm.ffi, "lib", object())
    entrance._open()
    assert entrance.find_inner() == []


def test_there_are_some_but_not_many():
    assert 1 <= count_compilers() <= len(LOCKS)
