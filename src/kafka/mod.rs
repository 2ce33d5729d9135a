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
pub(crate) mod embedded;
pub(crate) mod encode;
mod ffi;
mod probe;
mod produce;
mod properties;
mod token;

pub(crate) use admin::Configured;
pub use admin::{NewTopic, OffsetSpec};
pub(crate) use ask::Question;
pub use connection::{Connection, Target};
pub(crate) use consume::{Chunk, GroupOptions, GroupReader, Look};
pub use consume::{Event, Reader, ReaderOptions};
pub use embedded::{BrokerLauncher, run_broker, set_launcher};
pub(crate) use ffi::acls::Acl;
pub(crate) use produce::{Failed, MessageEncoder, MessageOptions, Number, TopicLimits, Transactions};
pub use produce::{ProduceOptions, ProduceReport};
pub(crate) use properties::advice;
pub(crate) use token::{Token, TokenSource};
