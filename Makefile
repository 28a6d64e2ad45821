# `make demo` and `make test` set up what they need in .venv and reuse it; nothing else is required than Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test drills lint types bench gpu-bundle bench-gpu wheel clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv from the pinned set (PYTHON=python3.12 chooses the interpreter)

# The stamp is written last: an install that was interrupted is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "adiabatic_ray needs Python 3.11 or later; got '$$($(PYTHON) --version 2>&1)' from '$(PYTHON)'." >&2; \
	    echo "Name another interpreter, for example: make setup PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi
	@echo "Installing the pinned packages into $(VENV): about 3 minutes the first time ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,bench,dev]"
	@touch $@
	@echo "Installed. Later runs reuse $(VENV)."

OUT ?= results/demo
demo: $(STAMP) ## Sweep the learning rate of a real encoder on this machine (OUT=results/demo)
	@$(BIN)/python -m jobs.run_sweep demo --out $(OUT)

# Tests on real corpora run when ADIABATIC_DATA names their folder, or when it lies beside the checkout.
REAL_DATA = if [ -z "$$ADIABATIC_DATA" ] && [ -d ../shared/data ]; then \
	  ADIABATIC_DATA=$$(cd ../shared/data && pwd); export ADIABATIC_DATA; fi

# Tests that start Ray mostly wait for processes; the others run beside them, and are told about last.
TEST := $(BIN)/python -m pytest --durations 15 --durations-min 10
test: $(STAMP) ## Run the tests
	@$(REAL_DATA); log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	  $(TEST) -m "ray and not drill" > "$$log" 2>&1 & on_ray=$$!; \
	  $(TEST) -m "not ray"; others=$$?; \
	  wait $$on_ray; status=$$?; \
	  echo "Tests that start Ray:"; cat "$$log"; \
	  [ $$others -eq 0 ] && [ $$status -eq 0 ]

drills: $(STAMP) ## Kill nodes, drivers, heads and disks in the middle of sweeps; print what each cost
	@$(TEST) tests/test_fault_drills*.py tests/test_two_drivers_on_ray.py tests/test_placement_on_ray.py

lint: $(STAMP) ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(STAMP) ## Check types
	@$(BIN)/mypy

bench: $(STAMP) ## Run every benchmark
	@$(REAL_DATA); set -e; for file in $(filter-out benchmarks/bench_gpu.py,$(sort $(wildcard benchmarks/bench_*.py))); do \
	  $(BIN)/python $$file; done

gpu-bundle: $(STAMP) ## Write .bench-gpu/: encoder, token ids and wheels for a machine with a GPU
	@$(REAL_DATA); $(BIN)/python benchmarks/gpu_bundle.py .bench-gpu

# A machine with a GPU needs no environment of ours: its own Python, the checkout and .bench-gpu/ are enough.
GPU_OUT ?= results/gpu
bench-gpu: ## Run all checks and benchmarks that need a GPU (GPU_OUT=results/gpu)
	@[ -f .bench-gpu/bundle.json ] || $(MAKE) gpu-bundle
	@python=$(BIN)/python; [ -x $$python ] || python=$(PYTHON); \
	  $$python benchmarks/bench_gpu.py .bench-gpu --out $(GPU_OUT)

# setuptools puts whatever an old build left in build/ into the new wheel.
wheel: $(STAMP) ## Build the wheel into dist/, and put constraints.txt beside it (cluster.yaml wants both)
	@rm -rf build dist
	@$(BIN)/python -m build --wheel
	@cp constraints.txt dist/

clean: ## Remove everything that make creates, results excepted
	rm -rf $(VENV) .bench-gpu .bench-gpu-partial build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
