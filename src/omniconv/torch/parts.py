"""Parts of a graph that are compiled whole, with their weights as constants: which nodes, and the compiled part."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import fx, nn
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.api import compile as compile_model
from omniconv.errors import HostWarning, OmniconvError, warn
from omniconv.records import dataclass
from omniconv.runtime.executable import Executable
from omniconv.runtime.kept import Kept
from omniconv.torch.compile import CompiledModule, export_fixed
from omniconv.torch.layouts import is_channels_last
from omniconv.torch.programs import PROGRAMS, find_parallel
from omniconv.torch.weights import CompiledPart, states_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAVY: Final = {
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
    F.linear,
    torch.matmul,
    torch.bmm,
    operator.matmul,
}
"""What a part is made for; one without is left to PyTorch."""
_FRESH: Final = {
    *_HEAVY,
    F.batch_norm,
    F.layer_norm,
    F.group_norm,
    torch.add,
    torch.mul,
    torch.sub,
    operator.add,
    operator.mul,
    operator.sub,
    torch.cat,
}
"""Functions whose result is memory of its own, that what follows may overwrite."""
_FUNCTIONS: Final = _FRESH | {
    getattr(module, name)
    for module, names in (
        (F, "relu relu6 hardtanh leaky_relu elu silu hardswish hardsigmoid gelu sigmoid tanh softmax dropout"),
        (F, "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d pad pixel_shuffle channel_shuffle"),
        (F, "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d softplus mish"),
        (torch, "div flatten reshape relu sigmoid tanh mean sum permute transpose softmax exp sqrt abs neg clamp"),
        (torch, "channel_shuffle pixel_shuffle chunk split unsqueeze squeeze pow rsqrt erf maximum minimum"),
        (operator, "iadd imul truediv neg getitem"),
    )
    for name in names.split()
}
_METHODS: Final = frozenset(
    "add mul sub div view reshape transpose permute contiguous flatten mean sum chunk split unsqueeze squeeze softmax "
    "sigmoid relu tanh clamp pow".split()
)
_IN_PLACE: Final = {operator.iadd, operator.imul}
_OPERATORS_IN_PLACE: Final = frozenset(
    "setitem delitem iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor ilshift irshift".split()
)
_WITH_FLAG: Final = {
    getattr(F, name) for name in "hardtanh leaky_relu elu relu relu6 silu hardswish hardsigmoid mish dropout".split()
}
"""Functions with an argument that says to work in place."""
_Kind: TypeAlias = tuple[tuple[torch.Size, ...], tuple[Any, ...], bool, int]
"""Shapes of the data, arguments that are no tensors, whether channels lie last, and threads."""
MOST_REFUSALS: Final = 64
"""Sets of shapes of one part that are known not to be compiled; those met last."""
_TRAINS: Final = {F.dropout: (2, "training", True), F.batch_norm: (5, "training", False)}
"""Functions that do something else in training: place, name and default of the argument that says so."""
_STATISTICS: Final = ("running_mean", "running_var")


def name_of(node: fx.Node) -> str:
    """What a node calls, for a report."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


class _Known(OperatorSupportBase):  # type: ignore[misc] # untyped for a checker without PyTorch
    """Whether a node may be part of a part."""

    def is_node_supported(self, submodules: Mapping[str, nn.Module], node: fx.Node) -> bool:  # noqa: ARG002 - PyTorch's
        """A function that is compiled, in inference, whose in-place form nobody else can see."""
        if node.op == "call_method":
            known = node.target in _METHODS
        else:
            known = node.op == "call_function" and node.target in _FUNCTIONS
        if not known:
            return False
        if node.target in _TRAINS:
            place, name, default = _TRAINS[node.target]
            if node.args[place] if len(node.args) > place else node.kwargs.get(name, default):
                return False
        return not _overwrites(node) or _is_own(node)


def _overwrites(node: fx.Node) -> bool:
    """Whether a known function is called in its in-place form."""
    flags = node.args[1:] if node.target in _WITH_FLAG else ()
    return node.target in _IN_PLACE or bool(node.kwargs.get("inplace")) or any(flag is True for flag in flags)


def _mutates(node: fx.Node) -> bool:
    """Whether a node changes memory that others may see, so that the order of nodes means something."""
    if not node.op.startswith("call") or node.target in _TRAINS:
        return False
    name = name_of(node)
    if (name.endswith("_") and not name.endswith("__")) or "out" in node.kwargs:
        return True
    in_place = getattr(node.target, "__module__", "") == "_operator" and name in _OPERATORS_IN_PLACE
    return (in_place or _overwrites(node)) and not _is_own(node)


