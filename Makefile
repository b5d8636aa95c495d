# `make demo` and `make test` each work alone on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# One torch thread a process: two test workers on two cores otherwise fight for them (docs/design.md, Threads).
export OMP_NUM_THREADS := 1

.PHONY: demo test check lint types tests slow gates examples bench vendor clean

demo: $(VENV)/.demo
	$(BIN)/torchstrata demo

test: $(VENV)/.dev lint types tests examples

check: test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

tests: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

# Clusters, browsers, processes that are killed: more than ten seconds each, so CI runs them once, after the others.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) -m slow

# The same with every fault tried as often as docs/reliability.md says, before a release.
gates: export TORCHSTRATA_FULL := 1
gates: slow

examples: $(VENV)/.dev
	ls examples/*.py | xargs -P $(WORKERS) -I {} sh -c 'echo "== {}"; $(BIN)/python {} > /dev/null || exit 255'

bench: $(VENV)/.bench
	set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -U pip
	touch $@

$(VENV)/.demo $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install -q --no-compile -c constraints.txt -e '.[$*]'
	touch $@

# The libraries of the report's page, unchanged, from npm (src/torchstrata/experiment/presentation/assets/vendor/README.md).
vendor:
	set -e; here=$$PWD/src/torchstrata/experiment/presentation/assets/vendor; there=$$(mktemp -d); cd $$there; \
	npm install --silent --ignore-scripts @observablehq/plot@0.6.17 d3@7.9.2 sortable-tablesort@4.1.7; cd node_modules; \
	cp @observablehq/plot/dist/plot.umd.min.js d3/dist/d3.min.js sortable-tablesort/dist/sortable.min.js \
	  sortable-tablesort/dist/sortable.a11y.min.js $$here; \
	cp @observablehq/plot/LICENSE $$here/plot.LICENSE; cp d3/LICENSE $$here/d3.LICENSE; rm -r $$there

clean:
	rm -rf $(VENV) build dist torchstrata-demo .pytest_cache .mypy_cache .ruff_cache
