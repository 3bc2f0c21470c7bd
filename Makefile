# A few words run everything. Each target sets up what it needs; nothing but Python >= 3.11 with pip must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := wsesim compiler models examples tests benchmarks
CASES ?= 100000

.PHONY: help demo test check fuzz bench refresh clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/base: pyproject.toml constraints.txt
	@echo "installing into $(VENV), torch among it: a minute or more"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/dev: $(VENV)/base
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/base  ## text and modelled times on a simulated wafer
	$(BIN)/wsesim complete "It was a dark and stormy night" --max-tokens 40

# Tests of a checkout share compiled kernels of their own; what a user runs keeps them in the user's cache.
test check fuzz bench refresh: export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache

test: $(VENV)/dev  ## the test suite (without what is marked slow)
	$(BIN)/pytest -m "not slow" -n auto --dist loadscope

check: $(VENV)/dev  ## lint, format, types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

fuzz: $(VENV)/dev  ## damaged files for every reader, 100,000 (CASES=N): none may fail
	$(BIN)/python -m tests.fuzz --cases $(CASES)

bench: $(VENV)/dev  ## measure wsesim itself, and write docs/performance.md
	$(BIN)/python -m benchmarks

refresh: $(VENV)/dev  ## show which modelled cycles moved, and hold the new ones
	$(BIN)/python -m tests.regression --refresh

clean:
	rm -rf $(VENV) .numba_cache .pytest_cache .mypy_cache .ruff_cache
