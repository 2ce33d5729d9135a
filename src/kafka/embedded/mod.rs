//! A broker in memory, one per operating-system user and name, shared by all that user's kernels.

use crate::error::{Error, Result};
use std::path::Path;

/// The command that starts a process which calls `run_broker(directory)`; the directory is appended as the last argument.
#[derive(Debug, Clone)]
pub struct BrokerLauncher {
    pub command: Vec<String>,
}

/// Set once, by the binding (`[sys.executable, "-c", "import sys; from bayou import _core; _core._run_broker(sys.argv[1])"]`).
pub fn set_launcher(_launcher: BrokerLauncher) {}

/// The helper process: holds the cluster, serves the clients, returns a few seconds after the last one is gone.
pub fn run_broker(_directory: &Path) -> Result<()> {
    Err(Error::internal("not written yet"))
}

/// A kernel's place at its user's broker.
pub(super) struct Client {}

impl Client {
    pub fn join(_name: &str) -> Result<Self> {
        Err(Error::internal("not written yet"))
    }
    pub fn address(&self) -> &str {
        ""
    }
    pub fn id(&self) -> &str {
        ""
    }
    pub fn name(&self) -> &str {
        ""
    }
    pub fn scratch_dir(&self) -> &Path {
        Path::new("")
    }
    pub fn gone(&self) -> Error {
        Error::connection("gone")
    }
    pub fn full(&self, _topic: &crate::position::Topic, _partition: i32, _delivered: u64, _rows: u64) -> Error {
        Error::storage("full")
    }
    pub fn cannot(&self, what: &str, instead: &str) -> Error {
        Error::config(format!("The embedded broker cannot {what}: {instead}."))
    }
    pub fn create_topic(&self, _new: &super::NewTopic) -> Result<()> {
        Err(Error::internal("not written yet"))
    }
}
pub(super) const FULL: rdkafka::types::RDKafkaErrorCode = rdkafka::types::RDKafkaErrorCode::UnsupportedVersion;
