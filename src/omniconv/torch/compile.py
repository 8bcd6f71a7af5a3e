"""`compile`: a whole PyTorch model for inference, through ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omniconv.api import compile as compile_model
from omniconv.choices import check_instance
from omniconv.errors import DataError, ShapeError, UnsupportedError
from omniconv.integers import read_sequence
from omniconv.torch.layouts import as_array

if TYPE_CHECKING:
    import onnx

    from omniconv.runtime.executable import Executable
    from omniconv.runtime.mixed import MixedExecutable
    from omniconv.runtime.network import Network


class CompiledModule(nn.Module):  # type: ignore[misc] # untyped for a checker without PyTorch
    """A frozen model that takes and gives tensors. It has no parameters: its weights are in the code.

    Attributes:
        network: what :func:`omniconv.compile` made of the model; ``explain()`` and ``profile()`` are there.
        names: of the inputs, in order.
    """

    def __init__(self, network: Executable | MixedExecutable | Network, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The result, or a tuple of all results.

        Raises:
            ShapeError: another number of inputs, or shapes that the model does not take.
            DataError: tensors of another type, on another device, or whose gradients are wanted.
        """
        if len(inputs) != len(self.names):
            raise ShapeError(f"{len(inputs)} inputs", need=f"{len(self.names)}: {', '.join(self.names)}")
        if torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
            raise DataError(
                "an input whose gradient is wanted",
                need="inference: the model was frozen when it was compiled",
                fix="torch.no_grad(), or omniconv.torch.convert(model) to train it",
            )
        arrays = {name: self._to_array(name, x) for name, x in zip(self.names, inputs, strict=True)}
        results = tuple(self._to_tensor(name, y) for name, y in self.network.run(arrays).items())
        return results[0] if len(results) == 1 else results

    def explain(self) -> str:
        """What was chosen for each layer, and why."""
        return self.network.explain()

    def extra_repr(self) -> str:
        """The inputs, and how their channels lie."""
        return f"{', '.join(self.names)}, layout={self.network.layout!r}"

    def _to_array(self, name: str, x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or x.device.type != "cpu":
            return x  # refused by the network, with its name
        return as_array(x, channels_last=self.network.is_channels_last(name, x.dim()))

    def _to_tensor(self, name: str, y: Any) -> torch.Tensor:
        found = torch.from_numpy(y)
        return found.movedim(-1, 1) if self.network.is_channels_last(name, found.dim()) else found


def compile(  # noqa: A001 - named after what it calls
    module: nn.Module, example_inputs: torch.Tensor | Sequence[torch.Tensor], **options: Any
) -> CompiledModule:
    """Compile a PyTorch model for inference, for inputs like its example inputs and for any number of them in a batch.

    The model is exported with ``torch.onnx.export(dynamo=True)``, as it behaves in inference, and read by
    :func:`omniconv.compile`. Its weights are those of this moment. Another batch size is planned when it first
    comes, with the machine code and the packed weights of those before as far as these can serve it; the plans of the
    last few are kept. A model that takes one batch size only is compiled for its exact shapes.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        >>> f = compile(model, torch.ones(1, 3, 6, 6), threads=1)
        >>> x = torch.rand(2, 3, 6, 6)
        >>> with torch.no_grad():
        ...     print(bool(torch.allclose(f(x), model.eval()(x), atol=1e-5)))
        True

    Args:
        module: any model whose operators Omniconv supports.
        example_inputs: a tensor, or one for each input of ``module.forward``; only shapes and types matter.
        options: of :func:`omniconv.compile`: threads, layout, target ... With ``layout="NHWC"`` images are read and
            written in `torch.channels_last`; their shapes stay those of PyTorch.

    Returns:
        A module without parameters. A model whose first axis is no batch, or that depends on its size, takes the
        batch size of the example only.

    Raises:
        UnsupportedError: `onnxscript` is not installed, PyTorch cannot export the model, or it has an operator that is
            not supported.
    """
    if find_spec("onnxscript") is None:
        raise UnsupportedError(
            "exporting PyTorch models needs the package onnxscript", need="the extra", fix="pip install omniconv[torch]"
        )
    check_instance("module", module, nn.Module, need="a PyTorch module", fix="omniconv.compile for specs and models")
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else read_sequence(example_inputs)
    if inputs is None or not all(isinstance(item, torch.Tensor) for item in inputs):
        kinds = type(example_inputs).__name__ if inputs is None else [type(item).__name__ for item in inputs]
        raise DataError(
            f"example_inputs of {kinds}", need="a tensor, or a sequence of tensors", fix="torch.ones(1, 3, 8, 8)"
        )
    proto = export(module, tuple(inputs))
    names = [item.name for item in proto.graph.input]
    network = compile_model(proto, **options)
    fix = getattr(network, "fix", None)
    if fix is not None:
        fix({name: tuple(x.shape) for name, x in zip(names, inputs, strict=True)})
    return CompiledModule(network, names)


def export(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    """The model in ONNX as it behaves in inference, with an open batch size where it allows that.

    Raises:
        UnsupportedError: PyTorch cannot export it.
    """
    # The export traces a batch of one as a constant, so that such an example is doubled.
    wide = tuple(torch.cat([x, x]) if x.dim() and x.shape[0] == 1 else x for x in inputs)
    try:
        return export_fixed(module, wide, tuple({0: torch.export.Dim.AUTO} if x.dim() else None for x in inputs))
    except UnsupportedError:
        return export_fixed(module, inputs)


def export_fixed(module: nn.Module, inputs: tuple[torch.Tensor, ...], open_sizes: Any = None) -> onnx.ModelProto:
    """The model in ONNX as it behaves in inference, for the shapes of its inputs.

    Args:
        module: the model.
        inputs: examples.
        open_sizes: for each input the axes that may have another size, as `torch.export` takes them.

    Raises:
        UnsupportedError: PyTorch cannot export it.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        program = torch.onnx.export(module, inputs, dynamo=True, dynamic_shapes=open_sizes, verbose=False)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(
            f"PyTorch cannot export this model: {first}",
            need="a model that torch.onnx.export takes",
            at=type(module).__name__,
        ) from error
    finally:
        for part in training:
            part.training = True
    _check_divisors(program.exported_program, type(module).__name__)
    return program.model_proto


def _check_divisors(program: torch.export.ExportedProgram, at: str) -> None:
    """Refuse a mean over windows with a divisor of its own, which PyTorch leaves out when it exports to ONNX."""
    for node in program.graph.nodes:
        if not str(node.target).startswith(("aten.avg_pool2d", "aten.avg_pool3d")):
            continue
        divisor = node.kwargs.get("divisor_override", node.args[6] if len(node.args) > 6 else None)
        if divisor is not None:
            raise UnsupportedError(
                f"avg_pool with divisor_override={divisor}, which PyTorch leaves out when it exports to ONNX",
                need="the size of the window as the divisor",
                fix="avg_pool without it, times the size of the window over the divisor",
                at=at,
            )
