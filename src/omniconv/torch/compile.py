"""`compile`: a whole PyTorch model, through ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omniconv.api import compile as compile_model
from omniconv.choices import check_instance
from omniconv.errors import DataError, UnsupportedError
from omniconv.integers import read_sequence

if TYPE_CHECKING:
    from omniconv.runtime.executable import Executable
    from omniconv.runtime.mixed import MixedExecutable
    from omniconv.runtime.network import Network


def compile(  # noqa: A001 - named after what it calls
    module: nn.Module, example_inputs: torch.Tensor | Sequence[torch.Tensor], **options: Any
) -> Executable | MixedExecutable | Network:
    """Compile a PyTorch model for the shapes of its example inputs.

    The model is exported with ``torch.onnx.export(dynamo=True)``, as it behaves in inference, and read by
    :func:`omniconv.compile`.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        >>> x = torch.ones(1, 3, 6, 6)
        >>> f = compile(model, x, threads=1)
        >>> bool(torch.allclose(torch.from_dlpack(f(x)), model.eval()(x), atol=1e-5))
        True

    Args:
        module: any model whose operators Omniconv supports.
        example_inputs: a tensor, or one for each input of ``module.forward``; only shapes and types matter.
        options: of :func:`omniconv.compile`: threads, layout, target ...

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
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        exported = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
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
    return compile_model(exported.model_proto, **options)
