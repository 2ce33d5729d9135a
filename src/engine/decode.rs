//! Messages to rows, and the watch over how many of them are malformed.

use super::Engine;
use super::Step;
use crate::batch::{Batch, FailedRow, Message, Messages};
use crate::decode::OnTombstone;
use crate::flow::source::OnMalformed;
use crate::sink::quarantine::{RejectSource, Stage};
use crate::time::EventTime;
use crate::{Error, Result};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use std::sync::Arc;

/// At most this many different errors are counted separately.
const ERRORS: usize = 1000;

impl Engine {
    /// Messages `wanted` of a chunk, in order; each goes to the sources that read its topic. `go_on` makes the rows that are left.
    pub(crate) fn push_messages(&mut self, messages: &Arc<Messages>, wanted: &[u32], now: EventTime) -> Result<()> {
        let _moment = self.moment(now);
        self.counts.messages += wanted.len() as u64;
        for node in 0..self.plan.nodes.len() {
            let Step::Kafka(source) = &self.plan.nodes[node].step else { continue };
            let reads: Vec<bool> = messages.partitions.iter().map(|p| source.topics.has(p)).collect();
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

    /// Feeds all messages and rows that are in memory.
    pub(crate) fn push_at_hand(&mut self, now: EventTime) -> Result<()> {
        let _moment = self.moment(now);
        for node in 0..self.plan.nodes.len() {
            match &self.plan.nodes[node].step {
                Step::Messages(source) => {
                    let messages = source.messages.clone();
                    let all: Vec<u32> = (0..messages.len() as u32).collect();
                    self.counts.messages += all.len() as u64;
                    for part in all.chunks(16_384) {
                        self.decode_into(node, &messages, part, now)?;
                        while self.go_on()? {}
                    }
                }
                Step::Rows(source) => {
                    for batch in source.batches.clone() {
                        self.counts.rows += batch.num_rows() as u64;
                        self.run(node, Batch::new(batch, None), now)?;
                        while self.go_on()? {}
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Advice of the sources' readers about names of fields.
    pub(crate) fn hints(&self) -> Vec<String> {
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
                let e = Error::malformed(format!(
                    "{}: {}. No message was skipped. To continue without such messages, use on_malformed=\"drop\", or \"quarantine\" where a table \
                     is written{}.",
                    messages.place(first.message as usize),
                    first.error.trim_end_matches('.'),
                    if large { "; to read them, raise max_message_bytes" } else { "" }
                ));
                return Err(messages.locate(first.message as usize, e).in_field(first.field.as_deref()));
            }
            let keep = self.policy(node) == OnMalformed::Quarantine;
            for m in &decoded.malformed {
                let mut text = without_place(&m.error);
                // Some errors contain names from the message. Such errors must not fill the memory.
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

    /// Decodes a column as if its values were messages. A value that cannot be decoded fails its row; NULL stays NULL.
    pub(super) fn decode_column(&mut self, node: usize, batch: Batch) -> Result<Batch> {
        let Step::Decode(spec) = &self.plan.nodes[node].step else { return Ok(batch) };
        let spec = spec.clone();
        let Some(decoder) = &mut self.decoders[node] else { return Err(Error::internal("a column without a decoder")) };
        let messages = Arc::new(messages_of(&spec.value.evaluate(&batch.rows)?)?);
        let all: Vec<u32> = (0..batch.len() as u32).collect();
        let decoded = decoder.decode(&messages, &all)?;
        self.counts.unknown_fields += decoded.unknown_fields;
        self.counts.malformed += decoded.malformed.len() as u64;
        let failed: Vec<FailedRow> = decoded
            .malformed
            .iter()
            .map(|m| FailedRow::new(m.message, format!("column '{}': {}", spec.value.name, m.error)))
            .collect();
        self.failed_at(node, Stage::Decode, &batch, &failed)?;
        let mut columns = decoded.batch.rows.columns().to_vec();
        let mut made: ArrayRef = match spec.schema.field(spec.into).data_type() {
            _ if spec.whole => columns.remove(0),
            DataType::Struct(fields) => {
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, decoded.batch.len())?)
            }
            _ => return Err(Error::internal("a decoded column that is not a struct")),
        };
        let mut kept = batch;
        if decoded.batch.len() < kept.len() {
            // For each row that is not malformed, its index among the decoded rows. NULL values were not decoded.
            let mut place = vec![None; kept.len()];
            let origin = decoded.batch.origin.as_ref().map(|o| o.rows.values().to_vec()).unwrap_or_default();
            origin.iter().enumerate().for_each(|(at, row)| place[*row as usize] = Some(at as u32));
            let mut keep = vec![true; kept.len()];
            failed.iter().for_each(|f| keep[f.row as usize] = false);
            let wanted: UInt32Array = place.into_iter().zip(&keep).filter(|(_, k)| **k).map(|(p, _)| p).collect();
            made = take(&made, &wanted, None)?;
            kept = kept.filter(&keep.into())?;
        }
        let mut columns = kept.rows.columns().to_vec();
        match columns.get_mut(spec.into) {
            Some(old) => *old = made,
            None => columns.push(made),
        }
        Ok(kept.with_rows(RecordBatch::try_new(spec.schema.clone(), columns)?))
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
                "{failed} of the last {} messages up to {place} are malformed, more than max_malformed={limit}. The most frequent error ({times} times): \
                 {commonest}. Correct the schema; to continue anyway, use max_malformed=1.0.",
                recent.len()
            )));
        }
        Ok(())
    }
}

/// The values of a column of text or bytes, as messages.
fn messages_of(column: &ArrayRef) -> Result<Messages> {
    let mut out = Messages::new(vec![].into());
    let mut push = |value: Option<&[u8]>| out.push(Message { value, ..Message::default() }, usize::MAX);
    match (column.as_string_opt::<i32>(), column.as_binary_opt::<i32>()) {
        (Some(texts), _) => texts.iter().for_each(|t| push(t.map(str::as_bytes))),
        (_, Some(bytes)) => bytes.iter().for_each(push),
        _ => return Err(Error::internal("a column that is neither text nor bytes")),
    }
    Ok(out)
}

/// An error's text without the byte position or size, so that equal errors are counted together.
fn without_place(error: &str) -> String {
    let size = error.strip_suffix(" bytes)").and_then(|e| e.rfind(" ("));
    error.rfind(" (byte ").or(size).map_or(error, |at| &error[..at]).to_string()
}
