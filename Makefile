# cronlock: what can be done with a checkout. `make` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for something, so that two cores run this many at once; tests/conftest.py has the order.
WORKERS ?= 10
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Those that need no server compute.
UNIT := -n 4 --dist loadfile
WITHOUT_SERVERS := tests/unit tests/test_cli.py tests/engines/file
# What may differ between interpreters; all else is tested on one of them, and by `make wheel-test`.
ON_EACH_PYTHON := tests/unit tests/test_cli.py tests/engines/postgresql/test_libpq.py tests/engines/wire/test_tls.py \
	--ignore tests/unit/test_engines_stand_alone.py --ignore tests/unit/test_layers.py
# Cron fires once a minute: these wait for it, and belong to `make package-test`.
SLOW := --ignore tests/docs/test_quickstart.py --ignore tests/docs/test_image.py
# Byte code is written whatever the caller's environment says: starts are what is measured.
export PYTHONDONTWRITEBYTECODE =
# Without it, the theme prints an advertisement.
export NO_MKDOCS_2_WARNING = 1

# Each target makes what it needs: a virtual environment, and Debian's packages for servers and tools (as root, or sudo).
.PHONY: help demo test test-code test-ends test-here bench check lint types docs unit format reference pictures site clean
.PHONY: test-all-pythons test-again cron-test board-test test-servers
.PHONY: explore chaos torture-all mutants mutation-score takeovers soak fuzz fleet bench-standby

help: ## list the targets
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

##@ First
demo: ## race three runs of one key: one runs, two skip
	@$(MAKE) --no-print-directory -s $(VENV)/installed
	@sh tools/demo.sh $(BIN)/python

test: ## the one command: install what the tests need, check, and test everything
	sh tools/install-deps.sh tests packages
	$(MAKE) --no-print-directory -j2 check test-code
	$(MAKE) --no-print-directory -j2 test-ends test-here

bench: $(VENV)/tools ## measure what a run costs, beside its rivals (WRITE=1: into docs/; BENCH=--package)
	sh tools/install-deps.sh venv tests bench
	$(BIN)/python -m bench.performance $(if $(WRITE),--write) $(BENCH)

check: lint types docs ## lint, types and generated documents, in seconds

##@ While you work
unit: $(VENV)/tools ## the tests that need no server
	$(BIN)/pytest $(UNIT) $(WITHOUT_SERVERS)

