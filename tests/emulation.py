"""Machines that are not here, run on this one: their kernels, with the instruction in question replaced by what it is.

Layout, packing and corrections of a kernel are then those of the other machine, and only the word for its instruction
is not.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from omniconv.compiler.code import build
from omniconv.target.model import Target
from omniconv.target.select import detect_host, select_target
from omniconv.target.traits import QuadUnit, WordUnits


def emulate_quads(target: Target, patch: pytest.MonkeyPatch) -> Target:
    """A target that writes code as another one does, with its vectors and its products of quads, and runs here: where
    its code is compiled, these products become additions of products that were widened before.
    """
    unit, host = target.traits.quad_sums, detect_host()
    assert unit is not None
    # What else the machine has is written out in operations of any machine.
    traits = replace(target.traits, words=WordUnits(), vector_letter="", pause=select_target("native").traits.pause)
    compile_object = build.compile_object
    patch.setattr(build, "compile_object", lambda ir, of: compile_object(_replace(ir, unit, target.lanes), of))
    patch.setenv("OMNICONV_CACHE", "off")
    features = ",".join(("+" if has else "-") + name for name, has in host.features)
    return replace(target, cpu=host.cpu, features=features, triple=host.triple, traits=traits)


def _replace(ir: str, unit: QuadUnit, lanes: int) -> str:
    """IR in which a function of its own takes the place of an instruction."""
    if unit.name not in ir:
        return ir
    renamed = ir.replace(unit.name, "products_of_quads")
    found, declared = re.subn(r"(?m)^declare [^\n]*products_of_quads[^\n]*$", _define(unit, lanes), renamed)
    assert declared == 1
    return found


def _define(unit: QuadUnit, lanes: int) -> str:
    """What the instruction is: :math:`s_l + \\sum_j a_{4l+j} b_{4l+j}`, of bytes ``a`` that are signed or not."""
    sums, given = f"<{lanes} x i32>", f"<{lanes} x i32>" if unit.packed else f"<{4 * lanes} x i8>"
    lines = [f"define internal {sums} @products_of_quads({sums} %s0, {given} %a, {given} %b) alwaysinline {{"]
    lines += [f"%{name}0 = bitcast {given} %{name} to {sums}" for name in "ab"]
    top = _broadcast(24, lanes)
    for j in range(4):
        for name, down in (("a", "ashr" if unit.signed else "lshr"), ("b", "ashr")):
            lines += [
                f"%{name}.up{j} = shl {sums} %{name}0, {_broadcast(24 - 8 * j, lanes)}",
                f"%{name}.wide{j} = {down} {sums} %{name}.up{j}, {top}",
            ]
        lines += [f"%p{j} = mul {sums} %a.wide{j}, %b.wide{j}", f"%s{j + 1} = add {sums} %s{j}, %p{j}"]
    return "\n".join([*lines, f"ret {sums} %s4", "}"])


def _broadcast(number: int, lanes: int) -> str:
    """A constant in all lanes."""
    return f"<{', '.join([f'i32 {number}'] * lanes)}>"
