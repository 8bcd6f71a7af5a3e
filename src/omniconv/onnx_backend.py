"""Omniconv as a backend in the shape of `onnx.backend.base`: for code, and suites of tests, that speak that interface.

The module itself is a backend, as ``onnxruntime.backend`` is; `OmniconvBackend` is the class, which inherits from that
of onnx where it is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from omniconv.errors import DataError
from omniconv.ort.failures import InvalidArgument, NotImplemented, fail  # noqa: A004 - the name of the interface
from omniconv.ort.options import SessionOptions
from omniconv.ort.session import InferenceSession

if TYPE_CHECKING:
    import onnx

try:
    from onnx.backend.base import Backend, BackendRep
except ImportError:
    Backend = BackendRep = object

DEVICE: Final = "CPU"


class OmniconvBackendRep(BackendRep):  # type: ignore[misc]
    """A prepared model. `run` may be called from several threads at once.

    Args:
        session: that runs it.
    """

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: Any, **further: Any) -> tuple[Any, ...]:
        """Run on arrays in the order of the model's inputs, by name, or on the only one.

        Returns:
            The outputs; by number, and by name.

        Raises:
            InvalidArgument: another number of inputs, or whatever does not fit.
        """
        names = [item.name for item in self.session.get_inputs()]
        if isinstance(inputs, Mapping):
            feed = dict(inputs)
        else:
            given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
            if len(given) != len(names):
                raise fail(InvalidArgument, f"{len(given)} inputs were given", need=f"{len(names)}, for {names}")
            feed = dict(zip(names, given, strict=True))
        arrays = {
            name: np.asarray(value) if isinstance(value, np.generic) else value
            for name, value in feed.items()
            if value is not None
        }
        return _by_name([item.name for item in self.session.get_outputs()], self.session.run(None, arrays, **further))


class OmniconvBackend(Backend):  # type: ignore[misc]
    """Prepares and runs models.

    Example:
        >>> import onnx
        >>> x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])
        >>> y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])
        >>> graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
        >>> model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        >>> prepared = OmniconvBackend.prepare(model)
        >>> prepared.run([np.float32([-1, 0, 2])])["y"]
        array([0., 0., 2.], dtype=float32)
    """

    @classmethod
    def supports_device(cls, device: Any) -> bool:
        """Whether it is the CPU."""
        return isinstance(device, str) and device.partition(":")[0] == DEVICE

    @classmethod
    def is_compatible(cls, model: Any, device: str = DEVICE, **further: Any) -> bool:
        """Whether a model can be prepared. It is prepared to know."""
        try:
            cls.prepare(model, device, **further)
        except (InvalidArgument, NotImplemented):
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = DEVICE, **options: Any) -> OmniconvBackendRep:
        """Make a model ready to run.

        Args:
            model: an ``onnx.ModelProto``, bytes, a path, a session, or what this returned.
            device: the CPU.
            options: attributes of `omniconv.ort.SessionOptions`.

        Raises:
            NotImplemented: another device, or an operator that is not covered.
            InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, RuntimeException: see `InferenceSession`.
        """
        if not cls.supports_device(device):
            raise fail(NotImplemented, f"device {device!r}", need=repr(DEVICE))
        if isinstance(model, OmniconvBackendRep):
            return model
        if type(model) is InferenceSession:
            return OmniconvBackendRep(model)
        settings = SessionOptions()
        for name, value in options.items():
            if name.startswith("_") or not hasattr(settings, name) or callable(getattr(settings, name)):
                raise fail(InvalidArgument, f"option {name!r} is unknown", need="an attribute of SessionOptions")
            setattr(settings, name, value)
        source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        return OmniconvBackendRep(InferenceSession(source, settings))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = DEVICE, **options: Any) -> tuple[Any, ...]:
        """Prepare and run a model once."""
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = DEVICE,
        outputs_info: Sequence[tuple[Any, Any]] | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        """Run one node.

        Args:
            node: the node.
            inputs: arrays for its inputs, those that it leaves out excepted.
            device: the CPU.
            outputs_info: type and shape of each output; default: what ONNX's rule for the operator finds.
            options: ``opset_version``, by default the newest; the rest as for :meth:`prepare`.
        """
        version = options.pop("opset_version", None)
        return cls.run_model(_wrap(node, inputs, outputs_info, version), inputs, device, **options)


def _wrap(
    node: onnx.NodeProto, inputs: Any, outputs_info: Sequence[tuple[Any, Any]] | None, version: int | None
) -> onnx.ModelProto:
    """A model of one node."""
    import onnx

    from omniconv.graph import NEWEST_OPSET

    if not hasattr(node, "op_type"):
        raise DataError(f"node is a {type(node).__name__}", need="an onnx.NodeProto")
    given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    names = list(dict.fromkeys(name for name in node.input if name))
    if len(given) != len(names):
        raise fail(InvalidArgument, f"{len(given)} inputs were given", need=f"{len(names)}, for {names}")
    number = onnx.helper.np_dtype_to_tensor_dtype
    entering = [
        onnx.helper.make_tensor_value_info(name, number(np.asarray(value).dtype), np.shape(value))
        for name, value in zip(names, given, strict=True)
    ]
    produced = [name for name in node.output if name]
    infos: list[tuple[int | None, Any]] = [(None, None)] * len(produced)
    if outputs_info is not None:
        infos = [(number(np.dtype(dtype)), shape) for dtype, shape in outputs_info]
    leaving = []
    for name, (dtype, shape) in zip(produced, infos, strict=True):
        leaving.append(
            onnx.ValueInfoProto(name=name) if dtype is None else onnx.helper.make_tensor_value_info(name, dtype, shape)
        )
    graph = onnx.helper.make_graph([node], "node", entering, leaving)
    opsets = [onnx.helper.make_opsetid(node.domain, version or NEWEST_OPSET)]
    if node.domain:
        opsets.append(onnx.helper.make_opsetid("", NEWEST_OPSET))
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    try:
        return model if outputs_info is not None else onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        problem = f"ONNX's rule for {node.op_type} refuses the inputs: {error}"
        raise fail(InvalidArgument, problem, need="inputs that fit, or outputs_info") from error


def _by_name(names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """Outputs that are asked for by number and by name."""
    from onnx.backend.base import namedtupledict

    found: tuple[Any, ...] = namedtupledict("Outputs", names)(*values)
    return found


is_compatible = OmniconvBackend.is_compatible
prepare = OmniconvBackend.prepare
run = run_model = OmniconvBackend.run_model
run_node = OmniconvBackend.run_node
supports_device = OmniconvBackend.supports_device
