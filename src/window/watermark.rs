//! The progress of event time. Pure: the clock and the idle partitions are passed in.

use crate::position::TopicPartition;
use crate::time::{EventTime, Watermark, micros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The behaviour of the watermark while all partitions are idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIdle {
    /// It stays at the highest event time minus the delay. A backlog after a silence is not late.
    #[default]
    Hold,
    /// It follows the clock minus `idle_timeout` and minus the delay. The last windows of a topic that became silent
    /// close.
    Advance,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkSpec {
    pub column: String,
    pub delay: Duration,
    pub idle_timeout: Duration,
    pub max_future: Duration,
    /// True: late rows go to quarantine. False: they are only counted.
    pub quarantine_late: bool,
    #[serde(default)]
    pub on_idle: OnIdle,
}

/// This text distinguishes streams. So the text of a watermark without the newer option must stay as it was.
impl std::fmt::Debug for WatermarkSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("WatermarkSpec");
        out.field("column", &self.column).field("delay", &self.delay).field("idle_timeout", &self.idle_timeout);
        out.field("max_future", &self.max_future).field("quarantine_late", &self.quarantine_late);
        if self.on_idle != OnIdle::Hold {
            out.field("on_idle", &self.on_idle);
        }
        out.finish()
    }
}

/// The state of one partition in the watermark.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionTime {
    /// The highest event time seen, if it is not too far in the future.
    pub highest: Option<EventTime>,
    pub idle: bool,
    /// The clock at the end of the epoch in which `highest` last rose. None while there is no event time.
    #[serde(default)]
    pub since: Option<EventTime>,
    #[serde(skip)]
    rose: bool,
}

/// The part of a tracker that a seal keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrackerState {
    pub watermark: Option<Watermark>,
    pub partitions: BTreeMap<String, PartitionTime>,
}

/// The watermark of one `with_watermark`.
#[derive(Debug, Clone)]
pub(crate) struct Tracker {
    pub spec: WatermarkSpec,
    pub watermark: Option<Watermark>,
    partitions: BTreeMap<TopicPartition, PartitionTime>,
    /// A limit for the watermark: None is no limit, `Some(None)` means that the watermark cannot advance at all.
    limit: Option<Option<Watermark>>,
}

impl Tracker {
    pub(crate) fn new(spec: WatermarkSpec) -> Self {
        Self { spec, watermark: None, partitions: BTreeMap::new(), limit: None }
    }

    /// Continues from a seal.
    pub(crate) fn restore(
        &mut self,
        spec: WatermarkSpec,
        state: &TrackerState,
        name: impl Fn(&str) -> Option<TopicPartition>,
    ) {
        self.spec = spec;
        self.watermark = state.watermark;
        self.partitions = state.partitions.iter().filter_map(|(k, v)| Some((name(k)?, v.clone()))).collect();
    }

    pub(crate) fn state(&self) -> TrackerState {
        TrackerState {
            watermark: self.watermark,
            partitions: self.partitions.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
        }
    }

    /// Adds a partition of the stream, whether or not it has had a row.
    pub(crate) fn know(&mut self, partition: &TopicPartition) {
        self.partitions.entry(partition.clone()).or_default();
    }

    /// Event times later than this do not move the watermark.
    pub(crate) fn future_limit(&self, now: EventTime) -> EventTime {
        now.plus(self.spec.max_future)
    }

    /// Records that `time` was seen in `partition`.
    pub(crate) fn see(&mut self, partition: &TopicPartition, time: EventTime) {
        match self.partitions.get_mut(partition) {
            Some(p) if p.highest >= Some(time) => {}
            Some(p) => (p.highest, p.rose) = (Some(time), true),
            None => {
                let first = PartitionTime { highest: Some(time), rose: true, ..PartitionTime::default() };
                self.partitions.insert(partition.clone(), first);
            }
        }
    }

