//! State by key: increment, merge, snapshot, restore.
//!
//! ```text
//! operator   what every stateful step is to the query: rows in, an epoch's end, increments and snapshots
//! groups     accumulators by key, for one epoch
//! table      live partial states by key, column by column, changed in place
//! columns    rows that are added and changed in place
//! keys       key columns as bytes that compare equal when the keys do
//! file       snapshot files
//! ```
//!
//! An epoch aggregates into fresh accumulators; what they hold at its end *is* the increment that is written, and it is
//! merged into the live groups. DataFusion's partial states are no stable format: each file names the version and the
//! aggregates that it was made with, and anything else is refused.

mod columns;
mod file;
mod groups;
mod keys;
mod operator;
mod table;

/// NaNs are one value and −0.0 is 0.0 in keys, as in Spark.
pub use crate::expr::normalize as normalize_key;
pub use columns::Columns;
pub use file::{STATE_VERSION, decode, encode, read};
pub use groups::Groups;
pub use keys::KeyCodec;
pub use operator::{Finished, OpenWindow, Pushed, Stateful};
pub use table::{KeyBytes, Table, results};
