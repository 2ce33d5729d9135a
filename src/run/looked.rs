//! When something was looked at.

use crate::time::{EventTime, SharedClock};
use std::time::{Duration, Instant};

/// A moment on two clocks. The monotonic clock stops while the machine is suspended. The wall clock may be set back.
#[derive(Clone, Copy)]
pub(super) struct Looked(Instant, EventTime);

impl Looked {
    pub(super) fn at(began: Instant, clock: EventTime) -> Self {
        Self(began, clock)
    }

    pub(super) fn now(clock: &SharedClock) -> Self {
        Self(Instant::now(), clock.now())
    }
    pub(super) fn ago(&self, clock: &SharedClock) -> Duration {
        let wall = Duration::from_micros(clock.now().0.saturating_sub(self.1.0).try_into().unwrap_or(0));
        self.0.elapsed().max(wall)
    }
}
