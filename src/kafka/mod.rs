//! Kafka at both ends of the flow: connect, look after topics, produce, consume, and the embedded broker.
//!
//! The only home of rdkafka. librdkafka is called past rust-rdkafka in two files: `consume/native` (batches of messages) and
//! `ffi` (ListOffsets, DescribeTopics, the mock cluster); `unsafe` stays in these two.

mod admin;
mod connection;
mod consume;
mod context;
pub mod embedded;
pub mod encode;
mod ffi;
mod produce;
mod properties;

pub use admin::{NewTopic, OffsetSpec, PartitionDescription, TopicDescription, TopicSummary};
pub use connection::{Connection, Target};
pub use consume::{Event, Mark, Reader, ReaderOptions};
pub use embedded::{BrokerLauncher, run_broker, set_launcher};
pub use encode::JsonEncoder;
pub use produce::{ProduceOptions, ProduceReport};
pub use properties::advice;
