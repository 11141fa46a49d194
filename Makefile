# Two environments, each made once and again only when what it holds changes:
#   .venv-demo   the runtime as a user installs it, without torch
#   .venv        everything, editable, for development
PYTHON  ?= python3
WORKERS ?= 2

DEMO := .venv-demo
DEV  := .venv

MYPY_PATHS := glia export/glia_export runtime/glia_runtime benchmarks/glia_bench tests docs/make_cli.py docs/make_benchmarks.py docs/make_demo.py images/make.py

# A slow or shaky network should cost time, not the build.
export PIP_RETRIES := 10
export PIP_DEFAULT_TIMEOUT := 60
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo dev test lint format docs clean check-python

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO)/.installed ## score the photographs in images/ with the bundled model (installs the runtime only)
	$(DEMO)/bin/glia-infer images/*.jpg

dev: $(DEV)/.installed ## make the environment of a contributor: every package and tool, editable, in .venv
	@echo "ready; type: . $(DEV)/bin/activate"

test: lint ## everything a change has to pass: lint, then every test
	OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_FLAGS)

lint: $(DEV)/.installed ## ruff, mypy strict, import contracts
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy $(MYPY_PATHS)
	$(DEV)/bin/lint-imports

format: $(DEV)/.installed ## let ruff rewrite what it can
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

docs: $(DEV)/.installed ## rewrite what is generated: docs/cli.md, docs/benchmarks.md and the table in README.md
	$(DEV)/bin/python docs/make_cli.py
	$(DEV)/bin/python docs/make_benchmarks.py
	$(DEV)/bin/python docs/make_demo.py

clean: ## remove the environments, caches and builds
	rm -rf $(DEMO) $(DEV) build dist .mypy_cache .ruff_cache runtime/.ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-python:
	@command -v $(PYTHON) >/dev/null || { echo "glia needs Python 3.10 or newer; '$(PYTHON)' was not found: set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "glia needs Python 3.10 or newer; '$(PYTHON)' is older: set PYTHON=python3.12, for instance" >&2; exit 1; }

# Not editable: the demonstration runs what a wheel holds, so it is installed anew when a source changes.
$(DEMO)/.installed: pyproject.toml $(shell find runtime/glia_runtime -type f -not -path '*/__pycache__/*') | check-python
	@echo "installing the runtime into $(DEMO) (about 0.4 GB)"
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO) || { rm -rf $(DEMO); exit 1; }
	@$(DEMO)/bin/python -m pip install --quiet '.[cpu]'
	@touch $@

$(DEV)/.installed: pyproject.toml | check-python
	@echo "installing everything into $(DEV) (about 6 GB with torch; minutes)"
	@test -x $(DEV)/bin/python || $(PYTHON) -m venv $(DEV) || { rm -rf $(DEV); exit 1; }
	@$(DEV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@
