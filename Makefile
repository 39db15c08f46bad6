# Every target sets up .venv by itself when it is missing or older than the locks. Packages are installed by uv,
# which is many times faster than pip; where uv cannot be had, or finds no package index, by pip.

PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/installed-demo
INSTALLED := .venv/installed
# Processes that run tests at the same time: one more than cores, as many tests wait for another process.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
# The share of lines and branches, in per cent, that the tests must reach.
COVERAGE_FLOOR := 96

.PHONY: help demo test test-heavy coverage torture screenshots lint docs lock bench

help:
	@echo "make demo   the whole product on this machine, with sample reports"
	@echo "make test   the tests; with DATABASE_URL, CELERY_BROKER_URL, CEPH_ENV on those services"
	@echo "make test-heavy  loads and fault runs of many seconds each"
	@echo "make coverage  all tests, and that they reach every part of the code"
	@echo "make torture  1,000 reports, five minutes of killed workers, lost messages and a faulty store"
	@echo "make screenshots  the pictures of docs/images, by the tests"
	@echo "make lint   style, types, imports, migrations"
	@echo "make docs   the documentation site into site/, with its links checked"
	@echo "make lock   the locks of the requirements, anew; LOCK_ARGS=--upgrade for the newest versions"
	@echo "make bench  throughput beside other tools, the ways in, costs among a million rows; BENCH=near for one line"

# venv installs pip last: an environment without pip is incomplete, and is created again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv

# $(call install,FILE) installs what a requirements file names. uv reads no settings of pip, so it is given pip's index.
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
	$(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal -m "" $(PYTEST_ARGS)
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

# A link or an anchor that leads nowhere, or a page that the navigation lacks, fails. Needs no network.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The locks name every package with its version and hashes; the requirements name only what is used directly.
lock: $(INSTALLED)
	@for each in requirements requirements-demo requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --output-file $$each.lock $(LOCK_ARGS) $$each.txt || exit 1; done

# BENCH="near far" runs these alone; python -m benchmarks has their names.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(BENCH)
