//! When a run starts its next epoch.

use crate::time::{format_duration, parse_duration};
use crate::{Error, Result};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Reads everything that is there when the run starts, in epochs. Then the run ends.
    AvailableNow,
    /// Starts an epoch after each interval, until the run is stopped. Zero means as fast as possible.
    Interval(Duration),
}

impl std::str::FromStr for Trigger {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "available_now" => Ok(Self::AvailableNow),
            "availableNow" | "available-now" | "once" => {
                Err(Error::config(format!("trigger='{text}' is not a trigger. Write trigger=\"available_now\".")))
            }
            "continuous" => Err(Error::config(
                "trigger='continuous' is not a trigger. Write an interval, as in trigger=\"0 seconds\" (as fast as possible).",
            )),
            other => parse_duration(other)
                .map(Self::Interval)
                .map_err(|e| Error::config(format!("trigger: {e} Or trigger=\"available_now\"."))),
        }
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AvailableNow => f.write_str("available_now"),
            Self::Interval(d) => f.write_str(&format_duration(*d)),
        }
    }
}
