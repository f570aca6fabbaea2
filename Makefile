# Everything a person or a CI machine types. `make drill` and `make test` need Linux, git, make and Python >= 3.11, nothing else.
.PHONY: help drill test contract crash bench docs lint format clean
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready-drill
READY_DEV := $(VENV)/.ready-dev
# The first of these that is 3.11 or newer; override with `make PYTHON=/path/to/python3 ...`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$p" && break; done)
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# What is passed on to tox, e.g. `make test TOX="-e py311"`.
TOX ?=
# What is passed on to pytest, e.g. `make crash PYTEST="-k pause"`.
PYTEST ?=

help:
	@echo 'make drill   run the first drill: PostgreSQL on micro-hosts loses the power of its primary'
	@echo 'make test    everything that CI runs (tox); DRILL_REQUIRE=embedded,docker makes skips of those failures'
	@echo 'make contract  the whole conformance suite, every example of every fault in every place (an hour)'
	@echo 'make crash   the whole crash matrix: every fault, moment, death and place (hours)'
	@echo 'make bench   measure the figures that the project promises'
	@echo 'make lint    ruff and mypy;  make format  ruff format'
	@echo 'make docs    make docs/faults.md from the code'
	@echo 'make clean   remove .venv, .tox, caches and .gameday'

drill: $(READY)
	@$(VENV)/bin/gameday run --env embedded suites/failover/test_postgres_power_loss.py

test: $(READY_DEV)
	@$(VENV)/bin/tox run $(TOX)

contract: $(READY_DEV)
	@CONTRACT=all $(VENV)/bin/pytest tests/contract $(PYTEST)

crash: $(READY_DEV)
	@CRASH=all $(VENV)/bin/pytest tests/crash/test_crash_matrix.py tests/crash/test_engine_restart.py $(PYTEST)

bench: $(READY_DEV)
	@$(PY) -m bench

docs: $(READY_DEV)
	@$(PY) -m chaos.faults.describe > docs/faults.md

lint: $(READY_DEV)
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

format: $(READY_DEV)
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

clean:
	@rm -rf $(VENV) .tox .pytest_cache .mypy_cache .ruff_cache .gameday build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the virtual environment ----------------------------------------------------------------------------------------------------

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
		echo 'gameday: no Python 3.11 or newer was found; install one (Debian, Ubuntu: apt install python3 python3-venv) or say make PYTHON=/path/to/python3' >&2; exit 1; fi
	@if ! "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then \
		version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "gameday: $(PYTHON) has no venv or pip; Debian, Ubuntu: apt install python$$version-venv; Fedora, Alpine: install python3-pip" >&2; exit 1; fi
	@echo "gameday: making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(READY): pyproject.toml | $(PY)
	@echo 'gameday: installing what the embedded drill needs (a minute on a slow network)'
	@$(PIP) install --editable '.[postgres]'
	@touch $@

$(READY_DEV): pyproject.toml | $(PY)
	@echo 'gameday: installing what the tests need (a minute or two on a slow network)'
	@$(PIP) install --editable '.[postgres,docker,patroni,webstack,load,ansible,test,dev]'
	@touch $@ $(READY)
