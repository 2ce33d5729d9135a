//! Event time: the windows of a row, the progress of time, and aggregates over both.
//!
//! ```text
//! assign      the windows of a time (pure)        watermark   the progress of event time (pure)
//! calendar    days and months of a zone (pure)
//! spec        the definition of an aggregation    input       rows to the input of accumulators
//! aggregate   over windows of a size, or none     session     over sessions
//! store       live groups by window, in memory and on disk
//! ```

pub mod aggregate;
pub mod assign;
pub mod calendar;
mod input;
pub mod session;
pub mod spec;
mod store;
#[cfg(test)]
mod test;
pub mod watermark;

pub use aggregate::Aggregator;
pub use assign::WindowSpec;
pub use session::Sessions;
pub use spec::{AggregateSpec, Emit, SessionSpec, Windowing};
pub use watermark::{OnIdle, Tracker, TrackerState, WatermarkSpec};

use crate::Result;
use crate::state::Stateful;

/// The operator that computes an aggregation.
pub fn operator(spec: AggregateSpec, emit: Emit) -> Result<Box<dyn Stateful>> {
    Ok(match spec.window {
        Windowing::Session(_) => Box::new(Sessions::new(spec, emit)?),
        Windowing::Fixed(_) | Windowing::None => Box::new(Aggregator::new(spec, emit)?),
    })
}
