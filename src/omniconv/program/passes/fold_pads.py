"""Pass: fold a Pad of the spatial axes into the convolution that reads it.

It must not fire on: padding of the batch or the channels; a constant other than zero; pooling (a mean or maximum treats
padding differently); transposed convolutions (their padding crops); two padding modes that would have to be mixed. The
Pad step stays where something else reads it too.
"""

from __future__ import annotations

from dataclasses import replace

from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import ConvStep, PadStep
from omniconv.spec import Conv
from omniconv.spec.conv import PAD_WORDS

MODES: dict[str, str] = {word: mode for mode, word in PAD_WORDS.items()}


def _merge(spec: Conv, pad: PadStep) -> Conv | None:
    if spec.transposed or isinstance(spec.padding, str) or any(map(any, pad.pads[:2])):
        return None
    inner = pad.pads[2:]
    if pad.mode == "constant":
        if pad.value != 0.0 or spec.padding_mode != "zeros":
            return None
        pairs = tuple((a + c, b + d) for (a, b), (c, d) in zip(spec.padding, inner, strict=True))
        return replace(spec, padding=pairs)
    if any(map(any, spec.padding)):
        return None
    return replace(spec, padding=inner, padding_mode=MODES[pad.mode])


def fold_pads(program: Program) -> Program:
    """Fold pads into convolutions."""
    pads: dict[str, PadStep] = {}
    items: list[Item] = []
    for step, label in with_labels(program):
        if isinstance(step, PadStep):
            pads[step.y] = step
        elif isinstance(step, ConvStep) and step.x in pads:
            pad = pads[step.x]
            spec = _merge(step.spec, pad)
            if spec is not None:
                step = replace(step, x=pad.x, spec=spec)
        items.append((step, label))
    return drop_dead(rebuild(program, items))
