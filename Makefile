# The entry points of the project. `make` alone lists them.
CARGO ?= cargo
MUSL := x86_64-unknown-linux-musl
BIN := $(abspath $(or $(CARGO_TARGET_DIR),target))/$(MUSL)/release
# More than the cores, as these tests mostly wait.
E2E_THREADS ?= 8
# Some tests take the engine down, or set it up their way: root gets one of its own for them.
TEST_DOCKER ?= $(or $(VMJOB_DOCKER),$(if $(filter 0,$(shell id -u)),private))
# How many lives the chaos runner lives in `make test`.
LIVES ?= 500
# How many machines `make test-vm` has up at once.
VM_THREADS ?= 2

# What the end-to-end tests, the benchmarks and the demo run: the static binaries, as they ship.
export VMJOB_AGENT ?= $(BIN)/vmjob-agent
export FAKECLOUD ?= $(BIN)/fakecloud
# For the chaos runner's lives with a wrong clock: an agent that a library can come between and its clock.
export VMJOB_AGENT_DYNAMIC ?= $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/vmjob-agent
export LIBFAKETIME ?= $(abspath target/third-party/libfaketimeMT.so.1)
# What boots machines for the tests of the workflows.
export BOOT ?= $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/boot
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo demo-workflow test test-chaos test-workflows test-vm test-qemu test-engines test-packaging bench bench-vm chaos fuzz build dist publish lint deny ci setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## run one small job as in a VM, against a fake of Google's side, and show its report
	@echo 'demo: gets this machine ready, builds (some minutes the first time), and runs a job of three seconds'
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker
	@$(MAKE) --no-print-directory build
	VMJOB_TESTS_STRICT=1 tests/with-docker "$(FAKECLOUD)" run -- docker run --rm vmjob/busybox:test \
	  sh -c 'echo hello from the job; for i in 1 2 3; do echo "step $$i of 3"; sleep 1; done; echo a word on stderr >&2; echo done'
	@echo 'demo: next, a job of your own: "$(FAKECLOUD)" run -- docker run IMAGE …   (docs/quickstart-laptop.md)'

demo-workflow: ## the whole story: workflow, VM, agent, container, callback, VM deleted, as a timeline (SVG=FILE draws it)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker parts
	@$(MAKE) --no-print-directory build
	VMJOB_TESTS_STRICT=1 tests/with-docker target/third-party/workflows/bin/python tests/workflows/demo.py $(SVG:%=--svg %)

test: ## set the machine up, build, run every test (what needs Docker is skipped where there is none)
	@tests/setup.sh build docker parts
	@$(MAKE) --no-print-directory build
	$(CARGO) build --locked -p vmjob-agent
	$(CARGO) test --locked --workspace --exclude vm --exclude packaging --no-run
	RUST_TEST_THREADS=$(E2E_THREADS) VMJOB_DOCKER=$(TEST_DOCKER) tests/with-docker \
	  $(CARGO) test --locked --workspace --exclude vm --exclude packaging --no-fail-fast
	$(CARGO) test --locked -p packaging -- are_those_of_the_help publish:: pages::
	@# Chaos mostly waits, and the workflows' tests mostly compute.
	@$(CARGO) build --locked -p chaos
	@$(MAKE) --no-print-directory -j2 test-chaos test-workflows

test-chaos:
	VMJOB_DOCKER=$(TEST_DOCKER) tests/with-docker $(CARGO) run --locked -p chaos -- --lives $(LIVES) --seed 1 --jobs $(E2E_THREADS)

test-workflows:
	VMJOB_DOCKER=$(TEST_DOCKER) tests/with-docker tests/workflows/run

test-vm: ## boot machines from their own init, with Google's script runner and cloud-init in them; a workflow too (root)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker parts vm
	@$(MAKE) --no-print-directory build
	VMJOB_TESTS_STRICT=1 RUST_TEST_THREADS=$(VM_THREADS) $(CARGO) test --locked -p vm --test it
	$(CARGO) build --locked -p vm
	VMJOB_TESTS_STRICT=1 tests/workflows/run booted_loop.py

test-qemu: ## boot machines with a kernel of their own: power button, power cut, memory all used up (root)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker qemu
	@$(MAKE) --no-print-directory build
	VMJOB_TESTS_STRICT=1 RUST_TEST_THREADS=$(VM_THREADS) $(CARGO) test --locked -p vm --test qemu

test-engines: ## the end-to-end tests on other engines, of Debian's other suites: ENGINES="docker-28 podman-4" for some of them (root)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker parts
	@$(MAKE) --no-print-directory build
	RUST_TEST_THREADS=$(E2E_THREADS) tests/engines/run $(ENGINES)

