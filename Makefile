# `make help` lists the targets. Each makes the environment that it needs and takes no other
# step; PYTHON chooses the interpreter that the environment is made from.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# An environment of its own, because flwr asks for older versions of some packages than the rest does.
FLOWER := $(VENV)-flower
# Another, because nothing else needs these packages.
TOOLS := $(VENV)-tools
# Each release series of scikit-learn that is promised, and all lower bounds at once.
OLDEST := $(VENV)-oldest
SKLEARN ?= 1.6 1.7 1.8
RELEASE := $(VENV)-release
# Another, because nothing else needs Sphinx and its theme.
DOCS := $(VENV)-docs
PIP := -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-flower test-tools test-oldest test-sklearn check docs release-check coverage soak soak-here soak-flower fuzz mutants bench-quality bench-speed bench-privacy clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-15s %s\n", $$1, $$2 }'

demo: $(VENV)/.demo ## FedAvg beside Fed-Focal on real data; DATA=file [TARGET=column CLIENT=column] for your own
	$(PY) examples/demo.py $(if $(DATA),--data "$(DATA)") $(if $(TARGET),--target "$(TARGET)") $(if $(CLIENT),--client "$(CLIENT)")

# Two processes with one thread each: more threads would only wait for one another.
test: $(VENV)/.dev ## the tests, on two cores; ARGS="-k name" is passed on to pytest
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PY) -m pytest -n 2 --dist worksteal $(ARGS)

# Servers want both cores for themselves, so the tests that start them run one after the other.
test-flower: $(FLOWER)/.test ## the tests of skfedfocal.flower, also with real Flower servers on the loopback interface
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(FLOWER)/bin/python -m pytest -n 2 tests/test_flower*.py tests/test_callbacks.py tests/test_doctests.py "tests/test_site.py::test_snippets_run_by_themselves_and_print_what_is_shown[guide/sites.md]"
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(FLOWER)/bin/python -m pytest -m "flower and not soak" tests/test_flower*.py

test-tools: $(TOOLS)/.test ## the tests in other packages: skore, mapie, imbalanced-learn, fairlearn, skrub, MLflow, TensorBoard; ONNX
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(TOOLS)/bin/python -m pytest -n 2 tests/tools tests/exports tests/test_tools_page.py "tests/test_site.py::test_snippets_run_by_themselves_and_print_what_is_shown[guide/trackers.md]"

test-oldest: $(OLDEST)/.test ## the tests on the oldest numpy, scipy and scikit-learn at once; torch as pinned
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(OLDEST)/bin/python -m pytest -n 2 $(ARGS)

test-sklearn: $(SKLEARN:%=$(VENV)-sklearn-%/.test) ## the tests on older scikit-learns; SKLEARN="1.6 1.7 1.8"
	@set -e; for series in $(SKLEARN); do \
	  echo "scikit-learn $$series"; \
	  OMP_NUM_THREADS=1 MPLBACKEND=Agg $(VENV)-sklearn-$$series/bin/python -m pytest -n 2 $(ARGS); \
	done

release-check: $(RELEASE)/.tools ## sdist and wheel of the last commit, built and tried as users will; ARGS goes to pytest
	$(RELEASE)/bin/python .ci/release_check.py $(ARGS)

# Both environments' runs together: neither has all of the package.
coverage: $(VENV)/.dev $(FLOWER)/.test ## lines and branches that the tests reach; fails below 95 %
	rm -f .coverage .coverage.*
	COVERAGE_FILE=.coverage.plain OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PY) -m pytest -n 2 --cov --cov-report= --cov-fail-under=0 $(ARGS)
	COVERAGE_FILE=.coverage.flower OMP_NUM_THREADS=1 MPLBACKEND=Agg $(FLOWER)/bin/python -m pytest -n 2 --cov --cov-report= --cov-fail-under=0 tests/test_flower*.py $(ARGS)
	$(PY) -m coverage combine .coverage.plain .coverage.flower
	$(PY) -m coverage report

soak: soak-here soak-flower ## the slow and the large tests, one after the other; an hour and more

soak-here: $(VENV)/.dev ## those of them in this process: kills, engines on any training, a million clients
	MPLBACKEND=Agg $(PY) -m pytest -m soak $(ARGS)

