//! A flow, with the runtime and the clock that it runs on.

use crate::flow::Flow;
use crate::time::SharedClock;

#[derive(Clone)]
pub struct Job {
    pub flow: Flow,
    pub runtime: tokio::runtime::Handle,
    pub clock: SharedClock,
}
