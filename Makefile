# Every target makes its own environment: Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
MARKERS ?= not slow
SIZE ?= smoke
PROFILE ?= local
STUDIES ?=
CHAPTERS ?=
COLAB ?= runs/colab/.venv
AUDIT ?= runs/audit/.venv
BIN := .venv/bin
# The stamp carries a checksum of pyproject.toml: a changed requirement installs again.
STAMP := .venv/installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help demo test mutants lint book book-offline book-print bench gpu-check study reproduce golden colab colab-check audit test-matrix address clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## search with DARTS and Λ-DARTS side by side on real images (CPU, minutes; SEEDS=10: more searches)
	$(BIN)/ldarts run-notebook book/quickstart.ipynb -p size demo $(if $(SEEDS),-p seeds $(SEEDS)) \
		-p out runs/demo --out runs/demo

test: $(STAMP) ## run the fast tests (MARKERS=slow: the slow ones; MARKERS=: all of them)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "$(MARKERS)"

mutants: $(STAMP) ## ask whether the tests would notice mistakes (a quarter of an hour on a free core, less with JOBS=2; WORDS=fast/: some)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/mutants.py $(WORDS) $(if $(CSV),--csv $(CSV)) $(if $(JOBS),--jobs $(JOBS))

lint: $(STAMP) ## check code, notebooks and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	find book -name '*.ipynb' -exec $(BIN)/nbstripout --verify {} +

book: $(STAMP) ## build the book, warnings are errors
	$(BIN)/jupyter-book build . -W --keep-going
	@echo "Open _build/html/index.html"

book-offline: book ## the same in _build/offline, which needs no network, for a stick (needs npm)
	$(BIN)/python scripts/offline.py
	@echo "Copy _build/offline and open its index.html"

book-print: book ## the chapters as one file, _build/print/ldarts-book.pdf (needs npm and Chromium)
	$(BIN)/python scripts/to_pdf.py

bench: $(STAMP) ## measure the search step, reference against fast supernet (BENCH=--quick: a minute)
	$(BIN)/ldarts bench $(BENCH) --json runs/bench.json

study: $(STAMP) ## make all studies that the book records (CPU hours; resumable; STUDIES=robustness: a part; digits201: the table)
	$(BIN)/ldarts study $(or $(STUDIES),all)

gpu-check: $(STAMP) ## on a machine with a GPU, run first what only a GPU can tell (minutes; a table in runs/gpu_check.csv)
	$(BIN)/python scripts/gpu_check.py

reproduce: $(STAMP) ## search, evaluate, tables: SIZE=smoke (minutes), demo or paper (GPUs); PROFILE=slurm: a cluster
	$(BIN)/ldarts sweep $(SIZE) --out runs/reproduce/$(SIZE) --profile $(PROFILE) \
		$(if $(CONFIG),--config $(CONFIG)) $(if $(SNAKEMAKE),--snakemake="$(SNAKEMAKE)")

golden: $(STAMP) ## record the golden runs anew, after a wanted change of arithmetic (minutes)
	$(BIN)/python tests/golden.py --record

colab: $(STAMP) ## write book/colab anew: the chapters as notebooks that Colab shows well
	$(BIN)/python book/_ext/colab_notebooks.py

colab-check: ## execute every notebook with Colab's packages (PYTHON=python3.13; 6 GB, half an hour; CHAPTERS=why: only that)
	@$(COLAB)/bin/python -c '' 2> /dev/null || $(PYTHON) -m venv --clear $(COLAB)
	$(COLAB)/bin/python -m pip install --quiet --requirement tests/colab.txt
	$(COLAB)/bin/python -m pip install --quiet .
	$(COLAB)/bin/python scripts/colab_check.py $(CHAPTERS)

audit: $(STAMP) ## list known vulnerabilities of what .venv holds (asks the package index; fails never)
	@$(AUDIT)/bin/python -c '' 2> /dev/null || $(PYTHON) -m venv --clear $(AUDIT)
	-$(AUDIT)/bin/python -m pip install --quiet pip-audit
	-$(AUDIT)/bin/pip-audit --skip-editable --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

test-matrix: ## run the fast tests with Python 3.11 to 3.13 and the oldest and newest torch (TESTS=tests/spaces: a part)
	$(PYTHON) scripts/test_matrix.py $(TESTS)

address: ## give the book another home: make address URL=https://github.com/OWNER/NAME
	$(PYTHON) scripts/set_address.py "$(URL)"

clean: ## delete the environment and all that was built (runs/ stays)
	rm -rf .venv _build *.egg-info .pytest_cache .ruff_cache

$(STAMP):
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version), but 3.11 or newer is needed; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into .venv: some minutes the first time, most of them for PyTorch."
	@$(BIN)/python -c '' 2> /dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --editable ".[book,dev,cluster]"
	@rm -f .venv/installed-* && touch $@
