# Two commands do all the set-up: `make run` and `make test`. Every target installs what it lacks.
SHELL := /bin/bash
PATH := $(PATH):$(HOME)/.local/bin
RUN := uv run --no-sync
CALLS ?= 300
BENCH_SECONDS ?= 10
CALLERS ?= $(if $(REAL),50,200)
LOAD_SECONDS ?= 60

.PHONY: help setup run demo call test check format bench chaos load pictures images doctor

help:  ## what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

setup:
	@deploy/setup.sh

run: setup  ## start everything, place a real call, and stay up until Ctrl-C
	@$(RUN) python -m loadtest.demo --stay

demo: setup  ## the same without staying up; fails if the caller didn't hear what they should
	@$(RUN) python -m loadtest.demo

call: setup  ## place another call on what `make run` has started
	@$(RUN) python -m loadtest.demo --call-only

test: setup  ## the whole test suite, on a real Asterisk where there can be one
	@command -v cc >/dev/null || deploy/setup.sh compiler
	@command -v chromium >/dev/null || deploy/setup.sh browser || echo "going on without a browser"
	@$(RUN) pytest

check: setup  ## ruff and mypy --strict
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy

bench: setup  ## what a call costs a worker, beside a floor in C and a textbook version
	@command -v cc >/dev/null || deploy/setup.sh compiler
	@$(RUN) python -m loadtest.bench --calls $(CALLS) --seconds $(BENCH_SECONDS) --rounds 5

chaos: setup  ## kill everything for a minute, and count the calls
	@$(RUN) python -m loadtest.chaos --minutes 1 --calls 20

load: setup  ## 200 simulated callers, with locust; REAL=1: 50 on the real Asterisk; WEB=1: its web page
	@$(RUN) python -m loadtest.load --callers $(CALLERS) --seconds $(LOAD_SECONDS) \
		$(if $(REAL),--real) $(if $(WEB),--web) $(LOAD_OPTIONS)

pictures: setup  ## pictures of the console with calls that suffer, in out/
	@command -v chromium >/dev/null || deploy/setup.sh browser
	@$(RUN) python -m loadtest.console_pictures

images:  ## container images of all programs, with docker, podman or buildah
	@deploy/docker/build.sh

doctor: setup  ## what is wrong with this machine, and how to mend it
	@$(RUN) ots-doctor

format: setup  ## put the sources into shape
	@$(RUN) ruff check --fix
	@$(RUN) ruff format
