#!/usr/bin/env bash
# The steps that need a real Kafka; tests/kafka/server.py runs this with its addresses in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/steps.sh
: "${BAYOU_TEST_KAFKA:?run this through tests/kafka/server.py run --}"

step "Rust integration tests" cargo test "${CARGO_FLAGS[@]}" --test it
# Three files at a time on two cores, because many tests wait for a broker, a clock or a process. Tests that measure times, also of notebooks, run alone.
step "Python tests" pytest tests/python --ignore tests/python/test_notebooks.py --ignore tests/python/test_bench.py \
  -n 3 --dist loadfile --durations 25
step "notebooks and benchmarks" pytest tests/python/test_notebooks.py tests/python/test_bench.py