# Which bucket the release under test is made for.
TEST_BUCKET := $(or $(BUCKET),gs://b)
test-packaging: ## packages, images, releases: on Debian machines, with the tools that take them (root)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker release packaging
	@$(MAKE) --no-print-directory build dist BUCKET=$(TEST_BUCKET)
	packaging/release/cargo.sh aarch64-unknown-linux-musl test --lib -p vmjob-agent -p vmjob-logs
	VMJOB_TESTS_STRICT=1 VMJOB_DOCKER=$(TEST_DOCKER) BUCKET=$(TEST_BUCKET) tests/with-docker $(CARGO) test --locked -p packaging

bench: ## measure the agent against real Docker (BENCH_MIB=1024: logs at full size, BENCH_MIB_LARGE=10240: memory at that; ONLY=steady MINUTES=20: memory in a steady flood)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker
	@$(MAKE) --no-print-directory build
	$(CARGO) build --locked -p bench
	VMJOB_TESTS_STRICT=1 tests/with-docker $(CARGO) run --locked -p bench -- $(ONLY)

# How often each machine is booted.
RUNS ?= 5
bench-vm: ## measure a boot phase by phase, the shell way beside it, and `install --now` (root; RUNS=5; on an idle machine)
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker vm shell-way
	@$(MAKE) --no-print-directory build
	VMJOB_TESTS_STRICT=1 $(CARGO) run --locked -p vm --example phases -- $(RUNS) target/third-party/shell-way

# How many lives, and of which seed (any, and told, where none is given).
N ?= 200
chaos: ## break things under the agent at random and hold its reports against the truth: make chaos N=500 SEED=1
	@VMJOB_TESTS_STRICT=1 tests/setup.sh build docker parts
	@$(MAKE) --no-print-directory build
	$(CARGO) build --locked -p vmjob-agent -p chaos
	VMJOB_TESTS_STRICT=1 tests/with-docker $(CARGO) run --locked -p chaos -- --lives $(N) $(SEED:%=--seed %)
	VMJOB_TESTS_STRICT=1 VMJOB_DOCKER=private tests/with-docker \
	  $(CARGO) run --locked -p chaos -- --lives $$(($(N) / 10)) --kinds engine $(SEED:%=--seed %)

# For how long each target is fuzzed.
SECONDS ?= 60
fuzz: ## feed jobs, command lines and logs that nobody would write to what reads them: make fuzz SECONDS=600
	@VMJOB_TESTS_STRICT=1 tests/setup.sh fuzz
	tests/fuzz/run $(SECONDS)

# Two commands: built together, the agent would be compiled with the features of the dependencies that only fakecloud asks for.
build: ## the static binaries: target/x86_64-unknown-linux-musl/release/{vmjob-agent,fakecloud}
	packaging/release/cargo.sh $(MUSL) build --release -p vmjob-agent
	packaging/release/cargo.sh $(MUSL) build --release -p fakecloud

dist: ## dist/: a release for x86_64 and aarch64; BUCKET=gs://… is filled into what starts VMs
	@tests/setup.sh build release
	packaging/release/dist.sh $(BUCKET)

publish: ## put dist/ into BUCKET=gs://…, once (DRY_RUN=1 only says what it would do)
	packaging/release/publish.sh $(if $(DRY_RUN),--dry-run) $(BUCKET)

# In CI what is skipped is a failure.
MAY_SKIP = [ "$$CI" != true ] && [ "$$VMJOB_TESTS_STRICT" != 1 ]
lint: ## rustfmt, clippy, shellcheck, the unit's exposure, and cargo-deny where it is installed
	@tests/setup.sh build lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@# The fuzz targets, which are a workspace of their own; no libFuzzer is compiled for that.
	CUSTOM_LIBFUZZER_PATH=/dev/null $(CARGO) clippy --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz-lint -- -D warnings
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	git ls-files -z --cached --others --exclude-standard | xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh( |$$)/ {print FILENAME}' | xargs -d '\n' shellcheck
	@if command -v systemd-analyze >/dev/null; then set -x; systemd-analyze security --offline=true --threshold=30 --no-pager \
	  packaging/systemd/vmjob-agent.service >target/security.txt; \
	else echo 'exposure of the unit: skipped, there is no systemd-analyze here'; $(MAY_SKIP); fi
	@if [ -x target/third-party/workflows/bin/ruff ]; then set -x; target/third-party/workflows/bin/ruff check tests/workflows && \
	  target/third-party/workflows/bin/ruff format --check tests/workflows && \
	  target/third-party/workflows/bin/yamllint -s -c tests/workflows/yamllint.yaml packaging/workflows examples; \
	else echo 'lint of the workflows: skipped, run make setup'; $(MAY_SKIP); fi
	@$(MAKE) --no-print-directory deny

deny: ## duplicate dependencies, licences and sources, by cargo-deny (offline)
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny --offline check bans licenses sources; \
	else echo 'deny: skipped, there is no cargo-deny here (cargo install cargo-deny --locked)'; fi

ci: ## what CI runs: lint, then every test, none skipped
	.ci/run

setup: ## get this machine ready: C toolchain, Rust target, Docker, the parts of others that tests use
	@tests/setup.sh build docker parts lint

clean: ## remove target/, with all that the set-up put there, and dist/
	rm -rf target dist
