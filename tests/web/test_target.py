"""WebAssembly as a target: planned, explained and compiled anywhere, run by engines only."""

from __future__ import annotations

import numpy as np
import pytest
from tests.machines import ZEN_4

import omniconv as oc
from omniconv.compiler.code.build import Source, build_together, compile_assembly, compile_object
from omniconv.compiler.code.cache import ObjectCache
from omniconv.compiler.code.wasm import HEAD
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.errors import UnsupportedError
from omniconv.program.element import FLOAT64
from omniconv.program.from_spec import program_of
from omniconv.target.select import resolve_target
from omniconv.target.wasm import find_targets
from omniconv.web.taps import emit_taps

SPEC, SHAPE = oc.depthwise_separable(8, 12, 3, padding=1, activation="gelu"), (1, 8, 9, 9)
SIMD, RELAXED = find_targets()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["wasm", "wasm-simd", "wasm-relaxed-simd"])
def test_a_layer_is_planned_and_explained_and_refuses_to_run(name, dtype):
    layer = oc.compile(SPEC, SHAPE, oc.random_weights(SPEC, 0), target=name, dtype=dtype)
    assert f"target {'wasm-simd' if name == 'wasm' else name} (generic, " in layer.explain()
    assert layer.target.lanes == (4 if dtype == "float32" else 2)
    with pytest.raises(UnsupportedError, match="but it is code for wasm32, and this machine is"):
        layer(np.zeros(SHAPE, dtype))


def test_both_levels_are_those_that_are_found_by_name():
    assert resolve_target("wasm", ZEN_4) == resolve_target("wasm-simd", ZEN_4) == SIMD
    assert resolve_target("wasm-relaxed-simd", ZEN_4) == RELAXED


@pytest.mark.parametrize("element", [SIMD.element, FLOAT64], ids=str)
def test_only_the_relaxed_level_has_relaxed_instructions(element):
    weights = [(w.astype(element.dtype), b.astype(element.dtype)) for w, b in oc.random_weights(SPEC, 0)]
    for target in (SIMD, RELAXED):
        found = ""
        for call in plan(program_of(SPEC, SHAPE, weights, element), target, Options()).calls:
            ir = call.recipe.emit("f", target.of(element))
            assert compile_object(ir, target)[:8] == HEAD
            found += compile_assembly(ir, target)
        letters = "f32x4" if element.bytes == 4 else "f64x2"
        assert (f"{letters}.relaxed_madd" in found) == (target == RELAXED)
        assert f"{letters}.mul" in found


def test_objects_of_several_kernels_come_from_the_cache(tmp_path):
    made = []

    def emit(name):
        made.append(name)
        return emit_taps(name, SIMD)

    main = "define i32 @seven() {\n  ret i32 7\n}"
    kernels, cache = {"a": Source("taps", emit), "b": Source("taps", emit)}, ObjectCache(tmp_path)
    first = build_together(kernels, main, SIMD, cache=cache)
    assert made == ["a", "b"]
    assert build_together(kernels, main, SIMD, cache=cache) == first
    assert made == ["a", "b"]
    assert build_together(kernels, main.replace("7", "8"), SIMD, cache=cache) != first
    assert build_together({"c": kernels["a"]}, main, SIMD, cache=cache) != first
    assert build_together(kernels, main, SIMD, cache=None) == first
