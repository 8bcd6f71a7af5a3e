r"""How far Winograd filtering may be from the reference, and when it is exact. See docs/guide/numerics.md.

.. math::
    |\hat y - y| \le \gamma_{C + r} \Big(|b| +
    |A^T| \Big[ \sum_c (|G| |g_c| |G^T|) \odot (|B^T| |d_c| |B|) \Big] |A|\Big)

for C input channels of a group. Roundings on the way of one product: one of the transformed weight (made in float64,
rounded once); at most 5 in each pass of the input transform, which adds up to four terms; C + 1 in the sum over the
channels; at most 6 in each pass of the output transform, five terms; one when the bias is added: r = 25. Weights that
come in have 8 for one, r = 32: each of two passes adds three terms and multiplies by a rounded factor.
"""

from __future__ import annotations

import itertools

import numpy as np

from omniconv.compiler.kernels.winograd.matrices import FILTERINGS
from omniconv.reference import error_bound
from omniconv.reference.bounds import gamma

ROUNDINGS = 25
OF_COMPUTED = 32


def filtered_magnitude(conv, x, w, b, m):
    """What stands in brackets after gamma above, for every output, with blocks of m x m outputs."""
    data, kernel, result = (
        np.abs(np.asarray(a, np.float64)) for a in (FILTERINGS[m].data, FILTERINGS[m].kernel, FILTERINGS[m].result)
    )
    conv = conv.resolve(x.shape)
    n, oc, *outputs = conv.output_shape(x.shape)
    padding, w = conv.padding, w.astype(np.float64)
    groups, inputs = conv.groups, conv.in_channels // conv.groups
    if conv.transposed:  # with stride 1: a plain layer with its kernel turned round
        w = w.reshape(groups, inputs, -1, 3, 3).swapaxes(1, 2).reshape(oc, inputs, 3, 3)
        padding = [(2 * d - a, 2 * d - c) for (a, c), d in zip(padding, conv.dilation, strict=True)]
    if conv.flip != conv.transposed:
        w = w[:, :, ::-1, ::-1]
    x = np.abs(x.astype(np.float64))
    if conv.padding_mode != "zeros":
        mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[conv.padding_mode]
        x, padding = np.pad(x, [(0, 0), (0, 0), *padding], mode=mode), [(0, 0), (0, 0)]
    weights = np.einsum("ik,gockl,jl->ijgoc", kernel, np.abs(w).reshape(groups, -1, inputs, 3, 3), kernel)
    size, (dh, dw) = m + 2, conv.dilation
    far = [(p[0], p[1] + d * (m + 1)) for p, d in zip(padding, conv.dilation, strict=True)]
    wide = np.pad(x, [(0, 0), (0, 0), *far])
    y = np.zeros((n, oc, *outputs))
    starts = [
        [r + d * i for r in range(d) for i in range(0, -((r - o) // d), m)]
        for d, o in zip(conv.dilation, outputs, strict=True)
    ]
    for oh, ow in itertools.product(*starts):
        block = wide[:, :, oh : oh + dh * (size - 1) + 1 : dh, ow : ow + dw * (size - 1) + 1 : dw]
        spread = np.einsum("ik,ngckl,jl->ijngc", data, block.reshape(n, groups, inputs, size, size), data)
        products = np.einsum("ijgoc,ijngc->ngoij", weights, spread)
        part = np.einsum("ik,nokl,jl->noij", result, products.reshape(n, oc, size, size), result)
        target = y[:, :, oh : oh + dh * (m - 1) + 1 : dh, ow : ow + dw * (m - 1) + 1 : dw]
        target[...] = part[:, :, : target.shape[2], : target.shape[3]]
    return y if b is None else y + np.abs(b.astype(np.float64)).reshape(-1, 1, 1)


def filtered_bound(spec, x, weights, roundoff=2.0**-24, roundings=ROUNDINGS):
    """The largest error of either way to compute a layer: directly, or filtered in blocks of any size."""
    bound = error_bound(spec, x, weights, roundoff)
    (w, b) = weights[0] if isinstance(weights[0], tuple) else weights
    terms = gamma(spec.in_channels // spec.groups + roundings, roundoff)
    for m in FILTERINGS:
        bound = np.maximum(bound, terms * filtered_magnitude(spec, x, w, b, m))
    return bound
