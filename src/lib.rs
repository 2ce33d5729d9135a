//! bayou: from a Kafka topic to a Delta table, exactly once.
//!
//! ```text
//! kafka  ->  decode  ->  transform  ->  expect  ->  window  ->  sink
//! consume    bytes to    select/where   rules       event-time   delta, kafka,
//!            Arrow       union, join                aggregates   iterator
//! ```
//!
//! Stages never import each other; they share `error`, `batch`, `position`, `time`, `calendar`, `json`, `expr`, `state` and `storage`.
//! `flow` describes a query, `engine` computes it, and `run` makes it durable. See `docs/architecture.md`.

// Without the Python binding, many of its callees have no caller.
#![cfg_attr(not(feature = "python"), allow(dead_code, unused_imports, unreachable_pub))]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
mod batch;
mod calendar;
mod catalog;
mod decode;
mod engine;
mod epoch;
mod error;
mod expect;
mod expr;
mod flow;
mod hash;
mod json;
mod kafka;
mod memory;
mod position;
mod progress;
#[cfg(feature = "python")]
mod python;
mod read;
mod run;
mod simulate;
mod sink;
mod stack;
mod state;
mod storage;
mod time;
mod transform;
mod window;

pub use error::{Error, Kind, Result};

/// The items that `tests/it` uses, at their places in the crate. Everything else is private to the crate, so the compiler finds code that nothing calls.
#[doc(hidden)]
pub mod testing {
    pub use crate::error::{Error, Kind, Result};

    pub mod batch {
        pub use crate::batch::{Message, Messages, TimestampType};
    }
    pub mod decode {
        pub use crate::decode::{DecodeOptions, Format, Given};
    }
    pub mod expect {
        pub use crate::expect::Action;
    }
    pub mod expr {
        pub use crate::expr::{AggregateItem, Dialect, GroupFunction, parse_ddl};
    }
    pub mod flow {
        pub use crate::flow::{Flow, Output, Stream, Trigger, identity};
        pub mod json {
            pub use crate::flow::json::Parts;
        }
        pub mod source {
            pub use crate::flow::source::{
                KafkaSource, MAX_TRIGGER_DELAY, MessagesSource, Offsets, OnMalformed, RowsSource,
            };
        }
        pub mod subscription {
            pub use crate::flow::subscription::Subscription;
        }
        pub mod static_join {
            pub use crate::flow::static_join::{Foreign, StaticSide};
        }
        pub mod stream {
            pub use crate::flow::stream::{JoinOptions, parse_how, watermark_spec};
        }
    }
    pub mod kafka {
        pub use crate::kafka::{
            BrokerLauncher, Connection, Event, NewTopic, OffsetSpec, ProduceOptions, ProduceReport, Reader,
            ReaderOptions, Target, run_broker, set_launcher,
        };
    }
    pub mod position {
        pub use crate::position::{Offset, Partition, Positions, Topic, TopicPartition};
    }
    pub mod run {
        pub use crate::run::Job;
        pub mod control {
            pub use crate::run::control::Query;
        }
    }
    pub mod simulate {
        pub use crate::simulate::{Fitness, FitnessOptions};
    }
    pub mod sink {
        pub use crate::sink::{OutputMode, To};
        pub mod delta {
            pub use crate::sink::delta::DeltaOptions;
        }
        pub mod function {
            pub use crate::sink::function::{ForEach, FunctionOptions};
        }
        pub mod topic {
            pub use crate::sink::topic::{Create, TopicOptions};
        }
    }
    pub mod storage {
        pub use crate::storage::{Location, StorageOptions};
        pub mod local {
            pub use crate::storage::local::{Fault, Hook, LocalStore};
        }
    }
    pub mod time {
        pub use crate::time::{Clock, EventTime, SharedClock};
    }
    pub mod transform {
        pub mod map {
            pub use crate::transform::map::{BatchFunction, Failure};
        }
    }
    pub mod window {
        pub use crate::window::{Emit, SessionSpec, WindowSpec, Windowing};
    }
}
