# Residual: run `make` for the list of targets. POSIX sh and GNU make 3.81 suffice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
TORCH := 2.13.0
PIP = $(BIN)/python -m pip --disable-pip-version-check -q

# An installation without network takes every file from the folder WHEELS.
ifdef WHEELS
FROM := --no-index --find-links "$(abspath $(WHEELS))"
endif

# A build of torch that is asked for is remembered, so that another one is installed in its place.
ifdef TORCH_INDEX
BUILD := $(VENV)/.torch-$(subst /,_,$(subst :,_,$(TORCH_INDEX)))
endif

.PHONY: help install demo test style lint campaign campaigns wheelhouse constraints clean

help:
	@echo 'make demo            train on the embedded digits, evaluate, predict'
	@echo 'make test            lint, types, tests'
	@echo 'make lint            ruff and mypy alone'
	@echo 'make campaign NAME   run one campaign of proof, e.g. make campaign kill; ARGS="..." is passed on'
	@echo 'make campaigns       list the campaigns'
	@echo 'make install         the program and its tools in .venv; done by every target above when needed'
	@echo 'make wheelhouse      all packages as files in wheelhouse/, for a machine without network'
	@echo 'make constraints     resolve constraints.txt anew'
	@echo 'make clean           remove .venv, caches and builds; runs/ and wheelhouse/ stay'
	@echo
	@echo 'PYTHON=python3.12    the interpreter (3.11 or newer)'
	@echo 'TORCH_INDEX=URL      take torch from this index: a build for the CPU or for one CUDA version'
	@echo 'WHEELS=wheelhouse    install from that folder, without network'

install: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "error: Python 3.11 or newer is needed and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

ifdef TORCH_INDEX
$(BUILD): | $(BIN)/python
	@echo 'installing torch from $(TORCH_INDEX) ...'
	@$(PIP) install --force-reinstall --no-deps --index-url "$(TORCH_INDEX)" 'torch==$(TORCH)'
	@rm -f $(VENV)/.torch-*
	@touch $@
endif

$(STAMP): pyproject.toml constraints.txt $(BUILD) | $(BIN)/python
	@echo 'installing into $(VENV) (the first time downloads torch) ...'
	@$(PIP) install --no-compile $(FROM) -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib > /dev/null 2>&1 || true  # on all cores; some files are of no Python
	@touch $@

demo: install
	$(BIN)/residual train
	$(BIN)/residual evaluate last
	$(BIN)/residual samples runs/demo-images
	$(BIN)/residual predict last runs/demo-images --picture runs/demo-predictions.png
	@echo 'The predictions are drawn in runs/demo-predictions.png, their images are in runs/demo-images/.'

style: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/mypy

# The types are checked beside the tests: mypy uses one core for a minute. What it finds is said last.
test: style
	@$(BIN)/python -m compileall -q -j 0 src campaigns benchmarks tests  # once, not in every process of a test
	$(BIN)/mypy > $(VENV)/types.txt 2>&1 & types=$$!; \
	    trap 'kill $$types 2> /dev/null; exit 130' INT TERM; \
	    $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS); tests=$$?; \
	    wait $$types || { echo "mypy ended with $$?:"; cat $(VENV)/types.txt; exit 1; }; exit $$tests

# `make campaign kill`: the words after `campaign` are its arguments, not targets.
ifeq (campaign,$(firstword $(MAKECMDGOALS)))
CAMPAIGN := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
ifneq (,$(CAMPAIGN))
.PHONY: $(CAMPAIGN)
$(eval $(CAMPAIGN): ; @:)
endif
endif

campaign: install
	@$(BIN)/python -m campaigns $(CAMPAIGN) $(ARGS)

campaigns: install
	@$(BIN)/python -m campaigns

wheelhouse: $(BIN)/python
ifdef TORCH_INDEX
	$(PIP) download --no-deps --index-url "$(TORCH_INDEX)" -d wheelhouse 'torch==$(TORCH)'
endif
	$(PIP) download $(FROM) --find-links wheelhouse -c constraints.txt -d wheelhouse '.[dev]' hatchling editables
	@rm -f wheelhouse/residual-*
	@echo 'Carry this folder with wheelhouse/ to a machine of the same kind, then: make install WHEELS=wheelhouse'

constraints: $(BIN)/python
	@$(PIP) install uv
	@echo 'torch==$(TORCH)' > $(VENV)/torch.txt
	@{ echo '# Tested versions, made by `make constraints`; used as `pip install -c constraints.txt`.'; \
	   echo '# The CUDA packages are installed only where the torch build asks for them.'; \
	   $(BIN)/uv pip compile --quiet --universal --all-extras --upgrade --no-header --no-annotate \
	       --constraint $(VENV)/torch.txt pyproject.toml; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests campaigns benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
