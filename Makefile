# Two commands do everything on a fresh machine with Python 3.11+, make and a package index:
#   make run    the whole system in simulation mode        make test   every test
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SOURCES := common_models bus runtime trading strategy plugins connectors simulator bot alerts postgres tradebot monitoring tests bench

.PHONY: run test test-ops install check security format bench chaos env dashboards lock clean

run: $(INSTALLED)
	@$(BIN)/tradebot up

test: $(INSTALLED)
	$(BIN)/pytest -m "not chaos and not ops" -n 2 --dist loadfile

install: $(INSTALLED)

check: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# What a scanner finds in our code; what is known of the libraries is asked in .github/workflows/ci.yml, since that needs a network.
security: $(INSTALLED)
	$(BIN)/bandit --quiet -c pyproject.toml -r $(filter-out tests bench,$(SOURCES))

format: $(INSTALLED)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(INSTALLED)
	$(BIN)/python -m bench

chaos: $(INSTALLED)
	$(BIN)/pytest -m chaos --timeout 1800

# Against a real Prometheus, Alertmanager and others; on Debian as root it installs what is missing.
test-ops: $(INSTALLED)
	$(BIN)/pytest -m ops --timeout 1800

# monitoring/grafana/dashboards/*.json from monitoring/dashboards/; a test compares them.
dashboards: $(INSTALLED)
	$(BIN)/python -m monitoring.dashboards

# .env and secrets/ for docker compose, with random passwords; what is there already stays.
env: $(INSTALLED)
	@$(BIN)/tradebot env

$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "tradebot needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Installing into .venv (once; about a minute) ..."
	@$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --only-binary :all: --quiet --progress-bar on -r requirements-dev.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-index --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

# Pins and hashes for every supported Python and platform; needs uv (`pip install uv`).
lock:
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --only-binary :all: --quiet pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --only-binary :all: --quiet --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
