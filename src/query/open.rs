//! Why windows are still open: which partition holds the watermark, since when, and what would close them.

use super::engine::Engine;
use super::run::{QuerySpec, Runner};
use super::start::Started;
use crate::progress::OpenWindow;
use crate::time::{EventTime, format_duration};
use crate::window::Tracker;

/// So many of each operator are listed.
const SHOWN: usize = 100;

/// The slowest of an operator's trackers: the one whose watermark counts.
fn slowest(engine: &Engine, operator: usize) -> Option<&Tracker> {
    let node = engine.plan.operators[operator].node;
    engine.plan.nodes[node].trackers.iter().map(|t| &engine.trackers[*t]).min_by_key(|t| t.watermark)
}

pub fn open_windows(spec: &QuerySpec, at: &Started) -> Vec<OpenWindow> {
    let engine = &at.engine;
    let mut out = vec![];
    for (operator, plan) in engine.plan.operators.iter().enumerate().filter(|(_, o)| o.kind.waits()) {
        let tracker = slowest(engine, operator);
        let holder = tracker.and_then(Tracker::holder);
        for window in engine.operators[operator].open_windows().into_iter().take(SHOWN) {
            out.push(OpenWindow {
                table: plan.name.split('+').next().unwrap_or_default().to_string(),
                start: window.start,
                end: window.end,
                groups: window.groups as u64,
                watermark: engine.watermark_of(operator),
                held_by: holder.map(|(p, _)| p.to_string()),
                highest: holder.and_then(|(_, t)| t.highest),
                held_since: holder.and_then(|(_, t)| t.since),
                closes: closes(spec, tracker, window.end),
            });
        }
    }
    out
}

fn closes(spec: &QuerySpec, tracker: Option<&Tracker>, end: EventTime) -> String {
    let backfill = "close_windows=True in a bounded run";
    let Some(tracker) = tracker else { return backfill.into() };
    let needed = end.plus(tracker.spec.delay).rfc3339();
    let idle = format_duration(tracker.spec.idle_timeout);
    let bounded = spec.trigger == super::Trigger::AvailableNow;
    match tracker.holder() {
        Some((partition, _)) => format!(
            "an event at {needed} or later in {partition} (and in every other partition that is not idle); or {idle} of silence there{}; or {backfill}",
            if bounded { ", by a later run's clock" } else { "" }
        ),
        None => format!("an event at {needed} or later in any partition (all are idle); or {backfill}"),
    }
}

impl Runner<'_> {
    /// A bounded run ends by saying which windows it leaves open, and which partition holds them.
    pub(super) fn say_what_is_open(&mut self) {
        let engine = &self.at.engine;
        let waiting = engine.plan.operators.iter().zip(&engine.operators).filter(|(o, _)| o.kind.waits());
        let open: usize = waiting.map(|(_, state)| state.open_windows().len()).sum();
        let windows = open_windows(self.spec, &self.at);
        let first = windows.iter().min_by_key(|w| w.end).cloned();
        self.shared.report.lock().open_windows = windows;
        let Some(first) = first else { return };
        let holder = match (&first.held_by, first.highest) {
            (Some(p), Some(h)) => {
                let since = first.held_since.map_or(String::new(), |s| format!(" since {}", s.rfc3339()));
                format!(" {p} holds the watermark: its highest event time is {}{since}.", h.rfc3339())
            }
            (Some(p), None) => format!(" {p} holds the watermark: it has no event time yet."),
            (None, _) => String::new(),
        };
        let at =
            first.watermark.map_or("there is no watermark yet".into(), |w| format!("the watermark is {}", w.rfc3339()));
        let text = format!(
            "{open} window{} still open: {at}.{holder} Later events close them; close_windows=True closes them now. open_windows() lists them.",
            if open == 1 { " is" } else { "s are" }
        );
        self.shared.report.lock().notes.push(text);
    }
}
