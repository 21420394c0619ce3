# make demo          trains a network through the daemon and shows what came of it; KEEP=1 leaves the daemon running
# make test          sets up what the tests need and runs them all
# make lint          what a change has to pass besides the tests
# make bench         figures on speed
# make libtorch      fetches libtorch, which the other targets do by themselves

.PHONY: demo test lint bench libtorch prerequisites

demo: libtorch
	cargo build --release --locked
	scripts/demo $(if $(KEEP),--keep)

test: libtorch
	@scripts/python-tools
	cargo build --locked
	@scripts/test

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
