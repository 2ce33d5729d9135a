//! A flow with what it runs on.

use crate::flow::Flow;

#[derive(Clone)]
pub struct Job {
    pub flow: Flow,
    pub runtime: tokio::runtime::Handle,
}
