# `make demo` and `make test` work from a fresh clone: the first call makes .venv and installs the pinned set, later calls
# install nothing until pyproject.toml or constraints.txt changes. PYTHON names the interpreter the environment is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
PINS := pyproject.toml constraints.txt

.PHONY: demo setup test test-all races test-gpu test-cluster sanitize check bench gpu

demo: $(VENV)/.runtime
	$(BIN)/rnnlab train

setup: $(VENV)/.dev

# Two cores are shared by two workers, hence one thread each; a worker takes whole files, since what they compile and train
# first is used again. The interpreter has a process of its own: Triton reads TRITON_INTERPRET when kernels are defined.
PYTEST := $(BIN)/python -m pytest -q -n 2
# The short set takes nine minutes on two cores: tests/covering.py says what stands for the rest, experiments/008_short_tests what
# it catches.
ON_TRITON := tests/nn/test_launch_backends.py tests/nn/test_backends.py
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PYTEST) --dist loadfile --short -m "not interpret and not gpu and not cluster"
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(PYTEST) --short -m "interpret and not gpu" tests/kernels $(ON_TRITON)
	$(BIN)/python -m rnnlab_kernels.aot --only "bwd lstm bf16 64x512"

test-all: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PYTEST) --dist loadfile -m "not interpret and not cluster"
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(PYTEST) -m interpret tests/kernels tests/nn
	$(BIN)/python -m rnnlab_kernels.aot

# The barrier of the kernels that keep all of time in one launch, without a GPU: all programs of a grid at once.
races: $(VENV)/.dev
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(BIN)/python -m tests.kernels.at_once experiments/004_kernels/races.txt

# What needs a GPU can run where nothing may be installed: `make gpu PY=python3` with that interpreter's torch and Triton.
PY ?= $(BIN)/python
GPU_READY := $(if $(filter $(BIN)/%,$(PY)),$(VENV)/.dev)
GPU_TESTS := tests/kernels/test_gpu.py tests/nn/test_gpu.py tests/kernels/test_noise.py
WITH_PATH := PYTHONPATH=.:kernels

# A barrier that is never passed takes a minute to give up: ten failures are enough.
test-gpu: $(GPU_READY)
	$(WITH_PATH) $(PY) -m pytest -q -n 4 --maxfail=10 -m gpu $(GPU_TESTS)

# Sweeps on a SLURM of one node, which the tests start and stop: Debian's slurm-wlm and munge, no service running.
test-cluster: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m cluster tests/cluster

# Needs CUDA's compute-sanitizer. Without torch's allocator every tensor ends where its memory ends.
SANITIZER := $(WITH_PATH) PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1
sanitize: $(GPU_READY)
	$(SANITIZER) --tool memcheck $(PY) -m pytest -q -m gpu tests/kernels/test_gpu.py -k "33x5x20x100"
	$(SANITIZER) --tool racecheck $(PY) -m pytest -q -m gpu tests/kernels/test_gpu.py -k "33x5x20x100"

bench: $(VENV)/.dev
	$(BIN)/rnnlab bench

# Everything that needs a GPU. The benchmark has a gate of its own and goes first: a kernel that is wrong costs it that
# kernel's numbers alone. It starts no row after four minutes: call again, and it goes on from there.
RESULTS := experiments/004_kernels/results
gpu: $(GPU_READY)
	$(WITH_PATH) $(PY) -m rnnlab_kernels.bench --device cuda --out $(RESULTS) --seconds 240; status=$$?; \
	$(WITH_PATH) $(PY) experiments/004_kernels/figure.py $(RESULTS); \
	$(WITH_PATH) $(PY) experiments/004_kernels/verdict.py $(RESULTS); \
	$(MAKE) test-gpu PY=$(PY) && exit $$status

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
