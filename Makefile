# Two commands are all that a fresh machine with python3, venv and make needs: `make run` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: help run test lint bench bench-frameworks screenshots snapshots clean

help:
	@echo "make run          install into $(VENV) and open the studio (without a terminal: train the default preset)"
	@echo "make test         install and run the tests"
	@echo "make lint         ruff, mypy and the import contracts"
	@echo "make bench        race torch-tui against loops written by hand and the frameworks that are there (about an hour)"
	@echo "make bench-frameworks   install those frameworks, each apart from the project: about 1 GB"
	@echo "make screenshots  draw the pictures of the README and the docs anew"
	@echo "make snapshots    take the studio's looks as they are now for right"
	@echo "make clean        remove $(VENV)"

run: $(VENV)/.installed
	@$(BIN)/torch-tui

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/loops.py --all $(BENCH)

bench-frameworks: $(VENV)/.installed
	$(BIN)/python benchmarks/environments.py

screenshots: $(VENV)/.installed-dev
	$(BIN)/python docs/make_screenshots.py

snapshots: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/tui/test_snapshots.py --snapshot-update

clean:
	rm -rf $(VENV)

# torch and torchvision are resolved together, with nothing pinned below them: a lone CPU wheel of torch next to a
# torchvision of another build fails at import (operator torchvision::nms does not exist).
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "torch-tui needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing torch-tui and PyTorch into $(VENV): about 5 GB, a few minutes, once." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . >&2
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	@$(MAKE) --no-print-directory $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
	@touch $@
