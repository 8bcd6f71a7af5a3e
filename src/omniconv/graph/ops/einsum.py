"""Einsum of any number of values and constants: sums, transposes and products of matrices.

``y[out] = sum over labels not in out of the product of all operands``. Operands are joined from the left: labels that
nothing behind needs are summed, shared labels that are still needed are batches of a product, shared labels that are
not are its inner axis, and where nothing is summed the operands are multiplied element by element.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError, ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import MAX_RANK, Budget
from omniconv.graph.nodes import AnyArray, Node, shorten
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops.arithmetic import combine
from omniconv.graph.ops.gather import pick
from omniconv.graph.ops.matmul import matmul
from omniconv.program.steps import ReduceStep
from omniconv.records import dataclass
from omniconv.spec import Shape

Labels = tuple[str, ...]
"""One name for each axis: a letter, or the place of an axis of the ellipsis counted from its end."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A value with a label for each axis, no label twice."""

    value: Ref
    labels: Labels

    def size(self, label: str) -> int:
        """Of the axis of a label; 1 where there is none."""
        return self.value.shape[self.labels.index(label)] if label in self.labels else 1


def _read_labels(text: str, rank: int | None, equation: str) -> list[str]:
    """The labels of one operand of ``rank`` axes; of the result with ``None``, whose ellipsis stays one label."""
    letters, dots = text.replace("...", ".", 1), text.count("...")
    plain = letters.replace(".", "", 1)
    if not all(c.isascii() and c.isalpha() for c in plain) or dots > 1 or (not dots and "." in text):
        raise ModelError(f"equation={shorten(equation)!r}", need="letters and at most one ellipsis for each operand")
    if rank is None:
        return list(letters)
    wide = rank - len(plain)
    if wide < 0 or (wide and not dots) or rank > MAX_RANK:
        raise ShapeError(f"{shorten(text)!r} for an operand of {rank} axes", need="a label for each axis")
    before = letters.index(".") if dots else 0
    return [*letters[:before], *(f".{axis}" for axis in range(wide, 0, -1)), *letters[before + dots :]]


def _parse(node: Node, shapes: Sequence[Shape]) -> tuple[list[list[str]], Labels]:
    """The labels of each operand and of the result."""
    equation = node.text("equation")
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(shapes):
        problem = f"equation={shorten(equation)!r} for {len(shapes)} operands"
        raise ModelError(problem, need="a term for each operand")
    terms = [_read_labels(text, len(shape), equation) for text, shape in zip(texts, shapes, strict=True)]
    counts = Counter(label for term in terms for label in term)
    dots = sorted((label for label in counts if label[0] == "."), key=lambda label: -int(label[1:]))
    if arrow:
        wanted = [label for item in _read_labels(right, None, equation) for label in (dots if item == "." else [item])]
    else:
        wanted = [*dots, *sorted(label for label, count in counts.items() if label[0] != "." and count == 1)]
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set(counts) or len(wanted) > MAX_RANK:
        raise ModelError(f"equation={shorten(equation)!r}", need="labels of operands in the result, each once")
    return terms, tuple(wanted)


