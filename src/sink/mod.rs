//! The outputs: Delta tables, the quarantine table, memory.

pub mod delta;
pub mod memory;
pub mod quarantine;
