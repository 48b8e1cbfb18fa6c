# accelsim: everything a newcomer needs.
#
#   make demo    install into .venv, train a small CNN on a 4-bit and on a 16-bit chip, write reports/demo
#   make test    install with the developers' tools; lint, format, types and all tests
#   make bench   install with the peers that pip has; speed against float32 and them, into reports/bench
#   make clean   remove .venv, caches and the demo's report
#
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer); otherwise the first that fits is taken.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test bench clean

help:
	@sed -n '3,8s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed
	$(BIN)/accelsim compare fp4_training fp16_training fashion_cnn --out reports/demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist reports/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps make a repeated call cheap: pip runs again only when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	@echo "installing accelsim into $(VENV) ..."
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.created
	@echo "installing accelsim and the developers' tools into $(VENV) ..."
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.created
	@echo "installing accelsim and the peers it is measured against into $(VENV) ..."
	$(PIP) install -e '.[bench]'
	@touch $@ $(VENV)/.installed

$(VENV)/.created:
	@for python in $(CANDIDATES); do \
	  if "$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	    rm -rf $(VENV); \
	  fi; \
	done; \
	echo "error: accelsim needs Python 3.11 or newer with the venv module; tried: $(CANDIDATES)." \
	  "Install one, or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
