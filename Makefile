# cronlock: what can be done with a checkout. `make` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for something, so that more of them than cores can run at once; tests/conftest.py has the order.
PARALLEL := -n 5 --dist loadfile --no-loadscope-reorder
WITHOUT_SERVERS := tests/unit tests/test_cli.py tests/engines/file/test_file.py
# What may differ between interpreters; all else is tested on one of them, and by `make wheel-test`.
ON_EACH_PYTHON := tests/unit tests/test_cli.py tests/engines/postgresql/test_libpq.py \
	--ignore tests/unit/test_engines_stand_alone.py --ignore tests/unit/test_layers.py
# Cron fires once a minute: these wait for it, and belong to `make package-test`.
SLOW := --ignore tests/docs/test_quickstart.py --ignore tests/docs/test_image.py
# Byte code is written whatever the caller's environment says: starts are what is measured.
export PYTHONDONTWRITEBYTECODE =
# The theme's advertisement.
export NO_MKDOCS_2_WARNING = 1

.PHONY: help demo test check lint types docs unit board-test pythons cron-test takeover-test test-servers torture teeth soak explore fuzz bench fleet bench-standby site reference format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## install into a virtual environment and race three runs of one key
	@$(MAKE) --no-print-directory -s $(VENV)/installed
	@sh tools/demo.sh $(BIN)/python

test: ## install what the tests need, then check and test everything
	sh tools/need.sh tests packages
	$(MAKE) check pythons
	CRONLOCK_WRAP_LINES=$${CRONLOCK_WRAP_LINES:-500} $(BIN)/pytest $(PARALLEL) $(SLOW) tests

check: lint types docs ## lint, formatting, types, manual page and shell scripts

lint: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	shellcheck tools/*.sh .ci/run completions/cronlock.bash

types: $(VENV)/tools
	$(BIN)/mypy

docs: $(VENV)/tools
	$(BIN)/python tools/reference.py --check
	sh tools/lint-manual.sh man/*.[157]
	$(BIN)/python -m chaos.report --check

unit: $(VENV)/tools ## only the tests that need no server
	$(BIN)/pytest $(PARALLEL) $(WITHOUT_SERVERS)

board-test: $(VENV)/tools ## the board in Chromium, which this installs: hostile names, contrast, keyboard, small screens
	sh tools/need.sh browser
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps axe-playwright-python==0.1.8
	$(BIN)/pytest -v tests/board/in_chromium.py

pythons: ## unit tests under the oldest and the newest supported Python that is found
	sh tools/pythons.sh $(PARALLEL) $(ON_EACH_PYTHON)

cron-test: $(VENV)/tools ## the real cron on three machines over many ticks (takes minutes, as root)
	CRONLOCK_CRON_TICKS=5 $(BIN)/pytest -v tests/fleet

torture: $(VENV)/tools ## break everything while runs go on, and check what came of it (TORTURE='--backend redis ...')
	sh tools/need.sh venv tests
	$(BIN)/python -m chaos $(if $(TORTURE),$(TORTURE),--backend all --seconds 300)

test-servers: $(VENV)/tools ## each engine's contract on servers of other versions, which are fetched (SERVERS='--only etcd')
	sh tools/need.sh venv tests servers
	$(BIN)/python -m labs.versions $(if $(WRITE),--write) $(SERVERS)

teeth: $(VENV)/tools ## put bugs into copies of the program: the torture must catch each one
	sh tools/need.sh venv tests
	$(BIN)/python -m chaos.mutants $(TEETH)

soak: $(VENV)/tools ## an hour of renewals on each backend: nothing may grow (SOAK='--seconds 60')
	sh tools/need.sh venv tests
	$(BIN)/python -m chaos.soak --seconds 3600 --backend all $(SOAK)

explore: $(VENV)/tools ## the rules of a lease through whatever can happen to a request (EXPLORE='--case two_runs --faults 2')
	$(BIN)/python -m explorer --long $(EXPLORE)

fuzz: $(VENV)/tools ## nonsense for everything that reads what others wrote (INPUTS=1000000)
	$(BIN)/python -m fuzz --inputs $(or $(INPUTS),1000000)

bench: $(VENV)/tools ## what a run costs, beside the bare interpreter and its rivals (WRITE=1: into docs/; BENCH=--package)
	sh tools/need.sh venv tests bench
	$(BIN)/python -m bench.performance $(if $(WRITE),--write) $(BENCH)

bench-standby: $(VENV)/tools ## what a thousand runs in standby on one key cost a Redis server
	sh tools/need.sh venv tests
	$(BIN)/python -m bench.standby

takeover-test: $(VENV)/tools ## ten machines, one dies in the middle of the job, fifty times on each backend
	CRONLOCK_TAKEOVERS=50 $(BIN)/pytest -n 4 tests/fleet/test_takeover.py

fleet: $(VENV)/tools ## what a whole fleet at second zero costs its server (WRITE=1: into docs/; FLEET='--soak 600')
	sh tools/need.sh venv tests
	$(BIN)/python -m bench.fleet $(if $(WRITE),--write) $(FLEET)

site: $(VENV)/site ## README, docs/ and the manual as pages with a search, in build/site; every link is checked
	$(BIN)/mkdocs build --quiet
	$(BIN)/python tools/site/check.py build/site

reference: $(VENV)/installed ## write the parts of manual page and README that the program's tables give
	$(BIN)/python tools/reference.py

format: $(VENV)/tools ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what make made
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: pyproject.toml
	PYTHON='$(PYTHON)' sh tools/need.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/tools: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,emulators,lint]'
	touch $@

$(VENV)/site: pyproject.toml $(VENV)/installed
	sh tools/need.sh site
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[site]'
	touch $@

include packaging/targets.mk