soak-flower: $(FLOWER)/.test ## those over sites: a thousand simulated ones; real ones, killed during trainings
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(FLOWER)/bin/python -m pytest -m soak tests/test_flower*.py $(ARGS)

fuzz: $(VENV)/.dev ## random federations and tools, and damaged files, for a while; ARGS="--seconds 3600"
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PY) tools/fuzz.py $(ARGS)

mutants: $(VENV)/.dev ## change one thing in the package and see whether a test notices; ARGS="--number 150"
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PY) tools/mutants.py $(ARGS)

check: $(VENV)/.dev ## style, format, types, direction of imports, docstrings
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m numpydoc lint $$(find skfedfocal -name '*.py' | sort)

# Anew each time: what a page or an example left behind must not be found by the next build.
docs: $(DOCS)/.site ## the documentation site, in docs/_build/html; warnings are errors
	rm -rf docs/_build docs/gallery docs/api/generated
	OMP_NUM_THREADS=1 $(DOCS)/bin/python -m sphinx -W --keep-going --quiet docs docs/_build/html

bench-quality: $(VENV)/.dev ## quality figures; ARGS is passed on
	$(PY) -m benchmarks.quality $(ARGS)

bench-speed: $(VENV)/.dev ## speed figures, on an otherwise idle machine; ARGS is passed on
	$(PY) -m benchmarks.speed $(ARGS)

bench-privacy: $(VENV)/.dev ## what privacy costs; ARGS is passed on
	$(PY) -m benchmarks.privacy $(ARGS)

clean: ## remove caches, build output and results (the environments stay: rm -rf .venv*)
	rm -rf build dist results .coverage* docs/_build docs/gallery docs/api/generated .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis demo.png
	find skfedfocal tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# An environment begins with torch, by its pin, so that nothing that merely asks for `torch` can
# pull another build of it.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name one with PYTHON=")'
	@echo "Making the environment in $(1) (once; several minutes)"
	$(PYTHON) -m venv $(1)
	$(1)/bin/python $(PIP) --upgrade pip
	$(1)/bin/python $(PIP) torch
endef

# In two steps: what the demo needs, then what developers need on top.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(call environment,$(VENV))
	$(PY) $(PIP) --editable . --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PY) $(PIP) --group dev
	@touch $@

$(FLOWER)/.test: pyproject.toml constraints.txt
	$(call environment,$(FLOWER))
	$(FLOWER)/bin/python $(PIP) --editable '.[flower]' --group test
	@touch $@

# Without the pin of pyarrow: MLflow holds it below a version of its own.
$(TOOLS)/.test: pyproject.toml constraints.txt
	$(call environment,$(TOOLS))
	grep -v '^pyarrow==' constraints.txt > $(TOOLS)/constraints.txt
	$(TOOLS)/bin/python -m pip install --quiet --constraint $(TOOLS)/constraints.txt --editable . --group tools
	@touch $@

$(DOCS)/.site: pyproject.toml constraints.txt
	$(call environment,$(DOCS))
	$(DOCS)/bin/python $(PIP) --editable '.[plot,flower,privacy]' --group docs
	@touch $@

# The bounds of [project.dependencies], read off as pins; pip chooses what of the test group goes
# with them, but for pyarrow, of which newer ones need NumPy 2 and do not say so.
$(OLDEST)/.test: pyproject.toml constraints.txt
	$(call environment,$(OLDEST))
	sed -n 's/^  "\(numpy\|scipy\|scikit-learn\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml > $(OLDEST)/oldest.txt
	grep '^torch==' constraints.txt >> $(OLDEST)/oldest.txt
	echo 'pyarrow<20' >> $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/oldest.txt --editable . --group test
	@touch $@

$(VENV)-sklearn-%/.test: pyproject.toml constraints.txt
	$(call environment,$(VENV)-sklearn-$*)
	grep -v '^scikit-learn==' constraints.txt > $(VENV)-sklearn-$*/constraints.txt
	$(VENV)-sklearn-$*/bin/python -m pip install --quiet --constraint $(VENV)-sklearn-$*/constraints.txt 'scikit-learn==$*.*' --editable . --group test
	@touch $@

$(RELEASE)/.tools: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python $(PIP) --upgrade pip
	$(RELEASE)/bin/python $(PIP) --group release
	@touch $@
