"""`convert`: the convolution layers of a model become Omniconv's, in place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from omniconv.choices import check_instance
from omniconv.torch.nn.drop_in import DROP_INS


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert` did.

    Attributes:
        converted: paths of the layers that Omniconv computes from now on, and what they are.
        left: paths of convolution layers that were left as they are, and why.
    """

    converted: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.converted)} convolution layers converted, {len(self.left)} left"]
        lines += [f"  {path or '(the model)'}: {what}" for path, what in self.converted.items()]
        lines += [f"  {path or '(the model)'}: left, {why}" for path, why in self.left.items()]
        return "\n".join(lines)


def convert(module: nn.Module) -> Conversion:
    """Let Omniconv compute every convolution layer of a model, in training and in inference.

    The layers of `torch.nn` become those of :mod:`omniconv.torch.nn` of the same name, in place: parameters, their
    names and gradients, hooks and the module objects stay, so that optimisers and checkpoints need nothing.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> print(convert(model))
        1 convolution layers converted, 0 left
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
    converted, left = {}, {}
    for path, part in module.named_modules():
        kind = type(part)
        if kind in DROP_INS:
            part.__class__ = DROP_INS[kind]
            converted[path] = str(part)
        elif isinstance(part, tuple(DROP_INS)) and kind not in DROP_INS.values():
            lazy = isinstance(part, nn.modules.lazy.LazyModuleMixin)
            left[path] = f"{kind.__name__} " + ("has no weights yet" if lazy else "is derived from PyTorch's layer")
    return Conversion(converted, left)
