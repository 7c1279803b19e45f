# Everything from a fresh clone, on Debian or Ubuntu with python3, pip and venv:
#
#   make demo        one photograph down and up again; IMAGE=FILE takes your own
#   make test        lint, types and tests, a few minutes
#   make test-full   the same with the slow tests
#   make lint        lint and types alone
#   make clean       remove what these targets made
#
# Nothing is installed outside .venv. PYTHON picks the interpreter, JOBS the number of test processes.

PYTHON ?= python3
TORCH ?= torch==2.13.0
# PyTorch's own index has a build without the CUDA libraries, gigabytes smaller; PyPI's serves where it is not reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= $(shell nproc)
IMAGE ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
METADATA := setup.py pyproject.toml bdflow_rt/_version.py

.NOTPARALLEL:
.PHONY: help demo test test-full lint clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.stamp-demo
	@$(PY) -m bdflow_rt.bench.demo $(if $(IMAGE),'$(IMAGE)')

# Training forks worker processes, and has its own run: forking out of a process that has loaded every engine's thread
# pools was seen to crash it.
test: lint
	@$(PY) -m pytest -q -n $(JOBS) -m 'not slow' tests/training
	@$(PY) -m pytest -q -n $(JOBS) -m 'not slow' --ignore tests/training

test-full: lint
	@$(PY) -m pytest -q -n $(JOBS) tests/training
	@$(PY) -m pytest -q -n $(JOBS) --ignore tests/training

lint: $(VENV)/.stamp-test
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check .
	@$(PY) -m mypy --no-error-summary

clean:
	rm -rf $(VENV) build dist demo-out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# An interrupted or incomplete .venv (Debian without python3-venv leaves one that lacks pip) is made anew.
$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "make: Python 3.10 or newer is needed, and '$(PYTHON)' is not. Say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: '$(PYTHON)' cannot make a virtual environment. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-venv $(METADATA)
	@echo "Installing bdflow-rt into $(VENV): about 200 MB to download the first time."
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-demo
	@echo "Installing what the tests need into $(VENV): PyTorch and more, a few minutes the first time."
	@index=; if $(PY) -c "from urllib.request import urlopen; urlopen('$(TORCH_INDEX)/torch/', timeout=5)" 2>/dev/null; \
	    then index='--extra-index-url $(TORCH_INDEX)'; fi; $(PIP) $$index '$(TORCH)' -e '.[dev]'
	@touch $@
