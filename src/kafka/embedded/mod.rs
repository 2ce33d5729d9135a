//! A broker in memory, one per operating-system user and name, shared by all that user's kernels.
//!
//! ```text
//! kernel ── Client ──┐ control.sock        ┌─ helper process ─────────────────────────┐
//!                    ├────────────────────>│ hello, create_topic, usage; open = alive │
//!   librdkafka ──────┴── TCP ── SASL ─────>│ gate: admits, counts   ──>  mock cluster │
//! kernel ── … ────────────────────────────>└──────────────────────────────────────────┘
//! ```
//!
//! librdkafka's mock cluster silently evicts messages above its limit. So no client talks to it directly. The gate in front of
//! it counts the content of each partition and makes the mock refuse a batch that would not fit, from any client. The gate admits
//! clients that know a secret, and the control socket gives this secret out: other users of the machine can reach the port, but
//! not that socket. The first kernel starts the helper. The helper ends a few seconds after the socket of the last kernel has
//! closed, for any reason.

mod client;
mod door;
mod gate;
mod helper;
mod place;
mod protocol;
mod scram;
mod wire;

pub(super) use client::Client;
pub(crate) use client::remove_what_is_left;
pub use helper::run_broker;

use parking_lot::Mutex;
use rdkafka::types::RDKafkaErrorCode as Code;

/// The error of a producer for a batch that the gate has refused.
pub(super) const FULL: Code = Code::UnsupportedVersion;

/// The command that starts a process which calls `run_broker(directory)`. The directory is appended as the last
/// argument.
#[derive(Debug, Clone)]
pub struct BrokerLauncher {
    pub command: Vec<String>,
}

static LAUNCHER: Mutex<Option<BrokerLauncher>> = Mutex::new(None);

/// The binding sets this once: Python's executable and a line that calls `_core._run_broker(directory)`. The library
/// cannot know how to start itself.
pub fn set_launcher(launcher: BrokerLauncher) {
    *LAUNCHER.lock() = Some(launcher);
}
