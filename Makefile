# make lab       a DICOMweb site on a bare host that this machine boots, with a study in it
# make pipeline  a D-DW-D pipeline on another such host, with a study that has gone through it
# make test      lint, unit tests and Molecule
# make bench     the speeds that docs/speed.md tells
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
LAB_SUITE ?= trixie
bin := .venv/bin
export ANSIBLE_FORCE_COLOR := $(if $(shell test -t 1 && echo tty),1,0)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# DCMTK's programs, by their path: pynetdicom puts others of the same names into the virtual environment.
dcmtk := /usr/bin/storescu
postgres := /usr/share/postgresql-common/pg_wrapper
chromium := /usr/bin/chromedriver
nginx := /usr/sbin/nginx
ohif := .cache/ohif/package/dist/index.html
ohif_version := 3.12.10
orthanc := /usr/share/orthanc/plugins/libOrthancDicomWeb.so
bundler := /usr/bin/createrepo_c
sudo := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help lab lab-down pipeline pipeline-down test lint unit molecule bench clean

help: ## list what can be made
	@sed -n 's/^# make/make/p' Makefile

.venv/.installed: requirements.txt requirements-dev.txt $(wildcard files/requirements/*.txt)
	@command -v $(PYTHON) >/dev/null || { echo "Install Python 3.11 or newer, or name one by PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$$($(PYTHON) --version) is too old: name a Python of 3.11 or newer by PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { $(sudo) apt-get update -q && $(sudo) apt-get install -q -y --no-install-recommends python3-venv; }
	@echo "Installing the control node's tools into .venv"
	$(PYTHON) -m venv .venv
	$(bin)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	$(bin)/pip install --quiet --disable-pip-version-check --require-hashes $(foreach lock,$(wildcard files/requirements/*.txt),--requirement $(lock))
	touch $@

$(dcmtk):
	$(sudo) apt-get update -q
	$(sudo) apt-get install -q -y --no-install-recommends dcmtk openssl curl openssh-client

lab: .venv/.installed $(dcmtk) ## build the site on a bare host of the lab and send a study to it
	$(bin)/ansible-playbook playbooks/lab_up.yml -e lab_suite=$(LAB_SUITE)
	$(bin)/ansible-playbook -i inventories/lab site.yml
	$(bin)/ansible-playbook -i inventories/lab playbooks/verify.yml
	$(bin)/ansible-playbook -i inventories/lab playbooks/lab_study.yml
	@cat .cache/lab.txt

lab-down: .venv/.installed ## remove the lab's host with all that is in it
	$(bin)/ansible-playbook -i inventories/lab playbooks/lab_down.yml

pipeline: .venv/.installed $(dcmtk) ## build the pipeline on a bare host of the lab and send a study through it
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/lab_up.yml -e lab_suite=$(LAB_SUITE)
	$(bin)/ansible-playbook -i inventories/pipeline site.yml
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/verify.yml
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/pipeline_study.yml
	@cat .cache/pipeline.txt

pipeline-down: .venv/.installed ## remove the pipeline's host with all that is in it
	$(bin)/ansible-playbook -i inventories/pipeline playbooks/lab_down.yml

test: lint unit molecule ## everything that is checked

lint: .venv/.installed
	$(bin)/yamllint --strict .
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/ansible-lint

# The services are tested over the real PostgreSQL, the real Orthanc and the real nginx.
$(postgres):
	$(sudo) apt-get update -q
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql

$(orthanc):
	$(sudo) apt-get update -q
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends orthanc orthanc-dicomweb

$(nginx):
	$(sudo) apt-get update -q
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nginx-light

# The viewer that static DICOMweb is made for.
$(ohif):
	@command -v npm >/dev/null || { $(sudo) apt-get update -q && \
	  $(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends npm; }
	mkdir -p .cache/ohif
	npm pack --silent --pack-destination .cache/ohif @ohif/app@$(ohif_version)
	tar -C .cache/ohif -xzf .cache/ohif/ohif-app-$(ohif_version).tgz
	touch $@

unit: .venv/.installed $(postgres) $(orthanc) $(dcmtk) $(nginx) $(chromium) $(ohif)
	$(bin)/pytest --numprocesses 3 --dist loadfile roles files

# Bundles are gathered and signed by these.
$(bundler):
	$(sudo) apt-get update -q
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends gnupg dnf createrepo-c rpm

# Pages are looked at in a browser.
$(chromium):
	$(sudo) apt-get update -q
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium chromium-driver

# One after another, since each boots hosts of its own.
scenarios := el9 airgap default hospital upstream worklist pipeline proxy static
molecule: $(scenarios:%=molecule-%)

molecule-%: .venv/.installed $(dcmtk) $(chromium) $(bundler)
	$(bin)/molecule test --scenario-name $*

bench: .venv/.installed $(dcmtk) ## measure, and print the table of docs/speed.md
	$(bin)/python molecule/bench/bench.py

clean: ## remove what was installed into the checkout
	rm -rf .venv .cache .ansible .mypy_cache .ruff_cache .pytest_cache
