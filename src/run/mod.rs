//! Durably: an engine's epochs, from a start to what is committed, and the same without tables for iterators.
//!
//! ```text
//! job        a flow with what it runs on           control    a query as its user holds it
//! start      what a run finds, and finishes first  runner     the epoch loop
//! feed       reading, positions, bounds            seal       an epoch's end
//! commit     from a seal to what is committed      changes    what changed since the run before
//! compact    state files, and files what is known    backfill   new outputs that begin at the earliest offset
//! statics    joined tables                         maintain   what happens beside the stream
//! iterate    the engine without outputs            rebatch    rows cut into batches
//! report     progress in Spark's words             open       why windows are still open
//! ownership  who has written a table's rows        places     places where rows are not as safe as they seem
//! repair     the way out for a sealed epoch that a table does not take
//! heartbeat  whether another runner is alive       ask        questions to Kafka beside the loop
//! memory     what the C libraries' allocator holds without need
//! ```

mod ask;
mod backfill;
mod changes;
mod commit;
mod compact;
pub mod control;
pub mod feed;
mod files;
mod heartbeat;
pub mod iterate;
mod job;
mod maintain;
mod memory;
mod open;
mod ownership;
mod places;
mod rebatch;
pub mod repair;
mod report;
mod runner;
mod seal;
mod start;
pub mod statics;

pub use job::Job;
