"""`FloatNetwork`: a trained network that is rewritten before it is quantised, from a checked graph and back to ONNX."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

import numpy as np
import onnx

from omniconv.errors import LimitError, ModelError, OmniconvError, UnsupportedError
from omniconv.graph.fold_constants import fold_node
from omniconv.graph.inference import name_outputs, to_proto
from omniconv.graph.load import ModelLike, drop_dead_nodes, load, sort_nodes
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Graph, Node, Subgraph, ValueInfo, shorten
from omniconv.graph.registry import has_operator
from omniconv.graph.tensors import number_of_dtype
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.program import bfloat16
from omniconv.records import dataclass

OLDEST_OPSET: Final = 13
"""The first in which integers have a scale for each channel."""
MOST_BYTES: Final = 2**31 - 2**20
"""Constants of one file: Protocol Buffers hold 2 GiB."""
SMALL: Final = 4096
"""Elements of constants that the inference of types may look at."""
INTEGER: Final = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
)


@dataclass(slots=True)
class FloatNetwork:
    """Nodes in execution order, constants by name, and what is known of the types of values.

    Attributes:
        inputs, outputs, constants, nodes: as of a `Graph`, free to be changed.
        kinds: of values whose type is known, ONNX's number of it.
        taken: every name that is in use.
        narrow: names of constants that bfloat16 has exactly, and that files hold as such.
    """

    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    constants: dict[str, AnyArray]
    nodes: list[Node]
    kinds: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    narrow: set[str] = field(default_factory=set)

    def copy(self) -> FloatNetwork:
        """The same network, to be changed alone. Arrays are shared: whoever changes one replaces it."""
        return replace(
            self,
            constants=dict(self.constants),
            nodes=list(self.nodes),
            kinds=dict(self.kinds),
            taken=set(self.taken),
            narrow=set(self.narrow),
        )

    def fresh(self, name: str) -> str:
        """A new name that begins like this one."""
        found, count = name, 0
        while found in self.taken:
            count += 1
            found = f"{name}.{count}"
        self.taken.add(found)
        return found

    def add_constant(self, name: str, array: AnyArray) -> str:
        """A constant under a new name that begins like this one."""
        name = self.fresh(name)
        self.constants[name] = array
        return name

    @property
    def version(self) -> int:
        """The opset of ONNX's own operators."""
        return next((node.version for node in self.nodes if not node.domain), OLDEST_OPSET)

    def producers(self) -> dict[str, int]:
        """Name of each computed value -> index of the node that makes it."""
        return {name: index for index, node in enumerate(self.nodes) for name in filter(None, node.outputs)}

    def consumers(self) -> dict[str, list[int]]:
        """Name of each value -> indices of the nodes that read it, each once."""
        found: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.reads:
                found.setdefault(name, []).append(index)
        return found

    def is_output(self, name: str) -> bool:
        """Whether it is an output of the network."""
        return any(info.name == name for info in self.outputs)

    def constant(self, node: Node, index: int) -> AnyArray | None:
        """An input of a node, where it is given and constant."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        return self.constants.get(name) if name else None

    def is_float(self, name: str) -> bool:
        """Whether a value is known to be float32."""
        if name in self.constants:
            return bool(self.constants[name].dtype == np.float32)
        return bool(self.kinds.get(name) == onnx.TensorProto.FLOAT)

    def to_graph(self, outputs: Iterable[str] | None = None) -> Graph:
        """What compiles: the network, or what of it these float values need."""
        infos = self.outputs
        if outputs is not None:
            infos = tuple(ValueInfo(name, None, onnx.TensorProto.FLOAT) for name in outputs)
        known = {**dict.fromkeys(info.name for info in self.inputs), **self.constants}
        nodes = sort_nodes(list(self.nodes), known)
        return Graph(self.inputs, infos, self.constants, drop_dead_nodes(nodes, known, self.constants, infos))

    def to_model(self) -> onnx.ModelProto:
        """The network as ONNX.

        Raises:
            LimitError: more than one file holds.
        """
        graph = self.to_graph()
        read = {name for node in graph.nodes for name in node.reads} | {info.name for info in self.outputs}
        constants = {name: array for name, array in self.constants.items() if name in read}
        size = sum(array.nbytes for array in constants.values())
        if size > MOST_BYTES:
            raise LimitError(f"constants of {size} bytes", need=f"at most {MOST_BYTES} in one ONNX file")
        nodes = []
        for node in graph.nodes:
            proto = to_proto(name_outputs(node, self.fresh))
            proto.name = node.name
            nodes.append(proto)
        versions = {node.domain: node.version for node in graph.nodes}
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
        tensors = [_write_constant(array, name, name in self.narrow) for name, array in constants.items()]
        inputs, outputs = ([_declare(info) for info in infos] for infos in (self.inputs, self.outputs))
        made = onnx.helper.make_graph(nodes, "quantised", inputs, outputs, tensors)
        newest = onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True)
        return onnx.helper.make_model(made, opset_imports=opsets, ir_version=max(8, newest), producer_name="omniconv")


def _write_constant(array: AnyArray, name: str, narrow: bool) -> onnx.TensorProto:
    if not narrow:
        return onnx.numpy_helper.from_array(np.asarray(array), name)
    bits = bfloat16.narrow(array).astype("<u2").tobytes()
    return onnx.helper.make_tensor(name, onnx.TensorProto.BFLOAT16, array.shape, bits, raw=True)


def _declare(info: ValueInfo) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(info.name, info.dtype, info.dims)


def read_network(model: ModelLike, memory_limit: int | None = None) -> FloatNetwork:
    """A model, checked, with constants folded and the types of its values found.

    Raises:
        ModelError: a damaged file, one without nodes, or one that is quantised already.
        UnsupportedError: control flow, or floats that are not float32.
    """
    graph = load(model, memory_limit=memory_limit)
    versions = {node.version for node in graph.nodes if not node.domain}
    if not graph.nodes:
        raise ModelError("the network has no nodes", need="layers to quantise")
    found = _of_graph(graph, memory_limit)
    if versions and min(versions) < OLDEST_OPSET:
        found = _of_graph(load(_renew(found, min(versions)), memory_limit=memory_limit), memory_limit)
    _infer_kinds(found)
    return found


def _of_graph(graph: Graph, memory_limit: int | None) -> FloatNetwork:
    budget = Budget(find_memory_limit(memory_limit))
    constants, nodes = dict(graph.constants), []
    for info in graph.inputs:
        if info.dtype in (onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            kind = onnx.TensorProto.DataType.Name(info.dtype)
            raise UnsupportedError(
                f"input {shorten(info.name)!r} is {kind}",
                need="a network of float32",
                at=shorten(f"input {info.name!r}"),
            )
    for node in graph.nodes:
        if node.op in INTEGER or node.op.startswith(("QLinear", "QGemm", "QAttention")):
            raise ModelError("the network is quantised already", need="a network of floats", at=node.place)
        if any(value is None or isinstance(value, Subgraph) for value in node.attributes.values()):
            raise UnsupportedError(
                f"{node.op} holds a graph or a value that is not read",
                need="a network without control flow",
                at=node.place,
            )
        results = _fold(node, constants, budget)
        if results is None:
            nodes.append(node)
        else:
            constants.update(zip(node.outputs, results, strict=False))
    nodes = _drop_identities(nodes, {info.name for info in graph.outputs})
    taken = {info.name for info in (*graph.inputs, *graph.outputs)} | constants.keys()
    taken |= {name for node in graph.nodes for name in (*node.inputs, *node.outputs, node.name)}
    return FloatNetwork(graph.inputs, graph.outputs, constants, nodes, taken=taken)


def _fold(node: Node, constants: Mapping[str, AnyArray], budget: Budget) -> Sequence[AnyArray] | None:
    """The results of a node whose inputs are all constants, where NumPy has its operator."""
    operator = has_operator(node)
    if operator is None or operator.fold is None or not all(name in constants for name in node.reads):
        return None
    try:
        return fold_node(operator.fold, node, [constants.get(name) for name in node.inputs], budget)
    except OmniconvError:
        return None  # it stays a node, and whoever runs it says what is wrong


def _drop_identities(nodes: Sequence[Node], kept: Collection[str]) -> list[Node]:
    """Nodes without those that hand on what they read, but for outputs of the network."""
    same: dict[str, str] = {}
    found = []
    for node in nodes:
        node = replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
        if node.op == "Identity" and not node.domain and node.outputs[0] not in kept:
            same[node.outputs[0]] = node.inputs[0]
        else:
            found.append(node)
    return found


def _renew(network: FloatNetwork, version: int) -> onnx.ModelProto:
    """The same network of the oldest opset that serves."""
    try:
        return onnx.version_converter.convert_version(network.to_model(), OLDEST_OPSET)
    except Exception as error:  # noqa: BLE001 - the converter raises whatever its C++ does
        raise UnsupportedError(
            f"a network of opset {version}, which ONNX's converter refuses: {shorten(str(error), 200)}",
            need=f"opset {OLDEST_OPSET} or newer",
        ) from None


def _infer_kinds(network: FloatNetwork) -> None:
    """Find the types of values by ONNX's rules; large constants are declared and not looked at."""
    lean = network.copy()
    large = {name: array for name, array in network.constants.items() if array.size > SMALL}
    lean.constants = {name: array for name, array in network.constants.items() if name not in large}
    lean.inputs += tuple(ValueInfo(name, array.shape, number_of_dtype(array.dtype)) for name, array in large.items())
    try:
        inferred = onnx.shape_inference.infer_shapes(lean.to_model(), check_type=False, data_prop=True)
    except Exception as error:  # noqa: BLE001 - likewise
        raise ModelError(
            f"ONNX's rules refuse the network: {shorten(str(error), 200)}", need="a valid network"
        ) from None
    values: list[Any] = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    network.kinds.update({value.name: value.type.tensor_type.elem_type for value in values})
