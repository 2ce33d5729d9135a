//! Generated rows for the tests of the stages.

use crate::batch::{Batch, Message, Messages, Origin};
use crate::expr::{Bound, Dialect, bind};
use crate::position::TopicPartition;
use crate::state::Stateful;
use crate::time::{EventTime, Watermark};
use arrow::array::*;
use arrow::datatypes::*;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use std::sync::Arc;

pub(super) type Rng = rand_chacha::ChaCha8Rng;

pub(super) fn seeded(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

/// One row, in the form that the oracles use.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Identifies a row.
    pub n: i32,
    pub k: Option<i64>,
    pub x: Option<f64>,
    /// A number as text, or no number.
    pub s: Option<&'static str>,
    pub time: Option<i64>,
    /// Topic and partition as a number, and the offset.
    pub origin: Option<(usize, i64)>,
    pub epoch: usize,
}

pub(super) fn places() -> Vec<TopicPartition> {
    vec![
        TopicPartition::new("a", 0),
        TopicPartition::new("a", 2),
        TopicPartition::new("a", 10),
        TopicPartition::new("b", 1),
    ]
}

/// The keys by which rows are joined or compared.
pub(super) const KEYS: [&[&str]; 5] = [&["k"], &["x"], &["k", "x"], &["CAST(s AS INT)"], &["k + 0", "CAST(s AS INT)"]];

impl Row {
    /// The key of the row. None if the key cannot be computed. A NULL is "null".
    pub(super) fn key(&self, keys: &[&str]) -> Option<Vec<String>> {
        let mut out = vec![];
        for key in keys {
            out.push(match *key {
                "k" | "k + 0" => self.k.map_or("null".into(), |k| k.to_string()),
                "x" => self.x.map_or("null".into(), |x| if x == 0.0 { "zero".into() } else { x.to_string() }),
                _ => match self.s {
                    None => "null".into(),
                    Some(s) => s.trim().parse::<i32>().ok()?.to_string(),
                },
            });
        }
        Some(out)
    }
    pub(super) fn is_late(&self, before: Option<Watermark>) -> bool {
        self.time.is_none_or(|t| before.is_some_and(|w| t < w.0))
    }
}

pub(super) fn schema(time: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int32, false),
        Field::new("k", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new(time, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

pub(super) fn bound(keys: &[&str], schema: &SchemaRef) -> Vec<Bound> {
    keys.iter().map(|k| bind(k, schema, Dialect::Databricks).unwrap()).collect()
}

/// Rows of one epoch. `next` has the next offset of each place.
pub(super) fn rows(rng: &mut Rng, count: usize, epoch: usize, first: i32, next: Option<&mut [i64]>) -> Vec<Row> {
    let mut next = next;
    let mut numbers: Vec<i32> = (first..first + count as i32).collect();
    numbers.shuffle(rng);
    let keys = if rng.random_bool(0.5) { 3 } else { 12 };
    numbers
        .into_iter()
        .map(|n| {
            let origin = next.as_deref_mut().map(|next| {
                let place = rng.random_range(0..next.len());
                // Sometimes two rows of one message.
                next[place] += i64::from(rng.random_bool(0.9)) * rng.random_range(1..3);
                (place, next[place])
            });
            let doubles = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001), 0.0, -0.0, 1.5];
            Row {
                n,
                k: rng.random_bool(0.9).then(|| rng.random_range(0..keys)),
                x: rng.random_bool(0.9).then(|| doubles[rng.random_range(0..doubles.len())]),
                s: [Some("1"), Some(" 2"), Some("2"), Some("one"), None][rng.random_range(0..5)],
                time: rng.random_bool(0.95).then(|| epoch as i64 * 10 + rng.random_range(-25..25)),
                origin,
                epoch,
            }
        })
        .collect()
}

pub(super) fn record_batch(rows: &[Row], schema: &SchemaRef) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.n)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.k).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.x).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.s).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.time).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

/// A batch whose messages name the partitions in an order of its own.
pub(super) fn batch(rng: &mut Rng, rows: &[Row], schema: &SchemaRef) -> Batch {
    let mut order: Vec<usize> = (0..places().len()).collect();
    order.shuffle(rng);
    let mut messages = Messages::new(order.iter().map(|i| places()[*i].clone()).collect());
    let mut origins = vec![];
    for (place, offset) in rows.iter().filter_map(|r| r.origin) {
        let source = order.iter().position(|o| *o == place).unwrap() as u32;
        for _ in 0..rng.random_range(1..3) {
            messages.push(Message { source, offset, timestamp: -1, ..Message::default() }, usize::MAX);
        }
        origins.push(messages.len() as u32 - 1);
    }
    let origin =
        (!rows.is_empty() && origins.len() == rows.len()).then(|| Origin::new(Arc::new(messages), origins.into()));
    Batch::new(record_batch(rows, schema), origin)
}

/// Cuts rows into batches, in a random order.
pub(super) fn cut(rng: &mut Rng, rows: &[Row]) -> Vec<Vec<Row>> {
    let mut rows = rows.to_vec();
    rows.shuffle(rng);
    let mut out = vec![];
    while !rows.is_empty() {
        let n = rng.random_range(0..=rows.len().min(12));
        out.push(rows.split_off(rows.len() - n));
    }
    out
}

/// The watermark at the end of an epoch.
pub(super) fn advance(rng: &mut Rng, before: Option<Watermark>, epoch: usize) -> Option<Watermark> {
    match rng.random_range(0..4) {
        0 => before,
        1 => before.max(Some(EventTime(epoch as i64 * 10 + rng.random_range(-30..40)))),
        _ => before.max(Some(EventTime(epoch as i64 * 10 - 10))),
    }
}

/// A new operator with the state of the increments. Some of them are replaced by their snapshot.
pub(super) fn restart(
    rng: &mut Rng,
    old: &mut dyn Stateful,
    increments: &mut Vec<RecordBatch>,
    watermark: Option<Watermark>,
) -> Box<dyn Stateful> {
    if rng.random_bool(0.2) {
        *increments = old.whole().unwrap();
    }
    if rng.random_bool(0.5) && !increments.is_empty() {
        let from = if old.merges_anywhere() { rng.random_range(0..increments.len()) } else { 0 };
        let to = rng.random_range(from..=increments.len());
        let mut merged = old.fresh().unwrap();
        for state in &increments[from..to] {
            merged.restore(state).unwrap();
        }
        if rng.random_bool(0.5) {
            merged.forget(watermark).unwrap();
        }
        increments.splice(from..to, merged.whole().unwrap());
    }
    if rng.random_bool(0.5) {
        let old = &*old;
        let needed =
            |state: &RecordBatch| old.needed_until(state).is_none_or(|until| watermark.is_none_or(|w| until > w));
        increments.retain(needed);
    }
    let mut new = old.fresh().unwrap();
    for state in increments.iter() {
        // The batch after writing it to a file and reading it.
        let file = crate::state::encode(&new.state_schema(), std::slice::from_ref(state), &new.description()).unwrap();
        for read in crate::state::decode(&file, &new.description(), &new.state_schema(), "it").unwrap() {
            let read = read.unwrap();
            new.restore(&read).unwrap();
        }
    }
    new.forget(watermark).unwrap();
    assert_eq!(new.groups(), old.groups(), "what is remembered does not depend on stops");
    new
}

/// The numbers in a column of a batch.
pub(super) fn numbers(batch: &RecordBatch, column: usize) -> Vec<Option<i32>> {
    batch.column(column).as_primitive::<Int32Type>().iter().collect()
}
