# make demo: the whole line on drawn slides.   make test, make lint: the gates.   make bench: the README's table.
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= $(shell nproc)
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.installed-test
CLUSTER_VENV := .venv-cluster
CLUSTERED := $(CLUSTER_VENV)/.installed
DEMO_COHORT := results/demo-cohort/slides.csv
LINT_COHORT := results/lint/slides.csv
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test reliability cluster lint claims bench bench-nuclei bench-speed bench-page bench-read bench-weno screenshots clean

help:
	@echo "make install   .venv with the package, pinned by constraints.txt"
	@echo "make demo      draw the demo cohort, run the whole workflow on it, print the figures, the report's path and the viewer's command"
	@echo "make test      the whole test suite"
	@echo "make reliability  the reliability goals with their full counts: mutants, kills, full disks"
	@echo "make cluster   the profiles for SLURM (installed and started here, as root) and S3 (a server of its own)"
	@echo "make lint      ruff, mypy, import-linter, codespell, snakefmt, snakemake --lint"
	@echo "make claims    check what each distillation method's paper claims, at small scale: results/claims/index.html"
	@echo "make bench     bench-nuclei, the README's table of real nuclei (DATA=../shared/data), then bench-speed"
	@echo "make bench-speed  every benchmark of speed, small and quick: results/bench-quick/performance.md"
	@echo "make bench-page  the tables of docs/performance.md from results/bench/*.json"
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

# Tests start hundreds of processes; where no bytecode may be written, each compiles every source anew. Files with long
# tests come first (tests/conftest.py).
test: $(TESTABLE)
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/pytest -m "not gpu and not reliability and not cluster" -n $(CORES) --dist loadfile --no-loadscope-reorder

# Snakemake reads the manifest even to lint; these slides are only looked for, never opened.
$(LINT_COHORT): Makefile
	@mkdir -p $(@D) && cd $(@D) && touch n{1..5}.tif t{1..5}.tif
	@{ echo slide_id,path,label; for i in {1..5}; do echo n$$i,n$$i.tif,normal; echo t$$i,t$$i.tif,tumor; done; } > $@

# The goal table of docs/reliability.md with its full counts, each with its figure.
reliability: $(TESTABLE)
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/pytest -m "reliability and not gpu" -n $(CORES) --dist loadfile --no-loadscope-reorder

# Snakemake imports every plugin it finds at each start (1.2 s become 3.5 s): so they stay out of .venv, whose packages
# the other environment sees.
$(CLUSTERED): $(TESTABLE) pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CLUSTER_VENV)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(CLUSTER_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/of_venv.pth"
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(CLUSTER_VENV)/bin/python -m pip install --constraint constraints.txt --editable ".[cluster,cluster-test]"
	@touch $@

cluster: $(CLUSTERED)
	OMP_NUM_THREADS=1 $(CLUSTER_VENV)/bin/python -m pytest -m cluster tests/cluster

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

bench: bench-nuclei bench-speed

# The README's table: nuclei of 60 patients with tile truth, two recipes, three seeds, five folds.
bench-nuclei: $(INSTALLED)
	$(BIN)/python benchmarks/crc_nuclei.py --data $(DATA)
	$(BIN)/snakemake --cores $(CORES) --configfile configs/crc_nuclei.yaml --quiet host reason
	@$(BIN)/wsi-kd summary --config configs/crc_nuclei.yaml
	@$(BIN)/python benchmarks/results_table.py results/crc

# Minutes: small bags, few tiles. Ratios to trust are those of docs/performance.md, whose tables name their commands.
QUICK := results/bench-quick
bench-speed: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/read_tiles.py --quick --data $(DATA) --json $(QUICK)/read_tiles.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/embed_speed.py --quick --json $(QUICK)/embed_speed.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/read_features.py --tiles 2000 --json $(QUICK)/read_features.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/train_step.py --quick --json $(QUICK)/train_step.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/train_memory.py --instances 5000 --precisions bfloat16 --json $(QUICK)/train_memory.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/infer_time.py --sizes 1k 10k --json $(QUICK)/infer_time.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/infer_time.py --without-encoder --sizes 1k 10k --json $(QUICK)/infer_memory.json
	$(BIN)/python benchmarks/several_cards.py --edge-px 4096 --slides 2 --turns 1 --json $(QUICK)/several_cards.json
	$(BIN)/python benchmarks/train_resident.py --json $(QUICK)/train_resident.json
	$(BIN)/python benchmarks/train_processes.py --quick --turns 1 --json $(QUICK)/train_processes.json
	$(BIN)/python benchmarks/performance_page.py --folder $(QUICK) --out $(QUICK)/performance.md

# The tables of docs/performance.md, from what their commands left with --json results/bench/<name>.json.
bench-page: $(INSTALLED)
	$(BIN)/python benchmarks/performance_page.py

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
