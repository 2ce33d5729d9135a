#!/usr/bin/env bash
# All checks and tests, cheap ones first. Ends at the first step that fails. The last line counts the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/steps.sh

trap 'status=$?; summary $status || status=1; rm -rf "$BAYOU_STEPS"; exit $status' EXIT

python_checks() {
  ruff check . && ruff format --check .
}

step "tools" scripts/setup.sh
. scripts/env.sh # again, because setup.sh can have installed OpenSSL, and env.sh decides how it is linked
step "Rust format" cargo fmt --check
step "Python lint and format" python_checks
# The wheel is first, because it compiles everything that the tests share. So the time of each step is visible.
step "wheel" scripts/build.sh
step "clippy" scripts/lint.sh
step "stubs" python scripts/stubtest.py
step "mypy" mypy
step "Rust unit tests" cargo test "${CARGO_FLAGS[@]}" --lib
# One broker for everything that needs one.
python tests/kafka/server.py run -- scripts/test-with-kafka.sh
