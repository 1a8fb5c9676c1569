# make install | sweep | compare | test | lint | docs | clean; everything stays in this folder, Python packages in .venv

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
SWEEP ?= examples/quickstart.toml

.DEFAULT_GOAL := help
.PHONY: help install sweep compare test lint format docs clean

help:
	@echo "make install   Python environment in $(VENV)"
	@echo "make sweep     run $(SWEEP) (or go on with it), then write report/index.html"
	@echo "make compare   all methods on three tasks (hours; goes on where it stopped), then docs/results/comparison"
	@echo "make test      the tests"
	@echo "make lint      ruff and mypy"
	@echo "make docs      the documentation as a site, in site/"
	@echo "make clean     remove the environment and caches; results stay"

install: $(STAMP)

# torch first and by its pin, so that nothing later picks another build of it
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' constraints.txt)"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

sweep: install
	@status=0; $(BIN)/mcusweep launch $(SWEEP) || status=$$?; \
	if [ $$status -le 1 ]; then $(BIN)/mcusweep best && echo "report: $$($(BIN)/mcusweep report)"; fi; exit $$status

compare: install
	$(PIP) install --quiet --constraint constraints.txt --editable '.[motion]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/comparison/comparison.py

test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
