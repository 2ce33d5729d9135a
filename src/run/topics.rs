//! Topics that a query reads in addition to those of the previous run, or does not read any more. The user must say where a new topic starts, unless
//! a pattern finds it. A topic that is left out is not read.

use super::Job;
use super::feed::Feed;
use crate::flow::source::{KafkaSource, Offsets};
use crate::position::{Positions, Topic};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub(super) struct TopicChange {
    pub added: BTreeSet<Topic>,
    removed: BTreeSet<Topic>,
    /// Where new topics start: at the end, or at the earliest offset.
    from_now: bool,
    /// Notes for the user.
    notes: Vec<String>,
}

fn list(topics: &BTreeSet<Topic>) -> String {
    topics.iter().map(|t| format!("'{t}'")).collect::<Vec<_>>().join(", ")
}

impl TopicChange {
    /// `before`: the positions that earlier runs have recorded.
    pub(super) fn between(
        job: &Job,
        before: &Positions,
        now: &BTreeMap<String, Option<String>>,
        sources: &[Arc<KafkaSource>],
    ) -> Result<Self> {
        let before: BTreeSet<Topic> = before.keys().map(|tp| tp.topic.clone()).collect();
        let now: BTreeSet<Topic> = now.keys().map(Topic::new).collect();
        let mut change = Self {
            added: now.difference(&before).cloned().collect(),
            removed: before.difference(&now).cloned().collect(),
            from_now: job.flow.start.as_deref() == Some("now"),
            notes: vec![],
        };
        if before.is_empty() {
            // The pattern has not matched any topic yet.
            return Ok(Self::default());
        }
        let place = job.flow.checkpoint.display();
        // A pattern names its topics: those that match later are read from their start.
        let by_name = |t: &&Topic| !sources.iter().any(|s| s.topics.is_pattern() && s.topics.reads(t));
        let unsaid: BTreeSet<Topic> = change.added.iter().filter(by_name).cloned().collect();
        if !unsaid.is_empty() && job.flow.start.is_none() {
            return Err(Error::config(format!(
                "{place}: '{}' did not read {} before; it read {}. Use start=\"now\" (only messages that come from now on) or start=\"earliest\" \
                 (all messages of the new topics). If this is a different query, give it a different name, or a different checkpoint and different \
                 tables; to start over, run with full_refresh=True.",
                job.flow.name,
                list(&unsaid),
                list(&before)
            )));
        }
        let gone: BTreeSet<Topic> =
            change.removed.iter().filter(|t| sources.iter().any(|s| s.topics.reads(t))).cloned().collect();
        let tolerant = |t: &Topic| sources.iter().filter(|s| s.topics.reads(t)).all(|s| !s.fail_on_data_loss);
        if let Some(topic) = gone.iter().find(|t| !tolerant(t)) {
            return Err(Error::data_loss(format!(
                "the topic '{topic}' is gone, and '{}' has read from it: messages that were not read are lost. To continue without the topic, use \
                 fail_on_data_loss=False.",
                job.flow.name
            ))
            .in_topic(topic.as_str()));
        }
        if !change.added.is_empty() {
            // Topics of a pattern start at their earliest offsets, also if a named topic of the same query starts now.
            let (pattern, named): (BTreeSet<_>, BTreeSet<_>) = change.added.iter().cloned().partition(|t| !by_name(&t));
            let at = if change.from_now { "now" } else { "at their earliest offsets" };
            for (topics, at) in [(named, at), (pattern, "at their earliest offsets")] {
                if !topics.is_empty() {
                    change.notes.push(format!("the topics {} are new and start {at}", list(&topics)));
                }
            }
        }
        if !change.removed.is_empty() {
            let why = if gone.is_empty() { "no longer read" } else { "gone, and no longer read" };
            change.notes.push(format!("the topics {} are {why}", list(&change.removed)));
        }
        Ok(change)
    }

    pub(super) fn is_change(&self) -> bool {
        !self.added.is_empty() || !self.removed.is_empty()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Where partitions of new topics start, if that is not their earliest offset.
    pub(super) fn starts(&self, sources: &[Arc<KafkaSource>]) -> Result<Positions> {
        if !self.from_now || self.added.is_empty() {
            return Ok(Positions::new());
        }
        let named: Vec<_> = sources.iter().filter(|s| !s.topics.is_pattern()).cloned().collect();
        let mut starts = Feed::starts_at(&named, &Offsets::Latest)?;
        starts.retain(|tp, _| self.added.contains(&tp.topic));
        Ok(starts)
    }

    /// The name of a watermark, or a signature of steps, without the names of topics, so that earlier and present ones can be compared.
    pub(super) fn masked(&self, text: &str) -> String {
        if !self.is_change() {
            return text.into();
        }
        let changed = |word: &str| {
            let is = |t: &Topic| t.as_str() == word;
            self.added.iter().any(is) || self.removed.iter().any(is)
        };
        let mut out = String::new();
        let mut word = String::new();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for c in text.chars().chain([' ']) {
            if legal(c) {
                word.push(c);
                continue;
            }
            // "a+b" without b is "a".
            if changed(&word) {
                if out.ends_with('+') {
                    out.pop();
                } else if c == '+' {
                    word.clear();
                    continue;
                }
            } else {
                out.push_str(&word);
            }
            word.clear();
            out.push(c);
        }
        out.pop();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_equal_without_the_topics_that_have_changed() {
        let set = |topics: &[&str]| topics.iter().map(Topic::new).collect::<BTreeSet<_>>();
        let change = TopicChange { added: set(&["b", "d"]), removed: set(&["c"]), ..TopicChange::default() };
        for (before, now) in [
            ("time@a", "time@a+b"),
            ("time@a+c", "time@a+b"),
            ("time@c+a", "time@a"),
            ("aggregate(a+c; count)", "aggregate(a+b+d; count)"),
            ("(a; x, c; y)", "(a; x, d; y)"),
        ] {
            assert_eq!(change.masked(before), change.masked(now), "{before} {now}");
        }
        assert_ne!(change.masked("time@a"), change.masked("time@e"));
        assert_eq!(TopicChange::default().masked("time@a+b"), "time@a+b");
    }
}
