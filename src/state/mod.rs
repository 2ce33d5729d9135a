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
//! An epoch aggregates into new accumulators. Their content at the end of the epoch *is* the increment: it is written, and
//! merged into the live groups. DataFusion's partial states are not a stable format. So each file names the version and the
//! aggregates that wrote it, and a different one is refused.

mod columns;
mod file;
mod groups;
mod keys;
mod operator;
mod table;

/// In keys, all NaNs are one value, and −0.0 is 0.0, as in Spark.
pub use crate::expr::normalize as normalize_key;
pub use columns::Columns;
pub use file::{Encoder, STATE_VERSION, decode, encode, read};
pub use groups::Groups;
pub use keys::KeyCodec;
pub use operator::{Finished, OpenWindow, Pushed, Stateful};
pub use table::{KeyBytes, Table, results};
