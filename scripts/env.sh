# The other scripts source this file. It sets the folders for files that are kept between checkouts. The environment overrides these settings.
export BAYOU_CACHE="${BAYOU_CACHE:-$HOME/.cache/bayou}"
# Outside the tree, so that a clean checkout does not compile the heavy crates again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$BAYOU_CACHE/target}"
# If these variables are set for other projects, every crate would be compiled again.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
# Kafka's TLS needs OpenSSL. If the system has OpenSSL as a static library, it is linked in, because compiling OpenSSL takes minutes.
if pkg-config --exists 'openssl >= 3' 2>/dev/null && [[ -e $(pkg-config --variable=libdir openssl)/libssl.a ]]; then
  export OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1
fi
# jemalloc is compiled for one page size, and ARM machines differ. Compiled for 64 KiB, it also runs with smaller pages.
if [[ $(uname -m) == aarch64 ]]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi
VENV="$BAYOU_CACHE/venv"
export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
# The jars of tests/spark. The reader tests give them to pyspark.
export BAYOU_TEST_SPARK_JARS="$BAYOU_CACHE/delta-spark-4.0.0"
# Tests, lints and the wheel use one profile, so the heavy crates compile once. Rust's tests run without the feature `python`. This
# proves that the core does not know Python, and pyo3 is not compiled again at each change between maturin's environment and cargo's.
# A test shows that the feature changes nothing in the crates that it does not bring (tests/it/project.rs).
CARGO_FLAGS=(--release --locked)

# Cargo compares the times of files to find what it must compile. Files compiled from a different checkout can be newer than the files here.
if [[ -e src/lib.rs && $(cat "$CARGO_TARGET_DIR/.checkout" 2>/dev/null) != "$PWD" ]]; then
  touch src/lib.rs tests/it/main.rs
  mkdir -p "$CARGO_TARGET_DIR"
  printf '%s\n' "$PWD" >"$CARGO_TARGET_DIR/.checkout"
fi

# A venv for one task: `tools_venv docs` makes a venv with the packages of requirements-docs.txt, and sets `venv` to its folder.
tools_venv() {
  venv="$BAYOU_CACHE/venv-$1"
  cmp -s "requirements-$1.txt" "$venv/.requirements" && return
  python3 -m venv --clear "$venv"
  say "installing requirements-$1.txt into $venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "requirements-$1.txt" >&2
  cp "requirements-$1.txt" "$venv/.requirements"
}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
