"""What importing the package loads, and that its names are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import omniconv as oc

HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "llvmlite", "rich", "typer", "platformdirs", "skimage")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "code",
    [
        "import omniconv",
        "import omniconv as oc; oc.kinds(); oc.depthwise(8, 3)",
        "import omniconv as oc; oc.parse('pointwise ic8 oc8 kw1')",
    ],
)
def test_descriptions_load_nothing_heavy(code):
    assert not loaded_after(code) & {*HEAVY, "numpy"}


def test_the_reference_loads_numpy_only():
    loaded = loaded_after("import omniconv as oc; oc.reference")
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


def test_the_check_sees_what_is_loaded():
    assert "rich" in loaded_after("import rich")


def test_every_public_name_is_there():
    for name in oc.__all__:
        assert getattr(oc, name) is not None
    assert set(oc.__all__) <= set(dir(oc))
    assert set(oc.kinds()) <= set(oc.__all__)


def test_names_shared_with_subpackages_are_functions_in_any_order():
    script = (
        "import omniconv.reference, omniconv.kinds, omniconv as oc\n"
        "from omniconv.reference import random_weights\n"
        "assert callable(oc.reference) and callable(oc.kinds) and oc.kinds()\n"
        "assert oc.random_weights is random_weights"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'omniconv' has no attribute 'nothing'"):
        _ = oc.nothing
