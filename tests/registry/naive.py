"""Independent brute force: every formula as a loop over positions and taps.

Written from the textbook formulas on purpose without :mod:`omniconv.reference` or :mod:`omniconv.spec.geometry`: a
mistake in the phases, the padding or the channel map must not be able to cancel out. Loops run over positions and taps;
at each the channels are one matrix product with the dense, explicitly filled channel matrix.
"""

import itertools
import math

import numpy as np

from omniconv.spec import Activation, Conv, PixelShuffle, Resize, Shuffle, Split


def naive(spec, x, weights):
    """The result of a spec in float64 and the multiply-accumulates that landed inside [MAC]."""
    rest = list(weights)
    y, macs = np.asarray(x, np.float64), 0
    for step in (spec,) if isinstance(spec, Conv) else spec.steps:
        match step:
            case Conv():
                y, count = naive_conv(step, y, *rest.pop(0))
                macs += count
            case Split():
                parts, first = [], 0
                for branch in step.branches:
                    part, count = naive_conv(branch, y[:, first : first + branch.in_channels], *rest.pop(0))
                    first += branch.in_channels
                    macs += count
                    parts.append(part)
                y = np.concatenate(parts, axis=1)
            case _:
                y = naive_move(step, y)
    assert not rest
    return y, macs


def naive_conv(conv, x, w, b, dtype=np.float64):
    """One convolution in arithmetic of ``dtype``, gathered (or, when transposed, scattered) position by position."""
    x, w = x.astype(dtype), np.asarray(w, dtype)
    batch, _, *sizes = x.shape
    pads = explicit_padding(conv, sizes)
    extents = [d * (k - 1) + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    if conv.transposed:
        outs = [
            (n - 1) * s + e - p - q + a
            for n, s, e, (p, q), a in zip(sizes, conv.stride, extents, pads, conv.output_padding, strict=True)
        ]
    else:
        outs = [
            math.floor((n + p + q - e) / s) + 1
            for n, s, e, (p, q) in zip(sizes, conv.stride, extents, pads, strict=True)
        ]
    y = np.zeros((batch, conv.out_channels, *outs), dtype)
    if b is not None:
        for c in range(conv.out_channels):
            y[:, c] = float(b[c])
    matrices = {tap: channel_matrix(conv, w, tap) for tap in itertools.product(*map(range, conv.kernel_size))}
    landed = 0
    for position in itertools.product(*map(range, sizes if conv.transposed else outs)):
        for tap, matrix in matrices.items():
            other = [
                o * s + t * d - p
                for o, s, t, d, (p, _) in zip(position, conv.stride, tap, conv.dilation, pads, strict=True)
            ]
            if conv.transposed:
                if all(0 <= i < n for i, n in zip(other, outs, strict=True)):
                    y[:, :, *other] += x[:, :, *position] @ matrix.T
                    landed += 1
                continue
            source = [fold(i, n, conv.padding_mode) for i, n in zip(other, sizes, strict=True)]
            if None not in source:
                y[:, :, *position] += x[:, :, *source] @ matrix.T
                landed += 1
    return y, landed * batch * conv.in_channels * conv.out_channels // conv.groups


def explicit_padding(conv, sizes):
    """Padding as pairs; "same" makes ceil(n / s) outputs."""
    if not isinstance(conv.padding, str):
        return conv.padding
    pads = []
    for n, k, s, d in zip(sizes, conv.kernel_size, conv.stride, conv.dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small = total // 2
        pads.append((small, total - small) if conv.padding == "same_upper" else (total - small, small))
    return pads


def channel_matrix(conv, w, tap):
    """The dense (out, in) matrix of one tap; zero where a group does not see."""
    if conv.flip:
        tap = tuple(k - 1 - t for k, t in zip(conv.kernel_size, tap, strict=True))
    matrix = np.zeros((conv.out_channels, conv.in_channels), w.dtype)
    for c in range(conv.out_channels):
        for i in range(conv.in_channels):
            group = c * conv.groups // conv.out_channels
            if i * conv.groups // conv.in_channels == group:
                if conv.transposed:
                    matrix[c, i] = w[(i, c - group * (conv.out_channels // conv.groups), *tap)]
                else:
                    matrix[c, i] = w[(c, i - group * (conv.in_channels // conv.groups), *tap)]
    return matrix


def fold(i, n, mode):
    """Where a position outside the input reads from; None for zero."""
    if 0 <= i < n:
        return i
    if mode == "zeros":
        return None
    if mode == "replicate":
        return 0 if i < 0 else n - 1
    if mode == "circular":
        return i + n if i < 0 else i - n
    return -i if i < 0 else 2 * (n - 1) - i


def naive_move(step, x):
    """A step without weights, element by element along the axis that it changes."""
    batch, channels, *sizes = x.shape
    dims = len(sizes)
    match step:
        case Shuffle(groups=g):
            y = np.empty_like(x)
            for i, j in itertools.product(range(g), range(channels // g)):
                y[:, j * g + i] = x[:, i * (channels // g) + j]
            return y
        case PixelShuffle(factor=f):
            y = np.empty((batch, channels // f**dims, *(n * f for n in sizes)))
            for c in range(y.shape[1]):
                for number, rest in enumerate(itertools.product(range(f), repeat=dims)):
                    y[:, c, *(slice(r, None, f) for r in rest)] = x[:, c * f**dims + number]
            return y
        case Resize(factor=f, mode=mode):
            y = np.empty((batch, channels, *(n * f for n in sizes)))
            for position in itertools.product(*(range(n * f) for n in sizes)):
                cells = []
                for o, n in zip(position, sizes, strict=True):
                    if mode == "nearest":
                        cells.append([(o // f, 1.0)])
                        continue
                    at = min(max((o + 0.5) / f - 0.5, 0.0), n - 1.0)
                    low = min(int(at), max(n - 2, 0))
                    cells.append([(low, 1.0 - (at - low)), (min(low + 1, n - 1), at - low)])
                y[:, :, *position] = sum(
                    x[:, :, *(i for i, _ in corner)] * math.prod(share for _, share in corner)
                    for corner in itertools.product(*cells)
                )
            return y
        case Activation(name=name):
            parameters = dict(step.parameters)
            return np.vectorize(lambda value: SCALAR[name](value, **parameters), otypes=[np.float64])(x)
    raise AssertionError(step)


def _sigmoid(v):
    return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))


SCALAR = {
    "relu": lambda v: max(v, 0.0),
    "relu6": lambda v: min(max(v, 0.0), 6.0),
    "clip": lambda v, lo, hi: min(max(v, lo), hi),
    "leaky_relu": lambda v, alpha: v if v >= 0 else alpha * v,
    "elu": lambda v, alpha: v if v >= 0 else alpha * math.expm1(v),
    "sigmoid": _sigmoid,
    "silu": lambda v: v * _sigmoid(v),
    "hard_sigmoid": lambda v, alpha, beta: min(max(alpha * v + beta, 0.0), 1.0),
    "hard_swish": lambda v: v * min(max(v / 6 + 0.5, 0.0), 1.0),
    "tanh": math.tanh,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "abs": abs,
    "neg": lambda v: -v,
    "gelu": lambda v: v / 2 * (1 + math.erf(v / math.sqrt(2))),
    "gelu_tanh": lambda v: v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
}
