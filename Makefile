# `make demo` and `make test` do all set-up on a machine with Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test slow shapes check docs site bench bench-quick floors wheel clean
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/offmap demo

test: .venv/ready
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not slow"

# Trainings, the whole catalogue on awkward data, clusters, servers that are killed, browsers.
slow: .venv/ready
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m slow

# The same formulas, and every shape that a signature names: checking takes six times as long.
shapes: .venv/ready
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile \
		--jaxtyping-packages=offmap,typeguard.typechecked tests/reference tests/metrics tests/stats

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

bench: .venv/ready
	$(BIN)/python -m benchmarks --json benchmarks/measured.json
	$(BIN)/python -m benchmarks.table

bench-quick: .venv/ready
	$(BIN)/python -m benchmarks --quick --against benchmarks/measured.json

# The lowest versions that pyproject.toml states, in an environment of their own.
floors:
	$(PYTHON) scripts/floors.py

# The wheel in an empty environment, outside of the repository.
wheel:
	$(PYTHON) scripts/wheel.py

# Warnings are errors: a link that leads nowhere, a formula that cannot be shown, a docstring that is broken.
# Every page is read anew (-E -a): a page that was warned of once is not read a second time, and the next run passes.
docs: .venv/ready
	$(BIN)/python -m sphinx -E -a -W --keep-going -q -b html docs build/docs

# The same beside the versions that build/site holds, with links from each to each.
site: .venv/ready
	$(BIN)/python scripts/versions.py build/site

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q pip==26.3
	$(BIN)/python -m pip install -q -c constraints.txt --group dev --group docs -e .
	touch $@

clean:
	rm -rf .venv
