//! The newest messages of a topic: to look at, and to infer a schema from.

use crate::batch::{MAX_MESSAGE_BYTES, Messages, TooLarge};
use crate::decode::{json, raw};
use crate::kafka::{Connection, Event, OffsetSpec, Reader, ReaderOptions};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::read::Rows;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait for a topic's messages. Then the sample has the messages that came.
const PATIENCE: Duration = Duration::from_secs(10);

/// Some messages, and the indices (chunk, message) of those that were requested, the newest first.
struct Sample {
    chunks: Vec<Messages>,
    newest: Vec<(usize, u32)>,
}

/// Reads `n` messages of each partition, and keeps the newest `n` of all.
fn newest(c: &Connection, topic: &Topic, n: usize) -> Result<Sample> {
    let partitions: Vec<TopicPartition> =
        c.partitions(topic)?.into_iter().map(|partition| TopicPartition { topic: topic.clone(), partition }).collect();
    let ask = |spec: OffsetSpec| partitions.iter().map(|p| (p.clone(), spec)).collect::<Vec<_>>();
    let (first, last) = (c.list_offsets(&ask(OffsetSpec::Earliest))?, c.list_offsets(&ask(OffsetSpec::Latest))?);
    let from: Positions = partitions
        .iter()
        .map(|p| (p.clone(), Offset(last[p].0.saturating_sub_unsigned(n as u64).max(first[p].0))))
        .collect();
    let mut open: Vec<&TopicPartition> = partitions.iter().filter(|p| from[*p] < last[*p]).collect();
    let mut chunks = vec![];
    if !open.is_empty() && n > 0 {
        let mut reader = Reader::start(c, &from, &ReaderOptions::default())?;
        let deadline = Instant::now() + PATIENCE;
        while !open.is_empty() && Instant::now() < deadline {
            match reader.next(Duration::from_millis(100))? {
                Some(Event::Messages(m)) => chunks.push(m),
                Some(Event::EndOfPartition { partition, .. }) => open.retain(|p| **p != partition),
                _ => {}
            }
        }
        reader.stop();
    }
    let mut order: Vec<(i64, usize, u32)> = vec![];
    for (k, m) in chunks.iter().enumerate() {
        order.extend((0..m.len()).map(|i| (m.timestamps[i], k, i as u32)));
    }
    order.sort_by(|a, b| b.cmp(a));
    order.truncate(n);
    Ok(Sample { chunks, newest: order.into_iter().map(|(_, k, i)| (k, i)).collect() })
}

/// The newest `n` messages, not decoded, each with a guess of its format.
pub(crate) fn peek(c: &Connection, topic: &str, n: usize) -> Result<Rows> {
    let sample = newest(c, &Topic::new(topic), n)?;
    let mut fields: Vec<Field> = raw::raw_schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("framing", DataType::Utf8, false));
    let schema = Arc::new(Schema::new(fields));
    let mut batches = vec![];
    for (k, i) in sample.newest {
        let (m, rows) = (&sample.chunks[k], [i]);
        let framing = match m.above(i as usize, MAX_MESSAGE_BYTES) {
            Some(TooLarge { part, bytes }) => format!("too large to show: {bytes} bytes of {part}"),
            None => framing(m.value(i as usize)).to_string(),
        };
        let framing: ArrayRef = Arc::new(StringArray::from(vec![framing]));
        let columns = vec![
            raw::keys(m, &rows),
            raw::values(m, &rows),
            raw::topics(m, &rows),
            raw::partitions(m, &rows),
            raw::offsets(m, &rows),
            raw::timestamps(m, &rows),
            raw::timestamp_types(m, &rows),
            raw::headers(m, &rows),
            framing,
        ];
        batches.push(RecordBatch::try_new(schema.clone(), columns)?);
    }
    let one = arrow::compute::concat_batches(&schema, &batches)?;
    Ok(Rows { schema, batches: vec![one] })
}

/// Guesses the format of a value from its bytes.
fn framing(value: Option<&[u8]>) -> &'static str {
    match value {
        None => "tombstone",
        Some([]) => "empty",
        Some([0, _, _, _, _, rest @ ..]) if !rest.is_empty() => "schema registry (Avro, Protobuf or JSON Schema)",
        Some(v) => match (v.iter().find(|b| !b.is_ascii_whitespace()), std::str::from_utf8(v)) {
            (Some(b'{' | b'['), Ok(text)) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => "json",
            (_, Ok(_)) => "text",
            _ => "binary",
        },
    }
}

/// A schema for the newest `n` messages of each topic.
pub(crate) fn infer(c: &Connection, topics: &[String], n: usize) -> Result<json::Inferred> {
    if n == 0 {
        return Err(Error::config("sample=0 looks at no message; a schema needs at least one"));
    }
    let samples = topics.iter().map(|t| newest(c, &Topic::new(t), n)).collect::<Result<Vec<_>>>()?;
    let values =
        samples.iter().flat_map(|s| s.newest.iter().rev().filter_map(|(k, i)| s.chunks[*k].value(*i as usize)));
    json::infer(values).map_err(|e| e.context(format!("topic '{}'", topics.join("', '"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_value_is_guessed_from_its_bytes() {
        for (value, want) in [
            (None, "tombstone"),
            (Some(&b""[..]), "empty"),
            (Some(b"{\"a\": 1}"), "json"),
            (Some(b" [1, 2]\n"), "json"),
            (Some(b"{\"a\": "), "text"),
            (Some(b"hello"), "text"),
            (Some(b"\0\0\0\0\x07xyz"), "schema registry (Avro, Protobuf or JSON Schema)"),
            (Some(b"\0\0\0\0\x07"), "text"),
            (Some(b"\xff\xfe"), "binary"),
        ] {
            assert_eq!(framing(value), want, "{value:?}");
        }
    }
}
