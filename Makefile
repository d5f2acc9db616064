# Everything here sets itself up: it needs Python 3.11 or newer, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
CONSTRAINTS = .ci/constraints.txt
RAY = .cache/ray-venv
# Most tests wait for processes of their own, so two files at a time take little more than half of the time of one.
JOBS ?= 2
DEMO = build/demo

.PHONY: demo test test-ray lint check fix bench bench-long clean

demo: $(VENV)/.local
	@mkdir -p $(DEMO)
	$(BIN)/tokenmill run sentences --model demo -o $(DEMO)/answers.jsonl --runs-dir $(DEMO)/runs

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder $(TESTS)

# Ray brings half a gigabyte and versions of its own, so it gets an environment of its own. It also remembers a cluster for
# as long as the process lives, so each file gets a process; 5 says that a file has no tests that need it.
test-ray: $(RAY)/.done
	for tests in $(or $(TESTS),$(wildcard tests/launch/ray/test_*.py)); do \
	  $(RAY)/bin/python -m pytest -m ray "$$tests" || [ $$? -eq 5 ] || exit 1; \
	done

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A small version of every suite, some minutes; writes docs/results/sweeps* and the README's figure and table.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/sweeps.py

# An hour or more, on a quiet machine.
bench-long: $(VENV)/.dev
	$(BIN)/python benchmarks/local_engine.py
	$(BIN)/python benchmarks/million.py
	$(BIN)/python benchmarks/crash.py
	$(BIN)/python benchmarks/pipelines.py
	$(BIN)/python benchmarks/pipeline_kills.py
	$(BIN)/python benchmarks/http_client.py
	$(BIN)/python benchmarks/curves.py
	$(BIN)/python benchmarks/sockets.py
	$(BIN)/python benchmarks/schedules.py
	$(BIN)/python benchmarks/fleet.py
	$(BIN)/python benchmarks/hosts.py
	$(BIN)/python benchmarks/same_cpu.py
	$(BIN)/python benchmarks/quantize.py
	$(BIN)/python benchmarks/quantize_kills.py
	$(BIN)/python benchmarks/quantize_fuzz.py
	$(BIN)/python benchmarks/tensor_parallel.py
	$(BIN)/python benchmarks/embeddings.py
	$(BIN)/python benchmarks/validators.py

# DeepSpeed beside .venv and not in it: transformers imports it where it finds it, which would slow every test down.
.cache/deepspeed/.done: $(VENV)/.dev
	$(PIP) install --no-deps --upgrade --constraint $(CONSTRAINTS) --target $(@D) \
	  deepspeed einops hjson msgpack ninja py-cpuinfo
	@touch $@

clean:
	rm -rf $(VENV) $(RAY) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=24"

# torch goes first and exactly: a wider range may fetch another build and gigabytes with it.
$(VENV)/.torch: $(VENV)/bin/python $(CONSTRAINTS)
	$(PIP) install "$$(grep '^torch==' $(CONSTRAINTS))"
	@touch $@

$(VENV)/.local: $(VENV)/.torch pyproject.toml
	$(PIP) install --constraint $(CONSTRAINTS) --editable ".[local]"
	@touch $@

$(VENV)/.bench: $(VENV)/.torch pyproject.toml
	$(PIP) install --constraint $(CONSTRAINTS) --editable ".[bench,local,plots,quant]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install --constraint $(CONSTRAINTS) --editable ".[dev]"
	@touch $@

$(RAY)/.done: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --upgrade "pip>=24"
	$(RAY)/bin/python -m pip install --quiet "$$(grep '^torch==' $(CONSTRAINTS))"
	$(RAY)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[http,local,ray]" \
	  hypothesis pytest pytest-timeout
	@touch $@
