# Wardgate: `make demo` shows it, `make test` checks it. Each sets up what it needs by itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## Show these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "Wardgate needs Python 3.11 ($(PYTHON) is not there): apt-get install python3.11 python3.11-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned dependencies into $(VENV) (some minutes the first time)"
	@$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[node,coordinator,dev]' 2> >(grep -v '^WARNING: Location' >&2)
	@# On every core, which pip doesn't; sandboxes read the environment and can't write it.
	@$(BIN)/python -m compileall -q -j 0 -x '/tests/' $(VENV)/lib > /dev/null || true
	@touch $@

setup: $(STAMP)  ## Make .venv with pinned dependencies; install what Debian must provide
	@demo/debian-packages bubblewrap python3-seccomp

# Both at once: each waits for what it downloads.
setup-test:
	@$(MAKE) --no-print-directory --jobs=2 $(STAMP) debian-test

debian-test:
	@demo/debian-packages bubblewrap chromium dcmtk dicom3tools iproute2 orthanc orthanc-dicomweb postgresql python3-seccomp softhsm2 strace

demo: setup  ## Four hospitals, a coordinator and a researcher on this machine, until Ctrl-C
	@$(BIN)/python -m demo

demo-once: setup  ## The same, and stop by itself
	@$(BIN)/python -m demo --once

lint: $(STAMP)  ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

FAST := -m "not slow" --hypothesis-profile=ci
DEMO := tests/end_to_end/test_demo.py tests/demo
WHOLE_1 := $(filter-out $(DEMO),$(wildcard tests/end_to_end/test_[a-j]*.py))
WHOLE_2 := $(wildcard tests/end_to_end/test_[!a-j]*.py)
ARRIVAL := tests/node/intake tests/node/pull tests/node/receive
DEID := tests/node/deid tests/corpus
NODE := tests/node $(ARRIVAL:%=--ignore=%) $(DEID:%=--ignore=%)
AGREED := tests/contract tests/foundation tests/researcher tests/coordinator
LEARNT := tests/recipes tests/learning tests/sessions
# From the longest to the shortest: the next begins where one ends.
PARTS := whole-1 node arrival whole-2 rest learnt agreed demo deid
part-demo: PATHS = $(DEMO)
part-whole-1: PATHS = $(WHOLE_1)
part-whole-2: PATHS = $(WHOLE_2)
part-arrival: PATHS = $(ARRIVAL)
part-node: PATHS = $(NODE)
part-deid: PATHS = $(DEID)
part-agreed: PATHS = $(AGREED)
part-learnt: PATHS = $(LEARNT)
part-rest: PATHS = tests $(patsubst %,--ignore=%,tests/end_to_end tests/demo tests/node tests/corpus $(AGREED) $(LEARNT))

$(PARTS:%=part-%):
	@$(BIN)/pytest $(FAST) $(PATHS) > .pytest-$@.log 2>&1; ended=$$?; cat .pytest-$@.log; exit $$ended

# Four at once even on two cores: much of the suite waits for other processes.
test: setup-test  ## Lint and the whole suite, in parts, some at once; what failed is said last
	@rm -f .pytest-*.log
	@$(MAKE) --no-print-directory --jobs=4 --keep-going --output-sync=target \
		lint $(PARTS:%=part-%) 2>&1; ended=$$?; echo; \
	for part in $(PARTS); do \
		echo "$$part: $$(grep -E ' in [0-9.]+s' .pytest-part-$$part.log | tail -1)"; \
	done; \
	grep -hE '^(FAILED|ERROR) ' .pytest-*.log; exit $$ended

nightly: setup-test  ## The slow campaigns too
	$(BIN)/pytest --hypothesis-profile=default

bench: setup  ## Every benchmark, one JSON object each
	@for bench in bench/[a-z]*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

docs: $(STAMP)  ## Write the generated reference into build/docs/reference
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/attacks.py

wire: $(STAMP)  ## Generate contract/wire_pb2*.py from contract/wire.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. contract/wire.proto

lock: $(STAMP)  ## Write constraints.txt from what is installed
	@{ head -1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/^torch==\([0-9.]*\)+cpu/torch==\1/'; } > constraints.new && mv constraints.new constraints.txt

clean:  ## Remove what the other targets made
	rm -rf $(VENV) .demo .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest-*.log

.PHONY: help setup setup-test debian-test demo demo-once lint test nightly bench docs wire lock clean $(PARTS:%=part-%)
