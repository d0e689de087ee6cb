# One command for each wish. Everything is installed into .venv, from a python3 of 3.11 or newer; nothing else is touched.
VENV := .venv
BIN := $(VENV)/bin
CODE := $(wildcard src tests examples benchmarks) $(wildcard tools/*.py) docs/conf.py
DRIVERS := redis,postgres,mysql,rabbitmq,scim,sms,webhook
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo lint quick check test faults bench bench-peers page docs tables format clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.base ## a shop's jobs on a SQLite file, with a kill -9 in the middle (15 s)
	@$(BIN)/python examples/demo/run.py

check: lint quick ## what every commit must pass: format, lint, types, fast tests (a minute)

lint: $(VENV)/.test ## format, lint, types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/pyright --pythonpath $(BIN)/python

quick: $(VENV)/.test
	$(BIN)/pytest -q -n $(WORKERS) tests/shape tests/unit $(patsubst %,tests/conformance/test_%.py,memory sqlite)

test: $(VENV)/.test ## everything, on real servers; CI=true: a server that is missing is a failure
	tools/servers
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

faults: $(VENV)/.test ## every fault on every broker, and its pages (15 min)
	tools/servers
	FAULTS_PAGE="docs/reliability.md README.md" FAULTS_CELLS="$(CELLS)" $(BIN)/pytest -n 4 -m cell -k "$(CELLS)" $(addprefix tests/,faults conformance embedded unit/test_sqlite_broker.py)

bench: $(VENV)/.test ## the benchmarks (15 min); `make page` shows what they measured
	tools/servers
	$(BIN)/python -m benchmarks

page: $(VENV)/.bench ## docs/benchmarks.md and its plots, from what was measured
	$(BIN)/python -m benchmarks.page

bench-peers: $(VENV)/.test ## beside the peers, each in its newest release (35 min); PEERS="NAME..." for some
	tools/servers
	$(BIN)/python -m benchmarks.peers $(PEERS)

docs: $(VENV)/.docs ## the documentation, as HTML; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

tables: $(VENV)/.test ## write the generated tables of the documentation anew
	$(BIN)/python tools/tables.py

format: $(VENV)/.test ## format the code, and mend what can be mended
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean: ## remove everything that is made
	rm -rf $(VENV) docs/_build build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.base: pyproject.toml tools/venv
	tools/venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[$(DRIVERS)]' --group test
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@
