# `make` alone prints what there is. Everything it installs goes to .venv, except the Debian packages
# that the tests need (see scripts/debian-packages).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CAPTURES ?=
ARGS ?=
# Most tests wait for a live run to go on; a test that measures none of its own time may share the machine.
PARALLEL ?= -n 4 --dist worksteal

# Where a stamp is newer than pyproject.toml, nothing is done again.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help setup demo run check lint types format test test-full chaos clean
.DELETE_ON_ERROR:

help: ## Print this help
	@echo "ingestd: live video from a browser to recordings, HLS and RTMPS"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  ARGS=\"…\" is handed on by demo, run, test and chaos; PYTHON=… chooses the interpreter (3.11 or newer)."

setup: $(RUNTIME) ## Make .venv with ingestd, its libraries and, where the system has none, an FFmpeg

demo: $(RUNTIME) ## Publish a test card to a daemon here and show what comes out, until Ctrl-C
	@$(BIN)/ingestd demo $(ARGS)

run: $(RUNTIME) ## Run the daemon with ./ingestd.toml
	@$(BIN)/ingestd run $(ARGS)

check: lint types test ## Lint, types and tests: what CI runs

lint: $(DEV) ## Ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## mypy, strict, and tsc over what browsers load
	$(BIN)/mypy
	@PYTHON=$(BIN)/python scripts/debian-packages
	tsc

format: $(DEV) ## Let ruff fix and format everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(DEV) ## All tests but the long ones; installs the Debian packages they need when it may
	@PYTHON=$(BIN)/python scripts/debian-packages
	$(BIN)/pytest -m "not full" $(PARALLEL) $(ARGS)

test-full: $(DEV) ## All tests, the long ones included; CAPTURES=DIR adds a folder of recordings
	@PYTHON=$(BIN)/python scripts/debian-packages --full
	CAPTURES="$(CAPTURES)" $(BIN)/pytest $(PARALLEL) $(ARGS)

chaos: $(DEV) ## Inject faults into a live daemon and compare: ARGS="--help" says how; some need root
	@PYTHON=$(BIN)/python scripts/debian-packages
	@$(BIN)/python -m chaos $(ARGS)

clean: ## Remove .venv, caches and build results; recordings (var/) stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup runtime $(VENV)
	@touch $@

$(DEV): $(RUNTIME)
	@scripts/setup dev $(VENV)
	@touch $@
