"""From a layer or a chain, with its weights, to a `Program`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from omniconv.limits import check_memory
from omniconv.program.element import FLOAT32, Element
from omniconv.program.program import Program
from omniconv.program.sampling import TABLE_BYTES, Sampling, count_taps, plan_axis
from omniconv.program.steps import Array, ChannelStep, ConcatStep, ConvStep, MapStep, PostOp, RearrangeStep, ResizeStep
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shape, Shuffle, Spec, Split


def program_of(
    spec: Spec, shape: Sequence[int], weights: Sequence[tuple[Array, Array | None]], element: Element = FLOAT32
) -> Program:
    """The program of a spec for inputs of ``shape``; ``weights`` is one checked pair for each convolution.

    Activations that follow a convolution become its epilogue.

    Raises:
        ShapeError: an input that the spec does not take.
    """
    chain = spec if isinstance(spec, Chain) else Chain((spec,))
    shapes = (spec.check_input(shape), spec.output_shape(shape)) if isinstance(spec, Conv) else chain.shapes(shape)
    program = Program(inputs=("x",), shapes={"x": shapes[0]}, element=element)
    remaining = iter(weights)
    current = "x"
    index = 0
    while index < len(chain.steps):
        step = chain.steps[index]
        name, label = f"v{index}", f"step {index}"
        posts: tuple[PostOp, ...] = ()
        if isinstance(step, Conv | Activation):
            first = index if isinstance(step, Activation) else index + 1
            last = first
            while last < len(chain.steps) and isinstance(chain.steps[last], Activation):
                last += 1
            posts = tuple(
                PostOp("act", activation=act) for act in chain.steps[first:last] if isinstance(act, Activation)
            )
            index = last - 1
        current = _add(program, step, current, name, label, posts, shapes[index + 1], remaining)
        index += 1
    program.outputs = (current,)
    return program


def _add(
    program: Program,
    step: object,
    x: str,
    y: str,
    label: str,
    posts: tuple[PostOp, ...],
    shape: Shape,
    weights: object,
) -> str:
    source = program.shapes[x]
    match step:
        case Conv():
            w, b = next(weights)  # type: ignore[call-overload]
            return program.add(ConvStep(x, y, step.resolve(source), w, b, posts), shape, label)
        case Activation():
            return program.add(MapStep(x, y, posts), shape, label)
        case Shuffle():
            return program.add(ChannelStep(x, y, step.source(source[1])), shape, label)
        case PixelShuffle():
            return program.add(_pixel_shuffle(step, x, y, source), shape, label)
        case Resize():
            return program.add(plan_resize(step, x, y, source), shape, label)
        case Split():
            parts = []
            for number, (branch, inputs, outputs) in enumerate(step.slices()):
                part = program.add(
                    ChannelStep(x, f"{y}_in{number}", tuple(range(inputs.start, inputs.stop))),
                    (source[0], branch.in_channels, *source[2:]),
                    label,
                )
                w, b = next(weights)  # type: ignore[call-overload]
                conv = ConvStep(part, f"{y}_out{number}", branch.resolve(program.shapes[part]), w, b)
                parts.append(program.add(conv, (shape[0], outputs.stop - outputs.start, *shape[2:]), label))
            return program.add(ConcatStep(tuple(parts), y), shape, label)
    raise AssertionError(step)


def _pixel_shuffle(step: PixelShuffle, x: str, y: str, shape: Shape) -> RearrangeStep:
    dims, factor = len(shape) - 2, step.factor
    channels = shape[1] // factor**dims
    split = (shape[0], channels, *(factor,) * dims, *shape[2:])
    spatial = [axis for pair in product(range(dims), (1, 0)) for axis in [2 + pair[0] + (dims if pair[1] else 0)]]
    return RearrangeStep(x, y, split, (0, 1, *spatial))


def plan_resize(step: Resize, x: str, y: str, shape: Shape) -> ResizeStep:
    """Index and weight tables of a `Resize`.

    Raises:
        LimitError: tables that would not fit into memory.
    """
    how = Sampling(step.mode, "asymmetric" if step.mode == "nearest" else "half_pixel")
    taps = count_taps(how, step.factor)[1]
    check_memory(TABLE_BYTES * taps * step.factor * sum(shape[2:]), "the tables of a resize", at=repr(step))
    tables = [plan_axis(how, size, size * step.factor) for size in shape[2:]]
    return ResizeStep(x, y, tuple(index for index, _ in tables), tuple(weight for _, weight in tables))
