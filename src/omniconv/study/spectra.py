"""What of the kernels that a network has learned is no product of two vectors, and what that part is worth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from omniconv.analysis import separability


def list_kernels(model: nn.Module) -> Iterator[nn.Conv2d]:
    """The layers with square kernels behind the stem, which are those of the kind."""
    found = [item for item in model.modules() if isinstance(item, nn.Conv2d) and min(item.kernel_size) > 1]
    return iter(found[1:])


def measure_rest(model: nn.Module) -> float:
    """Share of the energy of all kernels that lies beyond rank 1, each kernel by itself.

    Formula:
        sum over kernels of (s2^2 + s3^2) / sum over kernels of (s1^2 + s2^2 + s3^2), with the singular values s.
    """
    kept = whole = 0.0
    for layer in list_kernels(model):
        values = separability(layer.weight.detach().numpy(), groups=layer.groups).singular_values ** 2
        kept, whole = kept + float(values[..., 0].sum()), whole + float(values.sum())
    return 1 - kept / whole if whole else 0.0


def cut_kernels(model: nn.Module) -> None:
    """Replace every kernel by the nearest one of rank 1."""
    for layer in list_kernels(model):
        weights = layer.weight.detach().double().numpy()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(nearest(weights)))


def nearest(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The nearest kernels of rank 1.

    Example:
        >>> nearest(np.array([[[3.0, 0.0], [0.0, 1.0]]])).round(12).tolist()
        [[[3.0, 0.0], [0.0, 0.0]]]
    """
    u, s, v = np.linalg.svd(weights, full_matrices=False)
    return np.asarray(u[..., :, :1] * s[..., None, :1] @ v[..., :1, :])
