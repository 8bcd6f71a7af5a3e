"""`save` and `load`: a compiled layer, chain or network as one file, which runs nothing.

A file holds what is computed, as data, and what was asked of its plan: that is enough to compile it anew, on any
machine. Beside that it holds what compiling took the time for: the plan, packed constants and machine code. These are
used only where a seal made with this user's key (:mod:`omniconv.compiler.code.key`) stands for every byte of the file,
for this processor with all its features, and for this version of the compiler and of LLVM.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, TypeAlias

import llvmlite
import numpy as np

import omniconv
from omniconv.compiler.code.cache import GivenCode, open_cache
from omniconv.compiler.code.key import is_sealed, seal
from omniconv.compiler.code.own import open_now
from omniconv.compiler.planning.options import Options
from omniconv.errors import ModelError, OmniconvError, RebuildWarning, UnsupportedError, warn
from omniconv.integers import as_shape
from omniconv.limits import check_memory
from omniconv.program.layer_program import LayerProgram
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.runtime.container import (
    MAGIC,
    Bytes,
    Container,
    read_container,
    read_file,
    write_container,
    write_file,
)
from omniconv.runtime.executable import Executable, limit_threads
from omniconv.runtime.json_values import ValueReader, ValueWriter, from_json, to_json
from omniconv.runtime.pace import while_planning
from omniconv.runtime.saved_content import Asked, Content, SavedGraph, SavedLayer, SavedProgram, find_tuned
from omniconv.runtime.saved_plan import SavedCode, SavedPlan, code_of, identify
from omniconv.target.model import Target
from omniconv.target.select import detect_host, reject_host, resolve_target

Trusted: TypeAlias = SavedPlan | SavedCode
SUFFIX: Final = ".oconv"
"""What the names of such files end in, by custom."""
_NEED: Final = "a whole file that omniconv saved"
_FAULTS: Final = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a description may raise that contradicts itself in a way that no rule names."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Who wrote a file: for messages, and for nothing else."""

    version: str
    llvm: str
    processor: str

    @classmethod
    def here(cls) -> Maker:
        """This process."""
        return cls(omniconv.__version__, str(llvmlite.__version__), detect_host().cpu)


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """The first section."""

    maker: Maker
    content: SavedLayer | SavedProgram | SavedGraph


def save(net: Any, path: str | os.PathLike[str]) -> None:
    """Write what was compiled to a file; see :meth:`omniconv.runtime.compiled.Compiled.save`."""
    if not isinstance(path, str | os.PathLike):
        raise ModelError(f"path is {type(path).__name__}", need="a path", fix=f'"network{SUFFIX}"')
    write = _prepare(net)
    write_file(path, write)


def to_bytes(net: Any) -> bytes:
    """What :func:`save` writes."""
    file = io.BytesIO()
    _prepare(net)(file)
    return file.getvalue()


def load(path: str | os.PathLike[str], *, memory_limit: int | None = None) -> Any:
    """Load what ``net.save(path)`` wrote: the same kind of thing, which gives the same results to the last bit.

    On the machine where it was saved, by the same user and version, nothing is planned or compiled again. Elsewhere,
    and where the file was changed, its machine code is not looked at: the network is compiled anew from its
    description, for this machine, and one `RebuildWarning` says why. No file makes anything run that Omniconv did not
    make here.

    Example:
        >>> import os, tempfile
        >>> import numpy as np, omniconv as oc
        >>> spec = oc.pointwise(in_channels=2, out_channels=1)
        >>> f = oc.compile(spec, (1, 2, 1, 3), (np.float32([[[[1]], [[10]]]]), None))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     f.save(os.path.join(folder, "layer.oconv"))
        ...     g = oc.load(os.path.join(folder, "layer.oconv"))
        >>> g(np.float32([[[[1, 2, 3]], [[4, 5, 6]]]]))
        array([[[[41., 52., 63.]]]], dtype=float32)

    Args:
        path: of the file.
        memory_limit: most memory to use [bytes]; default: ``OMNICONV_MEMORY_LIMIT``, else half of the machine's.

    Returns:
        An `Executable`, or a `Network` or `MixedExecutable`, as it was.

    Raises:
        ModelError: a file that is damaged, of another version of the format, or no such file.
        SpecError, ShapeError, DataError, UnsupportedError: a description that breaks a rule.
        LimitError: more memory than allowed; nothing has been allocated then.
    """
    if not isinstance(path, str | os.PathLike):
        raise ModelError(f"path is {type(path).__name__}", need="a path", fix=f'"network{SUFFIX}"')
    return _open(read_file(path, memory_limit), f"file {os.fspath(path)!r}", memory_limit)


