# Two commands matter: `make demo` shows bayou, `make test` checks all of it. Both install what they need and build first.
# Kept between checkouts, in $BAYOU_CACHE (~/.cache/bayou): the venv, the jars of the tests, and compiled crates
# (CARGO_TARGET_DIR, if set, instead).

.DEFAULT_GOAL := help
.PHONY: help setup build demo test chaos bench clusters event-time spark-check stores docs pictures lint fmt wheel wheel-check clean-cache

run = . scripts/env.sh &&
SHELL := bash

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

setup: ## install tools and the tests' jars; quick if they are installed already
	@scripts/setup.sh

build: setup ## the extension module, into the venv
	@scripts/build.sh

demo: build ## a broker, made-up events, a pipeline, tables
	@$(run) python notebooks/demo.py

test: ## every check and test; the last line counts them
	@scripts/test.sh

chaos: build ## all campaigns, and docs/reliability-report.md with their results; about an hour and a half (SEED=1 repeats, ONLY=kills,soak)
	@$(run) python tests/chaos/campaigns.py $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

bench: build ## benchmarks, with the numbers of librdkafka and of hand-written code for comparison
	@$(run) python benches/bench.py
	@$(run) python benches/state.py
	@$(run) python benches/tables.py
	@$(run) python benches/latency.py
	@$(run) python benches/store.py

clusters: build ## all refusals of secured clusters, each TLS mistake twenty times, five minutes of members that join and leave; about 20 minutes
	@$(run) python tests/kafka/server.py run -- pytest -q tests/clusters

event-time: build ## random streams against the oracle of event time: 20,000 seeds
	@$(run) python tests/python/event_time_campaign.py --seeds 400:20400

docs: setup ## the manual as a site, in the cache; dead links are errors
	@scripts/docs.sh

pictures: build ## the pictures of the manual, made in a real browser
	@$(run) python scripts/pictures.py

stores: build ## bayou on versitygw, Azurite, moto and a stub of Google's API; the first time it builds versitygw
	@scripts/stores.sh

spark-check: build ## 5,000 random expressions compared with Spark 4.0, about 15 minutes (SEED=1 repeats; SPARK= a python with pyspark 4.0.0, Java 17)
	@$(or $(SPARK),python3) tests/python/spark_check.py --count 5000 --seed $(or $(SEED),1) --out "$${TMPDIR:-/tmp}/spark-check.jsonl"
	@$(run) python tests/python/spark_check.py --compare --out "$${TMPDIR:-/tmp}/spark-check.jsonl"

lint: setup ## clippy, ruff, mypy
	@scripts/lint.sh
	@$(run) ruff check . && ruff format --check . && mypy

fmt: setup ## format Rust and Python
	@cargo fmt
	@$(run) ruff check -q --fix . && ruff format -q .

wheel: setup ## a wheel for users, in dist/: manylinux_2_28, any Python from 3.10 on; about an hour the first time
	@scripts/wheel.sh

wheel-check: ## checks the wheel in dist/ in clean environments, with the libraries of the Databricks runtimes
	@scripts/wheel-check.sh

clean-cache: ## remove everything that is kept between checkouts
	@$(run) rm -rf "$$BAYOU_CACHE/venv" "$$BAYOU_CACHE/target" "$$BAYOU_CACHE"/kafka-* "$$BAYOU_CACHE"/delta-spark-*
