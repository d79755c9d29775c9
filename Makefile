# One command for each thing a developer does. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Cargo uses the processors; steps beside each other would only wait for its locks.
.NOTPARALLEL:

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Ends with make itself, whatever ends that, and takes the stack and all that runs under it along.
UNDER_STACK = exec setpriv --pdeathsig TERM $(TARGET)/$(1)/with-stack
# So do the test programs that cargo starts.
RUNNER = CARGO_TARGET_$(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER='setpriv --pdeathsig KILL'

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: install ## see dosi work on a made-up DoS (KEEP=1: leave it running)
	$(CARGO) build --locked --release --workspace --bins
	$(call UNDER_STACK,release) --synced -- $(TARGET)/release/demo

.PHONY: test
# Four at once on two cores: tests of the whole program mostly wait, for time-outs of the parts they take away.
test: install ## run all tests, on real parts
	$(CARGO) build --locked --package dosi --features fault-injection
	cp $(TARGET)/debug/dosi $(TARGET)/debug/dosi-fault-injection
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-run
	$(RUNNER) RUST_TEST_THREADS=4 $(call UNDER_STACK,debug) --searched -- $(CARGO) test --locked --workspace --no-fail-fast $(TESTS)
ifeq ($(TESTS),)
	$(CARGO) test --locked --package dosi --features fault-injection --test simulation every_defect
	$(CARGO) build --locked --release --workspace --bins
	$(CHAOS) --seeds 1,2 --minutes 1.4
endif

SEED ?= 1
MINUTES ?= 3
CHAOS = $(call UNDER_STACK,release) --bare -- $(TARGET)/release/chaos

.PHONY: chaos
chaos: install ## the optimised program under faults, and nothing lost, twice or out of order (SEED=7 MINUTES=60 REPORT=file)
	$(CARGO) build --locked --release --workspace --bins
	$(CHAOS) --seeds $(SEED) --minutes $(MINUTES) $(if $(REPORT),--report $(REPORT))

SEEDS ?= 1,2,3
DEFECTS ?= all

.PHONY: chaos-mutants
chaos-mutants: install ## see that those faults find deliberate defects of the program (DEFECTS=row-not-next,… SEEDS=1,2)
	$(CARGO) build --locked --release --package dosi --features fault-injection
	cp $(TARGET)/release/dosi $(TARGET)/release/dosi-fault-injection
	$(CARGO) build --locked --release --workspace --bins
	$(CHAOS) --seeds $(SEEDS) --minutes 1.4 --defects $(DEFECTS)

SCHEDULES ?= 1000000

.PHONY: simulate
simulate: install ## try the exactly-once protocol in many schedules (SCHEDULES=1000000 SEED=1)
	DOSI_SIMULATION_SCHEDULES=$(SCHEDULES) DOSI_SIMULATION_SEED=$(SEED) \
		$(CARGO) test --locked --release --package dosi --test simulation -- --nocapture

.PHONY: mutants
mutants: install ## see that the simulation finds deliberate defects of the protocol
	$(CARGO) test --locked --package dosi --features fault-injection --test simulation every_defect -- --nocapture

INPUTS ?= 10000000
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ ?= $(notdir $(wildcard fuzz/corpus/*))
# Coverage comes from a pass that the stable compiler has; an overflow is a finding. `--target` keeps these flags from what
# is built for the build itself, and this build apart from every other.
FUZZ_FLAGS = --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
	$(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZER_FLAGS = -max_len=4096 -timeout=20 -rss_limit_mb=2048 -dict=fuzz/words.dict -verbosity=0 -print_final_stats=1

.PHONY: fuzz
# What is new by its coverage stays in the target folder, what breaks a law goes into the corpus.
fuzz: install ## try parsers and rules on inputs found by coverage (INPUTS=10000000 FUZZ='value lines')
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --release --target $(HOST) --package dosi-fuzz
	for name in $(FUZZ); do \
		echo "$$name:"; mkdir -p $(TARGET)/fuzz/$$name; \
		DOSI_FUZZ_TARGET=$$name $(TARGET)/$(HOST)/release/dosi-fuzz $(FUZZER_FLAGS) \
			-runs=$$(( $(INPUTS) / $(words $(FUZZ)) + 1 )) -artifact_prefix=fuzz/corpus/$$name/ \
			$(TARGET)/fuzz/$$name fuzz/corpus/$$name; \
	done

.PHONY: england
england: install ## hold all events of a country against the core's serial run, with the optimised program
	$(CARGO) build --locked --workspace --bins
	$(CARGO) build --locked --release --package dosi
	DOSI_TEST_BINARY=$(abspath $(TARGET))/release/dosi $(call UNDER_STACK,debug) -- \
		$(CARGO) test --locked --package dosi-tests --test end_to_end england -- --nocapture

# Parts of their own, each run on a copy of the same DoS. Pictures go to target/bench; PICTURES=docs/pictures to keep them.
BENCH = $(call UNDER_STACK,release) --bare -- env DOSI_BENCH_PICTURES=$(or $(PICTURES),$(TARGET)/bench) $(TARGET)/release/bench
RUNS ?= 3

.PHONY: bench-build
bench-build: install
	$(CARGO) build --locked --release --workspace --bins

.PHONY: bench-floor
bench-floor: bench-build ## what PostgreSQL alone needs to store what England's events leave (RUNS=3)
	$(BENCH) floor --runs $(RUNS)

.PHONY: bench-england
bench-england: bench-build ## all change events of England, floor and whole program in turn (RUNS=3)
	$(BENCH) england --runs $(RUNS)

# Not within $(or): a comma would end its argument.
ALL_RATES = 5,50,400,800
RATES ?= $(or $(RATE),$(ALL_RATES))
SECONDS ?= 60
INSTANCES ?= 1

.PHONY: bench-latency
bench-latency: bench-build ## produce to DoS and to audit, at fixed rates (RATES=5,50,400,800 SECONDS=60 INSTANCES=1)
	$(BENCH) latency --rates $(RATES) --seconds $(SECONDS) --instances $(INSTANCES)

.PHONY: bench-unchanged
bench-unchanged: bench-build ## profiles that change nothing, against England's events (RUNS=3)
	$(BENCH) unchanged --runs $(RUNS)

.PHONY: bench-start
bench-start: bench-build ## from start to the first event, and what an idle instance costs
	$(BENCH) start

OF ?= services,archive,history,backlog

.PHONY: bench-growth
bench-growth: RUNS = 4
bench-growth: bench-build ## cost an event with 1, 3, 10 times as much around it (OF=services,archive,history,backlog RUNS=4)
	$(BENCH) growth --of $(OF) --runs $(RUNS)

.PHONY: bench-scale
bench-scale: bench-build ## 1, 2 and 4 instances on one PostgreSQL (RUNS=3)
	$(BENCH) scale --runs $(RUNS)

# Where a connector and a profiler are that only these need.
BENCH_TOOLS = tools=$$(deploy/local/install --bench); while IFS= read -r tool; do export "$$tool"; done <<<"$$tools"

.PHONY: bench-peers
bench-peers: bench-build ## batches, one event a transaction, and Debezium's JDBC sink (RUNS=3)
	$(BENCH_TOOLS); $(BENCH) peers --runs $(RUNS)

.PHONY: bench-profile
bench-profile: bench-build ## flame graphs of dosi (DOSI_TEST_BINARY=another build SUFFIX=-before)
	$(BENCH_TOOLS); $(BENCH) profile --suffix='$(SUFFIX)'

.PHONY: bench-micro
bench-micro: install ## parse, decide and encode, a typical and the largest event of England
	$(CARGO) bench --locked --package dosi-benches --bench core

.PHONY: build
build: install ## build the program, optimised, as target/release/dosi
	$(CARGO) build --locked --release --package dosi

.PHONY: fmt
fmt: ## format the source
	$(CARGO) fmt --all

.PHONY: lint
lint: install ## check the format, and clippy with warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

# What is checked here needs only the lock file.
.PHONY: deny
deny: install-ci ## check licences, banned crates and where crates come from
	"$$(deploy/local/install --ci | sed -n 's/^CARGO_DENY=//p')" --all-features --locked check licenses bans sources

# Needs github.com, which a build must not depend on: not part of `make ci`. Where github.com cannot be reached a clone of the
# database will do, as good as it is new.
ADVISORIES_FROM = $(if $(ADVISORY_DB),GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url.file://$(abspath $(ADVISORY_DB)).insteadOf \
	GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db)

.PHONY: advisories
advisories: install-ci ## check crates for known vulnerabilities (RustSec's database from github.com, or ADVISORY_DB=clone)
	$(ADVISORIES_FROM) "$$(deploy/local/install --ci | sed -n 's/^CARGO_DENY=//p')" --all-features --locked check advisories

.PHONY: compose
compose: install-ci ## check docker-compose.yml
	docker-compose config --quiet

.PHONY: ci
ci: lint deny compose test ## all that .ci/run checks

.PHONY: install
install: ## install what the local stack needs
	@deploy/local/install >/dev/null

.PHONY: install-ci
install-ci: ## install what the checks need besides
	@deploy/local/install --ci >/dev/null
