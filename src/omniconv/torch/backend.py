"""The backend ``omniconv`` of `torch.compile`: which nodes of a graph run as compiled code, and which in PyTorch.

In training, and wherever weights stay PyTorch's, every convolution of the graph becomes an operator of
:mod:`omniconv.torch.operators`, and every batch norm, with the activation that alone reads it, one of
:mod:`omniconv.torch.normalise`; nothing else changes. With ``options={"freeze": True}``, in inference, the graph is cut
into the largest parts of known functions around convolutions and products, and each part is compiled whole, with its
weights as constants (:mod:`omniconv.torch.parts`). A weight that is replaced, or changed in place so that PyTorch
counts it, makes its part compile again; changes through ``weight.data`` or NumPy's view of the memory are not seen.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import torch
from torch import fx
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.choices import as_choice, check_instance
from omniconv.errors import DataError, SpecError, UnsupportedError
from omniconv.integers import as_flag
from omniconv.records import dataclass
from omniconv.torch.activations import activation_of_node, as_activation
from omniconv.torch.normalise import batch_norm
from omniconv.torch.operators import convolve
from omniconv.torch.parts import FrozenPart, cut, name_of

MOST_REPORTS: Final = 64
"""Reports that are kept."""


@dataclass(slots=True)
class GraphReport:
    """What became of one graph that was compiled.

    Attributes:
        operators: convolutions and batch norms that run as operators, weights of PyTorch's.
        parts: parts that were cut out with their weights, each with the names of its nodes.
        torch: names of what runs in PyTorch, and how many of each.
    """

    operators: list[str] = field(default_factory=list)
    parts: list[FrozenPart] = field(default_factory=list)
    torch: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{len(self.operators)} nodes as operators, {len(self.parts)} frozen parts"]
        lines += [f"  operator: {name}" for name in self.operators]
        lines += [f"  part: {part}" for part in self.parts]
        lines += [f"  torch: {name}" + (f" ({many})" if many > 1 else "") for name, many in self.torch.items()]
        return "\n".join(lines)


_REPORTS: Final[deque[GraphReport]] = deque(maxlen=MOST_REPORTS)


def reports() -> list[GraphReport]:
    """What became of the graphs that ``torch.compile(model, backend="omniconv")`` compiled, the last ones last."""
    return list(_REPORTS)


def backend(
    graph: fx.GraphModule, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Compile a graph that PyTorch captured; to be named, not called: ``torch.compile(model, backend="omniconv")``.

    Args:
        graph: of calls of PyTorch's functions.
        example_inputs: its inputs, weights among them.
        options: ``freeze``: take weights as constants, in inference. Parts are compiled again after changes of them
            that PyTorch counts, which those through ``weight.data`` are not.

    Raises:
        SpecError: an unknown option.
        UnsupportedError: ``freeze`` where gradients are wanted.
    """
    freeze = _read_options(options)
    report = GraphReport()
    if freeze:
        if torch.is_grad_enabled():
            raise UnsupportedError(
                "freeze=True where gradients may be wanted", need="inference", fix="calls under torch.no_grad()"
            )
        report.parts = cut(graph, example_inputs)
    inside = {part.name for part in report.parts}
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in CONVOLUTIONS:
            report.operators.append(f"{node.name} ({name_of(node)})")
            node.target = CONVOLUTIONS[node.target]
        elif node.op == "call_function" and node.target is F.batch_norm:
            behind = _take_activation(graph, node)
            report.operators.append(f"{node.name} ({name_of(node)}{behind})")
            node.target = _normalise
        elif node.op.startswith("call") and str(node.target) not in inside:
            report.torch[name_of(node)] += 1
    graph.recompile()
    _REPORTS.append(report)
    compiled: Callable[..., Any] = graph.forward
    return compiled


def _take_activation(graph: fx.GraphModule, norm: fx.Node) -> str:
    """Let a batch norm compute the activation that alone reads it, and say so in words."""
    behind = next(iter(norm.users)) if len(norm.users) == 1 else None
    activation = None if behind is None else activation_of_node(behind)
    if behind is None or activation is None:
        return ""
    name = name_of(behind)
    numbers = tuple(value for _, value in activation.parameters)
    norm.kwargs = {**norm.kwargs, "activation": activation.name, "parameters": numbers}
    behind.replace_all_uses_with(norm)
    graph.graph.erase_node(behind)
    return f", {name}"


def _read_options(options: Mapping[str, Any] | None) -> bool:
    if options is None:
        return False
    check_instance("options", options, Mapping, need="options by name", fix='{"freeze": True}')
    unknown = sorted(set(options) - {"freeze"})
    if unknown:
        raise SpecError(f"option {', '.join(unknown)} is unknown", need="freeze")
    return as_flag("freeze", options.get("freeze", False))


def _normalise(*arguments: Any, activation: str = "", parameters: tuple[float, ...] = (), **named: Any) -> torch.Tensor:
    """`torch.nn.functional.batch_norm`, and an activation that a graph names by its word and its numbers."""
    return batch_norm(*arguments, activation=as_activation(activation, parameters), **named)


def _plain(
    input: torch.Tensor,  # noqa: A002 - PyTorch's names of arguments
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`torch.conv1d`, `conv2d` or `conv3d`.

    Raises:
        SpecError: another word for the padding than "same" or "valid", or "same" with a stride, as in PyTorch.
    """
    axes = weight.dim() - 2
    strides, dilations = _each(stride, axes), _each(dilation, axes)
    if not isinstance(padding, str):
        sides = _both_sides(padding, axes)
    elif as_choice("padding", padding, ("same", "valid")) == "valid":
        sides = (0,) * 2 * axes
    else:
        if any(s != 1 for s in strides):
            raise SpecError(f'padding="same" with stride={stride}', need="stride=1", fix="padding in numbers")
        totals = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
        sides = tuple(side for total in totals for side in (total // 2, total - total // 2))
    numbers = (strides, sides, dilations, False, (0,) * axes, groups, False, "zeros")
    return convolve(input, weight, bias, numbers, axes)


def _transposed(
    input: torch.Tensor,  # noqa: A002
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> torch.Tensor:
    """`torch.conv_transpose1d`, `conv_transpose2d` or `conv_transpose3d`."""
    axes = weight.dim() - 2
    sides = _both_sides(padding, axes)
    numbers = (
        _each(stride, axes),
        sides,
        _each(dilation, axes),
        True,
        _each(output_padding, axes),
        groups,
        False,
        "zeros",
    )
    return convolve(input, weight, bias, numbers, axes)


def _both_sides(padding: Any, axes: int) -> tuple[int, ...]:
    """The padding before and after each axis."""
    return tuple(side for p in _each(padding, axes) for side in (p, p))


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """One integer an axis, from one or from as many."""
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(items) not in {1, axes}:
        raise DataError(f"{value!r} for {axes} axes", need="one integer, or one for each axis")
    return items * axes if len(items) == 1 else items


CONVOLUTIONS: Final[dict[Any, Callable[..., torch.Tensor]]] = {
    torch.conv1d: _plain,
    torch.conv2d: _plain,
    torch.conv3d: _plain,
    torch.conv_transpose1d: _transposed,
    torch.conv_transpose2d: _transposed,
    torch.conv_transpose3d: _transposed,
}
"""PyTorch's function -> the one that is called in its place."""
