//! The protocol between kernels and the helper: one JSON document on each line, and one answer to each request.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Kernels with different versions of bayou can meet at one broker. They must use the same protocol.
pub(super) const PROTOCOL: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Hello { protocol: u32 },
    CreateTopic { name: String, partitions: i32 },
    Usage,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Hello(Broker),
    Created,
    Exists,
    Usage(Usage),
    Refused(String),
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Broker {
    pub protocol: u32,
    pub pid: u32,
    /// Has the form of a cluster id.
    pub id: String,
    pub address: String,
    /// The secret that Kafka clients prove to know. The control socket gives it out, and is in the user's own
    /// directory.
    pub secret: String,
    pub scratch: PathBuf,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({} at {})", self.id, self.address)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Usage {
    pub partitions: Vec<Held>,
    pub limits: Limits,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    pub topic: String,
    pub partition: i32,
    /// The sizes are compressed sizes.
    pub bytes: usize,
    pub batches: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    pub partition_bytes: usize,
    pub partition_batches: usize,
    pub total_bytes: usize,
}
