"""Streams of sound at 16 kHz in chunks of 10 ms, against computing each chunk anew with overlap.

    python bench/streams.py                    # a table
    python bench/streams.py --json > streams.json

Three networks: a TCN (dilated residual blocks, causal), one like WaveNet (gated, dilated, causal) and one like silero
(strided convolutions, an LSTM, a decision every 4 ms). *Overlap* is what is done without streams: a network compiled
for a chunk and all that it reads before and after it; an LSTM has no such number, and is run over the last second.
Both are equal to the whole where they say so. Times are medians of interleaved runs on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import omniconv as oc
from omniconv.analysis import receptive_field
from omniconv.bench.machine import describe_machine
from omniconv.graph import to_program

RATE = 16000
CHUNK = RATE // 100
SECONDS = 3


class Builder:
    """Nodes of a network over ``(1, 1, T)``."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        """The name of an array."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def random(self, *shape: int, scale: float) -> str:
        """Random weights."""
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> str:
        """The first output of a node."""
        names = [f"v{len(self.nodes)}_{n}" for n in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def conv(self, x: str, outputs: int, inputs: int, k: int = 1, dilation: int = 1, stride: int = 1) -> str:
        """A causal convolution."""
        w = self.random(outputs, inputs, k, scale=(k * inputs) ** -0.5)
        pads = [dilation * (k - 1), 0]
        return self.node("Conv", x, w, pads=pads, dilations=[dilation], strides=[stride])

    def model(self, y: str) -> bytes:
        """The network."""
        x, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in (("x", [1, 1, "T"]), (y, None)))
        graph = helper.make_graph(self.nodes, "g", [x], [result], self.constants)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()  # type: ignore[no-any-return]


def build_tcn(channels: int = 32, depth: int = 8, repeats: int = 2) -> bytes:
    """Residual blocks of two dilated layers."""
    g = Builder()
    y = g.conv("x", channels, 1, 3)
    for n in range(depth * repeats):
        inner = g.node("Relu", g.conv(y, channels, channels, 3, 2 ** (n % depth)))
        y = g.node("Relu", g.node("Add", y, g.conv(inner, channels, channels)))
    return g.model(g.conv(y, 1, channels))


def build_wavenet(channels: int = 32, depth: int = 10, repeats: int = 2) -> bytes:
    """Gated dilated layers of two taps; the sum of what they skip is the result."""
    g = Builder()
    y, skipped = g.conv("x", channels, 1, 2), ""
    for n in range(depth * repeats):
        filtered = g.node("Tanh", g.conv(y, channels, channels, 2, 2 ** (n % depth)))
        gate = g.node("Sigmoid", g.conv(y, channels, channels, 2, 2 ** (n % depth)))
        inner = g.node("Mul", filtered, gate)
        skip = g.conv(inner, channels, channels)
        skipped = g.node("Add", skipped, skip) if skipped else skip
        y = g.node("Add", y, g.conv(inner, channels, channels))
    return g.model(g.conv(g.node("Relu", skipped), 1, channels))


def build_silero(hidden: int = 64) -> bytes:
    """Strided convolutions, an LSTM and a decision."""
    g = Builder()
    y = g.node("Relu", g.conv("x", 32, 1, 16, stride=8))
    y = g.node("Relu", g.conv(y, 64, 32, 3, stride=2))
    y = g.node("Relu", g.conv(y, hidden, 64, 3, stride=2))
    y = g.node("Transpose", g.conv(y, hidden, hidden, 3, stride=2), perm=[2, 0, 1])
    weights = [g.random(1, 4 * hidden, hidden, scale=hidden**-0.5) for _ in range(2)]
    y = g.node("LSTM", y, *weights, hidden_size=hidden)
    y = g.node("Squeeze", y, g.constant(np.array([1], np.int64)))
    return g.model(g.node("Sigmoid", g.conv(g.node("Transpose", y, perm=[1, 2, 0]), 1, hidden)))


