# make demo: the whole line on drawn slides.   make test, make lint: the gates.   make bench: the README's table.
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= $(shell nproc)
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.installed-test
DEMO_COHORT := results/demo-cohort/slides.csv
LINT_COHORT := results/lint/slides.csv
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint claims bench bench-read bench-weno screenshots clean

help:
	@echo "make install   .venv with the package, pinned by constraints.txt"
	@echo "make demo      draw the demo cohort, run the whole workflow on it, print the figures, the report's path and the viewer's command"
	@echo "make test      the whole test suite"
	@echo "make lint      ruff, mypy, import-linter, codespell, snakefmt, snakemake --lint"
	@echo "make claims    check what each distillation method's paper claims, at small scale: results/claims/index.html"
	@echo "make bench     the README's table of real nuclei (DATA=../shared/data), then bench-read"
	@echo "make bench-read  how fast tiles are read, against OpenSlide, others and the limit of JPEG decoding"
	@echo "make bench-weno  every table of docs/weno.md: configs/experiments/*.yaml, hours on two cores; goes on where it stopped"
	@echo "make screenshots  the pictures of viewer and report in docs/figures, from make demo's run; needs Chromium"
	@echo "make clean     remove the demo's results and all caches (not .venv, not your own results)"

install: $(INSTALLED)

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) found: install Python 3.11 or newer, or name it: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$$($(PYTHON) --version) is too old: wsi_kd needs 3.11 or newer; name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(TESTABLE): $(INSTALLED)
	$(PIP) --editable ".[test]"
	@touch $@

# The manifest is written last: where it stands, the cohort is whole.
$(DEMO_COHORT): | $(INSTALLED)
	$(BIN)/wsi-kd demo-cohort $(@D)

demo: $(INSTALLED) $(DEMO_COHORT)
	$(BIN)/snakemake --cores $(CORES) --configfile configs/demo.yaml --quiet host reason
	@$(BIN)/wsi-kd summary --config configs/demo.yaml

test: $(TESTABLE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not gpu" -n $(CORES) --dist loadfile

# Snakemake reads the manifest even to lint; these slides are only looked for, never opened.
$(LINT_COHORT): Makefile
	@mkdir -p $(@D) && cd $(@D) && touch n{1..5}.tif t{1..5}.tif
	@{ echo slide_id,path,label; for i in {1..5}; do echo n$$i,n$$i.tif,normal; echo t$$i,t$$i.tif,tumor; done; } > $@

lint: $(TESTABLE) $(LINT_COHORT)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile configs/default.yaml --config 'run={manifest: $(LINT_COHORT)}'

claims: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/wsi-kd reproduce --processes $(CORES)

# The README's table: nuclei of 60 patients with tile truth, two recipes, three seeds, five folds.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/crc_nuclei.py --data $(DATA)
	$(BIN)/snakemake --cores $(CORES) --configfile configs/crc_nuclei.yaml --quiet host reason
	@$(BIN)/wsi-kd summary --config configs/crc_nuclei.yaml
	@$(BIN)/python benchmarks/results_table.py results/crc
	$(MAKE) bench-read

bench-read: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/read_tiles.py --data $(DATA) --json results/read_tiles/read_tiles.json

# Each experiment leaves results/weno/<experiment>/{metrics.json,table.md}; crc reads the features of the run above.
bench-weno: $(INSTALLED)
	$(BIN)/python benchmarks/crc_nuclei.py --data $(DATA)
	$(BIN)/snakemake --cores $(CORES) --configfile configs/crc_nuclei.yaml --until embed --quiet host reason
	$(BIN)/python benchmarks/weno.py configs/experiments/*.yaml --data $(DATA) --processes $(CORES) --resume

# The browser tests take them: what the documentation shows is what was tested.
screenshots: $(TESTABLE)
	WSI_KD_RUN=results/demo WSI_KD_MANIFEST=$(DEMO_COHORT) WSI_KD_FIGURES=docs/figures \
	  $(BIN)/pytest -q -m browser tests/browser/test_docs_figures.py

clean:
	rm -rf results/demo results/demo-cohort results/lint build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find wsi_kd tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
