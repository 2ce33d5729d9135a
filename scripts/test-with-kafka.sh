#!/usr/bin/env bash
# The steps that need a real Kafka; tests/kafka/server.py runs this with its addresses in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/steps.sh
: "${BAYOU_TEST_KAFKA:?run this through tests/kafka/server.py run --}"

step "Rust integration tests" cargo test "${CARGO_FLAGS[@]}" --test it
step "Python tests" pytest tests/python --ignore tests/python/test_notebooks.py
step "notebooks" pytest tests/python/test_notebooks.py
