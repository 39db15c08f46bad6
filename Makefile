# Every target sets up .venv by itself when it is missing or older than the requirements.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# The share of lines and branches, in per cent, that the tests must reach.
COVERAGE_FLOOR := 96

.PHONY: help demo test torture lint bench

help:
	@echo "make demo   the whole product on this machine, with sample reports"
	@echo "make test   the tests; with DATABASE_URL, CELERY_BROKER_URL, CEPH_ENV on those services"
	@echo "make torture  1,000 reports, five minutes of killed workers, lost messages and a faulty store"
	@echo "make lint   style, types, migrations"
	@echo "make bench  memory for a 1 GiB report; CPU of an upload against stock django-storages"

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

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SECRET_KEY=lint FERNET_KEYS=lint $(BIN)/python manage.py makemigrations --check --dry-run

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.upload
