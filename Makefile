# make demo | test | lint | docs: each creates .venv when it is missing and installs only what has changed.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo quick test lint types layers docs chromium constraints oldest clean help

help:
	@echo "make demo   train on the shipped data, evaluate, run molecular dynamics and write a report (3 minutes)"
	@echo "make quick  lint, types, layers and the fast tests (a minute and a half)"
	@echo "make test   lint, types, layers and all tests; needs a C++ compiler and Chromium"
	@echo "make lint   ruff, mypy and the import layers"
	@echo "make oldest a part of the tests with the oldest allowed versions of the dependencies"
	@echo "make docs   build the documentation into docs/_build/html, warnings are errors"

demo: $(VENV)/installed
	$(BIN)/carten demo

quick: lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses=$(JOBS) -q

test: lint chromium
	$(BIN)/python -m pytest --require=cpp,chromium,lammps,openmm,ipi --numprocesses=$(JOBS) --dist=loadfile --durations=15

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/installed-dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

# The report is tested in headless Chromium; where it is missing and can be installed, it is.
chromium:
	@if ! { command -v chromium || command -v google-chrome; } >/dev/null || ! command -v chromedriver >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver; \
		else \
			echo "make test needs Chromium and chromedriver on PATH, e.g. sudo apt-get install chromium chromium-driver" >&2; \
			exit 1; \
		fi; \
	fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "carten needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed

# Pin what a fresh environment resolves to; torch keeps its version.
constraints:
	rm -rf $(VENV)-constraints
	$(PYTHON) -m venv $(VENV)-constraints
	grep '^torch==' constraints.txt > $(VENV)-constraints/torch.txt
	$(VENV)-constraints/bin/python -m pip install --constraint $(VENV)-constraints/torch.txt --editable '.[dev]'
	{ echo "# Written by make constraints."; \
	  $(VENV)-constraints/bin/python -m pip freeze --exclude carten | sed 's/+cpu$$//'; } > constraints.txt
	rm -rf $(VENV)-constraints

# With the oldest allowed version of every dependency (torch stays): a part of the tests that uses each of them.
OLDEST := tests/properties/test_io.py tests/data/test_read.py tests/data/test_units.py tests/interfaces/test_ase.py \
	tests/report/test_report.py tests/train/test_checkpoint.py tests/train/test_run.py tests/ops/test_cache.py

oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(PYTHON) scripts/oldest.py > $(VENV)-oldest/constraints.txt
	$(VENV)-oldest/bin/python -m pip install --disable-pip-version-check --quiet \
		--constraint $(VENV)-oldest/constraints.txt --editable . pytest pytest-timeout selenium
	$(VENV)-oldest/bin/python -m pytest $(OLDEST) -k "not lmdb"

clean:
	rm -rf $(VENV)-oldest $(VENV) build dist docs/_build .mypy_cache .pytest_cache .ruff_cache
