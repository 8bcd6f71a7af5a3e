"""From LLVM IR to callable machine code, through the caches.

A kernel is a C function ``void name(ptr args, i64 begin, i64 end, i64 own)``: ``args`` is an array of pointers, and
the call does the units ``begin <= u < end`` of the kernel's work, on the thread whose own memory begins ``own`` bytes
behind that of the first one. It is described by a :class:`Source`, whose IR is only made when neither this process nor
the disk has its machine code::

    digest = sha256(key, target, LLVM, the source files that generate code)
    load(sources):  digest -> kernel of this process -> object code on disk -> emit, optimise, compile
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, field
from functools import cache as once
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import llvmlite
import llvmlite.binding as llvm

from omniconv.compiler.code.ahead import Ahead
from omniconv.compiler.code.cache import CodeStore
from omniconv.compiler.code.entrance import LOCKS, count_compilers, enter, find_inner
from omniconv.compiler.memory.planner import Recipe
from omniconv.errors import UnsupportedError
from omniconv.records import dataclass
from omniconv.target.model import Target

ABI: Final = 1
"""Version of the calling convention of kernels; part of every digest."""


@dataclass(frozen=True, slots=True)
class Source:
    """The recipe of one kernel.

    Attributes:
        key: text that fully determines the IR, together with the target and the source files of this package.
        emit: makes the IR text of a module that defines one function of the given name.
        hint: a readable word for the symbol, for profilers and disassemblers; part of the kernel's identity.
    """

    key: str
    emit: Callable[[str], str] = field(compare=False)
    hint: str = "kernel"

    @classmethod
    def of(cls, recipe: Recipe, hint: str, target: Target) -> Source:
        """The source of a recipe, which its ``repr`` identifies together with the buffers that keep bfloat16."""
        key = f"{recipe!r}, narrow: {target.narrow}" if target.narrow else repr(recipe)
        return cls(key, lambda name: recipe.emit(name, target), hint)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoadedKernel:
    """Machine code in memory. It stays there for as long as this object lives.

    Attributes:
        name: the symbol.
        address: of the function.
        digest: identity of the code.
        seconds: time spent to get it: to compile it, or to read it from the disk [s].
        cached: whether the object code came from the disk.
        code: the object code.
    """

    name: str
    address: int
    digest: str
    seconds: float
    cached: bool
    code: bytes = field(repr=False)
    engine: llvm.ExecutionEngine = field(repr=False)


@dataclass(frozen=True, slots=True)
class Object:
    """Machine code that is not in memory: for a file, or for another machine.

    Attributes:
        name: the symbol.
        digest: identity of the code.
        seconds: time spent to get it: to compile it, or to read it from the disk [s].
        cached: whether it came from the disk.
        code: relocatable object code.
    """

    name: str
    digest: str
    seconds: float
    cached: bool
    code: bytes = field(repr=False)


_LOCK: Final = threading.RLock()
_AHEAD: Final[Ahead[Object]] = Ahead(count_compilers(), enter)
_LOADED: Final[WeakValueDictionary[str, LoadedKernel]] = WeakValueDictionary()


def _hold_at_fork() -> None:
    """Make a fork wait for the lock here and those before LLVM: its child must not inherit them held.

    They are taken in the order in which a thread may come to hold several: one that compiles holds a lock of its own
    while the garbage collector frees, through llvmlite's, what it finds.
    """
    # The last to be registered is the first to be taken.
    for lock in (*find_inner(), *LOCKS, _LOCK):
        os.register_at_fork(
            before=lock.__enter__,
            after_in_parent=lambda lock=lock: lock.__exit__(None, None, None),
            after_in_child=lambda lock=lock: lock.__exit__(None, None, None),
        )


if hasattr(os, "register_at_fork"):
    _hold_at_fork()


def begin(source: Source, target: Target, *, cache: CodeStore | None) -> None:
    """Have threads compile what :func:`load` or :func:`build_objects` will be asked for soon."""
    digest = digest_of(source, target)
    if digest not in _LOADED:
        _AHEAD.begin(
            digest,
            lambda: _read(digest, source, cache) or _compile(digest, _write(source, digest), target, cache),
        )


@contextmanager
def compiling(target: Target, *, cache: CodeStore | None) -> Iterator[Callable[[Sequence[Source]], None]]:
    """Have threads compile sources while something else is done in a ``with``, which gets a function that writes some
    and has them compiled. At its end that takes them, by :func:`load` or :func:`build_objects`; what it does not take
    is dropped.
    """
    begun: dict[str, Source] = {}

    def begin_all(sources: Sequence[Source]) -> None:
        missing = {digest: source for source in sources if (digest := digest_of(source, target)) not in _LOADED}
        begun.update(missing)
        _begin_objects(missing, target, cache)

    try:
        yield begin_all
    finally:
        _AHEAD.forget(begun)


def abandon() -> None:
    """Compile nothing of what was begun and still waits: a plan has failed, or the user has interrupted it."""
    _AHEAD.forget()


def load(sources: Sequence[Source], target: Target, *, cache: CodeStore | None) -> list[LoadedKernel]:
    """Machine code of every source, in their order; equal sources share one kernel. Thread-safe.

    Args:
        sources: what to load.
        target: what to compile for; this machine must be able to run it.
        cache: object code on disk, or None to do without.

    Raises:
        UnsupportedError: this system does not let a process make machine code executable.
    """
    known = {source: digest_of(source, target) for source in dict.fromkeys(sources)}
    digests = [known[source] for source in sources]
    with _LOCK:
        kernels = {digest: kernel for digest in digests if (kernel := _LOADED.get(digest)) is not None}
        _AHEAD.forget(kernels)
        missing = {d: s for d, s in zip(digests, sources, strict=True) if d not in kernels}
        if missing:
            for kernel in _link(_make_objects(missing, target, cache), target):
                kernels[kernel.digest] = _LOADED[kernel.digest] = kernel
    return [kernels[digest] for digest in digests]


def build_objects(sources: Sequence[Source], target: Target, *, cache: CodeStore | None) -> list[Object]:
    """Object code of every source for any machine, in their order; equal sources are compiled once."""
    digests = [digest_of(source, target) for source in sources]
    missing = dict(zip(digests, sources, strict=True))
    with _LOCK:
        found = {each.digest: each for each in _make_objects(missing, target, cache)}
    return [found[digest] for digest in digests]


def digest_of(source: Source, target: Target) -> str:
    """Identity of the machine code of ``source`` on ``target``, as 64 hexadecimal digits."""
    return _digest(source.key, source.hint, target, _TOOLS)


@lru_cache(maxsize=4096)
def _digest(key: str, hint: str, target: Target, tools: tuple[str, ...]) -> str:
    """Kernels of a network are asked for by each of its sizes."""
    parts = (key, hint, *_describe(target), *tools)
    return hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


@once
def _describe(target: Target) -> tuple[str, ...]:
    """All that is known of a target, in words."""
    return tuple(map(str, astuple(target)))


def symbol_of(source: Source, digest: str) -> str:
    """The symbol a source is compiled under."""
    return f"oc_{re.sub(r'[^0-9A-Za-z_]', '_', source.hint)}_{digest[:16]}"


def compile_object(ir: str, target: Target) -> bytes:
    """Optimise LLVM IR and compile it to relocatable object code, for any machine."""
    machine = _use_machine(target)
    with _optimise(ir, machine) as module:
        return bytes(machine.emit_object(module))


def build_together(kernels: Mapping[str, Source], main: str, target: Target, *, cache: CodeStore | None) -> bytes:
    """One relocatable object of kernels, each under the name that it is given, and of ``main``, IR that calls them."""
    key = "\0".join([main, *(f"{name} {source.key}" for name, source in kernels.items())])
    digest = digest_of(Source(key, str, "together"), target)
    with _LOCK:
        code = cache.get(digest) if cache is not None else None
        if code is None:
            code = compile_together([source.emit(name) for name, source in kernels.items()], main, target)
            if cache is not None:
                cache.put(digest, code)
    return code


def compile_together(irs: Sequence[str], main: str, target: Target) -> bytes:
    """One relocatable object of several modules, each optimised by itself, and of ``main``, which calls them."""
    machine, context = _use_machine(target), llvm.create_context()
    with llvm.parse_assembly(main, context=context) as whole:
        whole.triple, whole.data_layout = machine.triple, str(machine.target_data)
        for ir in irs:
            with _optimise(ir, machine, context) as module:
                whole.link_in(module)
        whole.verify()
        return bytes(machine.emit_object(whole))


def compile_assembly(ir: str, target: Target) -> str:
    """The assembly text of what :func:`compile_object` makes, for reading."""
    machine = _use_machine(target)
    with _optimise(ir, machine) as module:
        return str(machine.emit_assembly(module))


def _make_objects(sources: Mapping[str, Source], target: Target, cache: CodeStore | None) -> list[Object]:
    """The object code of all sources, in their order."""
    try:
        if len(sources) > 1:
            _begin_objects(sources, target, cache)
        return [_take(digest, source, target, cache) for digest, source in sources.items()]
    except BaseException:
        _AHEAD.forget(sources)
        raise


def _begin_objects(sources: Mapping[str, Source], target: Target, cache: CodeStore | None) -> None:
    """Read what is on the disk; write the rest here, while threads compile what has been written. What was begun
    ahead is left to those who began it.
    """
    for digest, source in sources.items():
        if not _AHEAD.has(digest):
            found = _read(digest, source, cache)
            if found is not None:
                _AHEAD.keep(digest, found)
            else:
                _AHEAD.begin(digest, partial(_compile, digest, _write(source, digest), target, cache))


def _take(digest: str, source: Source, target: Target, cache: CodeStore | None) -> Object:
    """What was begun, or what is read or made now."""
    return (
        _AHEAD.take(digest) or _read(digest, source, cache) or _compile(digest, _write(source, digest), target, cache)
    )


def _read(digest: str, source: Source, cache: CodeStore | None) -> Object | None:
    """The object code of one source that is on the disk."""
    start = time.perf_counter()
    code = None if cache is None else cache.get(digest)
    if code is None:
        return None
    return Object(symbol_of(source, digest), digest, time.perf_counter() - start, cached=True, code=code)


class _Emitted(NamedTuple):
    """A kernel as IR: its symbol, and the time that it took [s]."""

    name: str
    ir: str
    seconds: float


def _write(source: Source, digest: str) -> _Emitted:
    """Write one source."""
    start, name = time.perf_counter(), symbol_of(source, digest)
    ir = source.emit(name)
    if f"@{name}(" not in ir:
        raise RuntimeError(f"IR of {source.key!r} does not define {name}")  # LLVM would abort
    return _Emitted(name, ir, time.perf_counter() - start)


def _compile(digest: str, written: _Emitted, target: Target, cache: CodeStore | None) -> Object:
    """Compile one kernel."""
    start = time.perf_counter()
    code = compile_object(written.ir, target)
    if cache is not None:
        cache.put(digest, code)
    return Object(written.name, digest, written.seconds + time.perf_counter() - start, cached=False, code=code)


def _link(objects: Sequence[Object], target: Target) -> list[LoadedKernel]:
    """Put object code of this machine into one engine."""
    _check_memory()
    empty = llvm.parse_assembly("", context=_shared_context())
    empty.triple = target.triple
    engine = llvm.create_mcjit_compiler(empty, _make_machine(target))  # takes the machine over
    for each in objects:
        engine.add_object_file(llvm.ObjectFileRef.from_data(each.code))
    engine.finalize_object()
    return [
        LoadedKernel(
            each.name,
            int(engine.get_function_address(each.name)),
            each.digest,
            each.seconds,
            each.cached,
            each.code,
            engine,
        )
        for each in objects
    ]


def _optimise(ir: str, machine: llvm.TargetMachine, context: llvm.ContextRef | None = None) -> llvm.ModuleRef:
    """Parse, check and optimise IR.

    Returns the module for a ``with``: it is freed at once, also where anything is raised. The garbage collector would
    free what it finds in a cycle, such as an error that is kept with its traceback, in any order: a context before its
    module, which is then in memory that is gone.
    """
    module = llvm.parse_assembly(ir, context=context or llvm.create_context())
    try:
        _run_passes(module, machine)
    except BaseException:
        module.close()
        raise
    return module


def _run_passes(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Check and optimise a module.

    Kernels come as the vectors, tiles and unrolled loops that they shall be, with accumulators in stack slots. A short
    list of passes makes of that what LLVM's level 2 makes of it, in a third of the time.
    """
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    for function in module.functions:
        if not function.is_declaration:
            function.add_function_attribute("nounwind")
        elif not function.name.startswith("llvm.") and not llvm.address_of_symbol(function.name):
            raise RuntimeError(f"IR calls {function.name}, which this process does not have")  # LLVM would abort
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2)))


