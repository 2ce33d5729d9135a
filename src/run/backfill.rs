//! Backfill: a new table that begins at the earliest offset is filled by its own epochs, while the other tables wait.
//!
//! The seal of such an epoch keeps the entries of the other tables unchanged. It adds the names of the tables that are filled, and their
//! ranges and watermarks. When these ranges reach the query's position, the new table continues with the others. Until then its watermark may
//! not pass theirs. Otherwise the new table could close a window, and a row that is not late for the other tables could open it again.

use super::Job;
use super::feed::Feed;
use crate::engine::Engine;
use crate::engine::plan::{Plan, Target};
use crate::epoch::{Backfill, DefinitionFile, Range, Seal};
use crate::flow::source::{KafkaSource, Offsets, OnMalformed};
use crate::flow::{Flow, Output, Trigger};
use crate::position::{Offset, Positions};
use crate::time::SharedClock;
use crate::window::{Tracker, TrackerState};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A backfill that must be done now.
#[derive(Clone)]
pub(super) struct Filling {
    pub tables: Vec<String>,
    pub waiting: Vec<String>,
    /// The positions of the other tables.
    pub ranges: Vec<Range>,
    pub watermarks: BTreeMap<String, TrackerState>,
    /// An unfinished backfill of an earlier run, from its seal. This backfill continues it.
    before: Option<Backfill>,
}

/// Whether the backfill has reached the query's position.
pub(super) fn is_finished(b: &Backfill, ranges: &[Range]) -> bool {
    b.ranges.iter().all(|r| ranges.iter().find(|o| o.place() == r.place()).is_none_or(|o| r.until >= o.until))
}

/// The backfill that is needed before the query continues.
pub(super) fn filling(job: &Job, seal: &Seal, before: &DefinitionFile) -> Option<Filling> {
    let defined = |name: &String| job.flow.outputs.iter().any(|t| t.name == *name);
    let new = job
        .flow
        .outputs
        .iter()
        .filter(|t| !before.tables.contains_key(&t.name) && t.start.as_deref() == Some("earliest"));
    let mut waiting: Vec<String> = seal.backfill.iter().flat_map(|b| b.waiting.clone()).filter(defined).collect();
    waiting.extend(new.map(|t| t.name.clone()));
    let unfinished = seal.backfill.as_ref().filter(|b| !is_finished(b, &seal.ranges) && b.tables.iter().any(defined));
    let (tables, waiting) = match unfinished {
        Some(b) => (b.tables.iter().filter(|t| defined(t)).cloned().collect(), waiting),
        None if waiting.is_empty() => return None,
        None => (waiting, vec![]),
    };
    let ranges = seal.ranges.iter().map(|r| Range { from: r.until, records: 0, ..r.clone() }).collect();
    Some(Filling { tables, waiting, ranges, watermarks: seal.watermarks.clone(), before: unfinished.cloned() })
}

impl Job {
    /// The same query with only these tables.
    pub(super) fn only(&self, tables: &[String]) -> Self {
        let outputs = self.flow.outputs.iter().filter(|o| tables.contains(&o.name)).cloned().collect();
        let flow = Flow { outputs, trigger: Trigger::AvailableNow, close_windows: false, ..self.flow.clone() };
        Self { flow, ..self.clone() }
    }
}

impl Filling {
    /// The engine of only these tables, and the seal that their state is restored from.
    pub(super) fn engine(&self, job: &Job, seal: &Seal) -> Result<(Engine, Seal)> {
        let target =
            |t: &Output| Target { name: t.name.as_str().into(), stream: t.stream.clone(), mode: t.mode, apart: true };
        let (mine, others): (Vec<_>, Vec<_>) = job.flow.outputs.iter().partition(|t| self.tables.contains(&t.name));
        let others: Vec<Target> = others.into_iter().map(target).collect();
        let plan = Plan::beside(mine.into_iter().map(target).collect(), &others)?;
        let mut engine = Engine::new(plan, OnMalformed::Quarantine)?;
        let shared: std::collections::HashSet<String> = others.iter().flat_map(|t| t.stream.ids()).collect();
        engine.be_silent_about(&shared);
        for (tracker, (name, _)) in engine.trackers.iter_mut().zip(&engine.plan.trackers) {
            let of_others = self.watermarks.get(name);
            tracker.hold_at(of_others.map(|s| s.watermark));
        }
        // The watermarks and ranges of the backfill replace those of the query.
        let (watermarks, ranges) = match &self.before {
            Some(b) => (b.watermarks.clone(), b.ranges.clone()),
            None => (BTreeMap::new(), vec![]),
        };
        Ok((engine, Seal { watermarks, ranges, ..seal.clone() }))
    }

    /// Reads from the earliest offset, or from where an earlier run stopped, up to the positions of the other tables.
    pub(super) fn feed(&self, sources: Vec<Arc<KafkaSource>>, clock: SharedClock) -> Result<Feed> {
        let targets: Positions = self.ranges.iter().map(|r| (r.place(), Offset(r.until))).collect();
        let mut positions = Feed::starts_at(&sources, &Offsets::Earliest)?;
        if let Some(b) = &self.before {
            positions.extend(b.ranges.iter().map(|r| (r.place(), Offset(r.until))));
        }
        // A partition that is new to the query is left out. The query finds it later and reads it for all tables.
        positions.retain(|tp, _| targets.contains_key(tp));
        let mut feed = Feed::up_to(sources, positions, &targets, clock)?;
        feed.last_timestamp =
            self.before.iter().flat_map(|b| &b.ranges).filter_map(|r| Some((r.place(), r.last_timestamp?))).collect();
        Ok(feed)
    }

    /// The backfill's entry in a seal, and the query's watermarks. When the backfill is finished, watermarks that only these tables have are added
    /// to the query's watermarks.
    pub(super) fn seal(
        &self,
        ranges: Vec<Range>,
        watermarks_before: BTreeMap<String, Option<crate::time::EventTime>>,
        trackers: &[Tracker],
        names: &[(String, crate::window::WatermarkSpec)],
    ) -> (Backfill, BTreeMap<String, TrackerState>) {
        let watermarks: BTreeMap<String, TrackerState> =
            names.iter().zip(trackers).map(|((n, _), t)| (n.clone(), t.state())).collect();
        let made = Backfill {
            tables: self.tables.clone(),
            waiting: self.waiting.clone(),
            ranges,
            watermarks_before,
            watermarks: watermarks.clone(),
        };
        let mut of_query = self.watermarks.clone();
        if is_finished(&made, &self.ranges) {
            for (name, state) in watermarks {
                of_query.entry(name).or_insert(state);
            }
        }
        (made, of_query)
    }
}

/// Checks the user's `start=`.
pub(super) fn check_start(start: Option<&str>, table: &str) -> Result<()> {
    match start {
        None | Some("now" | "earliest") => Ok(()),
        Some(other) => {
            let hint = crate::error::did_you_mean(other, ["now", "earliest"]);
            Err(Error::config(format!("'{table}': start='{other}': use \"now\" or \"earliest\".{hint}")))
        }
    }
}
