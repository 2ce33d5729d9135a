//! Event time: the windows of a row, the progress of time, and aggregates over both.
//!
//! ```text
//! assign      the windows of a time (pure)        watermark   the progress of event time (pure)
//! calendar    days and months of a zone (pure)
//! spec        the definition of an aggregation    input       rows to the input of accumulators
//! aggregate   over windows of a size, or none     session     over sessions
//! store       live groups by window, in memory and on disk
//! ```

pub(crate) mod aggregate;
pub(crate) mod assign;
pub(crate) mod calendar;
mod input;
pub(crate) mod session;
pub(crate) mod spec;
mod store;
#[cfg(test)]
mod test;
pub(crate) mod watermark;

pub(crate) use aggregate::Aggregator;
pub use assign::WindowSpec;
pub(crate) use session::Sessions;
pub(crate) use spec::AggregateSpec;
pub use spec::{Emit, SessionSpec, Windowing};
pub(crate) use watermark::{OnIdle, Tracker, TrackerState, WatermarkSpec};

use crate::Result;
use crate::state::Stateful;

/// The operator that computes an aggregation.
pub(crate) fn operator(spec: AggregateSpec, emit: Emit) -> Result<Box<dyn Stateful>> {
    Ok(match spec.window {
        Windowing::Session(_) => Box::new(Sessions::new(spec, emit)?),
        Windowing::Fixed(_) | Windowing::None => Box::new(Aggregator::new(spec, emit)?),
    })
}
