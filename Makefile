# Two commands: `make run` starts the shop behind the gateway, `make test` is what CI runs.

.DELETE_ON_ERROR:
.PHONY: run test bench soak plugins test-guests shop-plugins guest-target fmt lint

# Guests are workspaces of their own: they are compiled for wasm32, and natively for their tests.
GUESTS := plugins tests/guests examples/custom-policy examples/shop/plugins
# They share a target folder: the standard library and the SDK's dependencies are compiled once.
GUEST_TARGET := plugins/target
BUILDER := cargo run --quiet --package sluice-plugin-builder --

run: plugins shop-plugins
	cargo build --package sluice --package sluice-shop
	target/debug/shop-up

# Everything that must hold before a change lands. Cheap checks first.
test: lint plugins test-guests shop-plugins
	scripts/setup test
	cargo test --manifest-path plugins/Cargo.toml --workspace
	cargo test --manifest-path examples/custom-policy/Cargo.toml --target-dir $(GUEST_TARGET)
	cargo test --manifest-path examples/shop/plugins/Cargo.toml --workspace --target-dir $(GUEST_TARGET)
	cargo test --workspace --all-targets --no-fail-fast

lint:
	cargo fmt --all --check
	for guests in $(GUESTS); do cargo fmt --manifest-path $$guests/Cargo.toml --all --check || exit 1; done
	cargo clippy --workspace --all-targets -- -D warnings
	for guests in $(GUESTS); do cargo clippy --manifest-path $$guests/Cargo.toml --workspace -- -D warnings || exit 1; done

# The stock plugins, into plugins/built: the next build of the host embeds them.
plugins: guest-target
	$(BUILDER) plugins $(GUEST_TARGET) plugins/built

# What the end-to-end tests push.
test-guests: guest-target
	$(BUILDER) --unchecked tests/guests $(GUEST_TARGET) tests/guests/built

# The shop's own event handlers, where its sluice.toml looks for them.
shop-plugins: guest-target
	$(BUILDER) examples/shop/plugins $(GUEST_TARGET) examples/shop/plugins/built

guest-target:
	scripts/guest-target

# About half an hour, compiling included; BENCH=--quick for a shorter look at the proxies.
bench: plugins
	scripts/setup bench
	cargo build --release --package sluice
	python3 tests/bench/bench.py $(BENCH)
	cargo bench --package sluice --bench pick
	python3 tests/bench/picks.py
	python3 tests/bench/registry.py
	python3 tests/bench/failover.py
	python3 tests/bench/overload.py
	python3 tests/bench/transactions.py
	python3 tests/bench/events.py
	python3 tests/bench/simulations.py

# The long versions of the tests, about an hour: those that say so by `#[ignore]`, and the fuzz targets with many
# more runs; with libFuzzer too where cargo-fuzz and a nightly compiler are installed.
SOAK_SEEDS ?= 100000
SOAK_FUZZ_RUNS ?= 1000000
SOAK_FUZZ_SECONDS ?= 600
FUZZ_TARGETS := guard configuration guest_answers dns registration cloud_events

soak: plugins test-guests shop-plugins
	cargo test --package sluice --no-fail-fast --tests -- --ignored --nocapture
	SLUICE_SEEDS=$(SOAK_SEEDS) cargo test --package sluice --lib transactions::tests::simulation -- --nocapture
	SLUICE_FUZZ_RUNS=$(SOAK_FUZZ_RUNS) cargo test --package sluice --test fuzz_short -- --nocapture
	if cargo +nightly fuzz --version >/dev/null 2>&1; then \
		for target in $(FUZZ_TARGETS); do \
			cargo +nightly fuzz run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(SOAK_FUZZ_SECONDS) || exit 1; \
		done; \
	else \
		echo "libFuzzer is left out: cargo install cargo-fuzz, and a nightly compiler, bring it"; \
	fi

fmt:
	cargo fmt --all
	for guests in $(GUESTS); do cargo fmt --manifest-path $$guests/Cargo.toml --all; done
