# The commands of this project. `make demo` and `make test` are all that a fresh machine needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT_FROM := pyproject.toml setup.py sdk/lnsdk/_version.py $(wildcard csrc/*)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Tests on recorded images run where those lie beside the checkout, or where LNSDK_DATA says.
ifeq ($(origin LNSDK_DATA),undefined)
ifneq ($(wildcard ../shared/data),)
export LNSDK_DATA := $(abspath ../shared/data)
endif
endif
MARKS := not gpu
ifndef LNSDK_DATA
MARKS += and not realdata
endif

.PHONY: help demo test test-slow lint check-data bench clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/runtime  ## install what the runtime needs and run the demo into demo/
	$(BIN)/lnsdk demo -o demo

test: lint check-data  ## install what development needs, check style and types, run the tests
	$(BIN)/pytest -m "$(MARKS) and not slow"

test-slow: $(VENV)/development check-data  ## the tests that take longer
	$(BIN)/pytest -m "$(MARKS) and slow"

lint: $(VENV)/development  ## style, types, and the stub of the compiled kernels against the kernels
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml lnsdk._C

bench: $(VENV)/development  ## time the kernels against what a user would pick instead
	$(BIN)/pytest benchmarks --benchmark-columns=min,median,rounds --benchmark-group-by=group --benchmark-sort=name

check-data:
ifndef LNSDK_DATA
	@echo "no recorded images (LNSDK_DATA is not set and ../shared/data does not exist): tests marked realdata are left out"
endif

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lnsdk needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: $(VENV)/bin/python $(BUILT_FROM)
	$(PIP) install --editable .
	@touch $@

$(VENV)/development: $(VENV)/runtime
	$(PIP) install --editable '.[dev,torch,train]'
	@touch $@

clean:  ## remove what was built, installed and written here
	rm -rf $(VENV) build dist demo sdk/lnsdk.egg-info sdk/lnsdk/_C*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
