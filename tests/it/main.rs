//! The Rust integration tests, in one binary so that the heavy crates are linked once.
//!
//! `python tests/kafka/server.py run -- cargo test --release --locked --test it` runs all of them.

// A helper that unwraps fails the test that calls it, which is intended. clippy.toml allows this in tests only by an
// attribute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod exactly_once;
mod faulty_store;
mod flow;
mod kafka_admin;
mod kafka_connect;
mod kafka_embedded;
mod kafka_faults;
mod kafka_produce;
mod kafka_read;
mod kafka_transactions;
mod project;
mod storage_faults;
mod storage_limits;
mod support;
