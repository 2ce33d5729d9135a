//! bayou: from a Kafka topic to a Delta table, exactly once.
//!
//! ```text
//! kafka  ->  decode  ->  transform  ->  expect  ->  window  ->  sink
//! consume    bytes to    select/where   rules       event-time   delta, kafka,
//!            Arrow       union, join                aggregates   iterator
//! ```
//!
//! Stages never import each other; they share `error`, `batch`, `position`, `time`, `calendar`, `json`, `expr`, `state` and `storage`.
//! `flow` is what is wanted, `engine` how, `run` durably. See `docs/architecture.md`.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
pub mod batch;
pub mod calendar;
pub mod decode;
pub mod engine;
pub mod epoch;
pub mod error;
pub mod expect;
pub mod expr;
pub mod flow;
mod hash;
mod json;
pub mod kafka;
pub mod position;
pub mod progress;
#[cfg(feature = "python")]
mod python;
pub mod read;
pub mod run;
pub mod simulate;
pub mod sink;
mod stack;
pub mod state;
pub mod storage;
pub mod time;
pub mod transform;
pub mod window;

pub use error::{Error, Kind, Result};
