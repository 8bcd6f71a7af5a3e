"""Layers and networks in integers of 8 bits: Omniconv beside itself in float32, ONNX Runtime and OpenVINO.

    python bench/quantised_layers.py                                 # the table of layers
    python bench/quantised_layers.py --only dw3,groups_4 --threads 2
    python bench/quantised_layers.py --network model.onnx            # a network with one input of known size

Each model is quantised by ``omniconv.quantize`` on noise and written in QDQ form. All contenders run the same file,
but for ONNX Runtime, which also gets one with signed activations and its time is the lower of the two; they take turns
in one process, and all of them convert float32 at both ends. A layer that keeps its shape is there four times in a row,
so that the conversions count little. "dB" is signal to noise against the float32 model; what is below 10 dB is
not timed.

The roofline is that of products of 16-bit words, twice the rate of float32 multiply-adds that is measured first;
machines that multiply bytes have a higher one. Layers that are filtered can be above it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import omniconv as oc
from omniconv.bench.interleave import SETTLE_SECONDS, interleave
from omniconv.bench.roofline import measure_roofline
from omniconv.quantization import QuantOptions, quantize_with_report

Array: TypeAlias = npt.NDArray[Any]
Call: TypeAlias = Callable[[Array], Array]
LEAST_SNR = 10.0
"""Contenders below it compute something else [dB]."""
REPEATS = 4


class Layer(NamedTuple):
    """Channels, kernel, stride, groups and size of the image."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: int
    groups: int
    size: tuple[int, ...]


LAYERS = {
    "dense3": Layer(64, 64, (3, 3), 1, 1, (56, 56)),
    "dense3_wide": Layer(256, 256, (3, 3), 1, 1, (14, 14)),
    "pointwise": Layer(128, 128, (1, 1), 1, 1, (28, 28)),
    "dw3": Layer(96, 96, (3, 3), 1, 96, (56, 56)),
    "dw3_s2": Layer(96, 96, (3, 3), 2, 96, (112, 112)),
    "dw5": Layer(240, 240, (5, 5), 1, 240, (28, 28)),
    "dw7": Layer(96, 96, (7, 7), 1, 96, (56, 56)),
    "dw9_1d": Layer(256, 256, (9,), 1, 256, (1000,)),
    "groups_4": Layer(128, 128, (3, 3), 1, 32, (56, 56)),
    "groups_8": Layer(128, 128, (3, 3), 1, 16, (56, 56)),
    "multiplier_2": Layer(48, 96, (3, 3), 1, 48, (56, 56)),
    "stem": Layer(3, 32, (3, 3), 2, 1, (224, 224)),
}


