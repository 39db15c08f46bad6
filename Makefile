# Every target sets up .venv by itself when it is missing or older than the requirements.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# The share of lines and branches, in per cent, that the tests must reach.
COVERAGE_FLOOR := 96

.PHONY: help demo test torture screenshots lint bench

help:
	@echo "make demo   the whole product on this machine, with sample reports"
	@echo "make test   the tests; with DATABASE_URL, CELERY_BROKER_URL, CEPH_ENV on those services"
	@echo "make torture  1,000 reports, five minutes of killed workers, lost messages and a faulty store"
	@echo "make screenshots  the pictures of docs/, by the tests of the timeline"
	@echo "make lint   style, types, migrations"
	@echo "make bench  throughput beside other tools, CPU per upload, memory for 1 GiB, a claim among a million"

$(INSTALLED): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

demo: $(INSTALLED)
	@$(BIN)/python -m anaphora.demo

test: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE_FLOOR)

torture: $(INSTALLED)
	TORTURE_REPORTS=1000 TORTURE_SECONDS=300 $(BIN)/python -m pytest -s tests/test_torture.py

screenshots: $(INSTALLED)
	SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/test_timeline_browser.py -k pictured

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SECRET_KEY=lint FERNET_KEYS=lint $(BIN)/python manage.py makemigrations --check --dry-run

bench: $(INSTALLED)
	@status=0; for each in upload claim asof rebuild memory engine; do \
	  echo "== benchmarks.$$each"; $(BIN)/python -m benchmarks.$$each || status=1; done; exit $$status
