//! A broker in memory, one per operating-system user and name, shared by all that user's kernels.
//!
//! ```text
//! kernel ── Client ──┐ control.sock        ┌─ helper process ─────────────────────────┐
//!                    ├────────────────────>│ hello, create_topic, usage; open = alive │
//!   librdkafka ──────┴── TCP ── SASL ─────>│ gate: admits, counts   ──>  mock cluster │
//! kernel ── … ────────────────────────────>└──────────────────────────────────────────┘
//! ```
//!
//! librdkafka's mock cluster evicts what is over its limit without a word. So nobody talks to it directly: the gate in front of it
//! counts what each partition holds and makes the mock refuse a batch that would not fit, whoever sends it. It lets in who knows a
//! secret, which the control socket hands out: other users of the machine reach the port, but not that socket. The kernel that
//! comes first starts the helper; it ends a few seconds after the last one's socket closed, however that came about.

mod client;
mod door;
mod gate;
mod helper;
mod place;
mod protocol;
mod scram;
mod wire;

pub(super) use client::Client;
pub use client::remove_what_is_left;
pub use helper::run_broker;

use parking_lot::Mutex;
use rdkafka::types::RDKafkaErrorCode as Code;

/// What a producer gets for a batch that the gate has not let through.
pub(super) const FULL: Code = Code::UnsupportedVersion;

/// The command that starts a process which calls `run_broker(directory)`; the directory is appended as the last argument.
#[derive(Debug, Clone)]
pub struct BrokerLauncher {
    pub command: Vec<String>,
}

static LAUNCHER: Mutex<Option<BrokerLauncher>> = Mutex::new(None);

/// Set once, by the binding: Python's executable and a line that calls `_core._run_broker(directory)`.
/// The library cannot know how to start itself.
pub fn set_launcher(launcher: BrokerLauncher) {
    *LAUNCHER.lock() = Some(launcher);
}
