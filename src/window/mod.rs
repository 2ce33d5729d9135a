//! Event time: which windows a row belongs to, how far time has come, and aggregates over both.

pub mod aggregate;
pub mod assign;
pub mod watermark;

pub use aggregate::{AggregateSpec, Aggregator, Emit, Finished, LateRow, Pushed};
pub use assign::WindowSpec;
pub use watermark::{PartitionTime, Tracker, TrackerState, WatermarkSpec};
