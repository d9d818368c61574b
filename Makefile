# This file installs everything that a working copy needs, except python3, make and, for the tests, Debian packages.

PYTHON ?= python3
export PYTHON
BIN := .venv/bin
NPM_PEER := tests/peers/oidc_provider
LOWEST := .venv/lowest
# The number of test processes: one more than processors, because many tests wait for servers and browsers.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(1 + (os.cpu_count() or 1))")

# The time with load and faults on each store, and the seed of the decisions; 0 selects one at random.
SOAK_SECONDS ?= 600
SOAK_SEED ?= 0

# The tests whose coverage is measured: they run in the process of the tests. For the others it would double the time.
CORE_TESTS := tests/backends tests/flow tests/pages tests/protocol tests/providers tests/state

# The time that make fuzz takes for each door, and the door: all, or a name from tests/fuzz/doors.py.
FUZZ_SECONDS ?= 60
FUZZ_DOOR ?= all

# Tests that compare times. They run by themselves, because other tests would disturb them.
TIMED_TESTS := tests/test_hanging_provider.py

# The part of the tests that make test-pythons runs; PYTHONS_TESTS=tests runs all of them.
PYTHONS_TESTS ?= tests/backends tests/flow tests/pages tests/protocol tests/state tests/test_config.py \
	tests/test_exceptions.py tests/test_imports.py tests/test_models.py tests/test_silent_login.py

# The programs that the tests use besides Python and npm packages, each as command:package. tkinter is a part of Python.
TEST_PACKAGES := chromium:chromium chromedriver:chromium-driver certutil:libnss3-tools \
	redis-server:redis-server nginx:nginx curl:curl dbus-run-session:dbus gnome-keyring-daemon:gnome-keyring \
	pg_ctlcluster:postgresql \
	git:git kubectl:kubernetes-client Xvfb:xvfb tkinter

# The further servers that make matrix tries, in the same form, and as pip packages. uwsgi is compiled.
MATRIX_PACKAGES := caddy:caddy apache2:apache2 /usr/lib/apache2/modules/mod_wsgi.so:libapache2-mod-wsgi-py3 cc:gcc \
	python3-config:python3-dev
MATRIX_SERVERS := gevent hypercorn uwsgi uvicorn waitress

# The frameworks of the recipes, in a virtual environment of their own: about 1 GB.
RECIPES := .venv/recipes
FRAMEWORKS := dash gradio nicegui streamlit

# One step after the other, even with -j, because two installers at once would wait for the same lock.
.NOTPARALLEL:
.PHONY: help test test-pythons soak fuzz matrix recipes lint types setup system-packages demo docs clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

test: lint types ## install missing parts, then run lint, types and all tests
	$(BIN)/pytest -n $(WORKERS) $(CORE_TESTS) --cov
	$(BIN)/pytest -n $(WORKERS) $(addprefix --ignore=,$(CORE_TESTS) $(TIMED_TESTS))
	$(BIN)/pytest $(TIMED_TESTS)
	PYTHONPATH=$(LOWEST) $(BIN)/python -c "import fastapi; assert fastapi.__version__ == '0.110.0'"
	PYTHONPATH=$(LOWEST) $(BIN)/pytest -n $(WORKERS) tests/asgi tests/deploy/test_callback.py

test-pythons: setup ## run a part of the tests on each Python of this machine
	tests/pythons.sh -n $(WORKERS) $(PYTHONS_TESTS)

lint: setup ## check style, format and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell -D -

types: setup ## check types
	$(BIN)/mypy

setup: .venv/.tests $(LOWEST)/fastapi $(NPM_PEER)/node_modules/.package-lock.json ## install everything that the tests need

soak: setup ## run the long tests, then load and faults for SOAK_SECONDS on each store
	SOAK=1 $(BIN)/pytest -s -o timeout=900 tests/test_app.py tests/test_gunicorn.py tests/test_lost_access.py \
		tests/test_one_refresh.py tests/test_failover.py tests/test_metrics_of_workers.py tests/test_rotation.py
	SOAK=1 $(BIN)/pytest -n $(WORKERS) -o timeout=900 tests/backends tests/deploy tests/lifecycle tests/outages
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) --seed $(SOAK_SEED)

fuzz: setup .venv/.fuzz ## search for inputs that break a property, FUZZ_SECONDS at FUZZ_DOOR or at each door
	nice $(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --door $(FUZZ_DOOR)

matrix: setup .venv/.matrix ## try servers, workers, stores and proxies together, and write the table of the docs
	$(BIN)/python -m tests.matrix

recipes: .venv/.recipes ## try the recipes for Dash, Gradio, NiceGUI and Streamlit in a browser
	$(RECIPES)/bin/pytest -p no:dash tests/recipes

demo: .venv/.runtime ## run a web application with a local provider, and sign in
	$(BIN)/pywry-auth demo

docs: .venv/.docs ## build the documentation site; every warning is an error
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -W --keep-going -n -q docs docs/_build/html
	@echo docs/_build/html/index.html

clean: ## remove everything that was installed or generated here
	rm -rf .venv docs/_build $(NPM_PEER)/node_modules *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	@tests/system_packages.sh venv $(TEST_PACKAGES)

# Without ensurepip, venv creates a python without pip; so pip shows that venv succeeded.
$(BIN)/pip:
	@tests/system_packages.sh venv
	$(PYTHON) -m venv .venv

.venv/.runtime: setup.cfg pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[deploy]'
	touch $@

.venv/.docs: setup.cfg pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

.venv/.tests: setup.cfg pyproject.toml | system-packages $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	touch .venv/.runtime $@

# Without atheris, which has no wheel for some systems, hypothesis makes the inputs.
.venv/.fuzz: | .venv/.tests
	$(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: 'atheris>=3' || echo "without atheris"
	touch $@

.venv/.matrix: | .venv/.tests
	@tests/system_packages.sh $(MATRIX_PACKAGES)
	$(BIN)/pip install --quiet --disable-pip-version-check $(MATRIX_SERVERS)
	touch $@

.venv/.recipes: setup.cfg pyproject.toml | system-packages
	$(PYTHON) -m venv $(RECIPES)
	$(RECIPES)/bin/pip install --quiet --disable-pip-version-check -e '.[test]' $(FRAMEWORKS)
	touch $@

# The oldest supported FastAPI, in a folder that PYTHONPATH puts before the newest one.
$(LOWEST)/fastapi: | .venv/.tests
	$(BIN)/pip install --quiet --disable-pip-version-check --target $(LOWEST) fastapi==0.110.0 a2wsgi==1.10.0

$(NPM_PEER)/node_modules/.package-lock.json: $(NPM_PEER)/package.json $(NPM_PEER)/package-lock.json | .venv/.tests
	$(BIN)/npm ci --prefix $(NPM_PEER) --ignore-scripts --no-audit --no-fund
