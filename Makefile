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
OLDEST_VENV := .venv-oldest
OLDEST_PYTHON ?= python3.11
FIFTYONE_VENV := .venv-fiftyone
MEDIGAN_VENV := .venv-medigan
OLDEST_INSTALL := $(OLDEST_VENV)/bin/uv pip install --quiet --python $(OLDEST_VENV)/bin/python
# A photograph folder of your own for `make demo DATA=path`; empty = the built-in show only.
DATA ?=

# What `make quick` runs: the parts that everything else rests on, and the whole chain on phantoms.
QUICK := codec losses joint_unet pipeline manifest splits benchmark_metrics
QUICK_CHAIN := tests/test_chain.py::test_phantom_pairs
# What `make test-oldest` runs besides.
OLDEST := adapter api cli config guidance masks objective prepare prompts segmentation train

.DEFAULT_GOAL := help
.PHONY: help install demo docs test test-oldest test-fiftyone test-medigan suite quick lint style types check clean

help:
	@echo "make install          the package in $(VENV)"
	@echo "make demo             install, draw and judge image-mask pairs, write demo/report.html"
	@echo "make demo DATA=path   the same, and on your own folder of photographs"
	@echo "make test             install with the test tools; ruff, mypy, import-linter and every test"
	@echo "make quick            under 90 s: codec, losses, joint UNet, pipeline, manifest, splits, metrics, one chain on phantoms"
	@echo "make test-oldest      the core's tests against the oldest releases that pyproject.toml allows, in $(OLDEST_VENV)"
	@echo "make test-fiftyone    an export opened by FiftyOne, in $(FIFTYONE_VENV); it brings a database, or FIFTYONE_DATABASE_URI names one"
	@echo "make test-medigan     a package of the bundled adapter run by medigan, in $(MEDIGAN_VENV)"
	@echo "make docs             these pages and a reference of the Python names as a site, in build/docs"
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

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.installed
	@$(PIP_INSTALL) -e '.[docs]'
	@touch $@

install: $(VENV)/.installed

docs: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "build/docs/index.html"

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
	@$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder $(QUICK_CHAIN) $(QUICK:%=tests/test_%.py)

# The oldest releases that pyproject.toml allows, in an environment of their own. They were made for Python 3.11.
$(OLDEST_VENV)/.installed: pyproject.toml
	@"$(OLDEST_PYTHON)" -m venv $(OLDEST_VENV)
	@$(OLDEST_VENV)/bin/python -m pip --disable-pip-version-check --no-input install --quiet uv
	@$(OLDEST_INSTALL) --resolution lowest-direct -e '.[bench,scale]'
	@$(OLDEST_INSTALL) 'pytest>=8.3' 'pytest-cov>=6.0' 'pytest-randomly>=5.1' 'pytest-timeout>=2.3' 'pytest-xdist>=3.6' \
		'hypothesis>=6.120' 'open_clip_torch>=2.24'
	@touch $@

# Old releases warn of Python and of each other: warnings are no errors here. Three tests still fail: datasets 4.0 does
# not read rows without a mask, and the pipeline in half precision differs from float32 (two).
test-oldest: $(OLDEST_VENV)/.installed
	@env -u PYTHONDONTWRITEBYTECODE $(OLDEST_VENV)/bin/python -m pytest -W default $(PARALLEL) $(QUICK_CHAIN) \
		$(QUICK:%=tests/test_%.py) $(OLDEST:%=tests/test_%.py)

# FiftyOne needs older releases of Starlette and OpenCV than our page and our tests: it has an environment of its own.
# Where it cannot install its MongoDB, FIFTYONE_DATABASE_URI names one that runs, e.g. mongodb://127.0.0.1:27017.
$(FIFTYONE_VENV)/.installed: | $(BIN)/python
	@$(BIN)/python -m venv $(FIFTYONE_VENV)
	@$(FIFTYONE_VENV)/bin/python -m pip --disable-pip-version-check --no-input install --quiet 'fiftyone>=1.0'
	@touch $@

test-fiftyone: $(FIFTYONE_VENV)/.installed $(VENV)/.installed-dev
	@rm -rf build/fiftyone && mkdir -p build/fiftyone
	@cd tests && ../$(BIN)/python -c 'from pathlib import Path; from exchange_data import write_exchange_data; \
		write_exchange_data(Path("../build/fiftyone/data"))'
	@$(BIN)/skindualgen export-data build/fiftyone/data build/fiftyone/export --format fiftyone
	@FIFTYONE_DO_NOT_TRACK=1 $(FIFTYONE_VENV)/bin/python tests/opened_by_fiftyone.py build/fiftyone/export

# medigan imports pkg_resources, which setuptools has no more; its check of dependencies wants setuptools to be new.
$(MEDIGAN_VENV)/.installed: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m venv $(MEDIGAN_VENV)
	@$(MEDIGAN_VENV)/bin/python -m pip --disable-pip-version-check --no-input install --quiet -e . medigan==1.0.0 \
		'setuptools>=77.0.3,<81'
	@touch $@

test-medigan: $(MEDIGAN_VENV)/.installed
	@rm -rf build/medigan && mkdir -p build/medigan/run
	@$(MEDIGAN_VENV)/bin/python -m skindualgen export --format medigan --out build/medigan/skindualgen_package
	@cd build/medigan/run && ../../../$(MEDIGAN_VENV)/bin/python ../../../tests/run_by_medigan.py ../skindualgen_package

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
	@rm -rf $(VENV) $(OLDEST_VENV) $(FIFTYONE_VENV) $(MEDIGAN_VENV) demo build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	@find src tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
