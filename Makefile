.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than the cores: much of a test is waiting for other processes.
JOBS ?= 4

# The versions that everything is tested with.
LOCK := requirements-dev.lock
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --custom-compile-command 'make lock' \
	$(if $(UPGRADE),--upgrade)

.PHONY: help demo test test-long check format docs translations site lock screenshots soak bench clean

help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/orchestrator: pyproject.toml $(LOCK)
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK) --editable .
	@touch $@

$(BIN)/pytest: $(BIN)/orchestrator
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK) --editable '.[dev]'
	@touch $@

demo: $(BIN)/orchestrator ## Play every story against the sandbox; Ctrl-C ends it
	@$(BIN)/orchestrator demo

test: $(BIN)/pytest ## All that must hold at each commit
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not soak and not long'

test-long: $(BIN)/pytest ## What takes minutes more: PostgreSQL, rotations, the tutorial; CI runs it too
	$(BIN)/pytest -n 2 --dist worksteal -m 'long and not soak'

check: $(BIN)/pytest site ## Lint, format, types, and the documentation's links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/pytest ## Write the code as `check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(BIN)/pytest ## Write the reference pages, the picture of the states and the guarantees from the code
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_guarantees.py

lock: $(BIN)/pytest ## Write the lock files for pyproject.toml; UPGRADE=1 takes the newest versions
	$(COMPILE) pyproject.toml --extra dev --no-emit-package pip -o $(LOCK)
	$(COMPILE) pyproject.toml --extra postgres --extra s3 --constraint $(LOCK) --generate-hashes -o requirements.lock

site: $(BIN)/pytest ## Build the documentation as pages, in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

screenshots: $(BIN)/pytest ## Take the pictures of the pages in docs/images; needs Chromium
	$(BIN)/python -m tests.make_screenshots

translations: $(BIN)/pytest ## Bring the catalogs up to date with the pages' words, and compile them
	mkdir -p build
	$(BIN)/pybabel -q extract --project kyc-onboarding-orchestrator --msgid-bugs-address "the issues of the project" -F babel.cfg -c Translators: --no-location -w 120 -o build/messages.pot .
	$(BIN)/pybabel -q update --ignore-obsolete --no-fuzzy-matching --ignore-pot-creation-date -w 120 -i build/messages.pot -d orchestrator/translations
	$(BIN)/pybabel compile --statistics -d orchestrator/translations

soak: $(BIN)/pytest ## What takes too long for each commit; its figures go into docs/guarantees.md
	rm -f soak-figures.json
	$(BIN)/pytest -m soak -s
	$(BIN)/python docs/make_guarantees.py --figures

bench: $(BIN)/pytest ## Measure everything beside its goals, in about 12 minutes
	$(BIN)/python -m benchmarks

clean: ## Remove what was made
	rm -rf $(VENV) build dist *.egg-info
