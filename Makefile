# The commands of this repository. `make` lists them.
#
# Everything they need comes into the tree: Python packages into .venv, build products into build/ and target/. What only
# the system can give (a C++ compiler, python3-venv, Rust) is checked by scripts/system.sh, which says what to do.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/python
# Arguments passed on to the program behind a target, such as `make demo ARGUMENTS="--device cuda"`.
ARGUMENTS ?=

help: ## List the commands
	@echo "usage: make <command>"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Train the handwritten digits with a network that grows; writes build/demo/digits.{json,png}
	$(PYTHON) examples/digits/train.py $(ARGUMENTS)

test: build ## Run every suite and print the counts
	$(PYTHON) tests/run.py $(ARGUMENTS)

build: .venv/installed ## Build the library and its torch operators into build/lib, the program kasmina into build/bin
	@if ! grep -qsF "$(CURDIR)" build/cmake/CMakeCache.txt; then rm -rf build/cmake; fi
	@mkdir -p build
	@cmake -S . -B build/cmake -G Ninja -DCMAKE_BUILD_TYPE=Release -DKASMINA_TORCH=ON -DKASMINA_PYTHON="$(CURDIR)/$(PYTHON)" \
		-DKASMINA_LIBRARY_DIRECTORY="$(CURDIR)/build/lib" -DKASMINA_PROGRAM_DIRECTORY="$(CURDIR)/build/bin" \
		-DCMAKE_MAKE_PROGRAM="$(CURDIR)/.venv/bin/ninja" >build/cmake.log 2>&1 || { cat build/cmake.log; exit 1; }
	@cmake --build build/cmake

header: ## Write include/kasmina/kasmina.h anew from src/ffi
	KASMINA_UPDATE_HEADER=1 cargo test --quiet --test header

format: .venv/installed ## Format Rust and C++
	cargo fmt
	git ls-files '*.c' '*.cpp' '*.hpp' | xargs -r clang-format -i

lint: build ## Check the format and run clippy
	$(PYTHON) tests/run.py format lint

test-rust: build ## Run the Rust tests alone
	$(PYTHON) tests/run.py rust

test-c: build ## Run the C and C++ tests alone
	$(PYTHON) tests/run.py c

test-python: build ## Run the Python tests alone
	$(PYTHON) tests/run.py python

bench-cpu: build ## Compare the CPU backend with torch; writes build/bench/cpu.{json,png}
	$(PYTHON) benches/cpu/compare.py $(ARGUMENTS)

bench-cache: ## Time a look-up in the memory cache, alone and with eight threads, a new process's reading from disk, and NVRTC
	cargo bench --bench memory_cache --bench warm_start --bench cold_compile

bench-gpu: build ## Compare the CUDA backend with its peers; writes build/bench/gpu.{json,png}
	$(PYTHON) benches/gpu/compare.py $(ARGUMENTS)

bench-gpu-training: build ## Time whole models on CUDA with layers in them; needs transformers and torchvision
	$(PYTHON) benches/gpu/training.py $(ARGUMENTS)

bench-snapshot: build ## Time snapshots and restores on a CUDA device against their goals; writes build/bench/gpu-snapshot.json
	$(PYTHON) benches/gpu/snapshot.py $(ARGUMENTS)

bench-hit-ratio: build ## Train networks that grow on a CUDA device and count how often a kernel was there; ARGUMENTS="--device cpu --tiny" for less
	$(PYTHON) benches/gpu/hit_ratio.py $(ARGUMENTS)

bench-similarity: build ## Tune random graphs on a CUDA device and see how near one comes by beginning where similar ones ended
	$(PYTHON) benches/gpu/similarity.py $(ARGUMENTS)

fuzz: ## Fuzz the decoder and the C ABI for ten minutes each; ARGUMENTS="--seconds 60" for less
	scripts/fuzz.sh $(ARGUMENTS)

torture: ## Kill processes that share a kernel cache 200 times, flip every bit of an entry, fill the disk; prints the counts
	KASMINA_TORTURE_KILLS=$${KASMINA_TORTURE_KILLS:-200} cargo test --test store torture_ -- --nocapture --test-threads 1

campaign: build ## Train a thousand small networks under random faults; ends with `runs: N corrupted: M`; writes build/campaign
	$(PYTHON) tests/campaign/run.py $(ARGUMENTS)

long-run: build ## Train for 2000 epochs with hundreds of germinations and culls and watch the memory; writes build/long-run
	$(PYTHON) tests/campaign/long.py $(ARGUMENTS)

gpu: build ## Run the layer tests and the digits example on a CUDA device
	tests/gpu/run.sh

clean: ## Remove what was built; keeps .venv
	rm -rf build target

.venv/installed: requirements.txt
	@scripts/system.sh
	@if [ ! -x $(PYTHON) ]; then python3 -m venv .venv; fi
	@echo "installing the Python packages into .venv (torch is large: several minutes on a slow line)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@mkdir -p build && touch $@

.PHONY: help demo test build header format lint test-rust test-c test-python bench-cpu bench-cache bench-gpu bench-gpu-training bench-snapshot bench-hit-ratio bench-similarity fuzz torture campaign long-run gpu clean