NETS: dict[str, Callable[[], bytes]] = {"TCN": build_tcn, "WaveNet-like": build_wavenet, "silero-like": build_silero}


def measure(name: str, chunk: int, seconds: int) -> dict[str, Any]:
    """One network: equality, latency and times."""
    model = NETS[name]()
    net: Any = oc.compile(model, threads=1)
    total = RATE * seconds // chunk * chunk
    x = np.random.default_rng(1).standard_normal((1, 1, total)).astype(np.float32)
    start = time.perf_counter()
    stream = net.stream(2, chunk)
    stream.push(x[..., :chunk])
    ready = time.perf_counter() - start
    stream.reset()
    parts = [stream.push(x[..., at : at + chunk]) for at in range(0, total, chunk)]
    kept = sum(array.nbytes for array in stream.state().values())
    got, whole = np.concatenate([*parts, stream.flush()], 2), net(x)
    rate = stream.plan.rate
    field = receptive_field(to_program(model, shapes={"x": (1, 1, 4 * RATE)}))
    recurrent = b"LSTM" in model
    reach = RATE if recurrent else -(-field.size[0] // stream.hop) * stream.hop
    again: Any = oc.compile(model, shapes={"x": (1, 1, reach + chunk)}, threads=1)
    padded = np.concatenate([np.zeros((1, 1, reach), np.float32), x], 2)
    count = int(chunk * rate)
    stream.reset()
    times: dict[str, list[float]] = {"stream": [], "overlap": []}
    error = 0.0
    for n, at in enumerate(range(0, total, chunk)):
        start = time.perf_counter()
        stream.push(x[..., at : at + chunk])
        middle = time.perf_counter()
        times["stream"].append(middle - start)
        if n % 8 == 0:  # it takes long, and the same each time
            middle = time.perf_counter()
            y = again(np.ascontiguousarray(padded[..., at : at + reach + chunk]))[..., -count:]
            times["overlap"].append(time.perf_counter() - middle)
            if at >= reach:
                error = max(error, float(np.abs(y - whole[..., int(at * rate) : int(at * rate) + count]).max()))
    long = chunk / RATE
    medians = {key: float(np.median(found)) for key, found in times.items()}
    return {
        "network": name,
        "receptive_field": None if recurrent else field.size[0],
        "latency": stream.latency.samples,
        "hop": stream.hop,
        "bit_equal": bool(np.array_equal(got, whole)),
        "error": float(np.abs(got - whole).max()),
        "overlap_error": error,
        "kept_bytes": kept,
        "begin_seconds": ready,
        "push_us": 1e6 * medians["stream"],
        "push_us_99": 1e6 * float(np.quantile(times["stream"], 0.99)),
        "overlap_us": 1e6 * medians["overlap"],
        "real_time_factor": medians["stream"] / long,
        "overlap_real_time_factor": medians["overlap"] / long,
    }


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description="Streams against computing with overlap.")
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="samples of a push")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of sound")
    options = parser.parse_args()
    rows = [measure(name, options.chunk, options.seconds) for name in NETS]
    machine = describe_machine(1)
    if options.json:
        print(json.dumps({"machine": machine, "chunk": options.chunk, "rate": RATE, "rows": rows}, indent=1))
        return
    print(f"{options.chunk} samples at {RATE} Hz; {machine}")
    for row in rows:
        equal = "equal bit for bit" if row["bit_equal"] else f"error {row['error']:.1e}"
        print(
            f"{row['network']:13} push {row['push_us']:8.0f} us (99 %: {row['push_us_99']:.0f}), "
            f"{row['real_time_factor']:.4f} of real time; overlap {row['overlap_us']:8.0f} us, "
            f"{row['overlap_us'] / row['push_us']:.1f} times as long; latency {row['latency']} samples; {equal}, "
            f"overlap {row['overlap_error']:.1e}; {row['kept_bytes']} bytes kept; "
            f"first push after {row['begin_seconds']:.2f} s"
        )


if __name__ == "__main__":
    main()
