"""The flattened form of a layer: canonical polyadic (CP) decomposition, by the library tensorly."""

from __future__ import annotations

from dataclasses import field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from omniconv.analysis.record import Record
from omniconv.analysis.separability import check_weights
from omniconv.errors import UnsupportedError
from omniconv.integers import as_integer
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv

Weights = tuple[tuple[npt.NDArray[np.float64], None], ...]


@dataclass(frozen=True, eq=False)
class Flattened(Record):
    """Weights as a sum of ``rank`` products of vectors, one vector for each axis of the array.

    Attributes:
        rank: number of products.
        factors: one ``(size, rank)`` array for each axis of the weights.
        error: relative squared error, measured on the result.
        parameters, dense: of the factors and of the weights.
    """

    rank: int
    factors: tuple[npt.NDArray[np.float64], ...] = field(repr=False)
    error: float
    parameters: int
    dense: int

    def weights(self) -> npt.NDArray[np.float64]:
        """The approximated weights."""
        return expand(self.factors)

    def chain(self, conv: Conv) -> tuple[Chain, Weights]:
        """The layer in flattened form: pointwise to ``rank`` channels, one depthwise step an axis, pointwise.

        Raises:
            UnsupportedError: a transposed or grouped layer, or padding that depends on the size.
        """
        if conv.transposed or conv.groups > 1 or isinstance(conv.padding, str) or len(self.factors) != conv.dims + 2:
            raise UnsupportedError(
                "flattened form of this layer", need="a convolution without groups, not transposed", at=conv.text()
            )
        outs, ins, *axes = self.factors
        rank = self.rank
        steps = [Conv.of(conv.in_channels, rank, 1, dims=conv.dims)]
        arrays = [ins.T.reshape(rank, conv.in_channels, *(1,) * conv.dims)]
        for axis, factor in enumerate(axes):
            only = [n == axis for n in range(conv.dims)]
            steps.append(
                Conv.of(
                    rank,
                    rank,
                    [k if own else 1 for k, own in zip(conv.kernel_size, only, strict=True)],
                    stride=[s if own else 1 for s, own in zip(conv.stride, only, strict=True)],
                    dilation=[d if own else 1 for d, own in zip(conv.dilation, only, strict=True)],
                    padding=[p if own else (0, 0) for p, own in zip(conv.padding, only, strict=True)],
                    groups=rank,
                    flip=conv.flip,
                    padding_mode=conv.padding_mode,
                    dims=conv.dims,
                )
            )
            arrays.append(factor.T.reshape(rank, 1, *(factor.shape[0] if own else 1 for own in only)))
        steps.append(Conv.of(rank, conv.out_channels, 1, dims=conv.dims))
        arrays.append(outs.reshape(conv.out_channels, rank, *(1,) * conv.dims))
        return Chain(tuple(steps)), tuple((array, None) for array in arrays)


def expand(factors: tuple[npt.NDArray[np.float64], ...]) -> npt.NDArray[np.float64]:
    """The sum of the products of the factors' columns.

    Example:
        >>> expand((np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))).tolist()
        [[3.0, 4.0], [6.0, 8.0]]
    """
    letters = "abcdefgh"[: len(factors)]
    return np.asarray(np.einsum(",".join(f"{c}r" for c in letters) + "->" + letters, *factors, optimize=True))


def flatten(w: Any, rank: int, *, iterations: int = 500, seed: int = 0) -> Flattened:
    """Approximate weights by a sum of ``rank`` products of vectors.

    Unlike singular values, the best CP approximation is not known exactly: alternating least squares finds a good one,
    and the error is that of the one found.

    Args:
        w: an array of 2 to 5 axes, such as weights ``(out, in, *kernel)``.
        rank: number of products.
        iterations: at most that many sweeps.
        seed: of the random start.

    Raises:
        SpecError: a rank below 1.
        UnsupportedError: tensorly is not installed.
    """
    array = check_weights(w)
    rank, iterations = as_integer("rank", rank), as_integer("iterations", iterations)
    seed = as_integer("seed", seed, 0, 2**32 - 1)
    try:
        decomposition = import_module("tensorly.decomposition")
    except ImportError:
        raise UnsupportedError(
            "the flattened form needs tensorly, which is not installed", need="pip install 'omniconv[analysis]'"
        ) from None
    weights, factors = decomposition.parafac(
        array,
        rank,
        n_iter_max=iterations,
        init="random" if rank > min(array.shape) else "svd",
        tol=1e-12,
        random_state=np.random.RandomState(seed),
    )
    found = [np.asarray(factor, np.float64) for factor in factors]
    found[0] = found[0] * np.asarray(weights)
    total = float((array**2).sum())
    result = tuple(found)
    error = float(((array - expand(result)) ** 2).sum()) / total if total else 0.0
    return Flattened(rank, result, error, sum(factor.size for factor in result), int(array.size))