def _is_own(node: fx.Node) -> bool:
    """Whether the first argument of a node is memory that no other node reads."""
    first = node.args[0] if node.args else None
    return isinstance(first, fx.Node) and first.target in _FRESH | _IN_PLACE and len(first.users) == 1


def cut(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> list[FrozenPart]:
    """Replace the largest parts of a graph by compiled ones, in place. One that changes memory is left whole.

    Args:
        graph: of calls of PyTorch's functions.
        example_inputs: in the order of its placeholders; weights are known by what they are.
    """
    if any(map(_mutates, graph.graph.nodes)):
        return []  # nodes may not be put together where one between them changes what they read
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    frozen = {node.name for node, value in zip(places, example_inputs, strict=True) if _is_weight(value)}
    # Where inductor is told to freeze, PyTorch gives weights to every backend as attributes of the graph.
    frozen |= {node.name for node in graph.graph.nodes if node.op == "get_attr"}
    partitioner = CapabilityBasedPartitioner(graph, _Known(), allows_single_node_partition=True)
    chosen = [part for part in partitioner.propose_partitions() if any(n.target in _HEAVY for n in part.nodes)]
    chosen = [part for part in chosen if all(_is_tensor(node) for node in _outputs(part.nodes))]
    for part in chosen:
        for node in part.nodes:
            _without_in_place(node)
    partitioner.fuse_partitions(chosen)
    parts = []
    for node in graph.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("fused_"):
            inner = graph.get_submodule(node.target)
            weights = [isinstance(each, fx.Node) and each.name in frozen for each in node.args]
            part = FrozenPart(str(node.target), inner, weights)
            setattr(graph, str(node.target), part)
            parts.append(part)
    return parts


def _is_weight(value: Any) -> bool:
    return isinstance(value, nn.Parameter) or getattr(value, "_dynamo_static_input_type", None) is not None


def _outputs(nodes: Any) -> list[fx.Node]:
    inside = set(nodes)
    return [node for node in inside if any(user not in inside for user in node.users)]


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("example_value"), torch.Tensor)


def _without_in_place(node: fx.Node) -> None:
    """Nobody sees the difference, and an exporter need not."""
    out_of_place = {operator.iadd: operator.add, operator.imul: operator.mul}
    node.target = out_of_place.get(node.target, node.target)
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    if _overwrites(node):
        node.args = (node.args[0], *(False if argument is True else argument for argument in node.args[1:]))


