"""ONNX file, bytes or `ModelProto` to a checked `Graph`. Files are taken to be hostile until checked.

Nothing is executed or unpickled, sizes are compared with the memory limit before they are used, every name is
unique and defined, nodes are sorted (a cycle is an error) and dead nodes are dropped. Declared shapes of inner values
are never read: shapes are computed from the inputs.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import onnx
from google.protobuf.message import DecodeError

from omniconv.errors import LimitError, ModelError, UnsupportedError
from omniconv.graph.contributed import replace_contributed
from omniconv.graph.functions import inline_functions
from omniconv.graph.memory import MAX_RANK, Budget
from omniconv.graph.nodes import AnyArray, Attribute, Dim, Dims, Graph, Node, Subgraph, ValueInfo, shorten
from omniconv.graph.sequences import write_out_sequences
from omniconv.graph.tensors import read_bfloat16, read_tensor
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.records import dataclass

OLDEST_OPSET: Final = 6
NEWEST_OPSET: Final = int(onnx.defs.onnx_opset_version())
MOST_NESTED: Final = 16
"""Graphs inside one another, beside the outermost."""
_NODE_BYTES: Final = 1024
_ITEM_BYTES: Final = 64

ModelLike: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto | Graph


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model as protobuf reads it; nothing of it has been checked.

    Attributes:
        proto: what the file says.
        directory: where external data may lie; ``None`` where the model did not come from a file.
        budget: the memory limit.
    """

    proto: onnx.ModelProto
    directory: Path | None
    budget: Budget


def load(model: ModelLike, *, memory_limit: int | None = None) -> Graph:
    """Read and check a model.

    Args:
        model: a path, the bytes of a file, a parsed model, or a `Graph` (returned as it is).
        memory_limit: see :func:`omniconv.limits.memory_limit` [bytes].

    Raises:
        ModelError: a damaged, inconsistent or unsafe file.
        UnsupportedError: an opset, or a kind of value, that is not handled.
        LimitError: a file, or tensors in it, above the memory limit.
    """
    return model if isinstance(model, Graph) else check(parse(model, memory_limit=memory_limit))


def parse(model: str | os.PathLike[str] | bytes | onnx.ModelProto, *, memory_limit: int | None = None) -> Parsed:
    """Read a model, without a look at what it says.

    Args:
        model, memory_limit: as for :func:`load`.

    Raises:
        ModelError: a file that cannot be read, or is no model.
        LimitError: a file above the memory limit.
    """
    budget = Budget(find_memory_limit(memory_limit))
    if isinstance(model, onnx.ModelProto):
        return Parsed(model, None, budget)
    if isinstance(model, bytes | bytearray | memoryview):
        return Parsed(_parse(bytes(model), budget, f"model of {len(model)} bytes"), None, budget)
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        proto = _parse(_read_file(path, budget), budget, f"file {str(path)!r}")
        return Parsed(proto, path.absolute().parent, budget)
    if hasattr(model, "state_dict"):
        raise ModelError(
            f"model is a PyTorch module, {type(model).__name__}",
            need="a spec, a path, bytes or onnx.ModelProto",
            fix="omniconv.torch.compile(module, example_inputs)",
        )
    raise ModelError(f"model is a {type(model).__name__}", need="a spec, a path, bytes or onnx.ModelProto")


def check(parsed: Parsed) -> Graph:
    """Check a model that was read.

    Raises:
        ModelError, UnsupportedError, LimitError: as for :func:`load`.
    """
    try:
        return _convert(parsed.proto, parsed.directory, parsed.budget)
    except UnicodeDecodeError:
        raise ModelError("a name in the model is not UTF-8", need="UTF-8 names") from None


def _read_file(path: Path, budget: Budget) -> bytes:
    at = shorten(f"file {str(path)!r}")
    try:
        status = path.stat()
        if not path.is_file():
            raise ModelError("the path is not a regular file", need="an ONNX file", at=at)
        if status.st_size > budget.limit:
            raise LimitError(
                f"the file holds {status.st_size} bytes",
                need=f"at most {budget.limit} bytes",
                fix="memory_limit=...",
                at=at,
            )
        with path.open("rb") as file:
            return file.read(status.st_size + 1)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the file cannot be read: {shorten(str(error))}", need="a readable ONNX file", at=at
        ) from None


