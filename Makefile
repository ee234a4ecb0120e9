# `make demo` and `make test` work from a fresh clone: the first call makes .venv and installs the pinned set, later calls
# install nothing until pyproject.toml or constraints.txt changes. PYTHON names the interpreter the environment is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
PINS := pyproject.toml constraints.txt

.PHONY: demo setup test test-gpu sanitize check bench gpu

demo: $(VENV)/.runtime
	$(BIN)/rnnlab train

setup: $(VENV)/.dev

# Two cores are shared by two workers, hence one thread each. The interpreter has a process of its own: Triton reads
# TRITON_INTERPRET when kernels are defined.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not interpret"
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(BIN)/python -m pytest -q -n 2 -m interpret tests/kernels tests/nn
	$(BIN)/python -m rnnlab_kernels.aot

test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m gpu

# Needs CUDA's compute-sanitizer. Without torch's allocator every tensor ends where its memory ends.
SANITIZER := PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1
sanitize: $(VENV)/.dev
	$(SANITIZER) --tool memcheck $(BIN)/python -m pytest -q -m gpu tests/kernels/test_gpu.py -k "33x5x20x100"
	$(SANITIZER) --tool racecheck $(BIN)/python -m pytest -q -m gpu tests/kernels/test_gpu.py -k "33x5x20x100"

bench: $(VENV)/.dev
	$(BIN)/rnnlab bench

# Everything that needs a GPU. The benchmark starts no row after four minutes: call again, and it goes on from there. Where
# an arm is wrong it fails, after figure and verdict of the rest.
RESULTS := experiments/004_kernels/results
gpu: test-gpu
	$(BIN)/python -m rnnlab_kernels.bench --device cuda --out $(RESULTS) --seconds 240; status=$$?; \
	$(BIN)/python experiments/004_kernels/figure.py $(RESULTS) && \
	$(BIN)/python experiments/004_kernels/verdict.py $(RESULTS) && exit $$status

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kernels rnnlab/nn
	$(BIN)/python -m pytest -q tests/test_imports.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The development set holds the runtime set, so installing it makes both stamps.
$(VENV)/.runtime: $(PINS) | $(VENV)/bin/python
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.dev: $(PINS) | $(VENV)/bin/python
	$(PIP_INSTALL) -e ".[dev]"
	touch $(VENV)/.runtime $@
