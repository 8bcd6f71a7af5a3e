"""`Executable`: a plan with its machine code, its constants and its memory; calling it runs the network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from omniconv.compiler.code.build import LoadedKernel, Object, Source, build_objects, compiling, load
from omniconv.compiler.code.cache import CodeStore, open_cache
from omniconv.compiler.code.opened import OpenKernel
from omniconv.compiler.memory.planner import Call
from omniconv.compiler.planning.alike import share_code
from omniconv.compiler.planning.open_plans import OpenPlans
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan
from omniconv.compiler.planning.plan import plan as make_plan
from omniconv.compiler.planning.shared import Shared
from omniconv.compiler.planning.sharing import count_worth
from omniconv.errors import DataError, ShapeError, UnsupportedError
from omniconv.integers import as_integer
from omniconv.limits import check_memory
from omniconv.open_size import LateOpenSizeError
from omniconv.processors import MAX_THREADS, take_threads
from omniconv.program.element import BFLOAT16
from omniconv.program.layers import LayerInfo, describe_step
from omniconv.program.open_program import OpenOrigin
from omniconv.program.passes.keep_bfloat16 import describe_kept
from omniconv.program.program import Program
from omniconv.runtime.arena import Arena, ArenaPool
from omniconv.runtime.call_frame import CallFrame, Words, make_frame
from omniconv.runtime.compiled import Compiled, show_boundary
from omniconv.runtime.constants import make_constants
from omniconv.runtime.inputs import Array, arrange, read_array, read_names, serves
from omniconv.runtime.report import StepProfile, describe_call, merge_calls
from omniconv.runtime.results import Results
from omniconv.runtime.system import detect_system
from omniconv.runtime.threads import Job, begin_driver, make_solo_run, run_on_lent, run_on_team
from omniconv.spec import Shape
from omniconv.target.model import Target
from omniconv.target.select import available_targets, detect_host, reject_host

if TYPE_CHECKING:
    from omniconv.program.tiers import Tiers
    from omniconv.runtime.stream import Stream
    from omniconv.runtime.stream_plan import Lower

TOO_LITTLE: Final = "there is too little to share"


_CodeKey: TypeAlias = tuple[int, str, tuple[int, ...]]


def _key(call: Call) -> _CodeKey:
    """What tells the machine code of a call, within one plan."""
    return id(call.recipe), call.what, call.narrow


def limit_threads(program: Program, target: Target, options: Options) -> Options:
    """The options with no more threads than the work is worth, where nobody said how many."""
    if not options.threads_why:
        return options
    worth = count_worth(program, target, options.threads)
    if worth == options.threads:
        return options
    why = f"of {options.threads_why}: {TOO_LITTLE}" + ("" if worth == 1 else " among more")
    return replace(options, threads=worth, threads_why=why)


class Executable(Compiled):
    """A compiled layer, chain or network. Thread-safe: concurrent callers each get memory of their own.

    One that was compiled for another machine can be asked about everything, but not called.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> spec = oc.pointwise(in_channels=2, out_channels=1)
        >>> f = oc.compile(spec, (1, 2, 1, 3), (np.float32([[[[1]], [[10]]]]), None))
        >>> f(np.float32([[[[1, 2, 3]], [[4, 5, 6]]]]))
        array([[[[41., 52., 63.]]]], dtype=float32)

    Attributes:
        inputs, outputs: name -> shape of the arrays at the boundary (in the boundary's layout).
        dtype: NumPy's type of all of them but truths; ``dtypes`` and ``output_dtypes`` say it for each.
        threads: threads that share each call, at most: while other calls run, each has its part of the cores.
        threads_why: why so many, where nobody said how many.
        compile_seconds: time spent to plan, compile and pack [s].
        kernels: distinct kernels; ``cached_kernels`` of them came from the disk or were loaded already.
        arena_bytes, constant_bytes: memory of each concurrent caller, and of weights and tables [bytes].
        tiers: for a model, how many of its nodes are compiled and how many folded.
        plan, target: what was chosen, and the machine it is for.
        lengthen: the program for another shape of the input, where it is known.
        layout: of the caller's arrays, but for those that ``row_major`` names.

    A copy, also a deep one, is the executable itself. What is pickled is what :meth:`save` writes.
    """

    plan: Plan
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    threads: int
    threads_why: str
    layout: str
    row_major: frozenset[str]
    target: Target
    compile_seconds: float
    kernels: int
    cached_kernels: int
    arena_bytes: int
    constant_bytes: int
    tiers: Tiers | None
    dtypes: dict[str, np.dtype[Any]]
    output_dtypes: dict[str, np.dtype[Any]]
    lengthen: Lower | None = None

    def __init__(
        self,
        plan: Plan,
        *,
        threads: int = 1,
        threads_why: str = "",
        layout: str = "NCHW",
        memory_limit: int | None = None,
        at: str = "",
        tiers: Tiers | None = None,
        shared: Shared | None = None,
        truths: Collection[str] = (),
        pool: ArenaPool | None = None,
        store: CodeStore | None = None,
    ) -> None:
        started = time.perf_counter()
        threads = as_integer("threads", threads, 1, MAX_THREADS)
        self.plan, self.threads, self.threads_why, self.target = plan, threads, threads_why, plan.target
        self.layout, self.row_major = layout, plan.row_major
        self.dtype, self.tiers = plan.program.element.dtype, tiers
        self.inputs = {name: self._outside(name, plan.inputs[name].shape) for name in plan.program.inputs}
        self.dtypes = dict.fromkeys(self.inputs, self.dtype)
        self.outputs = {name: self._outside(name, plan.outputs[name].shape) for name in plan.program.outputs}
        self.arena_bytes, self.constant_bytes = plan.arena_bytes + threads * plan.scratch_bytes, plan.constant_bytes
        self.output_dtypes = {name: np.dtype(bool) if name in truths else self.dtype for name in self.outputs}
        self._truths = frozenset(truths)
        outputs = sum(self.dtype.itemsize * item.extent for item in plan.outputs.values())
        needed = self.arena_bytes + plan.constant_bytes + outputs
        check_memory(needed, "weights, intermediate values and outputs together", limit=memory_limit, at=at)
        self._limit, self._at = memory_limit, at
        self._foreign = reject_host(plan.target, detect_host())
        self._alone = count_worth(plan.program, plan.target, threads) == 1
        self._results = Results(list(self.outputs.values()), self.dtype)
        self._only = next(iter(self.inputs)) if len(self.inputs) == len(self.outputs) == 1 else None
        keys, store = [_key(call) for call in plan.calls], store or open_cache()
        sources = self._list_sources(keys)
        with compiling(self.target, cache=store) as begin:
            begin([*sources.values()])
            self._blocks, self._addresses = make_constants(plan, shared, memory_limit)
            self._code, code = self._compile(keys, sources, store)
        if shared is not None:
            code_of_sizes = zip(self._code, plan.calls, strict=True)
            shared.keep(kernel for kernel, call in code_of_sizes if isinstance(call.recipe, OpenKernel))
        distinct = {item.digest: item for item in code}
        self.kernels = len(distinct)
        self.cached_kernels = sum(kernel.cached for kernel in distinct.values())
        self._zero = Arena(plan.zero_bytes + 64, limit=memory_limit)
        self._idle: deque[CallFrame] = deque(maxlen=8)
        self._pool = pool
        self._parallel = 0
        if self._foreign is None:
            self._idle.append(self._make_frame())
        self.compile_seconds = time.perf_counter() - started

    @classmethod
    def of(
        cls,
        program: Program,
        target: Target,
        options: Options,
        at: str = "",
        *,
        tiers: Tiers | None = None,
        shared: Shared | None = None,
        truths: Collection[str] = (),
        pool: ArenaPool | None = None,
        store: CodeStore | None = None,
        plans: OpenPlans | None = None,
        origin: OpenOrigin | None = None,
    ) -> Executable:
        """Plan and compile a program; ``plans`` has those of other sizes of it, which are told apart by its origin. The
        rest is as for the class.
        """
        options = limit_threads(program, target, options)
        if reject_host(target, detect_host()) is None:
            begin_driver()
        store = store or open_cache()

        def make(plan: Plan) -> Executable:
            with compiling(plan.target, cache=store) as begin:
                return cls(
                    share_code(plan, begin) if shared is None else plan,
                    threads=options.threads,
                    threads_why=options.threads_why,
                    layout=options.layout,
                    memory_limit=options.memory_limit,
                    at=at,
                    tiers=tiers,
                    shared=shared,
                    truths=truths,
                    pool=pool,
                    store=store,
                )

        if plans is not None and origin is not None:
            try:
                return make(plans.find(program, origin, target, options))
            except LateOpenSizeError:
                plans.refuse(origin, options)
        return make(make_plan(program, target, options, shared))

    # -- running

    def __call__(self, x: Any) -> Array:
        """Run on one input and return the one output. NumPy arrays and anything with ``__dlpack__`` are taken.

        Raises:
            ShapeError: another shape than compiled for, or a network with several inputs or outputs.
            DataError: another type than compiled for.
            UnsupportedError: it is code for another machine.
        """
        if self._only is None:
            raise ShapeError(
                f"inputs {list(self.inputs)} and outputs {list(self.outputs)}",
                need="one input and one output",
                fix="net.run({name: array})",
                at=self._at,
            )
        x, result, pool = self._check(self._only, x), self._results.take(0), self._pool
        frame = self._take_frame()  # and not given back after an interrupt
        frame.arrays[0], frame.arrays[1] = id(x), id(result)
        if pool is None:
            frame.run()
        else:
            arena = pool.take(self.arena_bytes, self._limit)
            frame.arrays[2] = id(arena.bytes)
            frame.run()
            pool.give(arena)
        self._idle.append(frame)
        return self._as_given(result)

    def run(self, inputs: Mapping[str, Any], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run on named inputs and return all outputs by name.

        Args:
            inputs: arrays by name.
            out: an array of the caller's for every output, to be written to and returned; default: new ones.

        Raises:
            ShapeError: missing or unknown names, or another shape than compiled for.
            DataError: another type than compiled for; an array for an output that cannot be written to as it is, or
                that shares memory with another array.
            UnsupportedError: it is code for another machine.
        """
        arrays = self._gather(inputs)
        room = None if out is None else self._take_room(arrays, out)
        found = dict(zip(self.outputs, self._run(arrays, room=room), strict=True))
        for name in self._truths:
            found[name] = np.asarray(found[name] != 0)
        return found

    def run_at(self, addresses: Sequence[int]) -> None:
        """Run on memory at addresses, without a look at what is there.

        Args:
            addresses: of all inputs and then of all outputs, in order, each aligned to its elements. The caller sees
                to it that the memory is as large as they are, and stays; outputs overlap nothing but what the program
                says they may.
        """
        frame, pool = self._take_frame(), self._pool
        frame.arrays[:] = frame.places
        if pool is None:
            frame.addresses[:] = list(addresses)
            frame.run()
        else:
            arena = pool.take(self.arena_bytes, self._limit)
            frame.addresses[:] = [*addresses, arena.address]
            frame.run()
            pool.give(arena)
        self._idle.append(frame)

    def profile(self, inputs: Any, repeat: int = 10) -> list[StepProfile]:
        """Median time of each step over some runs, on one array or on named inputs.

        Steps include the conversions at the boundary; the waits between steps count for the step before them. A kernel
        that a step calls several times (slabs, bands) is one entry, with the sum of its times.
        """
        named = inputs if isinstance(inputs, Mapping) else {next(iter(self.inputs)): inputs}
        arrays = self._gather(named)
        times = np.zeros((as_integer("repeat", repeat), len(self.plan.calls) + 1), np.int64)
        for row in times:
            self._run(arrays, row)
        spent = np.diff(times, axis=1)
        merged = merge_calls(self.plan)
        seconds = [float(np.median(spent[:, calls].sum(axis=1))) * detect_system().tick_seconds for calls in merged]
        total = sum(seconds) or 1.0
        return [
            describe_call(self.plan, self.plan.calls[calls[0]], each, each / total)
            for calls, each in zip(merged, seconds, strict=True)
        ]

    def __repr__(self) -> str:
        inputs = {name: (self.dtypes[name], shape) for name, shape in self.inputs.items()}
        outputs = {name: (self.output_dtypes[name], shape) for name, shape in self.outputs.items()}
        return show_boundary(self, inputs, outputs)

    def borrow(self, pool: ArenaPool, parallel: int = 0) -> None:
        """From now on take the working memory of each call from a pool that others share, and hold none.

        Args:
            pool: of memory.
            parallel: address of a function that lends threads too, see :mod:`omniconv.runtime.driver`; 0 for none.
        """
        self._pool, self._parallel = pool, parallel
        self._idle.clear()

    def stream(self, axis: int, chunk: int, *, shape: Sequence[int] | None = None, output: str | None = None) -> Stream:
        """Run along one axis on whatever has come so far; see `omniconv.Stream`.

        The plan is made for the first stream of an axis; further ones share its code and weights.

        Args:
            axis: of the input, such as time.
            chunk: positions that pushes usually have; any number is taken.
            shape: sizes of the input where they are open; that along the axis means nothing.
            output: the name of one of the outputs, where there are several.

        Raises:
            UnsupportedError: an operator that is not local along the axis, by name; a model whose size along the axis
                is fixed.
            ShapeError: several inputs, or sizes that do not fit.
        """
        from omniconv.runtime.streams import open_stream

        if self.lengthen is None:
            raise UnsupportedError(
                "a network that was compiled for one size does not say what it computes for another one",
                need="an open size along the axis",
                fix="compile(model, shapes={name: (1, 1, None)}) of a model exported with dynamic sizes",
                at=self._at,
            )
        name, known = next(iter(self.plan.inputs.items()))
        # What is taken by default for the work of this size may be too few for that of a chunk.
        taken = take_threads(None if self.threads_why else self.threads)
        options = Options(
            layout=self.layout,
            row_major=self.row_major,
            threads=taken.number,
            threads_why=taken.why,
            exact=self.plan.exact,
            precision=self.plan.precision,
            memory_limit=self._limit,
        )
        return open_stream(self, self.lengthen, name, known.shape, options, axis, chunk, shape, output)

    @property
    def code(self) -> list[LoadedKernel]:
        """The machine code of each kernel, once; none where it is for another machine."""
        return list({kernel.digest: kernel for kernel in self._code}.values())

    @property
    def layers(self) -> list[LayerInfo]:
        """The steps of the program in order: kind, problem line, shapes, parameters and MACs."""
        return [describe_step(self.plan.program, index) for index in range(len(self.plan.program.steps))]

    def explain(self) -> str:
        """For every step the kernel that was chosen, its tile, and what was rejected and why."""
        alone = f" (one does it all: {TOO_LITTLE})" if self._alone and self.threads > 1 else ""
        kernels = f"{self.kernels} kernels; arena {self.arena_bytes} bytes"
        counted = "" if self.tiers is None else f"; {self.tiers}"
        lines = [f"target {self.target}; {self.describe_threads()}{alone}; {kernels}{counted}"]
        if self.plan.precision == BFLOAT16.name:
            lines += describe_kept(self.plan.program, self.plan.float32_layers)
        elif kept := self.plan.narrow_steps:
            lines.append(f"bfloat16: the weights of {len(kept)} layers, which it has exactly")
        for calls in merge_calls(self.plan):
            call = self.plan.calls[calls[len(calls) // 2]]
            record = describe_call(self.plan, call, 0.0, 0.0)
            lines.append(f"{record.name}: {record.text or record.kind}")
            chosen = f"    {call.what} kernel, {call.recipe.units} units"
            if call.decision is not None:
                chosen += f", {call.decision.choice}" + (", tuned" if call.decision.tuned else "")
            serves = getattr(call.recipe, "serves", "")
            chosen += f", for {serves}" if serves else ""
            lines.append(chosen + (f", {len(calls)} calls" if len(calls) > 1 else ""))
            lines += [f"    {call.how}"] if call.how else []
            lines += [f"    rejected {reason}" for reason in call.why]
        return "\n".join(lines)

    # -- inside

    def _as_given(self, result: Array) -> Array:
        """The one output, as bools where it is boolean."""
        return np.asarray(result != 0) if self._truths else result

    def _gather(self, inputs: Mapping[str, Any]) -> list[Array]:
        if type(inputs) is dict and len(inputs) == len(self.inputs):
            given: Callable[[str], Any] = inputs.get
            found: list[Array] = [
                x for name, shape in self.inputs.items() if serves(x := given(name), shape, self.dtype)
            ]
            if len(found) == len(inputs):
                return found
        read_names(inputs, self.inputs, self._at)
        return [self._check(name, inputs[name]) for name in self.inputs]

    def _check(self, name: str, x: Any) -> Array:
        """An input as a contiguous array of the expected type and shape. Other orders in memory are copied."""
        if serves(x, self.inputs[name], self.dtype):
            found: Array = x
            return found
        array = read_array(name, x, self.dtype, self._at)
        if array.shape != self.inputs[name]:
            raise ShapeError(
                f"input {name!r} has shape {array.shape}",
                need=f"{self.inputs[name]}, the shape compiled for ({self.layout})",
                at=self._at,
            )
        return arrange(array)

    def _take_room(self, arrays: list[Array], out: Mapping[str, Array]) -> list[Array]:
        """The caller's arrays for the outputs, in their order."""
        read_names(out, self.outputs, self._at, "outputs")
        if self._truths:
            problem = f"output {min(self._truths)!r} is boolean, which is made of floats after the run"
            raise DataError(problem, need="outputs of floats", fix="run(inputs), which makes new arrays", at=self._at)
        room: list[Array] = []
        for name, shape in self.outputs.items():
            array = read_array(name, out[name], self.dtype, self._at, "output")
            if array.shape != shape:
                problem = f"the array for output {name!r} has shape {array.shape}"
                raise ShapeError(problem, need=f"{shape}, the shape compiled for ({self.layout})", at=self._at)
            if not array.flags.carray:
                problem = f"the array for output {name!r} is not contiguous, aligned and writable"
                raise DataError(problem, need="one that is", fix="numpy.empty(shape, dtype)", at=self._at)
            if any(np.may_share_memory(array, other) for other in (*arrays, *room)):
                problem = f"the array for output {name!r} shares memory with another one"
                raise DataError(problem, need="memory of its own", fix="numpy.empty(shape, dtype)", at=self._at)
            room.append(array)
        return room

    def _run(self, arrays: list[Array], times: Words | None = None, room: list[Array] | None = None) -> list[Array]:
        results = self._results.take_all() if room is None else room
        frame = self._take_frame()
        for index, array in enumerate(arrays + results):
            frame.arrays[index] = id(array)
        pool, arena = self._pool, None
        if pool is not None:
            arena = pool.take(self.arena_bytes, self._limit)
            frame.arrays[len(arrays) + len(results)] = id(arena.bytes)
        if times is None:
            frame.run()
        else:
            frame.run_timed(times.ctypes.data)
        if pool is not None and arena is not None:
            pool.give(arena)
        self._idle.append(frame)
        return results

    def _take_frame(self) -> CallFrame:
        try:
            return self._idle.pop()
        except IndexError:
            return self._make_frame()

    def _list_sources(self, keys: Sequence[_CodeKey]) -> dict[_CodeKey, Source]:
        """The recipes of all machine code, by the keys of the calls."""
        # A layer in slabs or bands is many calls of one recipe, whose text is long.
        calls = dict(zip(keys, self.plan.calls, strict=True))
        return {key: Source.of(call.recipe, call.what, self.target.keeping(call.narrow)) for key, call in calls.items()}

    def _compile(
        self, keys: Sequence[_CodeKey], sources: Mapping[_CodeKey, Source], store: CodeStore | None
    ) -> tuple[list[LoadedKernel], Sequence[LoadedKernel | Object]]:
        """The kernel of each call, none where this machine cannot run them; and all machine code."""
        if self._foreign is not None:
            return [], build_objects([*sources.values()], self.target, cache=store)
        kernels = dict(zip(sources, load([*sources.values()], self.target, cache=store), strict=True))
        return [kernels[key] for key in keys], [*kernels.values()]

    def _make_frame(self) -> CallFrame:
        if self._foreign is not None:
            raise UnsupportedError(
                f"code for target {self.target.name!r} is called, but {self._foreign}",
                need=f"a call on such a machine, or one of the targets {', '.join(available_targets(detect_host()))}",
                at=self._at,
            )
        arena = Arena(self.arena_bytes, limit=self._limit) if self._pool is None else None
        return make_frame(self.plan, self._code, self._addresses, self._zero.address, arena, self._make_run)

    def _make_run(self, job: Job) -> Callable[[], object]:
        if self._alone:
            return make_solo_run(job)
        if self._parallel:
            return partial(run_on_lent, self._parallel, self.threads, job)
        return partial(run_on_team, self.threads, job)
