# make demo   set up, search the best Trainium design for Llama-3-70B, sweep a million more
# make test   set up, run the whole test suite
# make lint   format, lint and type checks
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEARCH := configs/searches/trn2_llama3_70b.toml

.PHONY: demo test lint clean

$(VENV)/.hwdse: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hwdse needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@

demo: $(VENV)/.hwdse
	rm -rf demo
	$(BIN)/hwdse optimize $(SEARCH) --out demo/optimize
	$(BIN)/hwdse sweep $(SEARCH) --points 1e6 --out demo/sweep
	@echo; echo "The design is demo/optimize/best.toml: try  $(BIN)/hwdse evaluate demo/optimize/best.toml"
	@echo "Pictures:"; ls demo/*/plots/*.png

test: $(VENV)/.hwdse
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.hwdse
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache
