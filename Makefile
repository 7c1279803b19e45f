# Everything from a fresh clone, on Debian or Ubuntu with python3, pip and venv:
#
#   make demo        one photograph down and up again; IMAGE=FILE takes your own
#   make test        lint, types, tests and the documentation's site, a few minutes
#   make test-full   the same with the slow tests
#   make lint        lint and types alone
#   make docs        the documentation's site, into build/site
#   make gpu         the tests of tests/gpu and the kernel benchmark, with what an image for CUDA and PyTorch holds
#   make gpu-latency  both directions through PyTorch in half precision: CUDA graphs, eager, torch.compile
#   make gpu-sanitize  the kernels under compute-sanitizer: memcheck, racecheck, initcheck, synccheck
#   make clean       remove what these targets made
#
# Nothing is installed outside .venv. PYTHON picks the interpreter, JOBS the number of test processes.
#
# The GPU targets install nothing and need no network: GPU_PYTHON has CuPy, NumPy, OpenCV, pytest and PyTorch. Results go
# to bench/results/GPU, named after the GPU; GPU=NAME says otherwise.

PYTHON ?= python3
TORCH ?= torch==2.13.0
# PyTorch's own index has a build without the CUDA libraries, gigabytes smaller; PyPI's serves where it is not reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= $(shell nproc)
IMAGE ?=
GPU_PYTHON ?= python3
GPU ?=
SANITIZER ?= compute-sanitizer

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
METADATA := setup.py pyproject.toml bdflow_rt/_version.py

.NOTPARALLEL:
.PHONY: help demo test test-full lint docs clean gpu gpu-latency gpu-named gpu-sanitize gpu-tree

help:
	@sed -n 's/^#   //p' Makefile

# By way of the environment, where quotes in the name of a file mean nothing.
demo: export DEMO_IMAGE = $(value IMAGE)
demo: $(VENV)/.stamp-demo
	@$(PY) -m bdflow_rt.bench.demo $${DEMO_IMAGE:+"$$DEMO_IMAGE"}

# Training forks worker processes, and has its own run: forking out of a process that has loaded every engine's thread
# pools was seen to crash it.
test: lint docs
	@$(PY) -m pytest -q -n $(JOBS) -m 'not slow' tests/training
	@$(PY) -m pytest -q -n $(JOBS) -m 'not slow' --ignore tests/training

test-full: lint docs
	@$(PY) -m pytest -q -n $(JOBS) tests/training
	@$(PY) -m pytest -q -n $(JOBS) --ignore tests/training

lint: $(VENV)/.stamp-test
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check .
	@$(PY) -m mypy --no-error-summary

# Needs no network once $(VENV) has what it needs. A warning fails it, of a link that leads nowhere for one; --quiet would
# hide warnings from --strict too. As a module, MkDocs finds tools/ here. The variable silences an advertisement.
docs: $(VENV)/.stamp-docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo 'The site is in build/site; open build/site/index.html.'

# The package as links: the checkout's root has bdflow_rt without the folders that install inside it, and no editable
# install is asked for. What runs from the root must find this one first.
GPU_TREE := build/gpu
GPU_PYTEST = $(GPU_PYTHON) -m pytest -p no:cacheprovider \
    -o pythonpath='$(GPU_TREE) .'

gpu-tree:
	@rm -rf $(GPU_TREE) && mkdir -p $(GPU_TREE)/bdflow_rt
	@ln -s '$(CURDIR)'/bdflow_rt/* '$(CURDIR)'/kernels '$(CURDIR)'/export '$(CURDIR)'/bench $(GPU_TREE)/bdflow_rt/

GPU_NAME = $(or $(GPU),$(shell nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | \
    sed -n '1{s/[^A-Za-z0-9]\{1,\}/-/g;p}' | tr A-Z a-z))
GPU_RUN = cd $(GPU_TREE) && PYTHONPATH='$(CURDIR)/$(GPU_TREE)' $(GPU_PYTHON) -m
GPU_RESULTS = $(CURDIR)/bench/results/$(GPU_NAME)

gpu-named:
	@[ -n '$(GPU_NAME)' ] || { echo 'make: nvidia-smi names no GPU. Name the folder of the results: make gpu GPU=NAME' >&2; exit 1; }

# The benchmark runs and writes also where a test fails.
gpu: gpu-tree gpu-named
	@status=0; PYTHONPATH='$(CURDIR)/$(GPU_TREE)' $(GPU_PYTEST) -q tests/gpu || status=1; \
	$(GPU_RUN) bdflow_rt.bench.kernels --output '$(GPU_RESULTS)/kernels.json' || status=1; exit $$status

gpu-latency: gpu-tree gpu-named
	@$(GPU_RUN) bdflow_rt.bench.gpu_latency --output '$(GPU_RESULTS)/latency.json'

# Without CuPy's pool of memory: inside a pool an access out of bounds hits somebody else's bytes, and is not seen.
gpu-sanitize: gpu-tree
	@status=0; for tool in memcheck racecheck initcheck synccheck; do echo "$$tool:"; \
	    BDFLOW_TEST_POOL=off PYTHONPATH='$(CURDIR)/$(GPU_TREE)' $(SANITIZER) --tool $$tool --error-exitcode 1 \
	        $(GPU_PYTEST) -q tests/gpu/test_sanitized.py \
	        || status=1; done; exit $$status

clean:
	rm -rf $(VENV) build dist demo-out example-out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

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

$(VENV)/.stamp-docs: $(VENV)/.stamp-venv $(METADATA)
	@echo "Installing what the documentation's site needs into $(VENV)."
	@$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-demo
	@echo "Installing what the tests need into $(VENV): PyTorch and more, a few minutes the first time."
	@index=; if $(PY) -c "from urllib.request import urlopen; urlopen('$(TORCH_INDEX)/torch/', timeout=5)" 2>/dev/null; \
	    then index='--extra-index-url $(TORCH_INDEX)'; fi; $(PIP) $$index '$(TORCH)' -e '.[dev]'
	@# Types of TensorRT 10's API; its own dependencies are TensorRT itself, which no test needs.
	@$(PIP) --no-deps tensorrt-stubs
	@touch $@