class _Machines(threading.local):
    """The machine of each target that this thread compiles for: to make one takes LLVM as long as a small kernel."""

    def __init__(self) -> None:
        self.found: dict[Target, llvm.TargetMachine] = {}


_MACHINES: Final = _Machines()


def _use_machine(target: Target) -> llvm.TargetMachine:
    """The LLVM target machine of this thread."""
    if target not in _MACHINES.found:
        _MACHINES.found[target] = _make_machine(target)
    return _MACHINES.found[target]


def _make_machine(target: Target) -> llvm.TargetMachine:
    """A new LLVM target machine; an engine takes over the one it is given, so each needs its own.

    The code model is the large one (``jitdefault``): constants and functions are reached by absolute address, because
    an engine may place code, constants and the C library further apart than a relative address reaches.
    """
    _initialise()
    llvm_target = llvm.Target.from_triple(target.triple)
    return llvm_target.create_target_machine(cpu=target.cpu, features=target.features, opt=3, jit=True)


@once
def _shared_context() -> llvm.ContextRef:
    """The context of every engine's empty module.

    It is never freed: where the garbage collector finds an engine in a cycle, it may free a context that belongs to the
    engine first, and the engine would then free a module in memory that is gone.
    """
    return llvm.create_context()


@once
def _check_memory() -> None:
    try:
        llvm.check_jit_execution()
    except OSError as error:
        raise UnsupportedError(
            f"this system refuses executable memory: {error}", need="permission to run generated machine code"
        ) from error


@once
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


_GENERATORS: Final = (
    "integers.py",
    "closing.py",
    "open_size.py",
    "records.py",
    "spec",
    "program",
    "target",
    "compiler",
    "runtime",
    "web",
)
"""Modules and wings of the package whose files decide what IR looks like."""


def _hash_generators() -> str:
    """Hash of the source files that decide what IR looks like; a random word where there are none to read."""
    root = Path(__file__).resolve().parents[2]
    state = hashlib.sha256()
    try:
        parts = [root / part for part in _GENERATORS]
        files = [file for part in parts for file in ([part] if part.suffix else part.rglob("*.py"))]
        for file in sorted(files):
            state.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    except OSError:
        files = []
    return state.hexdigest() if files else secrets.token_hex(16)


# Taken while this module is imported, next to the import of the generators: code that is edited while a process runs
# must not be filed under the digest of its new text.
_TOOLS: Final = (str(ABI), llvmlite.__version__, str(llvm.llvm_version_info), _hash_generators())
