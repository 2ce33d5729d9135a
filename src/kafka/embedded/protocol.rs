//! What kernels and the helper say to each other: one JSON document per line, each request answered once.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Kernels with different versions of bayou may meet at one broker; they must speak the same protocol.
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
    /// Like a cluster id.
    pub id: String,
    pub address: String,
    /// What clients of Kafka prove that they know. The control socket, which hands it out, lies in the user's own directory.
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
    /// As they are kept: compressed.
    pub bytes: usize,
    pub batches: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    pub partition_bytes: usize,
    pub partition_batches: usize,
    pub total_bytes: usize,
}
