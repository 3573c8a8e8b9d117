# Everything that is done with this repository. It needs Python 3.11 or newer, make, and nothing else.
# One virtual environment: `run` installs what the platform runs on, `test` adds what its tests need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2
OPA_VERSION := v1.22.2
OPA := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/somaagenthub/opa/$(OPA_VERSION)/opa
OPENFGA_VERSION := v1.22.1
OPENFGA := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/somaagenthub/openfga/$(OPENFGA_VERSION)/openfga

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-7s %s\n", $$1, $$2 }'

.PHONY: setup
setup: $(VENV)/.prepared ## Install what the platform runs on, and fetch its embedded services

.PHONY: run
run: setup ## Run the whole platform here, until Ctrl-C
	@exec $(BIN)/soma up

.PHONY: opa
opa: $(OPA) ## Build the policy engine that its tests talk to (needs Go)

.PHONY: openfga
openfga: $(OPENFGA) ## Build the server of relations that its tests talk to (needs Go)

.PHONY: test
test: $(VENV)/.test $(VENV)/.prepared $(if $(shell command -v go),$(OPA) $(OPENFGA)) browser ## Run the tests (minutes; real Kafka, registry and PostgreSQL)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not faults and not bench"

.PHONY: browser
browser: ## Install the browser that tests of the console use, where apt-get may; without one they are skipped
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } \
	|| echo "There is no chromium: the tests of the console's pages are skipped"

.PHONY: lint
lint: $(VENV)/.test ## Check form, types, imports between rooms, and that generated code is fresh
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/soma schemas generate --check

.PHONY: faults
faults: $(VENV)/.test $(VENV)/.prepared ## Run the tests that kill and freeze processes
	$(BIN)/pytest -m faults

.PHONY: bench
bench: $(VENV)/.test $(VENV)/.prepared ## Measure, and write bench.json
	$(BIN)/python -m tests.bench

.PHONY: lock
lock: ## Compile requirements/*.txt anew from pyproject.toml (UV_FLAGS=--upgrade takes newer versions)
	@echo "Compiling the locks with uv, from an environment that is thrown away"
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch"; "$$scratch/bin/python" -m pip --disable-pip-version-check --quiet install uv; \
	compile() { "$$scratch/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(UV_FLAGS) "$$@"; }; \
	compile pyproject.toml --extra dev --extra model --output-file requirements/test.txt; \
	compile pyproject.toml --constraints requirements/test.txt --output-file requirements/run.txt; \
	echo 'setuptools>=80' | compile - --constraints requirements/test.txt --output-file requirements/build.txt

.PHONY: clean
clean: ## Remove the virtual environment and what tools left (not your data)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(OPA):
	@echo "Building OPA $(OPA_VERSION), which tests of policies talk to (once, about two minutes)"
	@GOBIN=$(@D) go install github.com/open-policy-agent/opa@$(OPA_VERSION)

$(OPENFGA):
	@echo "Building OpenFGA $(OPENFGA_VERSION), which tests of relations talk to (once, about four minutes)"
	@GOBIN=$(@D) go install github.com/openfga/openfga/cmd/openfga@$(OPENFGA_VERSION)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/build.txt requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the platform runs on (each file checked against its hash)"
	@$(PIP) install --require-hashes -r requirements/build.txt -r requirements/run.txt
	@PYTHONWARNINGS='ignore:Editable installation' $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	@echo "Installing what the tests need (each file checked against its hash)"
	@$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/.prepared: ops/embedded/kafka.lock ops/embedded/registry.lock $(VENV)/.run
	@echo "Fetching Kafka and the schema registry, and preparing them for fast starts"
	@$(BIN)/python -m ops.embedded --prepare
	@touch $@
