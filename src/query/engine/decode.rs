//! Messages to rows, and the watch over how many of them are malformed.

use super::Engine;
use crate::batch::{Batch, Messages};
use crate::decode::OnTombstone;
use crate::query::plan::Step;
use crate::query::source::OnMalformed;
use crate::sink::quarantine::{RejectSource, Stage};
use crate::time::EventTime;
use crate::{Error, Result};
use std::sync::Arc;

impl Engine {
    /// Messages `wanted` of a chunk, in order; each goes to the sources that read its topic.
    pub fn push_messages(&mut self, messages: &Arc<Messages>, wanted: &[u32], now: EventTime) -> Result<()> {
        self.counts.messages += wanted.len() as u64;
        for node in 0..self.plan.nodes.len() {
            let Step::Kafka(source) = &self.plan.nodes[node].step else { continue };
            let reads: Vec<bool> = messages.partitions.iter().map(|p| source.topics.contains(&p.topic)).collect();
            if reads.iter().all(|r| *r) {
                self.decode_into(node, messages, wanted, now)?;
            } else {
                let mine: Vec<u32> =
                    wanted.iter().copied().filter(|i| reads[messages.sources[*i as usize] as usize]).collect();
                self.decode_into(node, messages, &mine, now)?;
            }
        }
        Ok(())
    }

    /// Feeds everything that is at hand.
    pub fn push_at_hand(&mut self, now: EventTime) -> Result<()> {
        for node in 0..self.plan.nodes.len() {
            match &self.plan.nodes[node].step {
                Step::Messages(source) => {
                    let messages = source.messages.clone();
                    let all: Vec<u32> = (0..messages.len() as u32).collect();
                    self.counts.messages += all.len() as u64;
                    for part in all.chunks(16_384) {
                        self.decode_into(node, &messages, part, now)?;
                    }
                }
                Step::Rows(source) => {
                    for batch in source.batches.clone() {
                        self.counts.rows += batch.num_rows() as u64;
                        self.run(node, Batch::new(batch, None), now)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn decode_into(&mut self, node: usize, messages: &Arc<Messages>, wanted: &[u32], now: EventTime) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let Some(decoder) = &mut self.decoders[node] else { return Err(Error::internal("a source without a decoder")) };
        let decoded = decoder.decode(messages, wanted)?;
        self.counts.rows += decoded.batch.len() as u64;
        self.counts.unknown_fields += decoded.unknown_fields;
        self.counts.tombstones += decoded.tombstones.len() as u64;
        self.counts.malformed += decoded.malformed.len() as u64;
        let (tombstone_policy, limit) = match &self.plan.nodes[node].step {
            Step::Kafka(s) => (s.decode.on_tombstone, s.max_malformed),
            Step::Messages(s) => (s.decode.on_tombstone, 1.0),
            _ => (OnTombstone::Skip, 1.0),
        };
        if tombstone_policy == OnTombstone::Quarantine {
            for i in &decoded.tombstones {
                self.reject(
                    node,
                    Stage::Decode,
                    vec![],
                    "a tombstone (null value)".into(),
                    RejectSource::Message(messages.clone(), *i),
                );
            }
        }
        if let Some(first) = decoded.malformed.first() {
            if self.policy(node) == OnMalformed::Fail {
                return Err(Error::malformed(format!(
                    "{}: {}. Nothing of it was skipped; to go on without such messages say on_malformed=\"drop\", or \"quarantine\" where a table is written.",
                    messages.place(first.message as usize),
                    first.error
                )));
            }
            let keep = self.policy(node) == OnMalformed::Quarantine;
            for m in &decoded.malformed {
                *self.errors.entry(without_place(&m.error)).or_default() += 1;
                if keep {
                    self.reject(
                        node,
                        Stage::Decode,
                        vec![],
                        m.error.as_str().into(),
                        RejectSource::Message(messages.clone(), m.message),
                    );
                }
            }
        }
        self.watch_malformed(node, wanted, &decoded.malformed, limit, messages)?;
        self.run(node, decoded.batch, now)
    }

    /// Stops when too many of the last 1,000 messages are malformed: then the schema is wrong, not the messages.
    fn watch_malformed(
        &mut self,
        node: usize,
        wanted: &[u32],
        malformed: &[crate::decode::Malformed],
        limit: f64,
        messages: &Messages,
    ) -> Result<()> {
        if limit >= 1.0 {
            return Ok(());
        }
        let recent = &mut self.recent[node];
        let tail = &wanted[wanted.len().saturating_sub(1000)..];
        let mut bad = malformed.iter().map(|m| m.message).peekable();
        for i in tail {
            while bad.peek().is_some_and(|b| b < i) {
                bad.next();
            }
            recent.push_back(bad.peek() == Some(i));
        }
        while recent.len() > 1000 {
            recent.pop_front();
        }
        let failed = recent.iter().filter(|b| **b).count();
        if recent.len() >= 100 && failed as f64 > limit * recent.len() as f64 {
            let (commonest, times) =
                self.errors.iter().max_by_key(|(_, n)| **n).map(|(e, n)| (e.as_str(), *n)).unwrap_or(("", 0));
            let place = tail.last().map(|i| messages.place(*i as usize)).unwrap_or_default();
            return Err(Error::schema(format!(
                "{failed} of the last {} messages up to {place} are malformed, more than max_malformed={limit}. The commonest error \
                 ({times} times): {commonest}. Correct the schema; to go on regardless say max_malformed=1.0.",
                recent.len()
            )));
        }
        Ok(())
    }
}

/// An error's text without the byte position, so that equal errors are counted together.
fn without_place(error: &str) -> String {
    error.rfind(" (byte ").map_or(error, |at| &error[..at]).to_string()
}
