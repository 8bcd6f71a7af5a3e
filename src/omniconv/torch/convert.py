"""`convert`: the convolutions and batch norms of a model become Omniconv's, in place."""

from __future__ import annotations

from dataclasses import field
from itertools import pairwise

from torch import nn

from omniconv.choices import check_instance
from omniconv.records import dataclass
from omniconv.torch.nn.drop_in import DROP_INS, LAZY_NORMS, NORMS, Sequential, find_activation, goes_along


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert` did.

    Attributes:
        converted: paths of the layers that Omniconv computes from now on, and what they are.
        left: paths of such layers that were left as they are, and why.
        fused: paths of the batch norms that compute the activation behind them too, in the same pass, and of the
            convolutions that run in one call with the batch norm behind them; and the path of what is behind.
    """

    converted: dict[str, str]
    left: dict[str, str]
    fused: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.converted)} layers converted, {len(self.left)} left"]
        for path, what in self.converted.items():
            behind = f", with {self.fused[path]}" if path in self.fused else ""
            lines.append(f"  {path or '(the model)'}: {what}{behind}")
        lines += [f"  {path or '(the model)'}: left, {why}" for path, why in self.left.items()]
        return "\n".join(lines)


def convert(module: nn.Module) -> Conversion:
    """Let Omniconv compute every convolution and batch norm of a model, in training and in inference.

    The layers of `torch.nn` become those of :mod:`omniconv.torch.nn` of the same name, in place: parameters, their
    names and gradients, hooks and the module objects stay, so that optimisers and checkpoints need nothing. In a
    `torch.nn.Sequential` a batch norm and an activation behind it become one pass, and in training one call with the
    convolution before it, unless a hook could see the difference.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> print(convert(model))
        1 layers converted, 0 left
          0: Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))

    Args:
        module: the model, or one layer.

    Returns:
        What was converted and what was left: layers of a class that is derived from PyTorch's, whose meaning is not
        known, and layers whose weights are not there yet.

    Raises:
        DataError: not a module.
    """
    check_instance("module", module, nn.Module, need="a PyTorch module", fix="nn.Sequential(nn.Conv2d(3, 8, 3))")
    converted, left, fused = {}, {}, {}
    own = {**DROP_INS, **NORMS}
    for path, part in module.named_modules():
        kind = type(part)
        if kind in own:
            part.__class__ = own[kind]
            converted[path] = str(part)
        elif kind is nn.Sequential:
            part.__class__ = Sequential
        elif isinstance(part, (*own, *LAZY_NORMS)) and kind not in own.values():
            lazy = isinstance(part, nn.modules.lazy.LazyModuleMixin)
            left[path] = f"{kind.__name__} " + ("has no weights yet" if lazy else "is derived from PyTorch's layer")
    for path, part in module.named_modules():
        if type(part) is Sequential:
            for (one, layer), (two, behind) in pairwise(part._modules.items()):  # noqa: SLF001
                if goes_along(layer, behind) or find_activation(layer, behind) is not None:
                    first, second = (f"{path}.{name}" if path else name for name in (one, two))
                    fused[first] = second
    return Conversion(converted, left, fused)
