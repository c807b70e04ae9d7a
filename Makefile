# Two commands: `make serve` and `make test`. Both make .venv first where it is missing or old.

VENV   := .venv
BIN    := $(VENV)/bin
SOURCE := app bench model tests tools
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --no-input -c constraints.txt

# The first Python of these that is new enough, and can make environments; `make PYTHON=…` decides.
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
            $$p -c '$(ENOUGH)' 2>/dev/null && { echo $$p; exit; }; done; echo python3)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test check coverage check-full gpu check-format lint types format sheets train-setup clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# HOST and PORT only where they are given: the defaults, 127.0.0.1:8000, are app/settings.py's.
serve: $(VENV)/.serve ## Serve the models of model/checkpoints on HOST:PORT (127.0.0.1:8000)
	@exec $(BIN)/tessera serve $(if $(HOST),--host '$(HOST)') $(if $(PORT),--port '$(PORT)')

test: $(VENV)/.dev ## Run the tests, JOBS files at a time (2); ARGS='-k seed' goes to pytest
	$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile $(ARGS)

check: check-format lint types test ## Format, lint, types, tests

# Of the API process, its workers and the commands that tests start; the floor is in pyproject.toml.
coverage: $(VENV)/.dev ## Run the tests and report which lines they ran
	$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile --cov --cov-report=term:skip-covered $(ARGS)

check-full: ## The same with the full counts of every test
	TESSERA_TEST_FULL=1 PYTEST_TIMEOUT=3600 $(MAKE) check

# Exit status 2 where there is no GPU, so that it is never taken for a pass. The report is
# REPORT/gpu-NAME.md; ARGS='--images 64' goes to bench/gpu.py.
gpu: $(VENV)/.dev ## Test and measure this machine's GPU; the report goes to REPORT (out/)
	$(BIN)/python -m bench.gpu -o '$(or $(REPORT),out)' $(ARGS)

check-format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

SHEET := 'red apple' 'fox' 'cactus' 'hot beverage' 'sunflower' 'guitar' 'grinning face' 'penguin'
MODELS := $(notdir $(wildcard model/checkpoints/*))

sheets: $(VENV)/.serve ## Draw docs/pictures/MODEL.png with each of the models that ship
	for model in $(MODELS); do \
	  for name in $(SHEET); do set -- "$$@" "$$name, fluent 3d style"; done; \
	  for name in $(SHEET); do set -- "$$@" "$$name, noto style"; done; \
	  $(BIN)/tessera sheet --overwrite --model $$model --seed 7 -o docs/pictures/$$model.png "$$@" || exit; \
	  set --; \
	done

train-setup: $(VENV)/.train ## Install what `tessera train` needs besides

clean: ## Remove builds and caches (not .venv)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
	find $(SOURCE) -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for what serving needs, and for what training and the tests need besides; those hold
# the ones before.
$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[diffusers]'
	@touch $@

$(VENV)/.train: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[diffusers,train]'
	@touch $@ $(VENV)/.serve

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.serve $(VENV)/.train

$(BIN)/python:
	$(if $(shell $(PYTHON) -c '$(ENOUGH)' 2>/dev/null && echo yes),,\
	  $(error Tessera needs Python 3.11 or newer; $(PYTHON) is $(or $(shell $(PYTHON) -V 2>&1),missing). Name one: make PYTHON=/path/to/python3))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && echo yes),,\
	  $(error $(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv))
	$(PYTHON) -m venv $(VENV)
