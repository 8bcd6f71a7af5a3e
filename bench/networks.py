"""The networks that people have: every family of timm and torchvision, and recognisers of text; built, drawn, fed.

A family is a module of its library, such as ``vision_transformer`` or ``torchvision.segmentation.fcn``; ``text.crnn``
and its like are those of :mod:`recognisers`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch

from recognisers import RECOGNISERS

TORCHVISION: Final = "torchvision."
TEXT: Final = "text."
LEAST_SCORE: Final = 0.012
"""Of a box that counts, where random weights make none of 91 classes much likelier than the others."""
CHUNK: Final = 32
"""Regions that are aligned at once."""
_LIBRARIES: Final[list[Any]] = []
"""Libraries of operators, each of which takes its operators along when it goes."""


@cache
def import_torchvision() -> Any:
    """The library; where its binary part does not load, the operators that its detectors need are plain PyTorch."""
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        _LIBRARIES.append(library)
        boxes = "Tensor dets, Tensor scores, float iou_threshold"
        library.define(f"qnms({boxes}) -> Tensor")
        library.define(f"nms({boxes}) -> Tensor")
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor"
        )
        import torchvision

        _define_operators(library)
    return torchvision


def _has_operators() -> bool:
    """In place of torchvision's own; TorchScript reads it."""
    return True


def _check_operators() -> None:
    """In place of torchvision's own; TorchScript reads it."""


def _define_operators(library: Any) -> None:
    """Give ``nms`` and ``roi_align`` of torchvision an implementation, and say that they are there."""
    import sys

    align: Any = sys.modules["torchvision.ops.roi_align"]
    written = align._roi_align.__wrapped__  # noqa: SLF001 - the only one that is not binary

    def roi_align(x: Any, rois: Any, scale: float, height: int, width: int, ratio: int, aligned: bool) -> Any:
        parts = [written(x, part, scale, height, width, ratio, aligned) for part in rois.split(CHUNK)]
        return torch.cat(parts) if parts else x.new_empty((0, x.shape[1], height, width))

    def shape_of_regions(x: Any, rois: Any, _scale: float, height: int, width: int, _ratio: int, _aligned: bool) -> Any:
        return x.new_empty((rois.shape[0], x.shape[1], height, width))

    def nms(boxes: Any, scores: Any, threshold: float) -> Any:
        order = scores.argsort(descending=True, stable=True)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        kept = []
        while len(order):
            best, order = order[0], order[1:]
            kept.append(best)
            low = torch.maximum(boxes[best, :2], boxes[order, :2])
            high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
            shared = (high - low).clamp(min=0).prod(1)
            order = order[~(shared / (areas[best] + areas[order] - shared) > threshold)]
        return torch.stack(kept) if kept else scores.new_empty(0, dtype=torch.int64)

    library.impl("nms", nms, "CPU")
    library.impl("roi_align", roi_align, "CPU")
    library.impl("roi_align", shape_of_regions, "Meta")
    for name in ("torchvision.ops.roi_align", "torchvision.ops.boxes"):
        module: Any = sys.modules[name]
        module._has_ops, module._assert_has_ops = _has_operators, _check_operators  # noqa: SLF001


@cache
def find_families() -> dict[str, list[str]]:
    """Every family, a module, with the names of its models."""
    torchvision = import_torchvision()
    import timm

    families = {
        module: [name for name in timm.list_models(module=module) if not name.startswith("test_")]
        for module in timm.list_modules()
    }
    for name in torchvision.models.list_models():
        module = torchvision.models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        if not module.startswith("quantization"):
            families.setdefault(TORCHVISION + module, []).append(name)
    families |= {TEXT + name: [name] for name in RECOGNISERS}
    return {module: names for module, names in families.items() if names}


def build(module: str, name: str) -> Any:
    """A model without trained weights, as it is at inference."""
    if module.startswith(TEXT):
        return RECOGNISERS[name]().eval()
    torchvision = import_torchvision()
    import timm

    if module.startswith(TORCHVISION):
        given: dict[str, Any] = {}
        if "segmentation" in module or "detection" in module:
            given["weights_backbone"] = None
        if module.endswith("rcnn"):
            given["box_score_thresh"] = LEAST_SCORE
        return torchvision.models.get_model(name, weights=None, **given).eval()
    return timm.create_model(name, pretrained=False).eval()


def find_smallest(module: str, names: list[str]) -> str:
    """The variant with the fewest parameters, counted without memory for them."""
    sizes: dict[str, int] = {}
    for name in names:
        try:
            with torch.device("meta"):
                sizes[name] = sum(item.numel() for item in build(module, name).parameters())
        except Exception:  # noqa: BLE001, S112 - what cannot be built without data is no candidate
            continue
    return min(sizes, key=lambda name: sizes[name]) if sizes else names[0]


def make_inputs(module: str, model: Any) -> list[Any]:
    """Inputs of the size that the model is made for; of a detector, an image between 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    count = 1
    shape: tuple[int, ...] = (1, 3, 224, 224)
    if module.startswith(TEXT):
        shape = (1, 1, 32, 256)
    elif "video" in module:
        shape = (1, 3, 8, 112, 112) if "resnet" in module else (1, 3, 16, 224, 224)
    elif "optical_flow" in module:
        count, shape = 2, (1, 3, 128, 128)
    elif module == "torchvision.inception":
        shape = (1, 3, 299, 299)
    elif "detection" in module:
        return [torch.rand(shape, generator=generator)]
    elif hasattr(model, "default_cfg"):
        shape = (1, *model.default_cfg["input_size"])
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def give(module: str, inputs: list[Any]) -> tuple[Any, ...]:
    """The arguments of a model: a detector takes a list of images."""
    return ([inputs[0][0]],) if "detection" in module else tuple(inputs)


def draw_weights(model: Any) -> None:
    """Random weights and statistics, well scaled, the same on every machine.

    A bias that begins far below zero, as that of a detector whose boxes mostly hold nothing, stays there.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, item in [*model.named_parameters(), *model.named_buffers()]:
            if not item.is_floating_point():
                continue
            last = name.rsplit(".", 1)[-1]
            if last == "running_mean" or (last == "bias" and item.ndim == 1):
                kept = float(item.mean()) if last == "bias" and float(item.mean()) < -1 else 0.0
                item.normal_(kept, 0.1, generator=generator)
            elif last == "running_var" or (item.ndim <= 1 and isinstance(item, torch.nn.Parameter)):
                item.uniform_(0.5, 1.5, generator=generator)
            elif last.startswith(("weight", "in_proj_weight")) or item.ndim in (4, 5):
                if isinstance(item, torch.nn.Parameter):
                    fan = max(1, item[0].numel())
                    item.normal_(0, fan**-0.5, generator=generator)
            elif isinstance(item, torch.nn.Parameter):
                item.normal_(0, 0.5, generator=generator)


def flatten(value: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in flatten(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in flatten(item)]
    return [value]