    /// Advances at the end of an epoch. `is_idle` says for each partition whether it is read to its end and silent.
    pub(crate) fn advance(&mut self, is_idle: impl Fn(&TopicPartition) -> bool, now: EventTime) -> Option<Watermark> {
        for (partition, time) in &mut self.partitions {
            time.idle = is_idle(partition);
            if std::mem::take(&mut time.rose) {
                time.since = Some(now);
            }
        }
        let delay = micros(self.spec.delay);
        let less_delay = |t: EventTime| EventTime(t.0.saturating_sub(delay));
        let awake = || self.partitions.values().filter(|p| !p.idle);
        let candidate = if awake().next().is_some() {
            // A partition that is not idle and has had no event time holds the watermark.
            awake().map(|p| p.highest).min().flatten()
        } else {
            self.partitions.values().filter_map(|p| p.highest).max()
        };
        let mut candidate = candidate.map(less_delay);
        if self.spec.on_idle == OnIdle::Advance && self.is_idle() {
            let silence = micros(self.spec.idle_timeout).saturating_add(delay);
            candidate = candidate.max(Some(EventTime(now.0.saturating_sub(silence))));
        }
        if let Some(limit) = self.limit {
            candidate = candidate.min(limit);
        }
        self.watermark = self.watermark.max(candidate);
        self.watermark
    }

    /// The same, with the partitions as idle as they are now.
    pub(crate) fn looked_at(&self, is_idle: impl Fn(&TopicPartition) -> bool) -> Self {
        let mut out = self.clone();
        out.partitions.iter_mut().for_each(|(partition, time)| time.idle = is_idle(partition));
        out
    }

    /// Whether all partitions were idle when the watermark last advanced. A tracker with a limit follows that limit,
    /// and not its own partitions.
    pub(crate) fn is_idle(&self) -> bool {
        self.limit.is_none() && !self.partitions.is_empty() && self.partitions.values().all(|p| p.idle)
    }

    /// Sets the limit, which is a different watermark. None: there is no limit.
    pub(crate) fn hold_at(&mut self, limit: Option<Option<Watermark>>) {
        self.limit = limit;
    }

    pub(crate) fn catch_up(&mut self) {
        self.watermark = self.watermark.max(self.limit.flatten());
    }

    /// The partition that holds the watermark.
    pub(crate) fn holder(&self) -> Option<(&TopicPartition, &PartitionTime)> {
        self.partitions.iter().filter(|(_, p)| !p.idle).min_by_key(|(_, p)| p.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> WatermarkSpec {
        WatermarkSpec {
            column: "t".into(),
            delay: Duration::from_micros(10),
            idle_timeout: Duration::from_secs(300),
            max_future: Duration::from_secs(3600),
            quarantine_late: true,
            on_idle: OnIdle::Hold,
        }
    }
    fn p(n: i32) -> TopicPartition {
        TopicPartition::new("t", n)
    }

    #[test]
    fn the_slowest_awake_partition_decides_and_time_never_goes_back() {
        let mut t = Tracker::new(spec());
        t.know(&p(0));
        t.know(&p(1));
        t.see(&p(0), EventTime(100));
        assert_eq!(t.advance(|_| false, EventTime(0)), None, "partition 1 has shown nothing");
        assert_eq!(t.advance(|q| *q == p(1), EventTime(0)), Some(EventTime(90)), "an idle one does not hold it");
        t.see(&p(1), EventTime(50));
        assert_eq!(t.advance(|_| false, EventTime(0)), Some(EventTime(90)), "never back");
        t.see(&p(1), EventTime(120));
        assert_eq!(t.advance(|_| false, EventTime(0)), Some(EventTime(90)));
        assert_eq!(t.advance(|_| true, EventTime(0)), Some(EventTime(110)), "all idle: the highest counts");
        assert_eq!(t.holder(), None);
    }

    #[test]
    fn with_advance_a_silent_topic_follows_the_clock_and_wakes_up_without_going_back() {
        let mut t = Tracker::new(WatermarkSpec { on_idle: OnIdle::Advance, ..spec() });
        t.see(&p(0), EventTime(100));
        assert_eq!(t.advance(|_| false, EventTime(10_000_000_000)), Some(EventTime(90)), "awake: by its events");
        // 300 seconds of silence and 10 microseconds of delay.
        assert_eq!(t.advance(|_| true, EventTime(400_000_000)), Some(EventTime(99_999_990)));
        t.see(&p(0), EventTime(200));
        assert_eq!(t.advance(|_| false, EventTime(500_000_000)), Some(EventTime(99_999_990)), "never back");
    }

    #[test]
    fn what_a_seal_keeps_brings_the_tracker_back() {
        let mut t = Tracker::new(spec());
        t.see(&p(0), EventTime(100));
        t.see(&p(1), EventTime(70));
        t.advance(|_| false, EventTime(0));
        let mut back = Tracker::new(spec());
        back.restore(spec(), &t.state(), |s| (0..2).map(p).find(|q| q.to_string() == s));
        assert_eq!(back.state(), t.state());
        assert_eq!(back.holder().map(|h| h.0.clone()), Some(p(1)));
    }
}
