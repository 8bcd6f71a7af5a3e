"""Go through all kinds: build the first sample of each, compile it, compare it with the reference."""

from __future__ import annotations

import numpy as np

import omniconv as oc


def main() -> None:
    """Print one line for each kind."""
    rng = np.random.default_rng(0)
    for name, kind in oc.kinds().items():
        sample = kind.samples[0]
        spec = kind.build(sample)
        # Whole numbers make every sum exact in float32, so direct sums must equal the reference to the last bit.
        weights = oc.random_weights(spec, rng, integer=True)
        x = rng.integers(-4, 5, sample.shape).astype(np.float32)
        y = oc.compile(spec, sample.shape, weights)(x)
        expected = oc.reference(spec, x, weights)
        error = float(np.abs(y - expected).max() / max(1.0, np.abs(expected).max()))
        print(f"{name:<20} {tuple(sample.shape)} -> {y.shape}, relative difference {error:.1e}")
        if error > 1e-5:
            raise oc.VerificationError(f"relative difference {error}", need="at most 1e-5", at=spec.text(sample.shape))


if __name__ == "__main__":
    main()
