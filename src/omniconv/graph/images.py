"""Which inputs and outputs of a model are images, so that they have channels to be moved last (``layout="NHWC"``).

Values whose axes mean the same belong together: operators that work element by element, along axes or on parts of
axes join what they read and produce. Such a family of values is one of images where a layer of images, such as a
convolution, a pool or a batch norm, reads or produces one of them. It is none where only other operators do, such as a
product of matrices, a transpose or a reshape (but for those that shuffle channels): the axes of (N, T, C) features stay
where the model has them. Values that meet neither have no axis that means anything to the model; they count as images.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, Iterable, Mapping, MutableMapping, Sequence
from itertools import zip_longest
from typing import Final

from omniconv.graph.nodes import Graph, Node, Subgraph

IMAGES: Final[Mapping[str, tuple[int, ...]]] = {
    **dict.fromkeys(
        (
            "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace",
            "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GridSample", "GroupNormalization",
            "InstanceNormalization", "LRN", "LpPool", "MaxPool", "MaxRoiPool", "QLinearConv", "Resize", "RoiAlign",
            "SpaceToDepth", "Upsample",
        ), (0,),
    ),
    "Col2Im": (), "DeformConv": (0, 2, 4), "MaxUnpool": (0, 1),
}  # fmt: skip
"""Layers of images: which of their inputs are images. So are all of their outputs."""
TOGETHER: Final = frozenset(
    {
        "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Concat", "Div", "Equal", "Greater",
        "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where",
        "Xor",
    }
)  # fmt: skip
"""Operators that join all that they read."""
ALONE: Final = frozenset(
    {
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "CastLike", "Ceil", "Celu",
        "CenterCropPad", "Clip", "Cos", "Cosh", "CumProd", "CumSum", "DequantizeLinear", "Dropout",
        "DynamicQuantizeLinear", "Elu", "Erf", "Exp", "Expand", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Hardmax",
        "Identity", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
        "MeanVarianceNormalization", "Mish", "Neg", "Not", "PRelu", "Pad", "QuantizeLinear", "RMSNormalization",
        "Reciprocal", "Relu", "ReverseSequence", "Round", "ScatterElements", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
        "Sinh", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
        "Tile", "TopK",
    }
)  # fmt: skip
"""Operators whose results have the axes of what they read first."""
SILENT: Final = frozenset({"Shape", "Size"})
"""Operators that say nothing of the axes of what they read."""


def find_images(graph: Graph) -> frozenset[str]:
    """The names of those inputs and outputs of a model that are images."""
    values = _Values()
    for info in graph.inputs:
        if info.dims is not None:
            values.ranks[info.name] = len(info.dims)
    values.ranks.update({name: array.ndim for name, array in graph.constants.items()})
    values.visit(graph.nodes, ChainMap())
    return frozenset(info.name for info in (*graph.inputs, *graph.outputs) if values.is_image(info.name))


class _Values:
    """Families of values, by one value of each that stands for all."""

    def __init__(self) -> None:
        self.ranks: dict[Hashable, int] = {}
        self._above: dict[Hashable, Hashable] = {}
        self._images: set[Hashable] = set()
        self._others: set[Hashable] = set()
        self._split: dict[Hashable, Hashable] = {}
        self._swapped: dict[Hashable, Hashable] = {}
        self._graphs = 0

    def is_image(self, value: Hashable) -> bool:
        """Whether a value belongs to images, or to nothing that is known."""
        first = self._find(value)
        return first in self._images or first not in self._others

    def visit(self, nodes: Iterable[Node], scope: MutableMapping[str, Hashable]) -> None:
        """Take in what nodes say of what they read and produce. A scope has the values inside graphs by name."""
        for node in nodes:
            reads = [scope.get(name, name) if name else None for name in node.inputs]
            makes = [scope.get(name, name) if name else None for name in node.outputs]
            graphs = {key: item for key, item in node.attributes.items() if isinstance(item, Subgraph)}
            if graphs:
                self._enter(node, graphs, reads, makes, scope)
            elif node.domain or not self._tell(node, reads, makes):
                self._others.update(self._find(item) for item in (*reads, *makes) if item is not None)
                self._follow_shuffle(node, reads, makes)

    def _follow_shuffle(self, node: Node, reads: Sequence[Hashable], makes: Sequence[Hashable]) -> None:
        """Join what enters and leaves a shuffle of channels: a reshape, a transpose of two axes and a reshape."""
        if not reads or makes[0] is None:
            return
        if node.op == "Reshape":
            self._join([self._swapped.get(reads[0]), makes[0]])
            self._split[makes[0]] = reads[0]
        elif node.op == "Transpose" and reads[0] in self._split:
            perm = node.attributes.get("perm")
            if isinstance(perm, tuple) and perm == (0, 2, 1, *range(3, len(perm))):
                self._swapped[makes[0]] = self._split[reads[0]]

    def _tell(self, node: Node, reads: Sequence[Hashable], makes: Sequence[Hashable]) -> bool:
        """Whether an operator is one of the tables, and what those say."""
        if node.op in SILENT:
            self._others.update(self._find(item) for item in makes if item is not None)
        elif node.op in IMAGES:
            images = [reads[index] for index in IMAGES[node.op] if index < len(reads)]
            self._images.update(self._find(item) for item in (*images, *makes) if item is not None)
            self._others.update(self._find(item) for item in reads if item is not None and item not in images)
            self._rank(reads[:1] if images else [], makes)
        elif node.op in TOGETHER:
            self._rank(reads, makes)
            self._join([*reads, *makes])
        elif node.op in ALONE or (_keeps_axes(node) and node.integer("keepdims", 1)):
            self._rank(reads[:1], makes)
            self._join([*reads[:1], *makes])
        else:
            return False
        return True

    def _enter(
        self,
        node: Node,
        graphs: Mapping[str, Subgraph],
        reads: Sequence[Hashable],
        makes: Sequence[Hashable],
        scope: MutableMapping[str, Hashable],
    ) -> None:
        """Take in the graphs of an If, a Loop or a Scan: states, and what branches produce, are the same inside."""
        skipped, said = (2, 1) if node.op == "Loop" else (0, 0)
        states = {"If": len(makes), "Loop": len(reads) - 2, "Scan": len(reads) - node.integer("num_scan_inputs", 0)}
        count = max(states.get(node.op, 0), 0)
        given = [] if node.op == "If" else reads[skipped : skipped + count]
        for graph in graphs.values():
            self._graphs += 1
            names = [info.name for info in graph.inputs]
            names += [*graph.constants, *(name for item in graph.nodes for name in item.outputs if name)]
            own: dict[str, Hashable] = {name: (self._graphs, name) for name in names}
            inner = ChainMap(own, scope)
            self.ranks.update({inner[name]: array.ndim for name, array in graph.constants.items()})
            enters = [inner[info.name] for info in graph.inputs][skipped : skipped + count]
            for outside, inside in zip(given, enters, strict=False):
                self._rank([outside], [inside])
            self.visit(graph.nodes, inner)
            leaves = [inner.get(info.name, info.name) for info in graph.outputs][said : said + count]
            for values in zip_longest(given, enters, leaves, makes[:count]):
                self._join(values)

    def _rank(self, reads: Sequence[Hashable], makes: Sequence[Hashable]) -> None:
        """What is computed has as many axes as what has the most, where that is known of all."""
        ranks = [self.ranks.get(item) for item in reads if item is not None]
        known = [rank for rank in ranks if rank is not None]
        if known and len(known) == len(ranks):
            self.ranks.update({item: max(known) for item in makes if item is not None})

    def _join(self, values: Iterable[Hashable]) -> None:
        """Make one family of values that have equally many axes, as far as that is known; others are broadcast."""
        *items, last = [item for item in values if item is not None] or [None]
        rank = self.ranks.get(last)
        for item in items:
            one, other = self._find(item), self._find(last)
            if rank is not None and self.ranks.get(item, rank) != rank:
                self._others.add(one)
            elif one != other:
                self._above[one] = other
                for known in (self._images, self._others):
                    if one in known:
                        known.add(other)

    def _find(self, value: Hashable) -> Hashable:
        """What stands for the family of a value."""
        while (above := self._above.get(value, value)) != value:
            self._above[value] = value = self._above.get(above, above)
        return value


def _keeps_axes(node: Node) -> bool:
    """Whether an operator leaves the axes in place that it goes along, at a size of 1, unless it is told otherwise."""
    return node.op.startswith("Reduce") or node.op in ("ArgMax", "ArgMin")
