//! Data files: rows to Parquet, a file or more per partition, with the log's entry of each (an Add action).
//!
//! deltalake's own writer is not used: its statistics of DECIMAL are 64-bit floats, which make readers skip rows that are there; its file
//! statistics ignore NaN; a long partition value makes a folder name that no store takes; and it holds a file for every open
//! partition. See `docs/decisions/0015-own-data-files.md`.

mod partition;
mod read;
mod stats;
mod writer;

pub(crate) use partition::{null_text, partition_value};
pub(crate) use read::read;
pub(crate) use writer::{FileWriter, Properties};
