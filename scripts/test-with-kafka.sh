#!/usr/bin/env bash
# The steps that need a real Kafka; tests/kafka/server.py runs this with its addresses in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/steps.sh
: "${BAYOU_TEST_KAFKA:?run this through tests/kafka/server.py run --}"

# More tests at a time than cores, because many tests wait for a broker, a clock or a process.
step "Rust integration tests" cargo test "${CARGO_FLAGS[@]}" --test it -- --test-threads 4
# One Spark for all files.
step "Python tests" python tests/spark/spark_server.py run -- pytest tests/python --ignore tests/python/test_notebooks.py \
  --ignore tests/python/test_bench.py -n 4 --dist loadfile --durations 25
# A kernel and its broker use one core. Benchmarks have bounds of time, so they are not beside the tests above.
step "notebooks and benchmarks" pytest tests/python/test_notebooks.py tests/python/test_bench.py -n 2
