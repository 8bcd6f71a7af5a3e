"""Names of the steps of a chain, which become the keys of a state_dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from omniconv.spec import Activation, Chain, ChainStep, PixelShuffle, Resize, Shuffle


def name_convs(chain: Chain) -> list[str]:
    """A name for each convolution of a chain: what it is, its kernel where that is not enough, else its number.

    Example:
        >>> import omniconv as oc
        >>> name_convs(oc.depthwise_separable(4, 8, 3)), name_convs(oc.asymmetric(4, 8, (7, 5)))
        (['depthwise', 'pointwise'], ['convolution_7x1', 'convolution_1x5'])
    """
    names = [conv.label for conv in chain.convs]
    kernels = ["x".join(map(str, conv.kernel_size)) for conv in chain.convs]
    names = [name if names.count(name) == 1 else f"{name}_{k}" for name, k in zip(names, kernels, strict=True)]
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if names.count(name) == 1 else f"{name}_{seen[name]}")
    return numbered


def name_move(step: ChainStep, taken: Container[str]) -> str:
    """A name for a step without weights that is not taken yet."""
    words: dict[type, str] = {PixelShuffle: "pixel_shuffle", Resize: "resize", Shuffle: "shuffle"}
    name = step.name if isinstance(step, Activation) else words[type(step)]
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found
