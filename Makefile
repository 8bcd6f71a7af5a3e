# Every target sets up .venv first, when it is missing or older than pyproject.toml. Needed beforehand: Python 3.11 or
# newer with pip, and make. No compiler.
#
#   make demo    the page demo            (installs the light `demo` packages only)
#   make test    all tests                (adds PyTorch and the test tools)
#   make test-wide   again for every further instruction set and number of threads, and more cases; test-all: both
#   make lint    style, types, imports
#   make bench   against the other runtimes that are installed
#   make docs    the documentation in build/docs
#
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." is passed on; JOBS=n sets the number of test processes.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto
ARGS ?=
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3 python

# The first candidate of a sufficient version that can make a complete environment; failing that, one that has pip
# (some systems ship Python without ensurepip).
PYTHON ?= $(shell \
	for need in "ensurepip, venv" "pip, venv"; do for python in $(CANDIDATES); do \
		$$python -c "import sys, $$need; sys.exit(sys.version_info < (3, 11))" 2>/dev/null \
		&& { echo $$python; exit; }; done; done)

# Tests and benchmarks start many processes: without bytecode each would translate the whole package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-wide test-all lint format bench docs clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   make /make /p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer with pip was found; set PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -c "import ensurepip" 2>/dev/null \
		&& $(PYTHON) -m venv --clear $(VENV) \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

# One stamp for each set of packages, so that the demo never downloads what only the tests need.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/omniconv demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not wide" $(ARGS)

test-wide: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m wide $(ARGS) || test $$? -eq 5  # 5: there is none on this machine

test-all: test test-wide

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	$(BIN)/python bench/run.py $(ARGS)

docs: $(VENV)/.docs
	$(BIN)/python docs/build.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
