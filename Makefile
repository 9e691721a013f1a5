# fedsign. Every target works from a fresh checkout with Python 3.11 to 3.13 and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := fedsign scripts tests

.PHONY: setup run test lint bench tables clean

setup: $(VENV)/installed  ## create .venv and install fedsign into it

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing fedsign into $(VENV) (torch takes a few minutes)"
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) --editable '.[test,joblib,slurm]'
	@touch $@

run: $(VENV)/installed  ## the main job: three methods on real data, a table and a plot
	$(BIN)/fedsign -m +experiment=quickstart

test: $(VENV)/installed-test  ## the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

lint: $(VENV)/installed-test  ## style and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

bench: $(VENV)/installed  ## speed of a round beside a plain loop
	$(BIN)/python scripts/bench.py

tables: $(VENV)/installed  ## every table and figure under results/, from the finished runs under outputs/
	$(BIN)/fedsign-report --all

clean:  ## everything but the runs under outputs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
