# make lab       a DICOMweb site on a bare host that this machine boots, with a study in it
# make pipeline  a D-DW-D pipeline on another such host, with a study that has gone through it
# make check     lint, unit tests and one scenario on one host: before each commit
# make test      lint, unit tests and Molecule: everything that is checked
# make bench     the speeds that docs/speed.md tells
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# What is installed before isn't by several at once: run_parts.py is what runs side by side.
.NOTPARALLEL:

# The distribution's where it is new enough: one that was compiled by hand is a third slower as a rule, and Ansible is most of what runs here.
new_enough := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell /usr/bin/python3 $(new_enough) 2>/dev/null && echo /usr/bin/python3 || echo python3)
LAB_SUITE ?= trixie
# How many parts of the test run at once: one more than there are cores, since each waits for its hosts now and then.
JOBS ?= $(shell expr $$(nproc) + 1)
bin := .venv/bin
export ANSIBLE_FORCE_COLOR := $(if $(shell test -t 1 && echo tty),1,0)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Another checkout's, where a shell has them: parts of its test would run in this one's.
unexport MOLECULE_PROJECT_DIRECTORY MOLECULE_SCENARIO_DIRECTORY MOLECULE_SCENARIO_NAME MOLECULE_INVENTORY_FILE
# Some build machines set it: each of the hundreds of plays and services that the test starts would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE
ohif := .cache/ohif/package/dist/index.html
ohif_version := 3.12.10
sudo := $(if $(filter 0,$(shell id -u)),,sudo)

# What is sent and looked at from this machine, and what boots hosts on it.
client_packages := dcmtk openssl curl openssh-client
host_packages := mmdebstrap systemd-container nftables iproute2 procps debian-archive-keyring
# What the services are tested over, the browser that shows their pages, and what gathers and signs bundles.
test_packages := $(client_packages) $(host_packages) postgresql orthanc orthanc-dicomweb orthanc-postgresql nginx-light libnginx-mod-http-perl haproxy chromium chromium-driver \
  gnupg dnf createrepo-c rpm

# Asks nobody where all of them are there: parts of the test run side by side, and apt-get can't.
define installed
@count=$$(dpkg-query --show --showformat='$${db:Status-Status}\n' $(1) 2>/dev/null | grep -cx installed) || true; \
[ "$$count" -eq $(words $(1)) ] || { $(sudo) apt-get update -q && \
  $(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1); }
endef

.PHONY: help lab lab-down pipeline pipeline-down test check lint unit molecule bench clean python client-packages test-packages installed

help: ## list what can be made
	@sed -n 's/^# make/make/p' Makefile

