"""A small network in integers of 8 bits, within a budget, and what became of each layer."""

from __future__ import annotations

import numpy as np

import omniconv as oc
from omniconv.graph import export
from omniconv.quantization import QuantOptions, quantize_with_report


def main() -> None:
    """Quantise a chain of layers twice: freely, and so that outputs keep some decibels more."""
    rng = np.random.default_rng(0)
    net = oc.Chain(
        (
            oc.Conv.of(3, 16, 3, stride=2, padding=1),
            oc.Activation("relu"),
            oc.depthwise(in_channels=16, kernel_size=3, padding="same"),
            oc.Activation("hard_swish"),
            oc.Conv.of(16, 8, 1),
        )
    )
    model = export(net, (1, 3, 32, 32), oc.random_weights(net, rng))
    samples = rng.standard_normal((16, 3, 32, 32), np.float32)
    free = quantize_with_report(model, samples, options=QuantOptions(sensitivity=True)).report
    print(free)
    for layer in free.layers:
        print(f"  {layer.op:10} alone {layer.alone:5.1f} dB, {layer.bytes_before} bytes became {layer.bytes_after}")
    tight = quantize_with_report(model, samples, options=QuantOptions(min_snr=free.snr + 3)).report
    print(tight)
    for layer in tight.kept:
        print(f"  {layer.op} stays in float32: {layer.reason}")


if __name__ == "__main__":
    main()
