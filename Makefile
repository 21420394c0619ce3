# make demo          trains a network through the daemon and shows what came of it; KEEP=1 leaves the daemon running
# make test          sets up what the tests need and runs them all
# make chaos         more rounds of the fault harness than make test has: ROUNDS=200, SEED=1 for those of a known seed
# make lint          what a change has to pass besides the tests
# make bench         figures on speed
# make libtorch      fetches libtorch, which the other targets do by themselves

.PHONY: demo test chaos lint bench libtorch prerequisites

demo: libtorch
	cargo build --release --locked
	scripts/demo $(if $(KEEP),--keep)

test: libtorch
	@scripts/python-tools
	cargo build --locked
	@scripts/test

chaos: libtorch
	CHAOS_ROUNDS=$(or $(ROUNDS),200) $(if $(SEED),CHAOS_SEED=$(SEED)) cargo test --locked --test chaos -- --nocapture

lint: libtorch
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

bench: libtorch
	cargo bench --locked

libtorch: prerequisites
	@scripts/libtorch

prerequisites:
	@scripts/prerequisites
