# Everything a newcomer or CI runs. A machine needs Python 3.11 or newer and make; `make lab` and the tests against
# real parts need Debian (or a relative of it) and root, and install what they need there.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
SHELL := /bin/sh
.SHELLFLAGS := -eu -c

# What a user has set for their own cluster, or for another Python, has no business here.
unexport $(filter-out PVC_LAB_%,$(filter PVC_%,$(.VARIABLES)))
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PYTEST_ADDOPTS PYTEST_PLUGINS MYPYPATH

# The first of these that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

VENV := .venv
STAMPS := $(VENV)/stamps
PY := $(VENV)/bin/python
PIP := $(PY) -m pip -qq --disable-pip-version-check
METADATA := pyproject.toml setup.cfg

# What the targets below start.
DEMO := $(PY) -m pvc_lab.demo
DEMO_UP := $(PY) -m pvc_lab.demo up
DEMO_DOWN := $(PY) -m pvc_lab.demo down
LAB_TOUR := $(PY) -m pvc_lab tour
LAB_UP := $(PY) -m pvc_lab up $(if $(CEPH),--ceph)
LAB_DOWN := $(PY) -m pvc_lab down
BENCHMARKS := $(PY) -m benchmarks

# ------------------------------------------------------------------------------------------------ for people

.PHONY: help
help: ## what can be made (this list)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

.PHONY: demo
demo: $(STAMPS)/base ## the tour on embedded parts: no root, no server, under a minute
	@$(DEMO)

.PHONY: demo-up
demo-up: $(STAMPS)/base ## start the demo's cluster and leave it up for exploring
	@$(DEMO_UP)

.PHONY: demo-down
demo-down: $(STAMPS)/base ## end the cluster that `make demo-up` started
	@$(DEMO_DOWN)

.PHONY: lab
lab: real-parts-required ## the tour on real parts: three hypervisors, ZooKeeper, QEMU guests (root, Debian)
	@$(LAB_TOUR)

.PHONY: lab-up
lab-up: real-parts-required $(if $(CEPH),ceph-bindings) ## start the lab and leave it up for exploring; CEPH=1: with Ceph
	@$(LAB_UP)

.PHONY: lab-down
lab-down: $(STAMPS)/base ## end the lab that `make lab-up` started
	@$(LAB_DOWN)

# --------------------------------------------------------------------------------------------- for developers

.PHONY: venv
venv: $(STAMPS)/dev ## .venv with PVC (editable) and the developers' tools

.PHONY: check
check: $(STAMPS)/dev ## format, lint, types, direction of imports; changes nothing
	@$(VENV)/bin/ruff check --quiet --output-format concise
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports > $(STAMPS)/imports.log || { cat $(STAMPS)/imports.log; exit 1; }
	@echo "check: passed"

.PHONY: test
test: check real-parts ## all checks and all tests; real parts where the machine has them, always with CI=true
	@exec $(PY) -m pytest -n auto --dist loadscope

.PHONY: bench
bench: $(STAMPS)/dev ## the budgets, measured and printed as tables
	@$(BENCHMARKS)

.PHONY: docs
docs: $(STAMPS)/dev ## rewrite the generated parts of the documentation
	@$(PY) -m pvc_core.vm_states_diagram > docs/vm-states.md
	@$(PY) -m pvc_core.settings_page > docs/settings.md
	@$(PY) -m pvc_cli.plugin_drafts examples/pvc-selector-acme
	@$(PY) -m pvc_core.hooks_page > docs/plugins/hooks.md

.PHONY: clean
clean: ## remove .venv and everything built or cached here
	@rm -rf $(VENV) .demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------- what is needed

# Stamps: pip runs again only when the metadata has changed.

$(STAMPS)/base: $(METADATA)
	@if [ -z "$(PYTHON)" ]; then echo "PVC needs Python 3.11 or newer, and there is none in PATH" >&2; exit 1; fi
	@echo "installing PVC into $(VENV)"
	@if [ ! -x $(PY) ]; then "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module is not complete; on Debian: apt-get install python3-venv" >&2; exit 1; }; fi
	@$(PIP) install --editable .
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/dev: $(STAMPS)/base
	@echo "installing the developers' tools into $(VENV)"
	@$(PIP) install --editable '.[dev]'
	@touch $@

# libvirt-python is compiled here, against the libvirt of this machine.
$(STAMPS)/libvirt: $(STAMPS)/base
	@echo "building the libvirt binding into $(VENV)"
	@$(PIP) install --editable '.[libvirt,lab]'
	@touch $@

# Ceph's bindings come with Debian's Python, and serve another one of the same version.
.PHONY: ceph-bindings
ceph-bindings: $(STAMPS)/base
	@$(PY) -m pvc_lab.ceph_bindings || if [ "$${CI:-}" = true ]; then \
	  echo "with CI=true Ceph's bindings are required" >&2; exit 1; \
	else \
	  echo "going on without: tests that need Ceph are skipped" >&2; \
	fi

# Debian's packages for the lab and for Ceph, and what compiles the libvirt binding.
define INSTALL_PACKAGES
import os, sys, sysconfig
from pvc_lab import packages

wanted = [*packages.PACKAGES, *packages.CEPH_PACKAGES, "gcc", "libc6-dev"]
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    wanted.append("python3-dev")
try:
    missing = packages.missing(wanted)
    if missing:
        print("installing Debian packages:", *missing, flush=True)
        packages.install(wanted)
except packages.PackagesError as error:
    sys.exit(str(error))
endef
export INSTALL_PACKAGES

.PHONY: real-parts
real-parts: $(STAMPS)/base
	@if $(PY) -c "$$INSTALL_PACKAGES"; then \
	  $(MAKE) --no-print-directory --silent $(STAMPS)/libvirt ceph-bindings; \
	elif [ "$${CI:-}" = true ]; then \
	  echo "with CI=true the real parts are required" >&2; exit 1; \
	else \
	  echo "going on without: tests that need real libvirt, ZooKeeper, Ceph or the lab are skipped" >&2; \
	fi

.PHONY: real-parts-required
real-parts-required: $(STAMPS)/base
	@if [ "$$(id -u)" != 0 ]; then echo "the lab makes namespaces and bridges: only root can run it" >&2; exit 1; fi
	@$(PY) -c "$$INSTALL_PACKAGES"
	@$(MAKE) --no-print-directory --silent $(STAMPS)/libvirt
