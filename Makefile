# Every target sets up what it needs: a virtual environment in .venv with the tested set of constraints.txt.
# The set-up runs once, and again when pyproject.toml or constraints.txt change. Works with GNU make 3.81 (macOS).

PYTHON ?= python3
# Arguments for the program that a target runs: make test ARGS="tests/catalog -k year", make demo ARGS="--seed 1"
ARGS ?=
# A further package index for torch, e.g. the CPU builds (PyPI's Linux builds of torch bring 2 GB of CUDA libraries)
TORCH_INDEX ?=
VLLM_CONSTRAINTS ?= constraints-vllm.txt

PY := .venv/bin/python
INSTALLED := .venv/installed.stamp
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench resolve-vllm clean

help: ## List the targets and their variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12   the Python (3.11 or newer) that .venv is made from"
	@echo "  ARGS='...'          arguments for the program that demo, test or bench runs"
	@echo "  TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	@echo "                      on Linux without a GPU: install torch's small CPU build instead of 2 GB of CUDA libraries"

demo: $(INSTALLED) ## Train on the bundled data and show what each stage gained (ten to sixteen minutes)
	$(PY) -m recipes.demo $(ARGS)

# torch is held to one thread in each worker: on two cores, two workers with two threads each took four times as long.
test: lint ## Lint, then run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 $(ARGS)

lint: $(INSTALLED) ## Check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(INSTALLED) ## Rewrite the files in the project's format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(INSTALLED) ## Measure what is meant to be fast
	$(PY) -m benchmarks $(ARGS)

# fast-deps: read the metadata out of a wheel where the index does not serve it, and never download the wheel.
resolve-vllm: $(INSTALLED) ## Check that rankrl[train,vllm] can be installed with its constraints (Linux; metadata only)
	@$(PIP_INSTALL) --dry-run --ignore-installed --use-feature=fast-deps --report .venv/resolve-vllm.json \
		-c $(VLLM_CONSTRAINTS) ".[train,vllm]" > .venv/resolve-vllm.log 2>&1 || { tail -20 .venv/resolve-vllm.log; exit 1; }
	@echo "rankrl[train,vllm] can be installed; .venv/resolve-vllm.json lists what would be."

clean: ## Remove the environment, builds and caches; keeps runs/
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so that an interrupted set-up is done again.
OLD_PYTHON := rankrl needs Python 3.11 or newer. Name yours: make demo PYTHON=python3.12
$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) was not found; $(OLD_PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); $(OLD_PYTHON)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) --quiet -c constraints.txt --upgrade pip
	$(PIP_INSTALL) -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e ".[dev]"
	@touch $@
