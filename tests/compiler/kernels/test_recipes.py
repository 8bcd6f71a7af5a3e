"""Recipes have a dozen fields of the same types: none is given by its place."""

import importlib
import inspect
import pkgutil
from dataclasses import fields, is_dataclass

import pytest

from omniconv.compiler import kernels


def _recipes():
    found = set()
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if is_dataclass(kind) and callable(getattr(kind, "emit", None)) and hasattr(kind, "units"):
                found.add(kind)
    return sorted(found, key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("recipe", _recipes(), ids=lambda recipe: recipe.__name__)
def test_recipes_are_given_by_keyword(recipe):
    assert fields(recipe)
    assert [field.name for field in fields(recipe) if not field.kw_only] == []


def test_every_family_and_step_has_its_recipe():
    names = """Copy Interpolation Lane Lrn Map Padding Panel Pool Reduce Series Softmax Staged Stencil WinogradInput
    WinogradOutput"""
    assert {recipe.__name__ for recipe in _recipes()} >= set(names.split())
