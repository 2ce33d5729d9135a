//! The report of a query: the keys of Spark's StreamingQueryProgress, and some keys of bayou.

use crate::expect::{Action, Counts};
use crate::position::Positions;
use crate::time::EventTime;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

/// `recent_progress` keeps this many epochs, as in Spark.
pub(crate) const RECENT: usize = 100;

/// An event of a query.
pub(crate) enum Event {
    /// An epoch is sealed. The value is that of `last_progress`.
    Progress(Value),
    /// An epoch is in all tables.
    Done { name: String, run_id: String, epoch: i64 },
}

static LISTENER: OnceLock<fn(Event)> = OnceLock::new();

/// Sets the function that gets all events, for the life of the process.
pub(crate) fn listen(listener: fn(Event)) {
    // A second call comes from a second import in the same process.
    let _ = LISTENER.set(listener);
}

pub(crate) fn tell(event: impl FnOnce() -> Event) {
    if let Some(listener) = LISTENER.get() {
        listener(event());
    }
}

/// The counts of one rule.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCount {
    pub dataset: String,
    pub name: String,
    pub action: Action,
    #[serde(flatten)]
    pub counts: Counts,
}

/// The counts by dataset and rule, summed.
#[derive(Debug, Clone, Default)]
pub struct RuleTotals(pub BTreeMap<(String, String), (Action, Counts)>);

impl RuleTotals {
    pub fn add(&mut self, epoch: &BTreeMap<(Arc<str>, Arc<str>), (Action, Counts)>) {
        for ((dataset, name), (action, counts)) in epoch {
            let entry = self.0.entry((dataset.to_string(), name.to_string())).or_insert((*action, Counts::default()));
            entry.0 = *action;
            entry.1.add(*counts);
        }
    }
    pub fn list(&self) -> Vec<RuleCount> {
        let one = |((dataset, name), (action, counts)): (&(String, String), &(Action, Counts))| RuleCount {
            dataset: dataset.clone(),
            name: name.clone(),
            action: *action,
            counts: *counts,
        };
        self.0.iter().map(one).collect()
    }
    pub fn from_list(list: Vec<RuleCount>) -> Self {
        Self(list.into_iter().map(|r| ((r.dataset, r.name), (r.action, r.counts))).collect())
    }
}

/// The state of a query that users can see, while it runs and after.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// "starting", "running", "stopping", "stopped", "finished" or "failed".
    pub status: String,
    pub message: String,
    pub recent: VecDeque<Value>,
    pub rules: RuleTotals,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
    pub rows: u64,
    pub messages: u64,
    pub malformed: u64,
    pub quarantined: u64,
    pub dropped: u64,
    pub late: u64,
    pub epochs: u64,
    pub lag: Option<u64>,
    /// Where the run has read up to.
    pub positions: Positions,
    pub watermark: Option<String>,
    pub seconds: f64,
    pub tables: BTreeMap<String, TableReport>,
    /// The windows that wait for their end, earliest first, up to the number that is shown.
    pub open_windows: Vec<OpenWindow>,
}

/// A window that is not emitted yet, and the reason.
#[derive(Debug, Clone)]
pub struct OpenWindow {
    pub table: String,
    pub start: EventTime,
    pub end: EventTime,
    pub groups: u64,
    pub watermark: Option<EventTime>,
    /// The partition that holds the watermark, its highest event time, and the clock when this time last rose.
    pub held_by: Option<String>,
    pub highest: Option<EventTime>,
    pub held_since: Option<EventTime>,
    /// A text that says how the window can close.
    pub closes: String,
}

#[derive(Debug, Clone, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableReport {
    pub location: String,
    pub mode: String,
    pub rows_written: u64,
    pub version: u64,
}

/// At most this many warnings are kept. More than this would not be read.
const WARNINGS: usize = 500;

impl Report {
    /// Keeps the same text once: brokers come and go, and a run can be long.
    pub fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) && self.warnings.len() < WARNINGS {
            self.warnings.push(text);
        }
    }

    pub fn push(&mut self, progress: Value) {
        self.recent.push_back(progress);
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Adds the metrics of its commits to the report of an epoch. The epoch was reported when it was sealed.
    pub fn committed(&mut self, epoch: i64, metrics: &BTreeMap<String, BTreeMap<&'static str, u64>>) {
        let Some(progress) = self.recent.iter_mut().rev().find(|p| p["batchId"] == epoch) else { return };
        let add = |sink: &mut Value| {
            let Some(of) = sink["table"].as_str().and_then(|name| metrics.get(name)) else { return };
            // Spark also has these numbers as texts.
            of.iter().for_each(|(name, value)| sink["metrics"][*name] = value.to_string().into());
        };
        add(&mut progress["sink"]);
        progress["sinks"].as_array_mut().into_iter().flatten().for_each(add);
    }

    pub fn to_json(&self) -> Value {
        json!({
            "status": self.status,
            "message": self.message,
            "epochs": self.epochs,
            "numInputRows": self.messages,
            "numRows": self.rows,
            "numMalformed": self.malformed,
            "numQuarantined": self.quarantined,
            "numDropped": self.dropped,
            "numRowsDroppedByWatermark": self.late,
            "lag": self.lag,
            "watermark": self.watermark,
            "seconds": self.seconds,
            "tables": self.tables,
            "expectations": self.rules.list(),
            "warnings": self.warnings,
            "notes": self.notes,
            "lastProgress": self.recent.back(),
        })
    }
}
