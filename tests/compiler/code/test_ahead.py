"""Compiling ahead: what a thread made is taken once, errors are those of the taker, a fork begins with nothing."""

from __future__ import annotations

import os
import threading

import pytest

from omniconv.compiler.code import build
from omniconv.compiler.code.ahead import Ahead
from omniconv.compiler.code.build import Source, begin, compiling, load
from omniconv.compiler.emit.builder import Kernel
from omniconv.target.select import select_target


def test_what_was_begun_is_taken_once() -> None:
    made, ahead = [], Ahead[str]()

    def make() -> str:
        made.append(threading.current_thread())
        return "code"

    ahead.begin("a", make)
    ahead.begin("a", make)
    assert ahead.take("a") == "code"
    assert ahead.take("a") is None
    assert ahead.take("b") is None
    (thread,) = made
    assert thread is not threading.current_thread()


def test_what_is_forgotten_is_not_made() -> None:
    made, ahead, go = [], Ahead[str](), threading.Event()
    ahead.begin("a", lambda: go.wait() and "first")
    for key in "bcd":
        ahead.begin(key, lambda key=key: made.append(key) or key)
    ahead.forget("b")
    assert ahead.take("b") is None
    ahead.forget()
    go.set()
    assert [ahead.take(key) for key in "acd"] == [None] * 3
    ahead.begin("e", lambda: made.append("e") or "e")
    assert ahead.take("e") == "e"
    assert made == ["e"]


def test_an_error_is_raised_where_it_is_taken() -> None:
    ahead = Ahead[int]()
    ahead.begin("a", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        ahead.take("a")
    assert ahead.take("a") is None, "and not again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_begins_with_nothing() -> None:
    ahead, go = Ahead[str](), threading.Event()
    ahead.begin("a", lambda: str(go.wait(30)))
    child = os.fork()
    if not child:
        empty = ahead.take("a") is None
        ahead.begin("a", lambda: "child")
        os._exit(0 if empty and ahead.take("a") == "child" else 1)
    go.set()
    assert ahead.take("a") == "True"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_kernel_is_written_and_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    target, written, compiled = select_target(None), [], []
    compile_object = build.compile_object

    def counted(ir: str, target: build.Target) -> bytes:
        compiled.append(ir)
        return compile_object(ir, target)

    def emit(name: str) -> str:
        written.append(name)
        return Kernel(name, target).finish()

    monkeypatch.setattr(build, "compile_object", counted)
    source = build.Source(f"nothing, {os.urandom(8).hex()}", emit, "test")
    begin(source, target, cache=None)
    (first,) = load([source], target, cache=None)
    begin(source, target, cache=None)
    assert load([source], target, cache=None)[0] is first
    assert len(written) == len(compiled) == 1


def test_kernels_are_compiled_by_the_thread_while_others_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    target, events, all_written = select_target(None), [], threading.Event()
    compile_object = build.compile_object

    def compile_later(ir: str, target: build.Target) -> bytes:
        assert all_written.wait(30), "the first is compiled before the last is written"
        events.append(threading.current_thread().name)
        return compile_object(ir, target)

    def source(number: int) -> build.Source:
        def emit(name: str) -> str:
            if number == 2:
                all_written.set()
            return Kernel(name, target).finish()

        return build.Source(f"nothing {number}, {os.urandom(8).hex()}", emit, f"test{number}")

    monkeypatch.setattr(build, "compile_object", compile_later)
    kernels = load([source(number) for number in range(3)], target, cache=None)
    assert [kernel.name[:8] for kernel in kernels] == ["oc_test0", "oc_test1", "oc_test2"]
    assert len(events) == 3
    assert all(name.startswith("omniconv-compile") for name in events)


def test_what_was_begun_is_forgotten_where_writing_fails() -> None:
    target, source = select_target(None), build.Source(f"nothing, {os.urandom(8).hex()}", lambda name: "", "test")
    digest = build.digest_of(source, target)
    good = build.Source(f"good, {os.urandom(8).hex()}", lambda name: Kernel(name, target).finish(), "test")
    with pytest.raises(RuntimeError, match="does not define"):
        load([good, source], target, cache=None)
    assert not build._AHEAD.has(build.digest_of(good, target))
    assert not build._AHEAD.has(digest)
    assert load([good], target, cache=None)[0].code


def count_compiled(monkeypatch) -> list[str]:
    """The digests that are compiled from now on."""
    compiled: list[str] = []
    compile_one = build._compile

    def noted(digest, *rest):
        compiled.append(digest)
        return compile_one(digest, *rest)

    monkeypatch.setattr(build, "_compile", noted)
    return compiled


def make_source(word: str) -> Source:
    """A kernel that does nothing."""
    target = select_target(None)
    return Source(f"nothing but {word}", lambda name: Kernel(name, target).finish())


def test_threads_compile_beside_what_is_done_meanwhile(monkeypatch) -> None:
    target, compiled = select_target(None), count_compiled(monkeypatch)
    sources = [make_source(word) for word in ("this", "that", "this")]
    with compiling(target, cache=None) as begin_all:
        begin_all(sources)
        kernels = load(sources, target, cache=None)
    assert len(compiled) == 2, "each once, and nothing again when they are loaded"
    assert kernels[0] is kernels[2]
    with compiling(target, cache=None) as begin_all:
        begin_all(sources)
        assert load(sources, target, cache=None) == kernels
    assert len(compiled) == 2


def test_what_fails_meanwhile_leaves_nothing_behind(monkeypatch) -> None:
    target, source = select_target(None), make_source("trouble")
    compiled = count_compiled(monkeypatch)

    def fail() -> None:
        with compiling(target, cache=None) as begin_all:
            begin_all([source])
            assert build._AHEAD.has(build.digest_of(source, target))
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert not build._AHEAD.has(build.digest_of(source, target))
    load([source], target, cache=None)
    assert compiled[-1] == build.digest_of(source, target)


def test_what_is_there_already_is_filed() -> None:
    ahead = Ahead[str]()
    ahead.keep("a", "code")
    assert ahead.has("a")
    assert ahead.take("a") == "code"
    assert ahead.take("a") is None