def make_model(layer: Layer) -> tuple[onnx.ModelProto, int]:
    """The layer, with ReLU, some times in a row; and its multiply-accumulates, all together."""
    rng = np.random.default_rng(0)
    times = REPEATS if layer.inputs == layer.outputs and layer.stride == 1 else 1
    shape = (layer.outputs, layer.inputs // layer.groups, *layer.kernel)
    nodes, held, name, macs, size = [], [], "x", 0, layer.size
    for number in range(times):
        w = rng.standard_normal(shape).astype(np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        held += [numpy_helper.from_array(w.astype(np.float32), f"w{number}")]
        held += [numpy_helper.from_array(rng.normal(0, 0.1, layer.outputs).astype(np.float32), f"b{number}")]
        how = {"pads": [side // 2 for side in layer.kernel] * 2, "strides": [layer.stride] * len(size)}
        inputs = [name, f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Conv", inputs, [f"s{number}"], group=layer.groups, **how))
        name = f"y{number}"
        nodes.append(helper.make_node("Relu", [f"s{number}"], [name]))
        size = tuple((each - 1) // layer.stride + 1 for each in size)
        macs += int(np.prod(shape) * np.prod(size))
    ends = [
        [helper.make_tensor_value_info(end, TensorProto.FLOAT, (1, channels, *sizes))]
        for end, channels, sizes in (("x", layer.inputs, layer.size), (name, layer.outputs, size))
    ]
    graph = helper.make_graph(nodes, "layer", *ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), macs


def sign_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with activations in int8: zero points 128 lower."""
    signed = onnx.ModelProto()
    signed.CopyFrom(model)
    points = {node.input[2] for node in signed.graph.node if node.op_type == "QuantizeLinear"}
    for held in signed.graph.initializer:
        array = numpy_helper.to_array(held)
        if held.name in points and array.dtype == np.uint8:
            held.CopyFrom(numpy_helper.from_array((array.astype(np.int16) - 128).astype(np.int8), held.name))
    return signed


def run_onnxruntime(model: onnx.ModelProto, threads: int) -> Call:
    """A session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def run_openvino(model: onnx.ModelProto, threads: int) -> Call:
    """A request of OpenVINO, through its own reader."""
    import openvino

    core, settings = openvino.Core(), {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings).create_infer_request()
    return lambda x: np.asarray(request.infer([x], share_inputs=True)[request.model_outputs[0]])


def run_omniconv(model: onnx.ModelProto, threads: int) -> Call:
    """Compiled whole."""
    net = oc.compile(model, threads=threads, strict=True)
    return lambda x: np.asarray(net(x))


def list_contenders(exact: onnx.ModelProto, quantised: onnx.ModelProto, threads: int) -> Iterator[tuple[str, Call]]:
    """Names and calls."""
    yield "float32", run_omniconv(exact, threads)
    yield "int8", run_omniconv(quantised, threads)
    yield "ort u8s8", run_onnxruntime(quantised, threads)
    yield "ort s8s8", run_onnxruntime(sign_activations(quantised), threads)
    yield "openvino", run_openvino(quantised, threads)


def snr(wanted: Array, found: Array) -> float:
    """Signal to noise [dB]."""
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


def measure(name: str, model: onnx.ModelProto, macs: int, peak: float, threads: int, seconds: float) -> None:
    """Quantise, verify, time, and print a line."""
    (end,) = (each for each in model.graph.input if each.name not in {held.name for held in model.graph.initializer})
    shape = tuple(max(axis.dim_value, 1) for axis in end.type.tensor_type.shape.dim)
    samples = np.random.default_rng(1).standard_normal((3, *shape[1:]), np.float32)
    options = QuantOptions(ranges="minmax", equalize=False, correct_bias=False, reduce_range=True)
    quantised = quantize_with_report(model, samples[1:], shapes={end.name: shape}, options=options).model
    x = samples[:1]
    calls = dict(list_contenders(model, quantised, threads))
    wanted = calls["float32"](x)
    noise = {key: snr(wanted, call(x)) for key, call in calls.items() if key != "float32"}
    able = {key: call for key, call in calls.items() if noise.get(key, LEAST_SNR) >= LEAST_SNR}
    settle = SETTLE_SECONDS if threads > 1 else 0.0
    turns = interleave({key: partial(call, x) for key, call in able.items()}, rounds=15, seconds=seconds, settle=settle)
    times = {key: turn.median for key, turn in turns.items()}
    ours = times["int8"]
    cells = [name, f"{1e6 * ours:.0f}"]
    for peers in (("float32",), ("ort u8s8", "ort s8s8"), ("openvino",)):
        known = [times[key] for key in peers if key in times]
        cells.append(f"{min(known) / ours:.2f}" if known else "wrong")
    cells.append(f"{100 * macs / ours / peak:.0f} %" if macs else "")
    cells.append(" / ".join(f"{value:.0f}" for value in noise.values()))
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="names of layers, by commas")
    parser.add_argument("--network", nargs="*", type=Path, default=[], help="ONNX files, in place of layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line, at least")
    args = parser.parse_args()
    peak = measure_roofline(threads=args.threads).peak  # half as many float32 multiply-adds, twice as many of words
    print(f"{args.threads} threads; products of words: {peak / 1e9:.0f} GMAC/s")
    print("| | int8 us | over own float32 | over ONNX Runtime | over OpenVINO | of the roofline | dB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path in args.network:
        measure(path.stem, onnx.load(path), 0, peak, args.threads, args.seconds)
    for name, layer in LAYERS.items():
        if not args.network and (not args.only or name in args.only.split(",")):
            measure(name, *make_model(layer), peak, args.threads, args.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
