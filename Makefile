# What people expect of a Makefile, in front of meson and ninja. `make help` lists it.

BUILD ?= build
PREFIX ?= /usr/local
SHELL := /bin/bash

.DEFAULT_GOAL := all
.PHONY: all help setup check demo demo-run bench bench-checkpoints install fuzz asan tsan lint format docs soak dying crowd clean sdk agent agents model supervise wall crash

all: $(BUILD)/build.ninja            ## build/perdure, optimised
	@ninja -C $(BUILD) perdure

help:                                ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup:                               ## install what building and testing need (Debian, Ubuntu)
	@tools/setup

$(BUILD)/build.ninja: | setup-build
	@meson setup $(BUILD) --prefix=$(PREFIX) >$(BUILD).log 2>&1 || { cat $(BUILD).log; rm -f $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

.PHONY: setup-build
setup-build:
	@tools/setup --build

check:                               ## every test: unit, ASan+UBSan, fixtures, simulation, scenarios, fuzzers, linters
	@tools/check

demo:                                ## set up, build, start, and show it working
	@tools/setup --demo
	@$(MAKE) --no-print-directory all
	@tools/demo

bench-checkpoints: all               ## what a checkpoint costs, with SQLite and with a PostgreSQL of its own
	@tools/bench_checkpoints

demo-run: all                        ## a plan that is done whatever is killed on the way
	@tools/demo_run

bench: all                           ## the table of docs/internals/speed.md, beside nginx in the same run
	@tools/setup --bench
	@tools/bench

# A PREFIX that is given counts here too, not only when the build folder was made.
install: all                         ## PREFIX=/usr/local
ifneq ($(origin PREFIX),file)
	@meson configure $(BUILD) -Dprefix=$(PREFIX) && ninja -C $(BUILD) perdure >/dev/null
endif
	@meson install -C $(BUILD) --no-rebuild --quiet
	@echo "installed: $$(meson introspect --buildoptions $(BUILD) | grep -o '"name": "prefix", "value": "[^"]*"' | cut -d'"' -f8)/bin/perdure"

fuzz:                                ## each fuzzer for SECONDS (60)
	@tools/setup
	@tools/fuzz $${SECONDS_EACH:-60}

asan:                                ## unit tests under ASan and UBSan
	@tools/setup
	@tools/variant asan

tsan:                                ## unit tests and a two-worker run under TSan
	@tools/setup
	@tools/variant tsan

lint:                                ## layers, formatting, clang-tidy, cppcheck
	@tools/setup
	@tools/lint

format:                              ## clang-format over the sources
	@git ls-files '*.c' '*.h' | xargs clang-format -i

docs: all                            ## the generated reference tables
	@tools/docs

wall: all                            ## every fault before clients of four dialects: docs/internals/fault-wall.md (ARGS="--write" makes it)
	@tests/scenario/fault_wall $(ARGS)

sdk: all                             ## the official SDKs, Node and Python: OpenAI's with failing providers, all with every dialect
	@tools/setup --sdk
	@tests/scenario/sdk
	@tests/scenario/sdk_matrix

agent: all                           ## OpenCode finishes a task while its provider goes down
	@tests/scenario/agent

supervise: all                       ## OpenCode killed, hung, crash-looping under perdure supervise: docs/supervise.md
	@tests/scenario/supervise_agent $(ARGS)

agents: all                          ## six agent CLIs, each on a provider of its own dialect and on a foreign one (--all: on every one)
	@tools/setup --sdk
	@tests/scenario/agents $(AGENTS_ARGS)

storm: all                           ## the same six in a storm: every second upstream request fails; and without perdure (STORM_ARGS="--runs 2 codex")
	@tools/setup --sdk
	@tests/scenario/storm $(STORM_ARGS)

model: all                           ## a real model behind two servers, one of which is killed
	@tests/scenario/model

soak: all                            ## load with every kind of fault: MINUTES (120)
	@tools/soak $${MINUTES:-120}

crowd: all                           ## 10,000 tasks by workers that are killed every second, with SQLite and PostgreSQL
	@ninja -C $(BUILD) tests/bench/bench_runs >/dev/null
	@tools/crowd

dying: all                           ## 5,000 streams while one of two providers dies, and while both are gone for 20 s
	@tools/dying
	@tools/dying --way all

crash: all                           ## kill -9 and loss of power at every write, sync and send: docs/internals/crash.md
	@tools/setup
	@tests/crash/run $(ARGS)

clean:                               ## remove the build folders
	@rm -rf $(BUILD) $(BUILD)-*
