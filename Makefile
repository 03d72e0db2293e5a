# Everything runs from `.venv`, which the first target that needs it makes. Nothing is written outside this folder.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --no-compile --quiet --progress-bar off
# pip would compile on one core, and everybody's tests too; of these models and pipelines nearly none is ever imported.
# Files that are no Python 3 make this fail and are no loss.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/(tests?|transformers/models|diffusers/pipelines)/' $(VENV)/lib || true
# The first interpreter on the path that is new enough; `make PYTHON=/path/to/python` overrules.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$name; break; fi; done)
# A photograph folder of your own for `make demo DATA=path`; empty = the built-in show only.
DATA ?=

# What `make quick` runs: the parts that everything else stands on, and the whole chain on phantoms.
QUICK := codec losses joint_unet pipeline manifest splits benchmark_metrics
QUICK_CHAIN := tests/test_chain.py::test_phantom_pairs

.DEFAULT_GOAL := help
.PHONY: help install demo test suite quick lint style types check clean

help:
	@echo "make install          the package in $(VENV)"
	@echo "make demo             install, draw and judge image-mask pairs, write demo/report.html"
	@echo "make demo DATA=path   the same, and on your own folder of photographs"
	@echo "make test             install with the test tools; ruff, mypy, import-linter and every test"
	@echo "make quick            under 90 s: codec, losses, joint UNet, pipeline, manifest, splits, metrics, one chain on phantoms"
	@echo "make lint             ruff, mypy, import-linter"
	@echo "make check            the same as make test: what the continuous integration runs"
	@echo "make clean            remove what these targets made"

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer was found on the path. Install one, or say: make PYTHON=/path/to/python3" >&2; exit 2; fi
	@"$(PYTHON)" -m venv $(VENV)
	@$(PIP_INSTALL) --upgrade pip || echo "pip could not be upgraded: the one of this Python goes on, more slowly."

# A stamp for each set of requirements: a second call does nothing until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing skindualgen into $(VENV) (the first time this fetches PyTorch, which is large) ..."
	@$(PIP_INSTALL) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing skindualgen and its test tools into $(VENV) (the first time this fetches PyTorch, which is large) ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@$(PIP_INSTALL) isic-challenge-scoring==5.6.0 || \
		echo "isic-challenge-scoring could not be installed (it needs a C compiler): the comparison with it will be skipped."
	@$(COMPILE)
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed

demo: install
	@$(BIN)/skindualgen demo --out demo $(if $(DATA),--data "$(DATA)")

# mypy keeps one core busy for a minute: it runs beside the tests. A failure of either fails both.
test: style
	@$(MAKE) --no-print-directory -j 2 types suite

# Files come in the order of tests/conftest.py: long ones first. Commands that tests start may keep their bytecode,
# whatever the environment says: compiling all of it anew takes each of them a second.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

suite: $(VENV)/.installed-dev
	@rm -f .coverage .coverage.*
	@$(PYTEST) --cov $(PARALLEL)

quick: $(VENV)/.installed-dev
	@$(PYTEST) $(PARALLEL) $(QUICK_CHAIN) $(QUICK:%=tests/test_%.py)

lint: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory -j 2 types style

style: $(VENV)/.installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

check: test

clean:
	@rm -rf $(VENV) demo build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	@find src tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
