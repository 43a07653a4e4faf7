# `make lenet` runs the quantized LeNet end to end; `make test` runs the tests.
# Both set up what they need in .venv, and are quick the second time.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

BUILD_TOOLS = g++=g++ make=make perl=perl
WAVE_HEADERS = /usr/include/zlib.h=zlib1g-dev /usr/include/lz4.h=liblz4-dev

.PHONY: lenet test bench verify lint format docs clean help

help:
	@echo "make lenet   quantize, compile and run LeNet on the generated RTL (ARGS='--backend icarus')"
	@echo "make test    run every test"
	@echo "make bench   measure every network on the RTL, write benchmarks/ and the tables (ARGS=lenet)"
	@echo "make verify  long random campaigns in sequence (ARGS=--help lists them; ARGS='programs --count 1000')"
	@echo "make lint    format check, lint, types, spelling"
	@echo "make docs    regenerate the generated documents"

lenet: $(READY)
	@tools/system-packages $(BUILD_TOOLS) $(if $(findstring icarus,$(ARGS)),iverilog=iverilog) \
		$(if $(findstring --trace,$(ARGS)),$(WAVE_HEADERS))
	@$(BIN)/weft run lenet $(ARGS)

test: $(READY)
	@tools/system-packages $(BUILD_TOOLS) $(WAVE_HEADERS) iverilog=iverilog tclsh=tcl
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

bench: $(READY)
	@tools/system-packages $(BUILD_TOOLS)
	$(BIN)/python tools/measure.py $(ARGS)

verify: $(READY)
	@tools/system-packages $(BUILD_TOOLS)
	$(BIN)/python -m tests.campaigns $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/codespell README.md CHANGELOG.md docs hdl host tb boards tests examples tools

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BIN)/python -m weft.host.docgen

$(READY): pyproject.toml constraints.txt
	@tools/system-packages $(BUILD_TOOLS)
	@echo "Setting up $(VENV) (some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,train,plot,boards,proofs,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build out
