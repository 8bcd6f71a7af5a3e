"""One line of text for every problem: the same grammar in tests, benchmarks, errors, reports and on the command line.

::

    depthwise n1 ic64 oc64 ih112 iw112 kh3 kw3 sh1 sw1 dh1 dw1 pt1 pb1 pl1 pr1 g64
    transposed ic64 oc32 kh4 kw4 sh2 sw2 dh1 dw1 pt1 pb1 pl1 pr1 g1
    chain n1 ih56 iw56 > depthwise ic32 oc32 ... g32 > relu > shuffle g4 > pointwise ic32 oc64 ...

The first word is the structural label of the layer (:attr:`Conv.label`). Then key and integer: batch ``n``, channels
``ic oc``, and for each axis (``d`` depth, ``h`` height, ``w`` width) input size ``i``, kernel ``k``, stride ``s``,
dilation ``d`` and output padding ``a``; padding ``pf pk`` (front, back), ``pt pb`` (top, bottom), ``pl pr`` (left,
right); groups ``g``. Words: ``flip``, ``same_upper``, ``same_lower``, ``reflect``, ``replicate``, ``circular``. Batch
and sizes may be left out; strides, dilations and groups default to 1 and paddings to 0 when read. Everything after
``#`` is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from omniconv.choices import check_instance
from omniconv.errors import ShapeError, SpecError
from omniconv.integers import LIMIT, as_integers
from omniconv.spec.activation import FORMULAS, Activation
from omniconv.spec.arguments import SAME, Shape
from omniconv.spec.chain import Chain, ChainStep, Spec, Split
from omniconv.spec.conv import PADDING_MODES, Conv
from omniconv.spec.rearrange import RESIZE_MODES, PixelShuffle, Resize, Shuffle

AXES: Final = "dhw"
PADS: Final = {"d": ("pf", "pk"), "h": ("pt", "pb"), "w": ("pl", "pr")}
LABELS: Final = frozenset(
    "convolution pointwise pointwise_grouped grouped depthwise dilated transposed depthwise_transposed".split()
)
_TOKEN: Final = re.compile(r"([a-z]+)(-?[0-9]{1,18})")


def _axis_letters(dims: int) -> str:
    return AXES[-dims:]


def _format_shape(shape: Sequence[int] | None, letters: str) -> list[str]:
    if shape is None:
        return []
    shape = as_integers("shape", shape, None, None, error=ShapeError, need="(N, C, *spatial)")
    return [*(f"n{size}" for size in shape[:1]), *(f"i{a}{size}" for a, size in zip(letters, shape[2:], strict=False))]


def format_conv(spec: Conv, shape: Sequence[int] | None = None) -> str:
    """Write a `Conv`, with its input shape when given."""
    letters = _axis_letters(spec.dims)
    sizes = _format_shape(shape, letters)
    words = [spec.label, *sizes[:1], f"ic{spec.in_channels}", f"oc{spec.out_channels}", *sizes[1:]]
    for key, values in (("k", spec.kernel_size), ("s", spec.stride), ("d", spec.dilation)):
        words += [f"{key}{a}{v}" for a, v in zip(letters, values, strict=True)]
    if isinstance(spec.padding, str):
        words.append(spec.padding)
    else:
        for a, pair in zip(letters, spec.padding, strict=True):
            words += [f"{key}{v}" for key, v in zip(PADS[a], pair, strict=True)]
    if any(spec.output_padding):
        words += [f"a{a}{v}" for a, v in zip(letters, spec.output_padding, strict=True)]
    words.append(f"g{spec.groups}")
    if spec.flip:
        words.append("flip")
    if spec.padding_mode != "zeros":
        words.append(spec.padding_mode)
    return " ".join(words)


def _format_step(step: ChainStep) -> str:
    match step:
        case Conv():
            return format_conv(step)
        case Split():
            return "split " + " + ".join(format_conv(branch) for branch in step.branches)
        case Shuffle():
            return f"shuffle g{step.groups}"
        case PixelShuffle():
            return f"pixel_shuffle f{step.factor}"
        case Resize():
            return f"resize f{step.factor} {step.mode}"
        case Activation():
            return " ".join([step.name, *(f"{key}={value!r}" for key, value in step.parameters)])


def format_chain(chain: Chain, shape: Sequence[int] | None = None) -> str:
    """Write a `Chain`, with its input shape when given."""
    head = ["chain"]
    if shape is not None:
        convs = [step for step in chain.steps if isinstance(step, Conv | Split)]
        dims = (convs[0] if isinstance(convs[0], Conv) else convs[0].branches[0]).dims
        head += _format_shape(shape, _axis_letters(dims))
    return " > ".join([" ".join(head), *map(_format_step, chain.steps)])


def _parse_keys(words: Sequence[str], line: str) -> dict[str, int]:
    values: dict[str, int] = {}
    for word in words:
        token = _TOKEN.fullmatch(word)
        if token is None:
            raise SpecError(f"word {word!r} is not part of the grammar", need="key and integer, e.g. kh3", at=line)
        if token[1] in values:
            raise SpecError(f"key {token[1]!r} is given twice", need="each key once", at=line)
        values[token[1]] = int(token[2])
    return values


def _check_keys(values: dict[str, int], known: set[str], line: str) -> None:
    unknown = sorted(set(values) - known)
    if unknown:
        raise SpecError(f"unknown keys {', '.join(unknown)}", need="keys of " + " ".join(sorted(known)), at=line)


def _parse_layer(text: str, line: str) -> Conv:
    """A convolution inside a chain, whose sizes stand in the head of the line."""
    spec, values = _parse_conv(text, line)
    sizes = [key for key in ("n", *(f"i{a}" for a in _axis_letters(spec.dims))) if key in values]
    if sizes:
        raise SpecError(f"{' '.join(sizes)} inside a chain", need="sizes after the word chain", at=line)
    return spec


def _parse_conv(text: str, line: str) -> tuple[Conv, dict[str, int]]:
    words = text.split()
    if not words or words[0] not in LABELS:
        raise SpecError(
            f"problem line begins with {words[0] if words else 'nothing'!r}",
            need="one of " + ", ".join(sorted(LABELS)),
            at=line,
        )
    flags = {word for word in words[1:] if word in {"flip", *SAME, *PADDING_MODES}}
    values = _parse_keys([word for word in words[1:] if word not in flags], line)
    axes = "".join(a for a in AXES if f"k{a}" in values)
    if not axes or axes not in ("w", "hw", "dhw"):
        raise SpecError("kernel sizes are missing", need="kw, or kh kw, or kd kh kw", at=line)
    missing = [key for key in ("ic", "oc") if key not in values]
    if missing:
        raise SpecError(f"{' and '.join(missing)} missing", need="ic and oc", at=line)
    known = {"n", "ic", "oc", "g", *(f"{k}{a}" for k in "iksda" for a in axes), *(p for a in axes for p in PADS[a])}
    _check_keys(values, known, line)
    same = flags & set(SAME)
    modes = flags & set(PADDING_MODES)
    if len(same) > 1 or len(modes) > 1:
        raise SpecError("contradicting words " + " and ".join(sorted(same | modes)), need="one of them", at=line)

    def each(key: str) -> Shape:
        return tuple(values.get(f"{key}{a}", 1 if key in "ksd" else 0) for a in axes)

    try:
        spec = Conv.of(
            values["ic"],
            values["oc"],
            each("k"),
            dims=len(axes),
            stride=each("s"),
            dilation=each("d"),
            padding=same.pop() if same else [tuple(values.get(p, 0) for p in PADS[a]) for a in axes],
            groups=values.get("g", 1),
            transposed=words[0] in ("transposed", "depthwise_transposed"),
            output_padding=each("a"),
            flip="flip" in flags,
            padding_mode=modes.pop() if modes else "zeros",
        )
    except SpecError as error:
        raise SpecError(error.problem, need=error.need, fix=error.fix, at=line) from None
    if spec.label != words[0]:
        raise SpecError(f"label {words[0]!r} does not describe the layer", need=repr(spec.label), at=line)
    return spec, values


def _shape(values: dict[str, int], channels: int, dims: int, line: str) -> Shape | None:
    keys = ["n", *(f"i{a}" for a in _axis_letters(dims))]
    given = [key for key in keys[1:] if key in values]
    if not given:
        return None
    if len(given) < dims:
        raise SpecError(f"only {' '.join(given)} given", need=" ".join(keys[1:]) + ", or none of them", at=line)
    for key in keys:
        if not 1 <= values.get(key, 1) <= LIMIT:
            raise SpecError(f"{key}={values[key]} is out of range", need=f"integers from 1 to {LIMIT}", at=line)
    return (values.get("n", 1), channels, *(values[key] for key in keys[1:]))


def _parse_step(text: str, line: str) -> ChainStep:
    words = text.split()
    match words:
        case ["split", *rest]:
            return Split(tuple(_parse_layer(branch, line) for branch in " ".join(rest).split(" + ")))
        case ["shuffle", word] if re.fullmatch(r"g\d+", word):
            return Shuffle(int(word[1:]))
        case ["pixel_shuffle", word] if re.fullmatch(r"f\d+", word):
            return PixelShuffle(int(word[1:]))
        case ["resize", word, mode] if re.fullmatch(r"f\d+", word) and mode in RESIZE_MODES:
            return Resize(int(word[1:]), mode)
        case [name, *parameters] if name in FORMULAS:
            try:
                pairs = {key: float(value) for key, value in (p.split("=", 1) for p in parameters)}
            except ValueError:
                raise SpecError(f"step {text!r} is not readable", need="name key=number ...", at=line) from None
            if len(pairs) < len(parameters) or not set(pairs) <= set(FORMULAS[name][1]):
                raise SpecError(
                    f"step {text!r} is not readable",
                    need=f"some of {tuple(FORMULAS[name][1])}, each once" if FORMULAS[name][1] else "no parameters",
                    at=line,
                )
            return Activation.of(name, **pairs)
        case _:
            return _parse_layer(text, line)


def parse(line: str) -> tuple[Spec, Shape | None]:
    """Read one problem line.

    Example:
        >>> spec, shape = parse("pointwise n1 ic64 oc256 ih56 iw56 kh1 kw1  # ResNet-50, layer 1")
        >>> spec.weight_shape, shape
        ((256, 64, 1, 1), (1, 64, 56, 56))

    Returns:
        The spec and the input shape, ``None`` where the line gives no sizes.

    Raises:
        SpecError: a line outside the grammar or a layer that breaks a rule; the message ends with the line.
    """
    check_instance("line", line, str, need="a problem line", fix='"pointwise ic64 oc256 kh1 kw1"')
    line = line.split("#", 1)[0].strip()
    if line.split()[:1] != ["chain"]:
        spec, values = _parse_conv(line, line)
        return spec, _shape(values, spec.in_channels, spec.dims, line)
    head, *steps = (part.strip() for part in line.split(">"))
    values = _parse_keys(head.split()[1:], line)
    try:
        chain = Chain(tuple(_parse_step(step, line) for step in steps))
    except SpecError as error:
        raise SpecError(error.problem, need=error.need, fix=error.fix, at=line) from None
    _check_keys(values, {"n", *(f"i{a}" for a in _axis_letters(chain.dims))}, line)
    return chain, _shape(values, chain.in_channels, chain.dims, line)