lint: $(VENV)/tools ## ruff, shellcheck, and the schemas of .github/
	sh tools/install-deps.sh lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	shellcheck tools/*.sh .ci/run completions/cronlock.bash
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml

types: $(VENV)/tools ## mypy --strict
	$(BIN)/mypy

docs: $(VENV)/tools ## manual pages and the parts of documents that programs write
	sh tools/install-deps.sh lint
	$(BIN)/python tools/reference.py --check
	sh tools/lint-manual.sh man/*.[157]
	$(BIN)/python -m chaos.report --check
	$(BIN)/python -m bench.fleet --check
	$(BIN)/python tools/pictures/draw.py --check

format: $(VENV)/tools ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/installed ## write the manual pages and the table in README from the program's tables
	$(BIN)/python tools/reference.py

pictures: $(VENV)/tools $(VENV)/site ## draw the pictures of the documents that the program makes
	sh tools/install-deps.sh browser
	$(BIN)/python tools/pictures/draw.py

site: $(VENV)/site ## README, docs/ and the manual as pages with a search, in build/site; every link is checked
	$(BIN)/mkdocs build --quiet
	$(BIN)/python tools/site/check.py build/site

clean: ## remove what the other targets made
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ More tests
# The tests' byte code, which each worker would make for itself otherwise.
test-code: $(VENV)/tools ## a step of make test: compile the tests
	@$(BIN)/pytest --collect-only -qq tests >/dev/null 2>&1 || :

# Beside each other, since the second mostly waits; what the first says is shown when it is over.
test-ends: ## a step of make test: unit tests under the oldest and the newest Python
	@mkdir -p build
	@echo 'Unit tests under the oldest and the newest Python: see build/test-ends.log'
	@sh tools/test-pythons.sh ends $(UNIT) $(ON_EACH_PYTHON) >build/test-ends.log 2>&1; \
		status=$$?; cat build/test-ends.log; exit $$status

test-here: $(VENV)/tools ## a step of make test: all tests under the Python of .venv
	sh tools/install-deps.sh tests packages
	CRONLOCK_WRAP_LINES=$${CRONLOCK_WRAP_LINES:-500} env -u MAKEFLAGS $(BIN)/pytest $(PARALLEL) $(SLOW) tests

test-all-pythons: ## unit tests under every supported Python that is found
	PYTHON='$(PYTHON)' sh tools/install-deps.sh venv
	sh tools/test-pythons.sh all $(UNIT) $(ON_EACH_PYTHON)

test-again: ## make test, RUNS=10 times up to the first that fails: none may fail for no reason
	@sh tools/test-again.sh $(or $(RUNS),10) build/test-again

cron-test: $(VENV)/tools ## the real cron on three machines over many ticks (minutes, as root)
	sh tools/install-deps.sh tests
	CRONLOCK_CRON_TICKS=5 $(BIN)/pytest -v tests/fleet

board-test: $(VENV)/tools ## the board in Chromium: hostile names, contrast, keyboard, small screens
	sh tools/install-deps.sh browser
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps axe-playwright-python==0.1.8
	$(BIN)/pytest -v tests/board/in_chromium.py

test-servers: $(VENV)/tools ## each engine's contract on other versions of its server (SERVERS='--only etcd')
	sh tools/install-deps.sh venv tests servers
	$(BIN)/python -m labs.versions $(if $(WRITE),--write) $(SERVERS)

##@ Proofs and measurements, which take long
explore: $(VENV)/tools ## the rules of a lease under all interleavings (EXPLORE='--case two_runs --faults 2')
	$(BIN)/python -m explorer --long $(EXPLORE)

chaos: $(VENV)/tools ## break everything while runs go on, and check the history (CHAOS='--backend redis')
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m chaos $(or $(CHAOS),--backend all --seconds 300)

torture-all: $(VENV)/tools ## `make chaos` on every backend in turns, for SECONDS=3600 (TORTURE=--report)
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m chaos.turns --seconds $(or $(SECONDS),3600) $(TORTURE)

mutants: $(VENV)/tools ## put bugs into copies of the program, each of which `make chaos` must catch
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m chaos.mutants $(MUTANTS)

mutation-score: $(VENV)/tools ## change what decides about leases at each place: unit tests must notice (SCORE='lease/rules.py')
	$(BIN)/python -m chaos.mutants.score $(SCORE)

takeovers: $(VENV)/tools ## ten machines, one dies during the job, fifty times on each backend (TAKEOVERS='--backend etcd')
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m chaos.takeovers $(TAKEOVERS)

soak: $(VENV)/tools ## an hour of renewals on each backend: nothing may grow (SOAK='--seconds 60')
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m chaos.soak --seconds 3600 --backend all $(SOAK)

fuzz: $(VENV)/tools ## malformed input for every parser (INPUTS=1000000)
	$(BIN)/python -m fuzz --inputs $(or $(INPUTS),1000000)

fleet: $(VENV)/tools ## measure what thousands of machines at one second cost the server (WRITE=1; FLEET='--soak 600')
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m bench.fleet $(if $(WRITE),--write) $(FLEET)

bench-standby: $(VENV)/tools ## measure what a thousand standbys on one key cost Redis
	sh tools/install-deps.sh venv tests
	$(BIN)/python -m bench.standby

$(VENV)/installed: pyproject.toml
	PYTHON='$(PYTHON)' sh tools/install-deps.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/tools: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,emulators,lint]'
	touch $@

$(VENV)/site: pyproject.toml $(VENV)/installed
	sh tools/install-deps.sh site
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[site]'
	touch $@

include packaging/targets.mk
