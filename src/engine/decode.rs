//! Messages to rows, and the watch over how many of them are malformed.

use super::Engine;
use super::Step;
use crate::batch::{Batch, Messages};
use crate::decode::OnTombstone;
use crate::flow::source::OnMalformed;
use crate::sink::quarantine::{RejectSource, Stage};
use crate::time::EventTime;
use crate::{Error, Result};
use std::sync::Arc;

/// At most this many different errors are counted separately.
const ERRORS: usize = 1000;

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

    /// What the sources' readers have to say about names of fields.
    pub fn hints(&self) -> Vec<String> {
        self.decoders.iter().flatten().flat_map(|d| d.hints()).collect()
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
        let (options, limit) = match &self.plan.nodes[node].step {
            Step::Kafka(s) => (&s.decode, s.max_malformed),
            Step::Messages(s) => (&s.decode, 1.0),
            _ => return Err(Error::internal("a source without options")),
        };
        let (tombstone_policy, max_bytes) = (options.on_tombstone, options.max_message_bytes);
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
                let large = messages.above(first.message as usize, max_bytes).is_some();
                return Err(Error::malformed(format!(
                    "{}: {}. Nothing of it was skipped; to go on without such messages say on_malformed=\"drop\", or \"quarantine\" where a table is written{}.",
                    messages.place(first.message as usize),
                    first.error,
                    if large { "; to read them, raise max_message_bytes" } else { "" }
                )));
            }
            let keep = self.policy(node) == OnMalformed::Quarantine;
            for m in &decoded.malformed {
                let mut text = without_place(&m.error);
                // Names of a message's own stand in some: they must not fill the memory.
                if self.errors.len() >= ERRORS && !self.errors.contains_key(&text) {
                    text = "another error".into();
                }
                *self.errors.entry(text).or_default() += 1;
                if keep {
                    let from = match messages.above(m.message as usize, max_bytes) {
                        None => RejectSource::Message(messages.clone(), m.message),
                        Some(_) => RejectSource::TooLarge(messages.clone(), m.message, max_bytes),
                    };
                    self.reject(node, Stage::Decode, vec![], m.error.as_str().into(), from);
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

/// An error's text without the byte position or size, so that equal errors are counted together.
fn without_place(error: &str) -> String {
    let size = error.strip_suffix(" bytes)").and_then(|e| e.rfind(" ("));
    error.rfind(" (byte ").or(size).map_or(error, |at| &error[..at]).to_string()
}
