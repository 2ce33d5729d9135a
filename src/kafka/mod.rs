//! Kafka at both ends of the flow: connect, manage topics, produce, consume, and the embedded broker.
//!
//! This is the only home of rdkafka. Two files call librdkafka directly, without rust-rdkafka: `consume/native`
//! (batches of messages) and `ffi` (ListOffsets, DescribeTopics, the mock cluster). Only these two have `unsafe`.

mod admin;
mod connection;
mod consume;
mod context;
pub mod embedded;
pub mod encode;
mod ffi;
mod probe;
mod produce;
mod properties;

pub use admin::{NewTopic, OffsetSpec, TopicSummary};
pub use connection::{Connection, Target};
pub use consume::{Event, Reader, ReaderOptions};
pub use embedded::{BrokerLauncher, run_broker, set_launcher};
pub use produce::{
    Failed, MessageEncoder, MessageOptions, Number, ProduceOptions, ProduceReport, TopicLimits, Transactions,
};
pub use properties::advice;
