//! Runs a flow durably: the epochs of an engine, from the start of a run to the commits. Iterators run here too, without tables.
//!
//! ```text
//! job        a flow, with its runtime and clock    control    the user's handle of a query
//! start      recovery at the start of a run        runner     the epoch loop
//! feed       reading, positions, bounds            seal       an epoch's end
//! commit     commits what a seal records           changes    what changed since the last run
//! compact    state files                           files      facts about state files
//! backfill   new outputs, from the earliest offset statics    joined tables
//! maintain   maintenance in parallel with the stream
//! iterate    the engine without outputs            rebatch    rows cut into batches
//! report     progress in Spark's words             open       why windows are still open
//! topics     topics that a query reads more or less than before
//! ownership  which query wrote a table's rows      places     locations where rows are less safe than they seem
//! publish    the position as a consumer group's, for lag tools
//! repair     repairs a sealed epoch that a table refuses
//! heartbeat  whether a different runner is alive
//! memory     free memory that the C libraries' allocator keeps
//! sample     the newest messages of a topic, to look at
//! looked     when something was looked at, on two clocks
//! within     small files, which stand in the seal
//! ```

mod backfill;
mod changes;
mod commit;
mod compact;
pub(crate) mod control;
pub(crate) mod feed;
mod files;
mod heartbeat;
pub(crate) mod iterate;
mod job;
mod looked;
mod maintain;
mod open;
mod ownership;
mod places;
mod publish;
mod rebatch;
pub(crate) mod repair;
mod report;
mod runner;
pub(crate) mod sample;
mod seal;
mod start;
pub(crate) mod statics;
mod topics;
mod within;

pub use job::Job;
