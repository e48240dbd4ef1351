# make demo, make test: each sets up what it needs and runs. Only Python 3.11+ and make are asked for.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-slow lint types bench eval eval-full clean

demo: $(VENV)/.demo
	$(BIN)/resrank demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy components evals model pipelines training

# Collections: the BEIR folders in RESRANK_DATA (docs/data.md).
eval: $(VENV)/.eval
	$(BIN)/resrank-eval ir --queries 100 --duplicate-ids first

eval-full: $(VENV)/.eval
	$(BIN)/resrank-eval ir --duplicate-ids first --out .resrank/results-full

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("resrank needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing resrank (a few minutes the first time: PyTorch is large) ..."
	$(PIP) --constraint constraints.txt --editable '.[mini]'
	touch $@

$(VENV)/.eval: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing resrank and its evaluation tools (a few minutes the first time: PyTorch is large) ..."
	$(PIP) --constraint constraints.txt --editable '.[mini,evals]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing resrank and its test tools (a few minutes the first time: PyTorch is large) ..."
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
