//! The names that Spark gives to columns without an alias. A name is known only when the types are known, because it shows the casts.

use super::aggregates::Aggregated;
use super::language::argument;
use super::scalar::Scalar;
use crate::time::EventTime;

/// The name of a column, or of an argument within a name.
#[derive(Clone)]
pub(super) enum Name {
    Plain(String),
    Value(Scalar, Vec<Name>),
    Aggregate(Aggregated, Vec<Name>),
    /// With the text within OVER.
    Over(Aggregated, Vec<Name>, String),
}

impl Name {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Plain(name) => name.clone(),
            Self::Value(value, names) => filled(value.bound_name(), names),
            Self::Aggregate(aggregate, names) => filled(aggregate.bound_name(), names),
            Self::Over(aggregate, names, over) => format!("{} OVER ({over})", filled(aggregate.bound_name(), names)),
        }
    }
}

/// The text with names instead of arguments.
fn filled(mut text: String, names: &[Name]) -> String {
    for (k, name) in names.iter().enumerate() {
        text = text.replace(&argument(k), &name.shown());
    }
    text
}

/// The facts that a statement loses when its expressions are taken out.
pub(super) struct Spoken {
    /// The names of the columns that are called `__column_k__` in the statement.
    names: Vec<Name>,
    /// The current time: one value for the whole call.
    pub moment: EventTime,
}

impl Spoken {
    #[allow(clippy::disallowed_methods, reason = "a query over tables is no run: it has the time of the machine")]
    pub(super) fn new() -> Self {
        Self { names: vec![], moment: crate::time::SharedClock::system().now() }
    }

    /// Stores the name, and returns the name that the column has within the statement.
    pub(super) fn add(&mut self, name: Name) -> String {
        self.names.push(name);
        format!("__column_{}__", self.names.len() - 1)
    }

    /// The name of a column of the result.
    pub(super) fn shown(&self, name: &str) -> String {
        let k = name.strip_prefix("__column_").and_then(|k| k.strip_suffix("__")).and_then(|k| k.parse::<usize>().ok());
        match k.and_then(|k| self.names.get(k)) {
            Some(found) => found.shown(),
            None => name.to_string(),
        }
    }
}
