//! Kafka at both ends of the flow: connect, manage topics, produce, consume, and the embedded broker.
//!
//! This is the only home of rdkafka. Two places call librdkafka directly, without rust-rdkafka: `consume/native`
//! (batches of messages) and the folder `ffi` (questions about offsets, topics, groups, ACLs and the cluster; the mock cluster). Only these have
//! `unsafe`.

mod admin;
mod ask;
mod connection;
mod consume;
mod context;
pub mod embedded;
pub mod encode;
mod ffi;
mod probe;
mod produce;
mod properties;
mod token;

pub use admin::{Configured, NewTopic, OffsetSpec};
pub use ask::Question;
pub use connection::{Connection, Target};
pub use consume::{Chunk, Event, GroupOptions, GroupReader, Look, Reader, ReaderOptions};
pub use embedded::{BrokerLauncher, run_broker, set_launcher};
pub use ffi::acls::Acl;
pub use produce::{
    Failed, MessageEncoder, MessageOptions, Number, ProduceOptions, ProduceReport, TopicLimits, Transactions,
};
pub use properties::advice;
pub use token::{Token, TokenSource};
