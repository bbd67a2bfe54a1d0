# `make dev` and `make test` need git, make, and Python 3.11 or newer with pip and venv; no root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 3
# What an image has: all but the embedded servers.
RUN_EXTRAS := --extra cli --extra nats --extra redis --extra postgres --extra http --extra external --extra notify --extra otel --extra expressions --extra rrule --extra sqlalchemy --extra speed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

# Everything at the versions and hashes of requirements.lock, the build backend included. uv, which
# the lock file has, too, takes a third of pip's time; where it reaches no index, pip may: it has
# settings of its own.
$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Horae needs Python 3.11 or newer; say which: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: venv
venv: $(VENV)/ready ## Make .venv with everything.

.PHONY: dev
dev: venv ## Run the engine with embedded NATS and Valkey, and the example application.
	$(BIN)/horae dev examples.desk.app:app

# Bytecode is kept, whatever the environment says: the tests start hundreds of processes. The files
# are handed out in the order in which they are collected, the slow ones first.
.PHONY: test
test: export PYTHONDONTWRITEBYTECODE :=
test: venv ## Run what CI runs: linters, types, layers, all tests with coverage.
	$(MAKE) --jobs=2 check collected
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered --junitxml=build/tests.xml
	$(BIN)/coverage report --include="*/horae_domain/*" --fail-under=100 --format=total

# Once before, so that the workers need not rewrite the tests' assertions side by side.
.PHONY: collected
collected: venv
	$(BIN)/python -m pytest --collect-only --quiet --quiet

.PHONY: check
check: venv ## Run linters, types and layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test-quick
test-quick: venv ## Run the tests that are not slow, without servers of PostgreSQL.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not postgres"

.PHONY: interop
interop: venv ## Let a program in JavaScript do work over NATS (needs node and npm).
	cd tests/interop && npm ci --silent
	$(BIN)/python scripts/interop.py

.PHONY: crontabs
crontabs: venv ## Import, compute and run the crontabs of Debian's packages (downloads them).
	$(BIN)/python tests/oracles/debian_crontabs.py

.PHONY: faults
faults: venv ## Kill processes and servers at random instants, and check that nothing is lost.
	$(BIN)/python -m tests.faults

.PHONY: model
model: venv ## Play ten thousand histories against the reference model of a schedule, and as many of sagas.
	HORAE_HISTORIES=10000 $(BIN)/python -m pytest -q -n $(WORKERS) tests/model --timeout=7200

.PHONY: bench
bench: venv ## Measure speed and size.
	$(BIN)/python -m benchmarks

.PHONY: mutants
mutants: venv ## Change the domain's code in small ways, and see whether a test notices.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutation.lock
	$(BIN)/python tests/mutation/run.py

.PHONY: docs
docs: venv ## Write the references of the command line and of the settings anew.
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/settings_reference.py

.PHONY: lock
lock: venv ## Resolve the dependencies anew into requirements.lock, requirements-run.lock (images) and requirements-mutation.lock.
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --all-extras --group dev --generate-hashes --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 $(RUN_EXTRAS) --generate-hashes --no-header -c requirements.lock pyproject.toml -o requirements-run.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --group mutation --generate-hashes --no-header -c requirements.lock -o requirements-mutation.lock

.PHONY: build
build: venv ## Build wheel and sdist, install each into a fresh environment, import it.
	$(BIN)/python scripts/build.py
