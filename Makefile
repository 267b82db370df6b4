# `make help` lists the commands. Every variable can be given on the command line: make reproduce-table SCALE=smoke

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# another package index for torch alone, so that a laptop need not fetch the CUDA build:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
TABLE ?= ablation
SCALE ?= cpu
# of the table's studies these alone: STUDIES=mqar,text
STUDIES ?=
SEEDS ?=
JOBS ?=
# anything: train again what failed before
RETRY ?=
# where runs are trained, with its settings: LAUNCHER="slurm hydra.launcher.partition=gpu"
LAUNCHER ?=
# stop after so many minutes; the same command goes on
MINUTES ?=
# local files in place of the corpora of studies on text, and of their test split: TEXT=a.txt,b.txt
TEXT ?=
TEST_TEXT ?=
# a folder of local files for evaluation suites, <task>/<split>.jsonl; at SCALE=cpu it brings their columns
DATA_DIR ?=
OUT ?=
# settings of the benchmarks: BENCH="quick=true" (of the kernels, which are then measured alone), BENCH="models=true sizes=base"
BENCH ?=
# test processes; each uses one thread
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup reproduce-table plan dashboard browser test fault-test test-gpu bench lint format type clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 20

setup: $(VENV)/.installed  ## create .venv with everything that training and the tests need

# a complete environment leaves this file; an interrupted installation is taken up again
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rla_exp needs Python 3.11 or newer; name one: make setup PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV): this fetches PyTorch once and takes a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,dev]'
	@touch $@

reproduce-table: setup  ## train what is missing of TABLE (or all) at SCALE (smoke, cpu, gpu, paper) and write results/TABLE/SCALE/
	@$(BIN)/rla-table table=$(TABLE) scale=$(SCALE) $(if $(STUDIES),studies=$(STUDIES)) $(if $(SEEDS),seeds=$(SEEDS)) $(if $(JOBS),jobs=$(JOBS)) $(if $(RETRY),retry_failed=true) \
		$(if $(LAUNCHER),launcher=$(LAUNCHER)) $(if $(MINUTES),minutes=$(MINUTES)) \
		$(if $(TEXT),"text=$(TEXT)") $(if $(TEST_TEXT),"test_text=$(TEST_TEXT)") $(if $(DATA_DIR),"data_dir=$(DATA_DIR)")

plan: setup  ## what TABLE at SCALE would cost, before anything starts: runs, tokens, parameters, memory, hours
	@$(BIN)/rla-plan table=$(TABLE) scale=$(SCALE) $(if $(STUDIES),studies=$(STUDIES)) $(if $(SEEDS),seeds=$(SEEDS)) $(if $(JOBS),jobs=$(JOBS)) \
		$(if $(TEXT),"text=$(TEXT)") $(if $(TEST_TEXT),"test_text=$(TEST_TEXT)")

dashboard: setup  ## build the HTML dashboard from the runs on disk; with W&B credentials publish the W&B one too
	@$(BIN)/rla-dashboard $(if $(OUT),out=$(OUT))

browser: setup  ## install the headless Chromium that the dashboard's tests open pages in
	$(BIN)/python -m playwright install --only-shell chromium

test: setup lint type  ## format, lint and type checks and every test that needs no GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not gpu"

fault-test: setup  ## kill a sweep at random until it is done and compare its numbers with an undisturbed one (20 minutes)
	$(BIN)/python scripts/fault_test.py

test-gpu: setup  ## the tests that need a CUDA GPU
	$(BIN)/python -m pytest -m gpu

bench: setup  ## run time and memory of the kernels on the GPU at hand, beside the peers that are installed, then of training whole models: benchmarks/
	@$(BIN)/python scripts/bench.py $(if $(OUT),out=$(OUT)) $(BENCH)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## write the format and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup
	$(BIN)/mypy

clean:  ## remove caches; runs, results and the environment stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache build dist src/*.egg-info
