"""Describe one layer, compile it, and check it against the reference."""

from __future__ import annotations

import numpy as np

import omniconv as oc


def main() -> None:
    """Compile a depthwise layer of MobileNet and compare it with float64."""
    spec = oc.depthwise(64, kernel_size=3, padding=1)
    shape = (1, 64, 56, 56)
    print(spec.text(shape))

    rng = np.random.default_rng(0)
    weights = oc.random_weights(spec, rng)
    x = rng.standard_normal(shape, np.float32)

    layer = oc.compile(spec, shape, weights, threads=2)
    y = layer(x)
    print(layer.explain())

    expected = oc.reference(spec, x, weights)
    error = float(np.abs(y - expected).max())
    print(f"output {y.shape}, largest difference to float64 {error:.1e}")
    if error > 1e-5:
        raise oc.VerificationError(f"largest difference {error}", need="at most 1e-5", at=spec.text(shape))


if __name__ == "__main__":
    main()
