# Sourced by the other scripts: where things are kept that outlive a checkout. The environment wins.
export BAYOU_CACHE="${BAYOU_CACHE:-$HOME/.cache/bayou}"
# Outside the tree: a clean checkout must not compile the heavy crates again, which takes half an hour of two cores.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$BAYOU_CACHE/target}"
# Where these are set for other projects, they would make every crate another one.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
# jemalloc takes the machine's page size for granted, and ARM's differ: made for 64 KiB it runs on smaller ones too.
if [[ $(uname -m) == aarch64 ]]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi
VENV="$BAYOU_CACHE/venv"
export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
# Where tests/spark's jars are; the reader tests hand them to pyspark.
export BAYOU_TEST_SPARK_JARS="$BAYOU_CACHE/delta-spark-4.0.0"
# The one profile of tests, lints and wheel: heavy crates compile once. Rust's tests run without the feature `python`: that proves
# that the core knows no Python, and pyo3 would be compiled anew at each change between maturin's environment and cargo's.
# That the feature changes nothing in the crates it does not bring is a test (tests/it/project.rs).
CARGO_FLAGS=(--release --locked)

# Cargo tells by times of files whether it has compiled them, and what another checkout compiled may be younger than the files here.
if [[ -e src/lib.rs && $(cat "$CARGO_TARGET_DIR/.checkout" 2>/dev/null) != "$PWD" ]]; then
  touch src/lib.rs tests/it/main.rs
  mkdir -p "$CARGO_TARGET_DIR"
  printf '%s\n' "$PWD" >"$CARGO_TARGET_DIR/.checkout"
fi

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
