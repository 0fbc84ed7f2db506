# Everything happens in .venv; nothing but Python >= 3.11 and make has to be installed by hand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The interpreter that made the environment: another one (a changed PYTHON, a newer system) makes it anew.
STAMP  := $(VENV)/.installed
# The benchmarks need the peers, which nothing else shall have beside it.
BENCH  := .venv-bench
# The load generator, and nothing of Authly beside it.
LOAD   := .venv-load
# Tests wait for processes a third of their time: half as many again as there are cores keep them busy.
TESTERS = $(shell $(PYTHON) -c 'import os; print((len(os.sched_getaffinity(0)) * 3 + 1) // 2)')
# Most of what is installed is never imported; what is, is compiled then, and once.
INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile
# A uv, where there is one, installs in seconds what takes pip a minute. What it cannot get, pip may, which then has to
# be there: it takes longer to install than everything else takes uv.
UV ?=
environment = $(PYTHON) -m venv $(if $(UV),--without-pip )$1
install = $(if $(UV),$(UV) pip install --quiet --python $1/bin/python $2 2> /dev/null ||) \
	{ $(if $(UV),$1/bin/python -m ensurepip > /dev/null &&) $1/bin/python $(INSTALL) $2; }

# The suite starts hundreds of processes: none shall compile again what another has compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-fast check format bench load soak screenshots dashboards pictures metrics-page kubernetes check-image lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Authly needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Call make with PYTHON=/path/to/python3.11.")'
	@rm -rf $(VENV)
	@echo "Making the environment in $(VENV) (about half a minute, once) ..."
	@$(call environment,$(VENV))
	@$(call install,$(VENV),--require-hashes -r requirements.lock)
	@$(call install,$(VENV),--no-deps --no-build-isolation --editable .)
	@touch $@

run: $(STAMP) ## Authly on an embedded PostgreSQL, with its exporter (Ctrl-C ends all of it)
	@$(BIN)/authly serve

observe: $(STAMP) ## Authly, traffic, Prometheus with the rules, and Alertmanager: see it alert (Ctrl-C ends all of it)
	@.ci/tools prometheus prometheus-alertmanager
	@$(BIN)/python -m tests.observe

test: $(STAMP) ## the whole suite
	@PYTEST_XDIST_AUTO_NUM_WORKERS=$(TESTERS) $(BIN)/pytest -n auto --dist worksteal -m 'not serial'
	@$(BIN)/pytest -m serial $$(grep -rl --include='test_*.py' 'mark\.serial' tests)

test-fast: $(STAMP) ## unit tests only
	@$(BIN)/pytest -n auto tests/unit

check: $(STAMP) ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(BENCH)/.installed: requirements.lock benchmarks/requirements.lock pyproject.toml
	@rm -rf $(BENCH)
	@echo "Making the environment of the benchmarks in $(BENCH) (about a minute, once) ..."
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python $(INSTALL) --require-hashes \
		-r requirements.lock -r benchmarks/requirements.lock
	@$(BENCH)/bin/python $(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

bench: $(BENCH)/.installed ## measure side by side with the peers; table, JSON and plot below benchmarks/results
	@$(BENCH)/bin/python -m benchmarks

$(LOAD)/.installed: loadtests/requirements.lock
	@rm -rf $(LOAD)
	@$(call environment,$(LOAD))
	@$(call install,$(LOAD),--require-hashes -r loadtests/requirements.lock)
	@touch $@

load: $(STAMP) $(LOAD)/.installed ## what measuring costs under load, judged by its budgets; about nine minutes
	@$(BIN)/python -m loadtests gate

soak: $(STAMP) $(LOAD)/.installed ## load and chaos for some minutes; MINUTES and SEED choose
	@$(BIN)/python -m loadtests soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

screenshots: $(STAMP) ## take the pictures of the pages in docs/images again (needs Debian's chromium-headless-shell)
	@$(BIN)/python -m tests.status_screenshots
	@$(BIN)/python -m tests.screenshots

dashboards: $(STAMP) ## write the dashboards of Grafana again (docker-compose/grafana/dashboards)
	@$(BIN)/python -m dashboards

pictures: $(STAMP) ## take the pictures of the dashboards in docs/images again (a real run of four minutes; Debian's chromium-headless-shell)
	@.ci/tools prometheus prometheus-alertmanager
	@$(BIN)/python -m tests.dashboard_screenshots

metrics-page: $(STAMP) ## write docs/metrics.md from the definitions of the metrics
	@$(BIN)/python -m tests.metrics_page

kubernetes: $(STAMP) ## write the rules of docker-compose/prometheus/rules as deploy/kubernetes/prometheusrule.yaml
	@$(BIN)/python deploy/kubernetes/prometheusrule.py > deploy/kubernetes/prometheusrule.yaml

check-image: $(STAMP) ## carry out the Dockerfile in a plain root file system (root, Debian's debootstrap, three minutes)
	@$(BIN)/python -m tests.image

# uv writes no addresses unless it is told to.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'

lock: ## resolve the dependencies again into requirements.lock (hashes, no addresses)
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	@$(COMPILE) --all-extras --group dev pyproject.toml --output-file requirements.lock
	@$(COMPILE) --group bench --constraint requirements.lock --output-file benchmarks/requirements.lock
	@$(COMPILE) --extra redis --constraint requirements.lock pyproject.toml --output-file deploy/requirements.lock
	@$(COMPILE) --group build --constraint requirements.lock --output-file deploy/build.lock
	@$(COMPILE) --group load --output-file loadtests/requirements.lock

clean: ## remove the environment and the caches (never the state directory .authly)
	@rm -rf $(VENV) $(BENCH) $(LOAD) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
