# Every target creates .venv if it is missing or older than the locks. Packages are installed with uv, which is many times
# faster than pip. If uv is not available or finds no package index, they are installed with pip.

PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/installed-demo
INSTALLED := .venv/installed
# Number of test processes: one more than cores, because many tests wait for other processes.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
# The minimum coverage of lines and branches in percent.
COVERAGE_FLOOR := 96

.PHONY: help demo test test-heavy coverage torture screenshots lint docs lock bench

help:
	@echo "make demo         run the whole product on this machine, with sample reports"
	@echo "make test         run the tests; with DATABASE_URL, CELERY_BROKER_URL, CEPH_ENV on these services"
	@echo "make test-heavy   run the load and fault tests"
	@echo "make coverage     run the tests of make test and check their coverage"
	@echo "make torture      deliver 1,000 reports with killed workers, lost messages and a faulty store; five minutes"
	@echo "make screenshots  create the pictures in docs/images"
	@echo "make lint         check style, types, imports, migrations"
	@echo "make docs         build the documentation site into site/ and check its links"
	@echo "make lock         update the locks of the requirements; LOCK_ARGS=--upgrade for the newest versions"
	@echo "make bench        run the measurements; BENCH=near for one of them"

# venv installs pip last: an environment without pip is incomplete, and is created again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv

# $(call install,FILE) installs a requirements file. uv does not read pip's settings, so it gets pip's index here.
define install
	@index=$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}}}; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	if command -v uv >/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check uv; then \
	  PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --requirement $(1); \
	else false; fi \
	|| $(BIN)/pip install --quiet --disable-pip-version-check --requirement $(1)
endef

$(DEMO): requirements-demo.lock | $(BIN)/pip
	$(call install,requirements-demo.lock)
	@touch $@

$(INSTALLED): requirements-dev.lock | $(BIN)/pip
	$(call install,requirements-dev.lock)
	@touch $(DEMO) $@

demo: $(DEMO)
	@$(BIN)/python -m anaphora.demo

test: $(INSTALLED)
	$(PYTEST) $(PYTEST_ARGS)

test-heavy: $(INSTALLED)
	$(PYTEST) -m heavy $(PYTEST_ARGS)

coverage: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE_FLOOR)

torture: $(INSTALLED)
	TORTURE_REPORTS=1000 TORTURE_SECONDS=300 $(BIN)/python -m pytest -s -m heavy tests/system/test_torture.py

screenshots: $(INSTALLED)
	SCREENSHOTS=docs/images $(BIN)/python -m pytest -q -m "heavy or not heavy" tests/timeline/test_timeline_browser.py \
	  tests/operations/test_overview_browser.py tests/system/test_screenshots.py -k pictured

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	SECRET_KEY=lint FERNET_KEYS=lint $(BIN)/python manage.py makemigrations --check --dry-run

# Fails if a link or an anchor is broken, or if a page is missing in the navigation. Needs no network.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The locks list all packages with versions and hashes; the requirements list only the packages that are used directly.
lock: $(INSTALLED)
	@for each in requirements requirements-demo requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --output-file $$each.lock $(LOCK_ARGS) $$each.txt || exit 1; done

# BENCH="near far" runs only these; benchmarks/__main__.py lists the names.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(BENCH)