class _Bound(nn.Module):  # type: ignore[misc]
    """A part as a module of its inputs alone: the rest of its arguments are constants."""

    def __init__(self, inner: nn.Module, constants: dict[int, Any], many: int) -> None:
        super().__init__()
        self.inner, self._many = inner, many
        self._plain = {place: value for place, value in constants.items() if not isinstance(value, torch.Tensor)}
        self._tensors = [place for place, value in constants.items() if isinstance(value, torch.Tensor)]
        for place in self._tensors:
            self.register_buffer(f"constant_{place}", constants[place].detach())

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The part."""
        given = dict(self._plain) | {place: getattr(self, f"constant_{place}") for place in self._tensors}
        rest = iter(inputs)
        return self.inner(*(given[place] if place in given else next(rest) for place in range(self._many)))


@dataclass(frozen=True, slots=True)
class _Recent:
    """What ran last, and for what."""

    kind: _Kind
    compiled: CompiledPart


class FrozenPart(nn.Module):  # type: ignore[misc]
    """Nodes of a graph that are compiled together, for each set of shapes that they are called with.

    A weight is known by its object, its memory and PyTorch's count of changes in place. PyTorch counts none that go
    through ``weight.data`` or through NumPy's view of the memory: these are not seen. Weights of inference mode, of
    which it counts nothing, are not frozen. Nor does it count what its batch norms do to their statistics in training:
    these are compared by value.

    What cannot be compiled runs in PyTorch, for the shapes that this is true of; a warning and the report say why.

    Args:
        name: of the part in its graph.
        inner: its nodes.
        weights: which of its arguments are weights.
    """

    def __init__(self, name: str, inner: fx.GraphModule, weights: list[bool]) -> None:
        super().__init__()
        self.name, self.inner = name, inner
        self._frozen = [place for place, frozen in enumerate(weights) if frozen]
        self._free = [place for place, frozen in enumerate(weights) if not frozen]
        statistics = _find_statistics(inner)
        self._uncounted = [place in statistics for place in self._frozen]
        self.nodes = [name_of(node) for node in inner.graph.nodes if node.op.startswith("call")]
        self._refusals: OrderedDict[Hashable, str] = OrderedDict()
        self._kept: Kept[CompiledPart] = Kept()
        self._recent: _Recent | None = None

    @property
    def refused(self) -> str:
        """Why some calls run in PyTorch; empty where none does."""
        return " / ".join(dict.fromkeys(list(self._refusals.values())))

    def __str__(self) -> str:
        why = f"; runs in torch: {self.refused}" if self.refused else ""
        return f"{', '.join(self.nodes)}{why}"

    def forward(self, *arguments: Any) -> Any:
        """The part, compiled for these shapes."""
        rest = [arguments[place] for place in self._free]
        data = [x for x in rest if isinstance(x, torch.Tensor)]
        if not data or not all(map(_is_compiled, data)):
            return self.inner(*arguments)
        plain = tuple([x for x in rest if not isinstance(x, torch.Tensor)])
        weights = [arguments[place] for place in self._frozen]
        last = any(map(is_channels_last, data))
        kind = (tuple([x.shape for x in data]), plain, last, torch.get_num_threads())
        recent = self._recent
        if recent is not None and recent.kind == kind and recent.compiled.holds(weights):
            return recent.compiled.module(*data)
        return self._find(kind, data, weights, arguments)

    def _find(
        self, kind: _Kind, data: list[torch.Tensor], weights: list[torch.Tensor], arguments: tuple[Any, ...]
    ) -> Any:
        """The part where the last call was another one."""
        shapes, plain, last, threads = kind
        sizes = tuple(tuple(value.shape) for value in weights)
        why = _find_obstacle(weights, plain)
        kind_of_all = (shapes, why or plain, sizes, last, threads)
        if kind_of_all in self._refusals:
            return self.inner(*arguments)
        if why:
            return self._refuse(kind_of_all, why, arguments)
        constants = dict(zip(self._frozen, weights, strict=True))
        constants |= {place: x for place in self._free if not isinstance(x := arguments[place], torch.Tensor)}
        try:
            compiled = self._kept.find(
                (kind_of_all, tuple(map(id, weights)), states_of(weights, self._uncounted)),
                lambda: self._compile(data, constants, weights, last=last),
            )
        except OmniconvError as error:
            return self._refuse(kind_of_all, str(error), arguments)
        self._recent = _Recent(kind, compiled)
        return compiled.module(*data)

    def _refuse(self, kind: Hashable, why: str, arguments: tuple[Any, ...]) -> Any:
        """Run in PyTorch, from now on at every call of this kind."""
        self._refusals[kind] = why
        while len(self._refusals) > MOST_REFUSALS:
            self._refusals.popitem(last=False)
        warn(f"a part of a model runs in PyTorch: {why} | {', '.join(self.nodes)}", HostWarning)
        return self.inner(*arguments)

    def _compile(
        self, data: list[torch.Tensor], constants: dict[int, Any], weights: list[torch.Tensor], *, last: bool
    ) -> CompiledPart:
        proto = export_fixed(_Bound(self.inner, constants, len(self._frozen) + len(self._free)), tuple(data))
        layout = "NHWC" if last else "NCHW"
        network = compile_model(proto, layout=layout, threads=torch.get_num_threads(), strict=True)
        if isinstance(network, Executable):  # on PyTorch's threads, which spin after each of its own operators
            network.borrow(PROGRAMS.memory, find_parallel())
        return CompiledPart(
            CompiledModule(network, [item.name for item in proto.graph.input]), weights, self._uncounted
        )


def _is_compiled(x: torch.Tensor) -> bool:
    return bool(x.dtype == torch.float32 and x.device.type == "cpu" and x.layout == torch.strided)


def _find_statistics(inner: fx.GraphModule) -> set[int]:
    """Which arguments of a part are running statistics of batch norms."""
    places = [node for node in inner.graph.nodes if node.op == "placeholder"]
    norms = [node for node in inner.graph.nodes if node.target is F.batch_norm]
    read = [
        *(x for norm in norms for x in norm.args[1:3]),
        *(norm.kwargs.get(n) for norm in norms for n in _STATISTICS),
    ]
    return {place for place, node in enumerate(places) if node in read}


def _find_obstacle(weights: Sequence[torch.Tensor], plain: Sequence[Any]) -> str:
    """Why these arguments cannot be constants; empty where they can."""
    if any(weight.is_inference() for weight in weights):
        return "weights made in inference mode, of which PyTorch counts no changes; need weights made outside of it"
    if any(weight.layout != torch.strided for weight in weights):
        return "weights that are not torch.strided; need dense ones, e.g. weight.to_dense()"
    if any(isinstance(value, list | tuple) and not all(isinstance(n, int | float) for n in value) for value in plain):
        return "an argument that is a list of tensors; need tensors by themselves"
    return ""
