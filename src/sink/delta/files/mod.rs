//! Data files: rows to Parquet, one or more files for each partition, each with its entry for the log (an Add action).
//!
//! deltalake's own writer is not used, for these reasons. Its statistics of DECIMAL are 64-bit floats, which make
//! readers skip existing rows. Its file statistics ignore NaN. A long partition value makes a folder name that no store
//! accepts. It keeps a file open for each partition. See `docs/decisions/0015-own-data-files.md`.

mod partition;
mod read;
mod stats;
mod writer;

pub(crate) use partition::{null_text, partition_value};
pub(crate) use read::{Batches, read, read_columns};
pub(crate) use writer::{FileWriter, Properties};
