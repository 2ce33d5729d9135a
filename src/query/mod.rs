//! Queries: the only module that names every stage.
//!
//! ```text
//! stream   what the user describes          source   where rows come from
//! plan     streams to steps, each once      engine   the steps at work, epoch by epoch, without I/O
//! feed     reading, positions, bounds       iterate  the engine without tables
//! run      the durable epoch loop           start    recovery: what a run finds and finishes
//! ```

mod commit;
pub mod control;
pub mod engine;
pub mod feed;
mod heartbeat;
pub mod iterate;
pub mod plan;
mod report;
pub mod run;
pub mod source;
mod start;
pub mod stream;
pub mod trigger;

pub use stream::Stream;
pub use trigger::Trigger;
