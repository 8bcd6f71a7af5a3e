"""A graph in the making: nodes are drawn one after the other, and each is evaluated at once, so shapes are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.differential.bounded import Bounded, Item, evaluate
from tests.differential.values import UntoldError

LARGEST = 6000
"""Most elements of a value."""
WIDEST = 400_000
"""Most multiplications of a node, about."""


class UnfitError(Exception):
    """The draw does not fit; another is made."""


class Draft:
    """Nodes, constants and the values they have."""

    def __init__(self, seed: int, opset: int, style: str) -> None:
        self.random, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.opset, self.style = opset, style
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.inputs: dict[str, np.ndarray] = {}
        self.items: dict[str, Item] = {}
        self.computed: list[str] = []
        self.untold: list[str] = []
        self._count = 0

    # -- drawing ------------------------------------------------------------------------------------------------------

    def choose(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def whole(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def number(self, *usual: float) -> float:
        """A float32 number: one of the usual ones, or any in [-3, 3]."""
        if usual and self.chance(0.6):
            return float(np.float32(self.random.choice(usual)))
        return float(np.float32(self.random.uniform(-3, 3)))

    def array(self, shape: Sequence[int]) -> np.ndarray:
        """Float32 values in the style of the case."""
        shape = tuple(shape)
        match self.style:
            case "grid":  # quarters: sums and products are exact
                return (self.numbers.integers(-16, 17, shape) / 4).astype(np.float32)
            case "wide":
                sign = self.numbers.choice((-1.0, 1.0), shape)
                return (sign * 10 ** self.numbers.uniform(-6, 6, shape)).astype(np.float32)
            case "special":
                pool = np.array(SPECIAL, np.float32)
                drawn = self.numbers.choice(pool, shape)
                return np.where(self.numbers.random(shape) < 0.5, drawn, self.numbers.normal(0, 3, shape)).astype("f4")
        return self.numbers.standard_normal(shape).astype(np.float32)

    def weights(self, shape: Sequence[int]) -> np.ndarray:
        """Finite float32 values."""
        if self.style in ("grid", "wide"):
            return self.array(shape)
        return self.numbers.standard_normal(tuple(shape)).astype(np.float32)

    # -- building -----------------------------------------------------------------------------------------------------

    def name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def input(self, shape: Sequence[int], array: np.ndarray | None = None) -> str:
        """An input of a shape, by default of values in the style of the case."""
        name = self.name("x")
        self.inputs[name] = self.array(shape) if array is None else array
        self.items[name] = Bounded.exact(self.inputs[name])
        self.computed.append(name)
        return name

    def const(self, array: Any, dtype: Any = None) -> str:
        """A constant, as initialiser or as node."""
        value = np.asarray(array, dtype)
        name = self.name("c")
        if self.chance(0.8):
            self.initialisers.append(numpy_helper.from_array(value, name))
        else:
            tensor = numpy_helper.from_array(value, f"{name}_value")
            self.nodes.append(helper.make_node("Constant", [], [name], f"n_{name}", value=tensor))
        self.items[name] = Bounded.exact(value) if value.dtype == np.float32 else value
        return name

    def ints(self, values: Sequence[int]) -> str:
        return self.const(np.array(values, np.int64).reshape(-1))

    def shape(self, name: str) -> tuple[int, ...]:
        item = self.items[name]
        assert item is not None
        return tuple(item.shape)

    def emit(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> list[str]:
        """Append a node; returns the names of its outputs.

        Raises:
            UnfitError: what it gives is too large or empty, or the evaluator has no answer.
        """
        outputs = [self.name("v") for _ in range(count)]
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        present = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(op, given, outputs, f"n_{outputs[0]}", **present)
        try:
            results = evaluate(node, self.opset, [self.items[name] if name else None for name in given])
        except UntoldError as error:
            self.untold.append(str(error).splitlines()[0][:160])
            raise UnfitError(op) from error
        for result in results:
            if result is None or not 0 < np.prod(result.shape, dtype=float) <= LARGEST or len(result.shape) > 8:
                raise UnfitError(f"{op} of another size")
        self.nodes.append(node)
        moved = any(name in self.computed for name in given)
        for name, result in zip(outputs, results):
            self.items[name] = result
            if moved:
                self.computed.append(name)
        return outputs

    def pick(self, low: int = 0, high: int = 8) -> str:
        """A computed float value of a rank in range, the latest most often."""
        names = [
            name
            for name in self.computed
            if isinstance(self.items[name], Bounded) and low <= len(self.shape(name)) <= high
        ]
        if not names:
            raise UnfitError("no such value")
        return names[-1] if self.chance(0.6) else self.random.choice(names)

    # -- the model ----------------------------------------------------------------------------------------------------

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n, x in self.inputs.items()]
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * len(self.shape(n))) for n in outputs]
        graph = helper.make_graph(self.nodes, "drawn", inputs, results, self.initialisers)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=7 if self.opset < 15 else 10)


SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-40, 1.17549435e-38, 65504.0, -65504.0, 65536.0, 1e5, 1e30, -1e30, 3.4e38,
    -3.4e38, np.inf, -np.inf, np.nan, 6.0, 3.0, -3.0, 88.7, -88.7, 104.0, -104.0, 1e-6, -1e-6, 0.5, 2.0,
)  # fmt: skip
"""What elementwise functions are known to go wrong at."""
