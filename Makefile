# The only two commands a new clone needs: `make demo` and `make test`.
# Benchmark data is looked for beside the checkout here, and nowhere else in the project.
EDGEWRIGHT_BENCH ?= $(abspath ../shared/bench)
export EDGEWRIGHT_BENCH
# torch comes first and unhashed: its CPU build is named differently on every index.
# Outside a mirror that prefers it: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
TORCH := torch==2.13.0
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
JOBS ?= 2
# Tests start hundreds of processes: none of them shall compile Python files again.
unexport PYTHONDONTWRITEBYTECODE
DEMO := examples/digits
TRAINED := examples/fashion_mnist/work/resnet20.safetensors examples/banking77/work/classifier.safetensors

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint check bench prove lock docs examples clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "the pinned requirements are for Python 3.11 or newer, found $$($(PYTHON) --version): make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "on Debian and Ubuntu: apt install make python3-venv"; exit 2; }
	@touch $@

$(VENV)/.runtime: requirements/lock.txt pyproject.toml | $(VENV)/.made
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) --require-hashes -r requirements/lock.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt requirements/targets.txt $(VENV)/.runtime
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --require-hashes -r requirements/targets.txt
	@touch $@

demo: $(VENV)/.runtime ## Train a small network on digits, optimise it, run it on unseen digits
	$(BIN)/python $(DEMO)/train.py
	$(BIN)/edgewright optimize $(DEMO)/edgewright.toml
	@for bundle in $(DEMO)/edgewright-out/*.ewb; do \
	  echo; echo "== $$bundle"; \
	  $(BIN)/edgewright verify $$bundle && $(BIN)/python $(DEMO)/score.py $$bundle || exit 1; \
	done
	@echo; echo "The whole evidence: $(abspath $(DEMO))/edgewright-out/report.html"

test: lint ## Run every check; those on benchmark data where it is there
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not prove"

lint: $(VENV)/.dev ## Style, types and architecture
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint ## Style, types, architecture and the fast tests, meant to take under 90 seconds
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow and not bench and not prove"

bench: $(VENV)/.dev ## Every claim of speed, memory and quality beside other tools (hours; train the examples first)
	$(BIN)/python benchmarks/calibration.py
	for model in kws yolox fashion mobilenet banking77; do $(BIN)/python benchmarks/peers --model $$model || exit 1; done
	$(BIN)/python benchmarks/litert.py
	$(BIN)/python benchmarks/ds_cnn.py
	for model in kws fashion mobilenet banking77 yolox; do $(BIN)/python benchmarks/litert_quality.py --model $$model || exit 1; done
	for model in kws fashion mobilenet banking77; do $(BIN)/python benchmarks/int8_runtimes.py --model $$model || exit 1; done
	$(BIN)/python benchmarks/batching.py examples/banking77/edgewright-out/banking77-onnxruntime.ewb
	$(BIN)/python benchmarks/mixed_precision.py
	$(BIN)/python benchmarks/hard_mobilenet.py
	$(BIN)/python benchmarks/low_bits.py --model fashion
	$(BIN)/python benchmarks/why.py --seed 20261121
	$(BIN)/python benchmarks/compression

$(TRAINED): | $(VENV)/.dev
	$(BIN)/python $(patsubst %/work/,%,$(dir $@))/train.py

prove: $(VENV)/.dev $(TRAINED) ## The long proofs: killed at every moment, full disk, older processors, compression (hours)
	$(BIN)/python -m pytest -m prove
	$(BIN)/python benchmarks/compression

examples: $(VENV)/.runtime ## Train and optimise every example (about an hour)
	for folder in keyword_spotting yolox_nano fashion_mnist banking77; do \
	  if [ -f examples/$$folder/train.py ]; then $(BIN)/python examples/$$folder/train.py || exit 1; fi; \
	  $(BIN)/edgewright optimize examples/$$folder/edgewright.toml || exit 1; \
	done
	$(BIN)/python examples/fashion_mnist/train.py --network mobilenetv2
	$(BIN)/edgewright optimize examples/fashion_mnist/mobilenet.toml

docs: $(VENV)/.dev ## Write the reference again from the code
	$(BIN)/python docs/generate_reference.py

lock: $(VENV)/.dev ## Resolve the pinned requirements again
	$(BIN)/python requirements/compile.py

clean: ## Remove what was built here, not the cache of results
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf examples/*/work examples/*/edgewright-out
