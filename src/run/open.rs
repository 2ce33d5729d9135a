//! Explains why windows are still open: which partition holds the watermark, since when, and what would close the windows.

use super::Job;
use super::runner::Runner;
use super::start::Started;
use crate::engine::Engine;
use crate::progress::OpenWindow;
use crate::time::{EventTime, format_duration};
use crate::window::{OnIdle, Tracker};

/// At most this many windows of each operator are listed.
const SHOWN: usize = 100;

/// The trackers, with the idle partitions of this moment. An epoch without messages did not update them.
fn looked_at(at: &Started) -> Vec<Tracker> {
    let now = at.clock.now();
    at.engine.trackers.iter().map(|t| t.looked_at(|p| at.feed.is_idle(t, p, now))).collect()
}

/// The tracker whose watermark counts: the slowest of an operator's trackers that are not idle. If all are idle, the tracker that is furthest.
fn slowest<'a>(engine: &Engine, trackers: &'a [Tracker], operator: usize) -> Option<&'a Tracker> {
    let node = engine.plan.operators[operator].node;
    let all = || engine.plan.nodes[node].trackers.iter().map(|t| &trackers[*t]);
    all().filter(|t| !t.is_idle()).min_by_key(|t| t.watermark).or_else(|| all().max_by_key(|t| t.watermark))
}

pub(super) fn open_windows(job: &Job, at: &Started) -> Vec<OpenWindow> {
    let engine = &at.engine;
    let (mut out, trackers) = (vec![], looked_at(at));
    for (operator, plan) in engine.plan.operators.iter().enumerate().filter(|(_, o)| o.kind.waits()) {
        let tracker = slowest(engine, &trackers, operator);
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
                closes: closes(job, tracker, window.end),
            });
        }
    }
    out
}

fn closes(job: &Job, tracker: Option<&Tracker>, end: EventTime) -> String {
    let backfill = "close_windows=True in a bounded run";
    let Some(tracker) = tracker else { return backfill.into() };
    let needed = end.plus(tracker.spec.delay).rfc3339();
    let idle = format_duration(tracker.spec.idle_timeout);
    let bounded = job.flow.trigger == crate::flow::Trigger::AvailableNow;
    match tracker.holder() {
        Some((partition, _)) => format!(
            "an event at {needed} or later in {partition} and in every other partition that is not idle; or, if a different partition has had such an \
             event, {idle} of silence in {partition}{}; or {backfill}",
            if bounded { ", by a later run's clock" } else { "" }
        ),
        None if tracker.spec.on_idle == OnIdle::Advance => format!(
            "the clock at {}{} (all partitions are idle, on_idle=\"advance\"); or an event at {needed} or later in any partition; or {backfill}",
            end.plus(tracker.spec.delay).plus(tracker.spec.idle_timeout).rfc3339(),
            if bounded { ", in a later run" } else { "" }
        ),
        None => format!(
            "an event at {needed} or later in any partition (all are idle, and on_idle=\"hold\" waits for one; \"advance\" goes by the clock); or \
             {backfill}"
        ),
    }
}

impl Runner<'_> {
    /// Adds notes to the report at the end of a bounded run: which windows stay open, which partition holds them open, and which rows of joins wait.
    pub(super) fn say_what_is_open(&mut self) {
        self.say_what_waits();
        let engine = &self.at.engine;
        let waiting = engine.plan.operators.iter().zip(&engine.operators).filter(|(o, _)| o.kind.waits());
        let open: usize = waiting.map(|(_, state)| state.open_windows().len()).sum();
        let windows = open_windows(self.job, &self.at);
        let first = windows.iter().min_by_key(|w| w.end).cloned();
        self.shared.report.lock().open_windows = windows;
        let hints = engine.hints();
        self.shared.report.lock().notes.extend(hints);
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
        let way = match self.job.flow.close_windows {
            true => {
                "These windows are further in the future than max_future allows, and close_windows=True does not close such windows. Later events close them."
            }
            false => "Later events close these windows. close_windows=True closes them now.",
        };
        let text = format!(
            "{open} window{} still open: {at}.{holder} {way} open_windows() lists them.",
            if open == 1 { " is" } else { "s are" }
        );
        self.shared.report.lock().notes.push(text);
    }

    fn say_what_waits(&self) {
        let engine = &self.at.engine;
        let (mut notes, trackers) = (vec![], looked_at(&self.at));
        for (operator, plan) in engine.plan.operators.iter().enumerate() {
            let rows = engine.operators[operator].waiting_rows();
            if rows == 0 {
                continue;
            }
            let at = engine.watermark_of(operator);
            let at =
                at.map_or("there is no watermark yet".to_string(), |w| format!("the watermark is {}", w.rfc3339()));
            let holder = slowest(engine, &trackers, operator).and_then(Tracker::holder);
            let holder = holder.map_or(" (all partitions are idle)".to_string(), |(p, _)| format!(" (held by {p})"));
            notes.push(format!(
                "a left join of '{}' keeps {rows} row{} that nothing has matched yet: {at}{holder}. Later events emit these rows. \
                 close_windows=True emits them now.",
                plan.name.split('+').next().unwrap_or_default(),
                if rows == 1 { "" } else { "s" }
            ));
        }
        self.shared.report.lock().notes.extend(notes);
    }
}
