# make demo   set up, optimize a Trainium2 for Llama 3 70B, sweep a million designs
# make test   set up, run the whole test suite
# make lint   format, lint and type checks
# make docs   set up, build the documentation into site/ (no network needed once set up)
# make docs-generated   write the generated pages of docs/ again (minutes: runs every validation)
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEARCH := configs/searches/trn2_llama3_70b.toml

.PHONY: demo test lint docs docs-generated clean

$(VENV)/.hwdse: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hwdse needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@

$(VENV)/.hwdse-docs: $(VENV)/.hwdse
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

demo: $(VENV)/.hwdse
	rm -rf demo
	$(BIN)/hwdse optimize $(SEARCH) --out demo/optimize
	$(BIN)/hwdse sweep $(SEARCH) --points 1e6 --out demo/sweep
	$(BIN)/hwdse pareto demo/sweep demo/optimize --out demo/pareto
	@echo; echo "The design is demo/optimize/best.toml: try  $(BIN)/hwdse evaluate demo/optimize/best.toml"
	@echo "Plots:"; ls demo/*/plots/*.png demo/pareto/*.png

test: $(VENV)/.hwdse
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.hwdse
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(VENV)/.hwdse-docs
	$(BIN)/python tools/docs_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-generated: $(VENV)/.hwdse-docs
	$(BIN)/python tools/docs_reference.py
	$(BIN)/python tools/draw_rooms.py
	$(BIN)/python tools/docs_pictures.py
	$(BIN)/python tools/docs_accuracy.py
	$(BIN)/python tools/docs_outputs.py

clean:
	rm -rf $(VENV) demo site build dist .pytest_cache .ruff_cache
