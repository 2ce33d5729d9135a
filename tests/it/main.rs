//! The Rust integration tests, in one binary so that the heavy crates are linked once.
//!
//! `python tests/kafka/server.py run -- cargo test --release --locked --features python --test it` runs all of them.

mod exactly_once;
mod kafka_admin;
mod kafka_connect;
mod kafka_embedded;
mod kafka_produce;
mod kafka_read;
mod support;
