# These targets work from a fresh clone with nothing but Python 3.11 and make:
#   make demo    curate the multilingual demo pool, offline
#   make test    lint and run the test suite
#   make test-reliability    kill commands, fuzz them, start Ray; also part of CI
#   make test-lowest    the tests with the lowest versions that setup.cfg admits, in .venv-lowest; also part of CI
#   make docs    build the documentation into docs/_build/html; any warning or dead link between pages is an error
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOWEST ?= .venv-lowest
LOWEST_STAMP := $(LOWEST)/.installed

.PHONY: demo test test-reliability test-lowest constraints-lowest lint metrics wheel docs docs-links clean

demo: metrics
	$(BIN)/hf-mlalign demo --output mlalign-demo

test: lint metrics
	$(BIN)/python -m pytest -n auto --dist loadfile

test-reliability: metrics
	$(BIN)/python -m pytest -n auto --dist loadgroup -m reliability

# pages of the docs and the browser are the same in any version; they run in `make test`
test-lowest: $(LOWEST_STAMP)
	$(LOWEST)/bin/hf-mlalign metrics install
	$(LOWEST)/bin/python -m pytest -n auto --dist loadfile -m "not reliability and not browser" \
		--ignore tests/docs --ignore tests/test_docs.py --ignore tests/benchmarks

# after a lower bound in setup.cfg has changed
constraints-lowest: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --resolution lowest-direct --python-version 3.11 --extra test --no-header \
		--no-annotate setup.cfg > .lowest
	{ head -n 3 constraints-lowest.txt; cat .lowest; } > .lowest-all
	mv .lowest-all constraints-lowest.txt
	rm .lowest

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

$(LOWEST_STAMP): setup.cfg setup.py pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet --no-cache-dir -c constraints-lowest.txt torch
	$(LOWEST)/bin/python -m pip install --quiet -c constraints-lowest.txt -e '.[test]'
	touch $(LOWEST_STAMP)

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info mlalign-demo docs/_build