python:
	@command -v $(PYTHON) >/dev/null || { echo "Install Python 3.11 or newer, or name one by PYTHON=" >&2; exit 1; }
	@$(PYTHON) $(new_enough) || \
	  { echo "$$($(PYTHON) --version) is too old: name a Python of 3.11 or newer by PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { $(sudo) apt-get update -q && $(sudo) apt-get install -q -y --no-install-recommends python3-venv; }

# Byte code is made of what is imported, when it is: of 26,000 files, most of them Ansible's collections, a tenth ever is.
.venv/.installed: requirements.txt requirements-dev.txt $(wildcard files/requirements/*.txt) | python
	@[ ! -L .venv ] || { echo ".venv is a link to $$(readlink .venv), which isn't this checkout's to empty: remove it" >&2; exit 1; }
	@echo "Installing the control node's tools into .venv"
	$(PYTHON) -m venv --clear .venv
	$(bin)/pip install --quiet --no-compile --disable-pip-version-check --requirement requirements-dev.txt
	$(bin)/pip install --quiet --no-compile --disable-pip-version-check --require-hashes $(foreach lock,$(wildcard files/requirements/*.txt),--requirement $(lock))
	touch $@

client-packages:
	$(call installed,$(client_packages))

test-packages:
	$(call installed,$(test_packages))

# Side by side: each takes a minute on a machine that has nothing.
installed: python
	@$(MAKE) test-packages & packages=$$!; status=0; $(MAKE) .venv/.installed || status=1; wait $$packages && exit $$status

lab: .venv/.installed client-packages ## build the site on a bare host of the lab and send a study to it
	$(bin)/ansible-playbook playbooks/lab_up.yml -e lab_suite=$(LAB_SUITE)
	$(bin)/ansible-playbook -i inventories/lab site.yml
	$(bin)/ansible-playbook -i inventories/lab playbooks/verify.yml
	$(bin)/ansible-playbook -i inventories/lab playbooks/lab_study.yml
	@cat .cache/lab.txt

lab-down: .venv/.installed ## remove the lab's host with all that is in it
	$(bin)/ansible-playbook -i inventories/lab playbooks/lab_down.yml

pipeline: .venv/.installed client-packages ## build the pipeline on a bare host of the lab and send a study through it
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/lab_up.yml -e lab_suite=$(LAB_SUITE)
	$(bin)/ansible-playbook -i inventories/pipeline site.yml
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/verify.yml
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/pipeline_study.yml
	@cat .cache/pipeline.txt

pipeline-down: .venv/.installed ## remove the pipeline's host with all that is in it
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/lab_down.yml

# One after another they would take an hour. Those that fail most easily, and those that take longest, begin.
scenarios := default el9 pipeline static hostile proxy worklist airgap hospital upstream
parts := unit lint $(scenarios:%=molecule-%)
test: installed $(ohif) ## everything that is checked
	$(bin)/python molecule/run_parts.py --jobs $(JOBS) $(parts)

check: installed $(ohif) ## what is checked before each commit
	$(bin)/python molecule/run_parts.py --jobs $(JOBS) unit lint molecule-upstream

lint: .venv/.installed
	$(bin)/yamllint --strict .
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/ansible-lint

# The viewer that static DICOMweb is made for.
$(ohif):
	@command -v npm >/dev/null || { $(sudo) apt-get update -q && \
	  $(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends npm; }
	mkdir -p .cache/ohif
	npm pack --silent --pack-destination .cache/ohif @ohif/app@$(ohif_version)
	tar -C .cache/ohif -xzf .cache/ohif/ohif-app-$(ohif_version).tgz
	touch $@

# The files that take longest begin.
unit: .venv/.installed test-packages $(ohif)
	$(bin)/pytest --verbose --numprocesses 3 --dist loadfile --no-loadscope-reorder \
	  files/tests/pipeline files/tests/upsrs files/tests/proxy files/tests/static files roles

# What each of the many plays of a test would do anew.
unit lint molecule-% destroy-%: export ANSIBLE_CALLBACK_PLUGINS = $(CURDIR)/molecule/shared/callbacks
unit lint molecule-% destroy-%: export ANSIBLE_CALLBACKS_ENABLED = quick_runs

# The names of its hosts are the machine's: whoever runs a scenario has it to himself.
define alone
@flock --nonblock --conflict-exit-code 75 /run/lock/dicomweb-molecule-$(1) $(bin)/molecule $(2) --scenario-name $(1) || \
  { status=$$?; [ $$status -ne 75 ] || echo "The scenario $(1) is being run on this machine already: wait for its end." >&2; exit $$status; }
endef

molecule: installed ## the scenarios alone
	$(bin)/python molecule/run_parts.py --jobs $(JOBS) $(scenarios:%=molecule-%)

molecule-%: .venv/.installed test-packages
	$(call alone,$*,test)

destroy-%: .venv/.installed
	$(call alone,$*,destroy)

bench: .venv/.installed client-packages ## measure, and print the table of docs/speed.md
	$(bin)/python molecule/bench/bench.py

clean: ## remove what was installed into the checkout
	rm -rf .venv .cache .ansible .mypy_cache .ruff_cache .pytest_cache