def _parse(data: bytes, budget: Budget, at: str) -> onnx.ModelProto:
    if len(data) > budget.limit:
        raise LimitError(f"the model holds {len(data)} bytes", need=f"at most {budget.limit} bytes", at=at)
    try:
        return onnx.ModelProto.FromString(data)
    except (DecodeError, RecursionError):
        raise ModelError(
            "the data is not an ONNX model, or is cut short or nested too deeply",
            need="a whole ONNX file",
            at=shorten(at),
        ) from None


def _convert(proto: onnx.ModelProto, directory: Path | None, budget: Budget) -> Graph:
    if not proto.HasField("graph"):
        raise ModelError("the model holds no graph", need="an ONNX model with a graph")
    _read_opsets(proto)
    if len(proto.functions):
        proto = inline_functions(proto, budget)
    opsets = _read_opsets(proto)
    graph = proto.graph
    if len(graph.sparse_initializer):
        raise UnsupportedError("sparse initialisers", need="dense initialisers")
    if not len(graph.output):
        raise ModelError("the graph has no outputs", need="at least one output")
    constants = _read_constants(graph, directory, budget)
    inputs: dict[str, ValueInfo] = {}
    for info in graph.input:
        if not info.name or info.name in inputs:
            raise ModelError(f"input {shorten(info.name)!r} appears twice or has no name", need="unique names")
        value = _read_value_info(info, "input")
        if info.name in constants:
            _check_initialiser(constants[info.name], value)
        else:
            inputs[info.name] = value
    outputs = tuple(_read_value_info(info, "output") for info in graph.output)
    nodes = replace_contributed([_read_node(node, opsets, directory, budget) for node in graph.node], opsets[""])
    nodes, more = write_out_sequences(sort_nodes(nodes, constants.keys() | inputs.keys()), constants)
    constants.update(more)
    return Graph(tuple(inputs.values()), outputs, constants, drop_dead_nodes(nodes, inputs, constants, outputs))


def _read_constants(graph: onnx.GraphProto, directory: Path | None, budget: Budget) -> dict[str, AnyArray]:
    """The initialisers of a graph, after a look at how long its lists are."""
    counted = (len(graph.node), len(graph.initializer), len(graph.input), len(graph.output))
    budget.check((sum(counted),), _NODE_BYTES, "the graph's list of nodes, initialisers, inputs and outputs")
    constants: dict[str, AnyArray] = {}
    narrow = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.BFLOAT16}
    _check_narrow(graph, narrow)
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in constants:
            raise ModelError(f"initialiser {shorten(tensor.name)!r} appears twice or has no name", need="unique names")
        read = read_bfloat16 if tensor.name in narrow else read_tensor
        constants[tensor.name] = read(tensor, directory, budget, "initialiser")
    return constants


