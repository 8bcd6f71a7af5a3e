"""One operator in NumPy: what runs on the host between two compiled stretches, and how constants are folded there.

An operator that Omniconv folds itself is computed by that function; every other by its implementation in
``onnx.reference``. Sizes are compared with the memory limit and indices with the axes that they point into before
anything is computed; whatever the implementation raises becomes an error with the place of the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import onnx

from omniconv.errors import LimitError, ModelError, OmniconvError, UnsupportedError
from omniconv.graph.fold_constants import fold_node
from omniconv.graph.host_checks import BOUNDS, check_indices, estimate_work
from omniconv.graph.inference import make_type, to_proto
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node, shorten
from omniconv.graph.operator import Fold
from omniconv.graph.registry import has_operator
from omniconv.graph.schema import exists
from omniconv.graph.tensors import DTYPES
from omniconv.spec import Shape

_RANDOM: Final = "its results are random"
_TEXT: Final = "it works on texts"
_SEQUENCE: Final = "it works on sequences or optional values"
REFUSED: Final = {
    **dict.fromkeys(
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split(), _RANDOM
    ),
    **dict.fromkeys("RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer".split(), _TEXT),
    **dict.fromkeys(
        "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence".split(),
        _SEQUENCE,
    ),
    "ImageDecoder": "it decodes files",
}
"""Operators of ONNX that never run on the host, and why."""
_ARRAYS: Final = (np.ndarray, np.generic)
_HANDLED: Final = frozenset(DTYPES.values())
_READ_AS: Final = {
    "DequantizeLinear": ("DequantizeLinear", 19),
    "LpPool": ("LpPool", 18),
}
"""Operators that later opsets only added attributes to, whose defaults mean what was before: read as of this opset."""

_USUAL: Final = {"GRU": (b"Sigmoid", b"Tanh"), "LSTM": (b"Sigmoid", b"Tanh", b"Tanh"), "RNN": (b"Tanh",)}
"""Activations of a direction of a recurrent layer where none are named."""


def _is_usual(node: Node) -> bool:
    """Whether a recurrent layer asks for nothing that its implementation in ``onnx.reference`` would pass over."""
    usual = _USUAL[node.op]
    ignored = ("activation_alpha", "activation_beta", "clip")
    return not (
        any(name in node.attributes for name in ignored)
        or node.attributes.get("input_forget", 0)
        or node.attributes.get("activations", usual) not in (usual, 2 * usual)
    )


def find_refusal(node: Node) -> str:
    """Why a node cannot run on the host, or nothing."""
    if node.domain:
        return f"operators of domain {shorten(node.domain)!r} are not known"
    if not exists(node):
        return f"it is not in opset {node.version}"
    if node.op in REFUSED:
        return REFUSED[node.op]
    if node.op == "BatchNormalization" and (node.attributes.get("training_mode") or any(node.outputs[1:])):
        return "it is in training mode"
    if node.op == "BatchNormalization" and not node.attributes.get("spatial", 1):
        return "its NumPy implementation has one statistic a channel, whatever spatial says"
    if node.op == "Dropout" and (any(node.inputs[2:]) or not node.attributes.get("is_test", 1)):
        return "it may be in training mode, where its results are random"
    if node.op in ("LpNormalization", "LpPool") and node.integer("p", 2) % 2:
        return "its NumPy implementation forgets signs where p is odd"
    if node.op == "LRN":
        return "its NumPy implementation sums the squares of some channels only"
    if node.op in _USUAL and not _is_usual(node):
        return "its NumPy implementation leaves out clips, coupled gates and other activations than the usual"
    if node.op in ("Resize", "Upsample"):
        return "its NumPy implementation rounds positions in another way than runtimes do"
    return ""


class HostOperator:
    """A node that can be computed in NumPy. Thread-safe.

    Args:
        node: of ONNX's own domain, without graphs in its attributes.
        dtypes: of its inputs; ``None`` for one that is left out.

    Raises:
        UnsupportedError: a node that never runs on the host, or whose version has no implementation.
    """

    def __init__(self, node: Node, dtypes: Sequence[np.dtype[Any] | None]) -> None:
        self.node = node
        reason = find_refusal(node)
        if reason:
            raise UnsupportedError(
                f"{node.op} cannot run on the host: {reason}", need="another operator", at=node.place
            )
        known = has_operator(node)
        self._fold: Fold | None = None if known is None else known.fold
        self._evaluator: Any = None
        self._dtypes = tuple(dtypes)
        self._passed: tuple[object, ...] | None = None
        if self._fold is None:
            self._evaluator = self._open()

    def run(
        self, arrays: Sequence[AnyArray | None], limit: int, expected: Sequence[Shape | None]
    ) -> tuple[AnyArray, ...]:
        """The results for these inputs, none of which is written to.

        Args:
            arrays: the inputs; ``None`` for one that is left out.
            limit: memory that the results and the work may take [bytes].
            expected: shapes of the results, ``None`` where they depend on values.

        Raises:
            LimitError: more memory than allowed; refused before it is taken.
            ModelError, ShapeError: inputs that the operator forbids.
        """
        node = self.node
        arrays = [None if array is None else _protect(array) for array in arrays]
        try:
            self._check_work(arrays, limit, expected)
            results = self._compute(arrays, limit)
            return tuple(
                self._check(item, index, expected[index]) for index, item in enumerate(results[: len(node.outputs)])
            )
        except OmniconvError as error:
            if node.place in error.at:
                raise
            raise error.but(at=node.place) from error

    def _check_work(self, arrays: Sequence[AnyArray | None], limit: int, expected: Sequence[Shape | None]) -> None:
        """Compare the memory that the operator takes with the limit; once, where it follows from shapes."""
        known = [shape for shape in expected if shape is not None]
        forms = None
        if len(known) == len(expected):
            forms = (limit, *(None if array is None else (array.shape, array.itemsize) for array in arrays))
            if forms == self._passed:
                return
        elif self.node.op in BOUNDS:
            known.append((BOUNDS[self.node.op](self.node, arrays),))
        Budget(limit).check((estimate_work(self.node, arrays, known),), 1, f"the work of {self.node.op}")
        self._passed = forms

    def _compute(self, arrays: Sequence[AnyArray | None], limit: int) -> Sequence[Any]:
        fold = self._fold
        if fold is not None:
            try:
                return fold_node(fold, self.node, arrays, Budget(limit))
            except UnsupportedError:
                self._evaluator = self._evaluator or self._open()
                self._fold = None
        check_indices(self.node, arrays)
        feeds = {f"i{index}": array for index, array in enumerate(arrays) if array is not None}
        try:
            with np.errstate(all="ignore"):
                found: Sequence[Any] = self._evaluator.run(None, feeds)
        except MemoryError:
            raise LimitError(f"{self.node.op} takes more memory than there is", need="smaller inputs") from None
        except NotImplementedError as error:
            raise UnsupportedError(
                f"{self.node.op} on the host: {shorten(str(error), 300)}", need="what onnx.reference implements"
            ) from None
        except Exception as error:  # noqa: BLE001 - an implementation may raise anything on inputs that do not fit
            raise ModelError(
                f"{self.node.op} refuses its inputs: {type(error).__name__}: {shorten(str(error), 300)}",
                need="inputs that the operator takes",
            ) from None
        return found

    def _check(self, found: Any, index: int, expected: Shape | None) -> AnyArray:
        """A result as an array of a type that is handled and of the expected shape."""
        if not isinstance(found, _ARRAYS) or found.dtype not in _HANDLED:
            raise UnsupportedError(
                f"result {index} of {self.node.op} is {getattr(found, 'dtype', type(found).__name__)}",
                need="tensors of numbers",
            )
        array = np.asarray(found)
        if expected is not None and array.shape != expected:
            raise ModelError(
                f"result {index} of {self.node.op} has shape {array.shape}", need=f"{expected}, as ONNX infers"
            )
        return array

    def _open(self) -> Any:
        from onnx.reference import ReferenceEvaluator

        node = self.node
        inputs = [f"i{index}" if dtype is not None else "" for index, dtype in enumerate(self._dtypes)]
        outputs = [f"o{index}" for index in range(len(node.outputs))]
        while inputs and not inputs[-1]:
            inputs.pop()
        op, least = _READ_AS.get(node.op, (node.op, 0))
        version = max(node.version, least)
        proto = to_proto(Node(op, "", "", tuple(inputs), tuple(outputs), node.attributes, version))
        infos = [
            onnx.helper.make_value_info(name, make_type(dtype, None))
            for name, dtype in zip(inputs, self._dtypes, strict=False)
            if dtype is not None
        ]
        graph = onnx.helper.make_graph([proto], "host", infos, [onnx.ValueInfoProto(name=name) for name in outputs])
        opset = onnx.helper.make_opsetid("", version)
        try:
            evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[opset]))
        except Exception as error:  # noqa: BLE001 - what is missing shows in many ways
            raise UnsupportedError(
                f"{node.op} of opset {node.version} is not in onnx.reference: {shorten(str(error), 200)}",
                need="another operator",
                at=node.place,
            ) from None
        if not (_is_versioned(evaluator) or _is_current(op, version)):
            raise UnsupportedError(
                f"{node.op} of opset {node.version} differs from what onnx.reference implements",
                need="a newer opset",
                fix="onnx.version_converter.convert_version(model, 21)",
                at=node.place,
            )
        return evaluator


def _protect(array: AnyArray) -> AnyArray:
    """An array that the operator cannot write to; nor can whoever is given it as a result."""
    array = np.asarray(array)
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _is_versioned(evaluator: Any) -> bool:
    """Whether the implementation is that of a certain version, which its name ends with."""
    return any(type(item).__name__.rpartition("_")[2].isdigit() for item in evaluator.rt_nodes_)


@lru_cache(maxsize=1024)
def _is_current(op: str, version: int) -> bool:
    """Whether an operator of an opset has the inputs, outputs, attributes and defaults of the newest one."""
    old, new = onnx.defs.get_schema(op, version), onnx.defs.get_schema(op)
    if old.since_version == new.since_version:
        return True
    return _sign(old) == _sign(new)


def _sign(schema: Any) -> tuple[object, ...]:
    attributes = {
        name: (item.type, item.required, item.default_value.SerializeToString())
        for name, item in schema.attributes.items()
    }
    return (
        [item.name for item in schema.inputs],
        [item.name for item in schema.outputs],
        attributes,
        schema.min_input,
        schema.max_input,
    )
