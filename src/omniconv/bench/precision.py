"""The number types that contenders are compared in, and layers of integers of 8 bits beside an oracle of integers.

In ``int8`` a workload is a file with pairs of QuantizeLinear and DequantizeLinear that `omniconv.quantize` writes, with
weights of 7 bits: some runtimes saturate sums of bytes where the processor lacks VNNI. All contenders take and give
float32. Runtimes that do not read ONNX get the same integers (:class:`IntegerLayer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from omniconv.records import dataclass
from omniconv.reference import reference
from omniconv.spec import Activation, Conv, Shape, Spec

Array: TypeAlias = npt.NDArray[Any]
FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
PRECISIONS: Final = (FLOAT32, BFLOAT16, INT8)
WEIGHT_BYTES: Final = {FLOAT32: 4, BFLOAT16: 2, INT8: 1}
TOLERANCES: Final = {FLOAT32: 1e-4, BFLOAT16: 2e-2, INT8: 2e-2}
"""Largest accepted difference, relative to the largest output: of bfloat16 five of its roundings, of integers five
steps of 256, since a layer may be a step off where it rounds otherwise, and layers follow each other."""
SAMPLES: Final = 3
"""That ranges are found on."""
FUSED: Final = ("relu", "relu6", "clip")
"""Activations that are limits of the integers before them."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLayer:
    """A convolution in integers: y = clip(round((sum + bias) m) + zero), with a factor m for each output channel.

    Attributes:
        spec, shape: the layer, and its input.
        weights, weight_scales: int8, and float32 for each output channel.
        bias: int32, or ``None``.
        x_scale, x_zero, y_scale, y_zero: of the values before and behind.
        activation: that follows, or an empty text; its limits are those of the integers.
    """

    spec: Conv
    shape: Shape
    weights: Array
    weight_scales: Array
    bias: Array | None
    x_scale: np.float32
    x_zero: int
    y_scale: np.float32
    y_zero: int
    activation: str = ""

    def __call__(self, x: Array) -> Array:
        """Integers of ``uint8`` from such integers: exact sums, one multiplication, halves to even."""
        centred = x.astype(np.float64) - self.x_zero
        total = reference(self.spec, centred, [(self.weights.astype(np.float64), self.bias)]).astype(np.float32)
        factor = (self.x_scale * self.weight_scales.astype(np.float64) / self.y_scale).astype(np.float32)
        scaled = np.rint(total * factor.reshape(1, -1, *(1,) * (x.ndim - 2)))
        return np.asarray(np.clip(scaled + self.y_zero, 0, 255), np.uint8)


def compute_integers(layers: Sequence[IntegerLayer], x: Array) -> Array:
    """The oracle: float32 to integers, through all layers, and back."""
    first, last = layers[0], layers[-1]
    integers = np.clip(np.rint(x / first.x_scale) + first.x_zero, 0, 255).astype(np.uint8)
    for layer in layers:
        integers = layer(integers)
    return np.asarray((integers.astype(np.float32) - last.y_zero) * last.y_scale)


def quantise_model(model: Any, inputs: dict[str, Array], seed: int) -> onnx.ModelProto:
    """A model in integers, with ranges of its inputs and of noise like them."""
    from omniconv.quantization import QuantOptions, quantize_with_report

    rng = np.random.default_rng(seed)
    more = [{name: rng.permuted(array) for name, array in inputs.items()} for _ in range(SAMPLES - 1)]
    shapes = {name: array.shape for name, array in inputs.items()}
    options = QuantOptions(ranges="minmax", equalize=False, correct_bias=False, reduce_range=True)
    return quantize_with_report(model, [inputs, *more], shapes=shapes, options=options).model


def read_layers(model: onnx.ModelProto, spec: Spec, shape: Shape) -> tuple[IntegerLayer, ...]:
    """The layers of a quantised model that was made of a spec; none where they are more than convolutions one behind
    another, with limits between them.
    """
    steps = [spec] if isinstance(spec, Conv) else list(spec.steps)
    plain = all(
        (isinstance(step, Conv) and not step.transposed and step.padding_mode == "zeros")
        or (isinstance(step, Activation) and step.name in FUSED)
        for step in steps
    )
    if not plain:
        return ()
    held = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    found: list[IntegerLayer] = []
    current = tuple(shape)
    place = 0
    for index, step in enumerate(steps):
        if not isinstance(step, Conv):
            continue
        node, place = convs[place], place + 1
        parts = [makers.get(name) for name in node.input]
        behind = readers[node.output[0]]
        while behind.op_type in ("Relu", "Clip"):
            behind = readers[behind.output[0]]
        if behind.op_type != "QuantizeLinear" or any(
            part is None or part.op_type != "DequantizeLinear" for part in parts
        ):
            return ()
        x, w, *b = (part.input for part in parts if part is not None)
        follower = steps[index + 1] if index + 1 < len(steps) else None
        found.append(
            IntegerLayer(
                replace(step.resolve(current), flip=False),
                current,
                held[w[0]],
                np.broadcast_to(held[w[1]], (step.out_channels,)),
                held[b[0][0]] if b else None,
                np.float32(held[x[1]]),
                int(held[x[2]]),
                np.float32(held[behind.input[1]]),
                int(held[behind.input[2]]),
                follower.name if isinstance(follower, Activation) else "",
            )
        )
        current = step.output_shape(current)
    return tuple(found)