def _sizes(terms: Sequence[Sequence[str]], shapes: Sequence[Shape]) -> dict[str, int]:
    """The size of each label; an axis of size 1 is repeated."""
    sizes: dict[str, int] = {}
    for labels, shape in zip(terms, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            known = sizes.setdefault(label, size)
            if size != known and 1 not in (size, known):
                raise ShapeError(f"label {label!r} is {known} and {size}", need="one size for each label")
            sizes[label] = known if size == 1 else size
    return sizes


def _take_diagonal(x: Ref, labels: Sequence[str], build: Builder) -> _Term:
    """A term with each label once: of a label twice, the entries with equal indices."""
    single = tuple(dict.fromkeys(labels))
    if len(single) == len(labels):
        return _Term(x, single)
    shape = tuple(max(s for s, other in zip(x.shape, labels, strict=True) if other == label) for label in single)
    build.budget.check(shape, 64, "the indices of a diagonal")
    places = np.indices(shape, np.int64, sparse=True)
    source = np.zeros(shape, np.int64)
    for label, size in zip(labels, x.shape, strict=True):
        source = source * size + (places[single.index(label)] if size > 1 else 0)
    return _Term(
        build.value(pick(x, 1, source.reshape(-1), shape, build, y=build.fresh("diagonal")), "the diagonal"), single
    )


def _arrange(term: _Term, labels: Sequence[str], shape: Shape, build: Builder) -> Ref:
    """The term with its axes in the order of ``labels`` (all that it has), read as ``shape``."""
    order = [term.labels.index(label) for label in labels if label in term.labels]
    return build.rearrange(term.value, shape, perm=order, y=build.fresh("arranged"))


def _sum_out(term: _Term, needed: set[str], build: Builder) -> _Term:
    """The term summed over the labels that are not needed; axes of size 1 among them just go."""
    lost = [label for label in term.labels if label not in needed]
    if not lost:
        return term
    kept = tuple(label for label in term.labels if label in needed)
    shape, total = tuple(map(term.size, kept)), math.prod(map(term.size, lost))
    if total == 1:
        return _Term(build.rearrange(term.value, shape, y=build.fresh("kept")), kept)
    flat = (1, math.prod(shape), total)
    moved = _arrange(term, (*kept, *lost), flat, build)
    summed = build.add(ReduceStep(moved.name, build.fresh("sum"), "sum"), flat[:2])
    return _Term(build.rearrange(summed, shape, y=build.fresh("kept")), kept)


def _join(a: _Term, b: _Term, needed: set[str], build: Builder) -> _Term:
    """Two terms as one, of the labels that are needed."""
    shared = set(a.labels) & set(b.labels)
    a, b = _sum_out(a, needed | shared, build), _sum_out(b, needed | shared, build)
    # Along an axis of size 1 a term is repeated, as it is along one that it lacks.
    a, b = (_sum_out(t, {x for x in t.labels if t.size(x) > 1 or o.size(x) == 1}, build) for t, o in ((a, b), (b, a)))
    shared = {label for label in set(a.labels) & set(b.labels) if a.size(label) == b.size(label)}
    inner = [label for label in a.labels if label in shared and label not in needed]
    a, b = _sum_out(a, needed | shared, build), _sum_out(b, needed | shared, build)
    batch = [label for label in a.labels if label in shared and label in needed]
    rows, columns = ([label for label in term.labels if label not in shared] for term in (a, b))
    if not inner:
        labels = (*batch, *rows, *columns)
        left, right = (_arrange(term, labels, tuple(term.size(label) for label in labels), build) for term in (a, b))
        return _Term(combine(left, right, "mul", build, y=build.fresh("product")), labels)
    n, k = (math.prod(map(a.size, labels)) for labels in (batch, inner))
    m, p = math.prod(map(a.size, rows)), math.prod(map(b.size, columns))
    left = _arrange(a, (*batch, *rows, *inner), (n, m, k) if batch else (m, k), build)
    right = _arrange(b, (*batch, *inner, *columns), (n, k, p) if batch else (k, p), build)
    product = build.value(matmul(left, right, build, y=build.fresh("product")), "the product")
    labels = (*batch, *rows, *columns)
    shape = tuple(max(a.size(label), b.size(label)) for label in labels)
    return _Term(build.rearrange(product, shape, y=build.fresh("joined")), labels)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    shapes = [shape_of(item, "an input") for item in inputs]
    terms, wanted = _parse(node, shapes)
    sizes = _sizes(terms, shapes)
    values = [build.value(item, "an input") for item in inputs]
    rest = [_take_diagonal(value, labels, build) for value, labels in zip(values, terms, strict=True)]
    total = rest.pop(0)
    while rest:
        needed = {*wanted, *(label for term in rest[1:] for label in term.labels)}
        total = _join(total, rest.pop(0), needed, build)
    total = _sum_out(total, set(wanted), build)
    shape = tuple(map(total.size, wanted))
    result = _arrange(total, wanted, shape, build)
    full = tuple(sizes[label] for label in wanted)
    return result if shape == full else build.map(result, shape=full)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    given = [as_constant(item, "an input") for item in arrays]
    shapes = [tuple(item.shape) for item in given]
    terms, wanted = _parse(node, shapes)
    sizes = _sizes(terms, shapes)
    if math.prod(sizes.values()) > 1 << 34:
        raise ModelError("Einsum of large constants", need="constants folded before loading")
    budget.take([sizes[label] for label in wanted], given[0].dtype.itemsize, "a constant")
    numbers = {label: place for place, label in enumerate(sizes)}
    items = [item for array, term in zip(given, terms, strict=True) for item in (array, [numbers[x] for x in term])]
    return np.asarray(np.einsum(*items, [numbers[label] for label in wanted]))


register("Einsum", lower=_lower, fold=_fold, since=12)
