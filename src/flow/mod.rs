//! Streams and outputs, as the user describes them. This module sends no request, opens no file and runs nothing.
//!
//! ```text
//! stream       steps from a source to rows      source       where rows come from
//! static_join  tables that rows are joined with mode         how rows are written
//! output       a query and its outputs          trigger      when a run starts its next epoch
//! topic        the interface between Kafka and the sink of topics
//! places       where a query keeps its checkpoint and its quarantine
//! ```

pub mod identity;
pub mod json;
pub mod mode;
pub mod output;
pub mod places;
pub mod said;
pub mod source;
pub mod static_join;
pub mod stream;
pub mod subscription;
pub mod topic;
pub mod trigger;

pub use output::{Aside, Flow, Output, QUARANTINE};
pub use stream::Stream;
pub use trigger::Trigger;