def from_bytes(data: bytes) -> Any:
    """What :func:`to_bytes` was given; what pickles call."""
    return _open(data, "pickled network", None)


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as one of these does."""
    try:
        with open_now(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def point_to_load(error: ModelError, model: object) -> ModelError:
    """The error of a model that is none, which says what opens it where it is a saved network."""
    if isinstance(model, str | os.PathLike) and is_saved(model):
        return error.but(fix="omniconv.load(path), as it is a saved network")
    return error


# -- saving


def _prepare(net: Any) -> Any:
    """What writes a network into a file, once all of it is known."""
    sections: list[Any] = [b"", b""]
    writer = ValueWriter(sections)
    sections[0] = to_json(writer.write(Description(Maker.here(), _describe(net))))
    compiled, sign = _find_compiled(net), None
    cache = open_cache()
    key = cache.open_key() if compiled is not None and cache is not None else None
    if key is not None:
        sections[1] = to_json(writer.write(compiled))
        what = identify(net.target)

        def sign(table: bytes) -> bytes:
            return seal(key, MAGIC, what, table)

    def write(file: BinaryIO) -> None:
        write_container(sections, sign, file)

    return write


def _describe(net: Any) -> Content:
    """What a network computes."""
    if isinstance(net, Executable):
        options = Options(
            layout=net.layout,
            row_major=net.row_major,
            threads=net.threads,
            threads_why=net.threads_why,
            exact=net.plan.exact,
            precision=net.plan.precision,
            float32_layers=net.plan.float32_layers,
            accuracy=net.plan.accuracy,
        )
        asked = Asked.of(options, net.target, net.at, find_tuned(net.plan))
        if isinstance(net.lengthen, LayerProgram):
            (shape,) = (net.plan.program.shapes[name] for name in net.plan.program.inputs)
            return SavedLayer(asked, shape, net.lengthen.spec, net.lengthen.weights)
        truths = frozenset(name for name, dtype in net.output_dtypes.items() if dtype.kind == "b")
        return SavedProgram.of(asked, net.plan.program, truths, net.tiers)
    from omniconv.graph.write import write_graph

    tuning = net.options.tuning
    asked = Asked.of(net.options, net.target, net.at, None if tuning is None else dict(tuning.choices))
    model = np.frombuffer(write_graph(net.graph), np.uint8)
    return SavedGraph(asked, model, net.graph.constants, net.strict)


def _find_compiled(net: Any) -> Trusted | None:
    """What compiling took the time for; ``None`` of code for another machine."""
    if reject_host(net.target, detect_host()) is not None:
        return None
    return SavedPlan.of(net) if isinstance(net, Executable) else code_of(net.code)


# -- loading


def _open(data: bytes | Bytes, at: str, limit: int | None) -> Any:
    container = read_container(data, at, limit)
    if len(container.sections) < 2:
        raise ModelError(f"the file has {len(container.sections)} sections", need=_NEED, at=at)
    with _refuse_faults(at):
        reader = ValueReader(container.sections, at)
        found: Description = reader.read(Description, from_json(container.sections[0], at, limit))
        content = found.content
        target, foreign = _choose_target(content.asked)
        options = content.asked.options(target, limit)
    reason = foreign or _distrust(container, found.maker, target)
    compiled: Trusted | None = None
    if reason is None:
        compiled = reader.read(SavedPlan | SavedCode, from_json(container.sections[1], at, limit))
    else:
        warn(f"{at} is compiled anew for this machine: {reason}", RebuildWarning)
    if isinstance(content, SavedGraph):
        return _open_graph(content, target, options, compiled, at)
    assert not isinstance(compiled, SavedCode)
    return _open_program(content, target, options, compiled, at)


@contextmanager
def _refuse_faults(at: str) -> Iterator[None]:
    try:
        yield
    except OmniconvError:
        raise
    except _FAULTS as error:
        raise ModelError(f"the description contradicts itself: {error!r:.200}", need=_NEED, at=at) from error


def _choose_target(asked: Asked) -> tuple[Target, str | None]:
    """The target to compile for, and why it is another one than was asked for."""
    host, element = detect_host(), asked.find_element()
    target = resolve_target(asked.target, host).of(element)
    refusal = reject_host(target, host)
    return (target, None) if refusal is None else (resolve_target("native", host).of(element), refusal)


def _distrust(container: Container, maker: Maker, target: Target) -> str | None:
    """Why the plan and the machine code of a file are not used; ``None`` where they are."""
    if not container.sections[1].size:
        return "it holds no machine code"
    cache = open_cache()
    key = None if cache is None else cache.find_key()
    if key is None:
        return "this user has no key, which tells machine code that was made here from other"
    if is_sealed(container.seal, key, MAGIC, identify(target), container.table):
        return None
    here = Maker.here()
    if maker.processor != here.processor:
        return f"it was saved on another processor, {maker.processor[:40]!r}, and this one is {here.processor!r}"
    if maker != here:
        theirs = f"Omniconv {maker.version[:40]!r} with llvmlite {maker.llvm[:40]!r}"
        return f"it was saved by {theirs}, and this is {here.version} with {here.llvm}"
    return "its machine code was not made here by this user with this version of Omniconv, or the file was changed"


def _open_program(
    content: SavedLayer | SavedProgram, target: Target, options: Options, compiled: SavedPlan | None, at: str
) -> Executable:
    lengthen = None
    truths: frozenset[str] = frozenset()
    tiers = None
    with _refuse_faults(at):
        if isinstance(content, SavedLayer):
            lengthen = content.lowering()
            program = _lower(lengthen, content, target, options)
        else:
            program, truths, tiers = content.program(options.memory_limit), content.truths, content.tiers
            if not truths <= set(program.outputs):
                raise ModelError(f"truths {sorted(truths)[:8]}", need="outputs", at=at)
    where = content.asked.at
    if compiled is None:
        with _refuse_faults(at), while_planning():
            found = Executable.of(program, target, options, where, tiers=tiers, truths=truths)
    else:
        plan, options = compiled.plan(program, target, options), limit_threads(program, target, options)
        found = Executable(
            plan,
            threads=options.threads,
            threads_why=options.threads_why,
            layout=options.layout,
            memory_limit=options.memory_limit,
            at=where,
            tiers=tiers,
            truths=truths,
            store=GivenCode(compiled.code.read()),
        )
    found.lengthen = lengthen
    return found


def _lower(lengthen: LayerProgram, content: SavedLayer, target: Target, options: Options) -> Program:
    """The program of a layer, whose sizes are compared with the limit first."""
    shape = as_shape(content.shape, at=lengthen.spec.text())
    needed = target.element.bytes * (math.prod(shape) + math.prod(lengthen.spec.output_shape(shape)))
    check_memory(needed, "input and output together", limit=options.memory_limit, at=lengthen.spec.text(shape))
    return lengthen(shape)[0]


def _open_graph(content: SavedGraph, target: Target, options: Options, compiled: Trusted | None, at: str) -> Any:
    try:
        from omniconv.graph import prepare
        from omniconv.runtime.model import compile_graph
    except ImportError as error:
        raise UnsupportedError(
            f"a network with open sizes, or parts in NumPy, is planned from its graph: {error}",
            need="the package onnx",
            fix="a network that was compiled for fixed shapes, which loads without",
            at=at,
        ) from error

    if content.model.dtype != np.uint8 or content.model.ndim != 1:
        raise ModelError("the model is not bytes", need=_NEED, at=at)
    graph = prepare(content.model.tobytes(), constants=content.constants, memory_limit=options.memory_limit)
    store = GivenCode(compiled.read()) if isinstance(compiled, SavedCode) else None
    return compile_graph(graph, target, options, content.asked.at, strict=content.strict, store=store)
