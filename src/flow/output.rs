//! A query: its outputs, and how it runs.

use super::stream::Stream;
use super::trigger::Trigger;
use crate::Result;
use crate::sink::{self, OutputMode, Rows, Sink, To, delta::DeltaOptions, quarantine, spark::SparkOptions};
use crate::storage::Location;
use crate::time::SharedClock;

/// The name of the quarantine among a query's outputs.
pub(crate) const QUARANTINE: &str = "_quarantine";

/// One output of a query.
#[derive(Clone)]
pub struct Output {
    pub name: String,
    pub stream: Stream,
    pub mode: OutputMode,
    /// Where an output begins that is new in a query that has run before: "now" or "earliest".
    pub start: Option<String>,
    pub to: To,
}

impl Output {
    /// The name of the mode in seals and definitions.
    pub fn mode_name(&self) -> &'static str {
        self.to.mode_name(self.mode)
    }

    pub fn sink(&self, clock: &SharedClock) -> Result<Box<dyn Sink>> {
        let rows = Rows {
            name: self.name.clone(),
            schema: self.stream.schema().clone(),
            declared: self.stream.declared_schema(),
            mode: self.mode,
            keys: if self.to.has_keys(self.mode) { self.stream.merge_columns()? } else { vec![] },
            clock: clock.clone(),
        };
        Ok(sink::make(&self.to, rows))
    }
}

/// The table for rows and messages that a query sets aside.
#[derive(Clone)]
pub enum Aside {
    At(Location),
    /// A table that Spark commits to. Its comment is that of all quarantine tables.
    Spark(SparkOptions),
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.describe())
    }
}

impl From<Location> for Aside {
    fn from(at: Location) -> Self {
        Self::At(at)
    }
}

impl Aside {
    pub fn place(&self) -> Option<&Location> {
        match self {
            Self::At(at) => Some(at),
            Self::Spark(_) => None,
        }
    }

    /// The last part of the table's name.
    pub fn name(&self) -> String {
        match self {
            Self::At(at) => at.name(),
            Self::Spark(options) => options.table.name.clone(),
        }
    }

    fn to(&self, query: &str) -> To {
        let comment = Some(format!("What the query {query} set aside: the original messages and why"));
        match self {
            Self::At(location) => To::Delta(DeltaOptions {
                location: location.clone(),
                partition_by: vec![],
                table_name: None,
                comment,
                merge_schema: true,
            }),
            Self::Spark(options) => To::Spark(SparkOptions { comment, merge_schema: true, ..options.clone() }),
        }
    }

    pub fn describe(&self) -> String {
        self.to("").describe()
    }

    pub fn address(&self) -> String {
        self.to("").address().unwrap_or_default()
    }

    /// The name in seals of the way in which the table's rows are written.
    pub fn mode_name(&self) -> &'static str {
        self.to("").mode_name(OutputMode::Append)
    }
}

/// A query, as the user describes it.
#[derive(Clone)]
pub struct Flow {
    pub name: String,
    pub outputs: Vec<Output>,
    pub quarantine: Aside,
    /// `_bayou/<query name>`
    pub checkpoint: Location,
    pub trigger: Trigger,
    pub full_refresh: bool,
    pub accept_changes: bool,
    pub close_windows: bool,
    /// Small files of a table are joined when there are at least this many. None: never.
    pub optimize_every: Option<usize>,
    /// Whether the tables' logs are cleaned. None: the property of each table decides.
    pub clean_log: Option<bool>,
    /// Where new topics of the query start: "now" or "earliest".
    pub start: Option<String>,
    /// The consumer group that shows the query's position to lag tools.
    pub commit_to_group: Option<String>,
    /// At most this many bytes of state stay in memory. None: half of the machine's memory.
    pub memory_limit: Option<usize>,
}

impl Flow {
    pub fn quarantine_sink(&self, clock: &SharedClock) -> Box<dyn Sink> {
        quarantine_sink(&self.quarantine, &self.name, clock)
    }

    /// The outputs that have their own folder, each with its folder.
    pub fn places(&self) -> impl Iterator<Item = (&Output, &Location)> {
        self.outputs.iter().filter_map(|o| Some((o, o.to.place()?)))
    }
}

/// The quarantine table of the query `query`.
pub(crate) fn quarantine_sink(aside: &Aside, query: &str, clock: &SharedClock) -> Box<dyn Sink> {
    let to = aside.to(query);
    let rows = Rows {
        name: QUARANTINE.into(),
        schema: quarantine::SCHEMA.clone(),
        declared: quarantine::SCHEMA.clone(),
        mode: OutputMode::Append,
        keys: vec![],
        clock: clock.clone(),
    };
    sink::make(&to, rows)
}
