#!/usr/bin/env bash
# clippy over the core, the binding and the tests. Only bayou's own crate is compiled (see clippy-only.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
export RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/clippy-only.sh"
# pyo3 is compiled again for every change of these variables. maturin sets them like this.
config=$(find "$CARGO_TARGET_DIR/maturin" -name 'pyo3-config-*.txt' 2>/dev/null | head -1 || true)
if [[ $config ]]; then
  export PYO3_CONFIG_FILE="$config" PYO3_BUILD_EXTENSION_MODULE=1
fi
cargo build --release --locked --lib --tests --features python
