# The commands of the project. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Processes beside each other with one thread each; a file's tests stay together, as they share what its fixtures make.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup study pretrain ui ui-stop check format test test-fast test-services test-kills audit bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## install everything into .venv; nothing happens when it is up to date

# The project's own files are on the path already (commands run from here), so only its dependencies matter.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

study: setup  ## run the whole study (dvc repro), watched by Prefect, and print its table
	@$(BIN)/python -m flows.study

pretrain: setup  ## make the weights in data/pretrained again, two models at a time (JOBS=4: four)
	@$(MAKE) --jobs=$(or $(JOBS),2) $(addprefix pretrain-,$(shell $(BIN)/python -c \
	  'from pipeline.params import load_params; print(*load_params().pretraining.strategies)'))

pretrain-%: setup
	@$(BIN)/python -m flows.pretrain --model $*

ui: setup  ## start Prefect, MLflow and a worker in the background; the study can be started from the Prefect UI then
	@$(BIN)/python -m flows.ui start

ui-stop: setup  ## stop them
	@$(BIN)/python -m flows.ui stop

check: setup  ## style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup  ## all tests, in two processes (JOBS=4: four)
	$(PYTEST)

test-fast: setup  ## the tests that take under a minute together
	$(PYTEST) -m "not slow"

test-services: setup  ## the tests against real servers: MLflow over SQLite, PostgreSQL and S3, webhooks, a new environment
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[services]'
	SERVICES=1 $(BIN)/python -m pytest tests/services

test-kills: setup  ## a study killed at 20 seeded moments, a publication cut off after each write (KILLS_SEED=1: others)
	KILLS=$(or $(KILLS),20) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/test_kills.py tests/test_publishing_cut.py

audit: setup  ## known vulnerabilities of the pinned versions; needs pypi.org
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

bench: setup  ## our speed beside that of our peers (11 minutes on 2 idle cores); writes benchmarks/RESULTS.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

clean:  ## remove all that the study made (not .venv, not the DVC cache)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m flows.ui stop; fi
	rm -rf data/raw data/prepared data/audit data/models data/heatmaps data/scores data/report .resume .durations .runs .prefect .servers mlflow.db* mlartifacts
