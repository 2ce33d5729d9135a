//! Queries: the only module that names every stage.
//!
//! ```text
//! stream   what the user describes          source   where rows come from
//! plan     streams to steps, each once      engine   the steps at work, epoch by epoch, without I/O
//! feed     reading, positions, bounds       iterate  the engine without tables
//! run      the durable epoch loop           start    recovery: what a run finds and finishes
//! seal     an epoch's end                   changes  what is another than in the run before
//! compact  state files                      open     why windows are still open
//! maintain what happens beside the stream: checkpoints, small files, old epochs
//! memory   what the C libraries' allocator holds without need
//! ask      questions to Kafka beside the loop
//! statics  tables that rows are joined with
//! backfill new tables that begin at the earliest offset
//! ownership who has written a table's rows
//! places   places where rows are not as safe as they seem
//! repair   the way out for a sealed epoch that a table does not take
//! ```

mod ask;
mod backfill;
mod changes;
mod commit;
mod compact;
pub mod control;
pub mod engine;
pub mod feed;
mod heartbeat;
pub mod iterate;
mod maintain;
mod memory;
mod open;
mod ownership;
mod places;
pub mod plan;
pub mod repair;
mod report;
pub mod run;
mod seal;
pub mod source;
mod start;
pub mod statics;
pub mod stream;
pub mod trigger;

pub use stream::Stream;
pub use trigger::Trigger;
