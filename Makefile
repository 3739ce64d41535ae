# Targets make what they need: a virtual environment in $(VENV), then the packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := autocompress tests examples

.PHONY: demo test lint clean

demo: export PYTHONDONTWRITEBYTECODE =
demo: $(VENV)/.runtime
	$(BIN)/autocompress compress resnet18 --data digits --input-size 32 \
	  --budget "latency<=60%,size<=35%" --time 3m --out runs/demo --overwrite

# A thread a process: torch would start as many as there are cores in each, and they would wait for one another.
# What judges times runs alone.
# Processes that tests start would compile this package anew wherever the user keeps Python from writing it down.
test: export OMP_NUM_THREADS = 1
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not quiet"
	$(BIN)/python -m pytest -m quiet

lint: $(VENV)/.lint
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch and torchvision are installed together and first: pip then picks a pair that fits, and keeps it.
# Python compiles what is imported when it first is: much less than all that is installed.
$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed: make PYTHON=...'"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile torch torchvision
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[test]"
	touch $@

$(VENV)/.lint: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[lint]"
	touch $@
