# `make demo` and `make test` each work alone on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# One torch thread a process: two test workers on two cores otherwise fight for them (docs/design.md, Threads).
export OMP_NUM_THREADS := 1

.PHONY: demo test check lint types tests examples bench clean

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
	$(BIN)/python -m pytest -n $(WORKERS)

examples: $(VENV)/.dev
	set -e; for file in examples/*.py; do echo "== $$file"; $(BIN)/python $$file > /dev/null; done

bench: $(VENV)/.bench
	set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -U pip
	touch $@

$(VENV)/.demo $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install -q --no-compile -c constraints.txt -e '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist torchstrata-demo .pytest_cache .mypy_cache .ruff_cache
