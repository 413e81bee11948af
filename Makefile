# The commands of this project. `make demo` and `make test` are all that a fresh machine needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT_FROM := pyproject.toml setup.py sdk/lnsdk/_version.py $(wildcard csrc/*.hpp csrc/python/*)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Tests on recorded images run where those lie beside the checkout, or where LNSDK_DATA says.
ifeq ($(origin LNSDK_DATA),undefined)
ifneq ($(wildcard ../shared/data),)
export LNSDK_DATA := $(abspath ../shared/data)
endif
endif
MARKS := not gpu and not tensorrt
ifndef LNSDK_DATA
MARKS += and not realdata
endif

.PHONY: help demo test test-slow test-cpp test-aarch64 test-baseline sanitize lint check-data bench bench-check clean

# A file whose command failed is no result.
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/runtime  ## install what the runtime needs and run the demo into demo/
	$(BIN)/lnsdk demo -o demo

test: lint test-cpp check-data  ## install what development needs, check style and types, run the tests
	$(BIN)/pytest -m "$(MARKS) and not slow"

test-slow: $(VENV)/development check-data  ## the tests that take longer
	$(BIN)/pytest -m "$(MARKS) and slow"

lint: $(VENV)/development  ## style, types, and the stub of the compiled kernels against the kernels
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml lnsdk._C

test-cpp: build/native/kernels  ## the kernels without Python, on every instruction set of this processor
	build/native/kernels

test-aarch64: build/native/digests build/aarch64/kernels  ## the same on an emulated ARM processor, with the same bits
	qemu-aarch64 build/aarch64/kernels --quick --digests > build/aarch64/digests
	diff build/native/digests build/aarch64/digests

# NumPy asks for as much as this processor has, which ends at SSE4.2: nothing outside the dispatched functions may need AVX.
test-baseline: build/native/digests | has-qemu-x86_64  ## the same on an emulated x86 processor without AVX
	qemu-x86_64 -cpu Nehalem build/native/kernels --quick --digests > build/native/digests-baseline
	diff build/native/digests build/native/digests-baseline

# The package's own files beside a build of lnsdk._C that has the sanitizers on top of the options of setup.py.
sanitize: build/sanitize/kernels $(VENV)/development  ## the kernels, also from Python, under the sanitizers of addresses and of undefined behaviour
	UBSAN_OPTIONS=print_stacktrace=1 build/sanitize/kernels --quick
	@mkdir -p build/sanitize/lnsdk
	@ln -sfn $(filter-out %.so,$(wildcard $(CURDIR)/sdk/lnsdk/*)) build/sanitize/lnsdk/
	CFLAGS="$(SANITIZERS)" LDFLAGS="$(SANITIZERS)" $(BIN)/python setup.py --quiet build_ext \
		--build-temp build/sanitize/temp --build-lib build/sanitize
	$(SANITIZED_PYTHON) $(BIN)/python -c 'from lnsdk import _C; assert "build/sanitize" in _C.__file__, _C.__file__'
	$(SANITIZED_PYTHON) $(BIN)/pytest $(SANITIZED_TESTS)

KERNELS := benchmarks/results/kernels
BENCH = $(BIN)/pytest benchmarks/ops benchmarks/metrics -m "$(MARKS)" --benchmark-quiet

bench: $(VENV)/development check-data  ## time the kernels against what a user would pick instead, and record it in benchmarks/results/kernels
	$(BENCH) --write-results $(KERNELS)

bench-check: $(VENV)/development check-data  ## fail when a kernel got slower, against its peers and limits, than the record says
	$(BENCH) --check-against $(KERNELS)/kernels.json

# ---- tests of the kernels without Python: built in three folders of build/, with the options of setup.py and those below

KERNEL_TESTS := $(sort $(wildcard tests/csrc/*.cpp))
KERNEL_OPTIONS = -std=c++17 $(KERNEL_OPTIMIZATION) -ffp-contract=off -fno-trapping-math -Wall -Wextra -Werror -Icsrc
KERNEL_OPTIMIZATION := -O3
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g

build/native/%: KERNEL_CXX = $(CXX)
build/aarch64/%: KERNEL_CXX = aarch64-linux-gnu-g++ -static
build/sanitize/%: KERNEL_CXX = $(CXX) $(SANITIZERS)
build/sanitize/%: KERNEL_OPTIMIZATION = -O1
$(KERNEL_TESTS:tests/csrc/%.cpp=build/aarch64/%.o): | has-aarch64-linux-gnu-g++ has-qemu-aarch64

define kernel_tests
build/$(1)/kernels: $(KERNEL_TESTS:tests/csrc/%.cpp=build/$(1)/%.o)
	$$(KERNEL_CXX) $$^ -o $$@

build/$(1)/%.o: tests/csrc/%.cpp tests/csrc/check.hpp $(wildcard csrc/*.hpp)
	@mkdir -p $$(@D)
	$$(KERNEL_CXX) $$(KERNEL_OPTIONS) -c $$< -o $$@
endef
$(foreach build,native aarch64 sanitize,$(eval $(call kernel_tests,$(build))))

build/native/digests: build/native/kernels
	build/native/kernels --quick --digests > $@

has-%:
	@command -v $* > /dev/null || { echo "$* is missing; on Debian: apt install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }

# An interpreter that is not built with the sanitizer loads it, and the library whose exceptions it watches, before anything
# else. Leaks are not looked for: Python and the libraries beside lnsdk keep memory until the process ends.
SANITIZED_PYTHON = LD_PRELOAD="$(foreach name,libasan.so libstdc++.so,$(shell $(CXX) -print-file-name=$(name)))" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=build/sanitize
# Tests that run C++: what is written for GPUs is not.
SANITIZED_TESTS := tests/ops tests/metrics tests/test_threads.py --ignore-glob='tests/ops/*cuda*' -m '$(MARKS) and not slow'

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
