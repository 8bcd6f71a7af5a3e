"""`compile_graph`: a checked graph becomes an `Executable`, a `MixedExecutable` or a `Network`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from omniconv.compiler.code.cache import CodeStore
from omniconv.compiler.planning.open_plans import OpenPlans
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.shared import Shared
from omniconv.errors import HostWarning, OmniconvError, UnsupportedError, warn
from omniconv.graph.fix_shapes import find_given, fix_shapes, is_fixed, narrow_inputs
from omniconv.graph.nodes import Graph
from omniconv.graph.open_program import OpenPrograms
from omniconv.graph.program import lower_graph, to_schedule
from omniconv.graph.schedule import Settings
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.program.passes.keep_bfloat16 import check_layers
from omniconv.program.tiers import WITHOUT_STRICT
from omniconv.records import dataclass
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.runtime.mixed import MixedExecutable
from omniconv.runtime.network import Network
from omniconv.runtime.pace import plan_beside, while_planning
from omniconv.runtime.runner import Context
from omniconv.target.model import Target


def compile_graph(
    graph: Graph, target: Target, options: Options, at: str, *, strict: bool, store: CodeStore | None = None
) -> Executable | MixedExecutable | Network:
    """Compile a graph: at once where all of its sizes are known, else for each set of shapes that it is called with.

    Args:
        graph: from :func:`omniconv.graph.prepare`.
        target: the machine.
        options: what is asked of plans.
        at: for messages.
        strict: refuse what cannot be compiled.
        store: where machine code is looked for and filed; ``None`` for the cache on disk.
    """
    build = ModelCompiler(graph, target, options, at, strict, store=store)
    if all(is_fixed(info.dims) for info in graph.inputs):
        with while_planning():
            return build({})
    build.programs = OpenPrograms(graph, options.memory_limit, target.element)
    build.shared, build.pool = Shared(store=store), ArenaPool()
    build.plans = OpenPlans(build.shared, plan_beside)
    return Network(build, graph, options, target, strict=strict, shared=build.shared)


@dataclass(slots=True)
class ModelCompiler:
    """Compiles a graph for the shapes of its inputs, and warns once of what it leaves to the host."""

    graph: Graph
    target: Target
    options: Options
    at: str
    strict: bool
    programs: OpenPrograms | None = None
    shared: Shared | None = None
    plans: OpenPlans | None = None
    pool: ArenaPool | None = None
    store: CodeStore | None = None
    _warned: bool = False

    def __call__(self, shapes: Mapping[str, Sequence[int]]) -> Executable | MixedExecutable:
        """What is compiled for inputs of these shapes."""
        graph, element = narrow_inputs(self.graph, shapes), self.target.element
        if any(0 in (info.dims or ()) for info in graph.inputs):
            return self._compile_empty(graph)
        try:
            fixed = fix_shapes(graph, find_given(graph, element))
            if self.programs is None:
                found = lower_graph(graph, fixed, self.options.memory_limit, element)
            else:
                found = self.programs.find(fixed)
            found.check_outputs(graph)
        except UnsupportedError as error:
            if not self.strict:
                return self._compile_mixed(graph)
            raise self._explain(error, graph) from None
        check_layers(found.program, self.options.float32_layers, self.at)
        return Executable.of(
            found.program,
            self.target,
            self.options,
            self.at,
            tiers=found.tiers,
            shared=self.shared,
            truths=found.truths,
            pool=self.pool,
            store=self.store,
            plans=self.plans,
            origin=found.origin,
        )

    def _explain(self, error: UnsupportedError, graph: Graph) -> UnsupportedError:
        """A refusal under ``strict``, which says so where the model runs without."""
        try:
            to_schedule(graph, memory_limit=self.options.memory_limit, element=self.target.element)
        except OmniconvError:
            return error
        return error.or_else(WITHOUT_STRICT)

    def _compile_empty(self, graph: Graph) -> MixedExecutable:
        """Of inputs without elements, a batch of none, little is left to compute, and no machine code reads them."""
        found = self._make_mixed(graph)
        if self.strict and found.schedule.describe_host():
            raise UnsupportedError(found.schedule.describe_host(), need="inputs of 1 or more on each axis", at=self.at)
        return found

    def _compile_mixed(self, graph: Graph) -> MixedExecutable:
        if self.options.float32_layers:
            problem = "float32_layers of a model part of which runs on the host"
            raise UnsupportedError(problem, need="one that is compiled whole", fix="none of them", at=self.at)
        return self._make_mixed(graph)

    def _make_mixed(self, graph: Graph) -> MixedExecutable:
        limit, element = self.options.memory_limit, self.target.element
        schedule = to_schedule(graph, memory_limit=limit, element=element)
        inner = replace(self.options, layout="NCHW", row_major=frozenset())
        context = Context(
            lambda program: Executable.of(
                program, self.target, inner, self.at, shared=self.shared, pool=self.pool, store=self.store
            ),
            Settings(find_memory_limit(limit), element, find_given(graph, element)),
        )
        found = MixedExecutable(schedule, context, graph, options=self.options, target=self.target, at=self.at)
        message = schedule.describe_host()
        if message and not self._warned:
            self._warned = True
            warn(f"{message} | {self.at}", HostWarning)
        return found
