# make book     run the study, print where to open the book      (STUDY=small CORES=2, or CLUSTER=slurm)
# make pdf      the book on paper; needs LaTeX        make figures  all figures in one zip, for slides
# make test     run the tests
# make lint     check style, formatting and import layers         make format   repair the first two
# make clean    remove what a study made, models of your own films too
# make lock     write requirements.lock anew

STUDY ?= small
CORES ?= 2
PYTHON ?= python3
override PERFNB_HOME := $(or $(PERFNB_HOME),$(CURDIR))

# CLUSTER names a folder in workflow/profiles: jobs go there, and its plugin is installed too.
RUN = python workflow/run.py --study $(STUDY) $(if $(CLUSTER),--cluster "$(CLUSTER)",--cores $(CORES))
comma = ,
EXTRAS = test$(if $(CLUSTER),$(comma)cluster)
INSTALLED = .venv/installed$(if $(CLUSTER),-cluster)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PERFNB_HOME
# One thread a job: several jobs with several threads each slow one another down.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export NUMEXPR_NUM_THREADS = 1

.PHONY: help book chapters pdf figures test lint format clean lock

help:
	@sed -n '1,5s/^# //p' Makefile

book: $(INSTALLED)
	@$(RUN) book
	@echo "Open $(PERFNB_HOME)/_build/$(STUDY)/html/index.html in a browser."

chapters: $(INSTALLED)
	@$(RUN) chapters

pdf: $(INSTALLED)
	@python workflow/print_book.py --check
	@$(RUN) chapters
	@python workflow/print_book.py --study $(STUDY)

figures: $(INSTALLED)
	@$(RUN) chapters
	@python workflow/figure_pack.py --study $(STUDY)

test: $(INSTALLED)
	python -m pytest

lint: $(INSTALLED)
	ruff check
	ruff format --check
	lint-imports

format: $(INSTALLED)
	ruff check --fix
	ruff format

clean:
	@test -n "$(filter $(STUDY),$(basename $(notdir $(wildcard workflow/studies/*.yml))))" || \
	    { echo "make clean: STUDY='$(STUDY)' is none of workflow/studies; nothing was removed" >&2; exit 2; }
	rm -rf $(foreach folder,data runs results logs _build,"$(PERFNB_HOME)/$(folder)/$(STUDY)")

# The stamp is written last: an installation that was cut short is taken up again.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	    "perfnb needs Python 3.11 or newer; found " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	@echo "Installing into .venv: a few minutes."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -qq --no-compile --disable-pip-version-check -e ".[$(EXTRAS)]" -c requirements.lock
	@touch $@

# Newest versions that fit together, tried in an environment of their own. torch stays the version
# that it is: a newer one may draw other numbers. What comes with torch is torch's own to choose.
TORCH = $(shell grep '^torch==' requirements.lock)

lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -qq -e ".[test,cluster]" "$(or $(TORCH),torch)"
	echo '# Versions that fit together, as constraints: pip install -e ".[test]" -c requirements.lock' > requirements.lock
	.venv-lock/bin/python -m pip freeze --all --exclude-editable | \
	    sed '/^pip==/d; /^nvidia-/d; /^cuda-/d; /^triton==/d; s/+.*//' >> requirements.lock
	rm -rf .venv-lock
