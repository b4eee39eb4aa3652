# These targets work from a fresh clone with nothing but Python 3.11 and make:
#   make demo    curate the multilingual demo pool, offline
#   make test    lint and run the test suite
#   make docs    build the documentation into docs/_build/html; any warning or dead link between pages is an error
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint metrics wheel docs docs-links clean

demo: metrics
	$(BIN)/hf-mlalign demo --output mlalign-demo

test: lint metrics
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .

# evaluate.load("hf_mlalign/winrate") works from any folder afterwards
metrics: $(STAMP)
	$(BIN)/hf-mlalign metrics install

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

# also asks the network whether links to other sites still lead somewhere
docs-links: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b linkcheck -d docs/_build/doctrees docs docs/_build/linkcheck

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info mlalign-demo docs/_build
