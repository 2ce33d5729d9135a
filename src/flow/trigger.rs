//! When a run takes its next epoch.

use crate::time::{format_duration, parse_duration};
use crate::{Error, Result};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// All that is there when it starts, in epochs, then stop.
    AvailableNow,
    /// An epoch every so often, until stopped; zero is as fast as possible.
    Interval(Duration),
}

impl std::str::FromStr for Trigger {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "available_now" => Ok(Self::AvailableNow),
            "availableNow" | "available-now" | "once" => {
                Err(Error::config(format!("trigger='{text}': write trigger=\"available_now\"")))
            }
            "continuous" => Err(Error::config(
                "trigger='continuous': write an interval, as in trigger=\"0 seconds\" (as fast as possible)",
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
