//! State by key: increment, merge, snapshot, restore.
//!
//! ```text
//! operator   the interface between stateful steps and the query: rows in, the end of an epoch, increments and snapshots
//! groups     accumulators by key, for one epoch
//! table      live partial states by key, column by column, changed in place
//! columns    rows that are added and changed in place
//! keys       key columns as bytes that compare equal when the keys do
//! file       snapshot files
//! ```
//!
//! An epoch aggregates into new accumulators. Their content at the end of the epoch *is* the increment: it is written,
//! and merged into the live groups. DataFusion's partial states are not a stable format. So each file names the version
//! and the aggregates that wrote it. A file of a different version or of different aggregates is refused.

mod columns;
mod file;
mod groups;
mod keys;
mod operator;
mod table;

/// In keys, all NaNs are one value, and −0.0 is 0.0, as in Spark.
pub(crate) use crate::expr::normalize as normalize_key;
pub(crate) use columns::Columns;
pub(crate) use file::{Encoder, STATE_VERSION, decode, encode, read};
pub(crate) use groups::Groups;
pub(crate) use keys::KeyCodec;
pub(crate) use operator::{Finished, OpenWindow, Pushed, Stateful};
pub(crate) use table::{KeyBytes, Table, results};