def _check_narrow(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Refuse constants of bfloat16 that a node computes with. They are read as float32, which is the same for a Cast.

    Raises:
        UnsupportedError: a node that computes with them, or a graph that gives them away.
    """
    if not names:
        return
    readers = [
        (node.op_type, name) for node in graph.node if node.op_type != "Cast" or node.domain for name in node.input
    ]
    for what, name in [*readers, *(("an output", info.name) for info in graph.output)]:
        if name in names:
            raise UnsupportedError(
                f"{what} of a constant of bfloat16", need="Cast to float32", at=shorten(f"tensor {name!r}")
            )
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _check_narrow(inner, names)


def _read_subgraph(
    proto: onnx.GraphProto, opsets: dict[str, int], directory: Path | None, budget: Budget, at: str, depth: int
) -> Subgraph:
    """A graph in an attribute. What it takes from outside is looked up there, by whoever reads the node."""
    if depth > MOST_NESTED:
        raise LimitError(f"graphs nested {depth} deep", need=f"at most {MOST_NESTED}", at=at)
    if len(proto.sparse_initializer):
        raise UnsupportedError("sparse initialisers", need="dense initialisers", at=at)
    constants = _read_constants(proto, directory, budget)
    inputs = tuple(_read_inner_info(info, "input") for info in proto.input)
    names = [info.name for info in inputs]
    if not all(names) or len({*names, *constants}) < len(names) + len(constants):
        raise ModelError("inputs and initialisers of a graph share a name, or lack one", need="unique names", at=at)
    outputs = tuple(_read_inner_info(info, "output") for info in proto.output)
    if not all(info.name for info in outputs):
        raise ModelError("an output of a graph has no name", need="names", at=at)
    nodes = [_read_node(node, opsets, directory, budget, depth) for node in proto.node]
    nodes = replace_contributed(nodes, opsets[""])
    defined = {*names, *constants, *(name for node in nodes for name in node.outputs)}
    wanted = [*(name for node in nodes for name in node.reads), *(info.name for info in outputs)]
    captured = tuple(dict.fromkeys(name for name in wanted if name not in defined))
    nodes, more = write_out_sequences(sort_nodes(nodes, {*names, *constants, *captured}), constants)
    constants.update(more)
    kept = drop_dead_nodes(nodes, (*names, *captured), constants, outputs)
    read = {name for node in kept for name in node.reads} | {info.name for info in outputs}
    captured = tuple(name for name in captured if name in read)
    return Subgraph(inputs, outputs, constants, kept, captured, sum(node.size for node in kept))


def _read_opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if domain in opsets:
            raise ModelError(f"opset of domain {shorten(domain)!r} imported twice", need="each domain once")
        opsets[domain] = int(entry.version)
    if "" not in opsets:
        raise ModelError("the model imports no opset of the ONNX domain", need="an opset_import entry")
    if not OLDEST_OPSET <= opsets[""] <= NEWEST_OPSET:
        raise UnsupportedError(
            f"opset {opsets['']}",
            need=f"opset {OLDEST_OPSET} to {NEWEST_OPSET}",
            fix=f"onnx.version_converter.convert_version(model, {min(max(opsets[''], 13), NEWEST_OPSET)})",
        )
    return opsets


def _read_inner_info(info: onnx.ValueInfoProto, kind: str) -> ValueInfo:
    """A declaration inside an attribute's graph, which may say nothing but the name."""
    if info.type.WhichOneof("value") is None:
        return ValueInfo(info.name, None, 0)
    return _read_value_info(info, kind)


def _read_value_info(info: onnx.ValueInfoProto, kind: str) -> ValueInfo:
    at = shorten(f"{kind} {info.name!r}")
    if not info.type.HasField("tensor_type"):
        raise UnsupportedError(f"{kind} that is no tensor", need="tensors", at=at)
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return ValueInfo(info.name, None, tensor.elem_type)
    if len(tensor.shape.dim) > MAX_RANK:
        raise LimitError(f"shape of {len(tensor.shape.dim)} axes", need=f"at most {MAX_RANK} axes", at=at)
    dims: Dims = tuple(_read_dim(dim, at) for dim in tensor.shape.dim)
    return ValueInfo(info.name, dims, tensor.elem_type)


def _read_dim(dim: onnx.TensorShapeProto.Dimension, at: str) -> Dim:
    if dim.HasField("dim_value"):
        if dim.dim_value < -1:
            problem = f"shape holds the negative size {dim.dim_value}"
            raise ModelError(problem, need="positive sizes, or 0 or -1 for one that is open", at=at)
        # Exporters write 0 or -1 for a size that they do not know.
        return int(dim.dim_value) if dim.dim_value > 0 else None
    # Paddle's exporter names every size that it does not know so, equal or not.
    return None if dim.dim_param == "?" else str(dim.dim_param) or None


def _check_initialiser(array: AnyArray, value: ValueInfo) -> None:
    if value.dims is None:
        return
    if len(value.dims) != array.ndim or any(
        isinstance(dim, int) and dim != size for dim, size in zip(value.dims, array.shape, strict=True)
    ):
        raise ModelError(
            f"initialiser of shape {array.shape} is declared as {value.dims}",
            need="equal shapes",
            at=shorten(f"initialiser {value.name!r}"),
        )


def _read_node(
    proto: onnx.NodeProto, opsets: dict[str, int], directory: Path | None, budget: Budget, depth: int = 0
) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    outputs = tuple(proto.output)
    at = shorten(f"{proto.op_type} node {proto.name or (outputs[0] if outputs else '')!r}")
    keys = [attribute.name for attribute in proto.attribute]
    if not all(isinstance(text, str) for text in (proto.op_type, domain, proto.name, *proto.input, *outputs, *keys)):
        raise ModelError("a name of the node is not UTF-8", need="text", at=at)
    if domain not in opsets:
        raise ModelError(f"domain {shorten(domain)!r} is not imported", need="an opset_import entry for it", at=at)
    if not any(outputs):
        raise ModelError("the node has no outputs", need="at least one output", at=at)
    budget.check((len(proto.input) + len(outputs) + len(proto.attribute),), _ITEM_BYTES, at)
    attributes: dict[str, Attribute] = {}
    for attribute in proto.attribute:
        if attribute.name in attributes:
            raise ModelError(f"attribute {shorten(attribute.name)!r} given twice", need="each attribute once", at=at)
        if attribute.type == onnx.AttributeProto.GRAPH and not attribute.ref_attr_name:
            inner = _read_subgraph(attribute.g, opsets, directory, budget, at, depth + 1)
            attributes[attribute.name] = inner
        else:
            attributes[attribute.name] = _read_attribute(attribute, directory, budget, at)
    return Node(proto.op_type, domain, proto.name, tuple(proto.input), outputs, attributes, opsets[domain])


def _read_attribute(proto: onnx.AttributeProto, directory: Path | None, budget: Budget, at: str) -> Attribute:
    kinds = onnx.AttributeProto
    if proto.ref_attr_name:
        raise ModelError(f"attribute {shorten(proto.name)!r} refers to a function's attribute", need="a value", at=at)
    budget.check((len(proto.ints) + len(proto.floats) + len(proto.strings),), _ITEM_BYTES, at)
    match proto.type:
        case kinds.INT:
            return int(proto.i)
        case kinds.FLOAT:
            return float(proto.f)
        case kinds.STRING:
            return bytes(proto.s)
        case kinds.INTS:
            return tuple(int(item) for item in proto.ints)
        case kinds.FLOATS:
            return tuple(float(item) for item in proto.floats)
        case kinds.STRINGS:
            return tuple(bytes(item) for item in proto.strings)
        case kinds.TENSOR:
            return read_tensor(proto.t, directory, budget, at)
        case kinds.UNDEFINED:
            raise ModelError(f"attribute {shorten(proto.name)!r} has no type", need="an attribute type", at=at)
        case _:
            return None


def sort_nodes(nodes: list[Node], known: Iterable[str]) -> list[Node]:
    """Nodes in an order in which every value is produced before it is used; the given order where that is one.

    Raises:
        ModelError: a value produced twice, a value nobody produces, or a cycle.
    """
    defined = set(known)
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in defined or name in producer:
                raise ModelError(f"value {shorten(name)!r} is produced twice", need="unique names", at=node.place)
            producer[name] = index
    waits: list[int] = []
    users: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        sources = set()
        for name in node.reads:
            if name in producer:
                sources.add(producer[name])
            elif name not in defined:
                raise ModelError(
                    f"input {shorten(name)!r} is not defined",
                    need="an input, an initialiser or a node's output",
                    at=node.place,
                )
        for source in sources:
            users.setdefault(source, []).append(index)
        waits.append(len(sources))
    ready = [index for index, count in enumerate(waits) if not count]
    ordered: list[Node] = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for user in users.get(index, ()):
            waits[user] -= 1
            if not waits[user]:
                heapq.heappush(ready, user)
    if len(ordered) < len(nodes):
        stuck = next(node for node, count in zip(nodes, waits, strict=True) if count)
        raise ModelError(f"{len(nodes) - len(ordered)} nodes wait for each other", need="no cycles", at=stuck.place)
    return ordered


def drop_dead_nodes(
    nodes: list[Node], inputs: Iterable[str], constants: Iterable[str], outputs: tuple[ValueInfo, ...]
) -> tuple[Node, ...]:
    """The nodes that outputs depend on; their unused outputs lose their names.

    Raises:
        ModelError: an output that nothing produces.
    """
    produced = {name for node in nodes for name in node.outputs if name}
    produced.update(inputs, constants)
    for info in outputs:
        if info.name not in produced:
            raise ModelError(f"output {shorten(info.name)!r} is not produced", need="an output of some node")
    wanted = {info.name for info in outputs}
    kept: list[Node] = []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.outputs):
            continue
        wanted.update(node.reads)
        names = tuple(name if name in wanted else "" for name in node.outputs)
        kept.append(Node(node.op, node.domain, node.name, node.inputs, names, node.attributes, node.version))
    return tuple(reversed(kept))
