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
pub(crate) mod json;
pub(crate) mod mode;
pub(crate) mod output;
pub(crate) mod places;
pub(crate) mod said;
pub(crate) mod source;
pub(crate) mod static_join;
pub(crate) mod stream;
pub(crate) mod subscription;
pub(crate) mod topic;
pub(crate) mod trigger;

pub(crate) use output::{Aside, QUARANTINE};
pub use output::{Flow, Output};
pub use stream::Stream;
pub use trigger::Trigger;
