//! Compares the aggregation with rows that are simply kept: over random epochs, with state moved to disk, compacted,
//! and restored.

use super::{AggregateSpec, Emit, SessionSpec, WindowSpec, Windowing, operator};
use crate::batch::Batch;
use crate::expr::{Dialect, bind, bind_aggregation};
use crate::state::{self, Stateful};
use crate::time::{EventTime, Watermark};
use arrow::array::*;
use arrow::datatypes::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// (start, end, key) to (count, sum, smallest name).
type Groups = BTreeMap<(i64, i64, Option<String>), (i64, i64, Option<String>)>;

#[derive(Clone, Debug)]
struct Row {
    time: i64,
    key: Option<String>,
    n: i64,
    name: Option<String>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("key", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn batch(rows: &[Row]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.time)).with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.key.clone()).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.n))),
        Arc::new(rows.iter().map(|r| r.name.clone()).collect::<StringArray>()),
    ];
    Batch::new(RecordBatch::try_new(schema(), columns).unwrap(), None)
}

fn spec(window: Windowing) -> AggregateSpec {
    let aggregates = [("c", "count(*)"), ("s", "sum(n)"), ("first", "min(name)")];
    let aggregates: Vec<_> = aggregates.iter().map(|(a, t)| (Some(a.to_string()), t.to_string())).collect();
    let aggregation = bind_aggregation(&aggregates, &schema(), Dialect::Databricks).unwrap();
    let key = bind("key", &schema(), Dialect::Databricks).unwrap();
    AggregateSpec::new(window, 0, 0, vec![key], aggregation).unwrap()
}

fn fixed(size: i64, slide: i64) -> Windowing {
    let text = |n: i64| format!("{n} us");
    Windowing::Fixed(WindowSpec::new("time", &text(size), Some(&text(slide)), None, "UTC").unwrap())
}

fn read(batches: &[Batch], into: &mut Groups) {
    for b in batches {
        let long = |i: usize| b.rows.column(i).as_primitive::<Int64Type>();
        let time = |i: usize| b.rows.column(i).as_primitive::<TimestampMicrosecondType>();
        let text = |i: usize, r: usize| {
            let c = b.rows.column(i).as_string::<i32>();
            c.is_valid(r).then(|| c.value(r).to_string())
        };
        for r in 0..b.len() {
            let key = (time(0).value(r), time(1).value(r), text(2, r));
            let old = into.insert(key.clone(), (long(3).value(r), long(4).value(r), text(5, r)));
            assert!(old.is_none(), "{key:?} came twice");
        }
    }
}

fn random_rows(rng: &mut Rng, epoch: i64) -> Vec<Row> {
    (0..rng.random_range(0..60))
        .map(|_| Row {
            time: epoch * 40 + rng.random_range(-60..60),
            key: (rng.random_range(0..8) > 0).then(|| format!("k{}", rng.random_range(0..12))),
            n: rng.random_range(-5..50),
            name: (rng.random_range(0..6) > 0).then(|| format!("name {}", rng.random_range(0..1000))),
        })
        .collect()
}

fn add(groups: &mut Groups, key: (i64, i64, Option<String>), row: &Row) {
    let g = groups.entry(key).or_insert((0, 0, None));
    g.0 += 1;
    g.1 += row.n;
    g.2 = match (g.2.take(), row.name.clone()) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// Restores an operator from its increments. Some neighbouring increments were compacted.
fn restored(op: &dyn Stateful, increments: &[RecordBatch], rng: &mut Rng, at: Option<Watermark>) -> Box<dyn Stateful> {
    let (schema, description) = (op.state_schema(), op.description());
    let through_a_file = |b: &RecordBatch| {
        let bytes = state::encode(&schema, std::slice::from_ref(b), &description).unwrap();
        state::decode(&bytes, &description, &schema, "test").unwrap().next().unwrap().unwrap()
    };
    let n = increments.len();
    let from = if op.merges_anywhere() && n > 0 { rng.random_range(0..n) } else { 0 };
    let until = rng.random_range(from..=n);
    let mut part = op.fresh().unwrap();
    increments[from..until].iter().for_each(|b| part.restore(b).unwrap());
    part.forget(at).unwrap();
    let compacted = part.whole().unwrap();
    let mut fresh = op.fresh().unwrap();
    for b in increments[..from].iter().chain(&compacted).chain(&increments[until..]) {
        fresh.restore(&through_a_file(b)).unwrap();
    }
    fresh.forget(at).unwrap();
    // A group with parts on disk is counted once for each part.
    assert!(fresh.groups() <= op.groups());
    fresh
}

fn run(seed: u64, window: &Windowing, emit: Emit, spans: &dyn Fn(i64) -> Vec<(i64, i64)>) {
    let mut rng = Rng::seed_from_u64(seed);
    let mut op = operator(spec(window.clone()), emit).unwrap();
    let (mut all, mut kept) = (Groups::new(), Groups::new());
    let (mut before, mut increments) = (None::<Watermark>, vec![]);
    for epoch in 0..rng.random_range(2..9) {
        let rows = random_rows(&mut rng, epoch);
        let mut late = 0;
        for part in rows.chunks(rng.random_range(1..40)) {
            late += op.push(0, &batch(part), before).unwrap().late.len();
        }
        let mut expect_late = 0;
        let mut changed = Groups::new();
        for row in &rows {
            let open: Vec<_> = spans(row.time)
                .into_iter()
                .filter(|(_, end)| emit == Emit::Complete || before.is_none_or(|w| *end > w.0))
                .collect();
            expect_late += usize::from(open.is_empty());
            for (start, end) in open {
                let key = (start, end, row.key.clone());
                add(&mut all, key.clone(), row);
                changed.insert(key, (0, 0, None));
            }
        }
        assert_eq!(late, expect_late, "seed {seed}");
        let after = before.max(Some(EventTime(epoch * 40 - 30 + rng.random_range(-40..40))));
        let out = op.finish_epoch(before, after).unwrap();
        let mut got = Groups::new();
        read(&out.batches, &mut got);
        let closed = |end: i64| after.is_some_and(|w| end <= w.0);
        let want: Groups = match emit {
            Emit::OnClose => all
                .iter()
                .filter(|(k, _)| closed(k.1) && !kept.contains_key(*k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            Emit::Update => changed.keys().map(|k| (k.clone(), all[k].clone())).collect(),
            Emit::Complete if !changed.is_empty() => all.clone(),
            Emit::Complete => Groups::new(),
        };
        assert_eq!(got, want, "seed {seed}, {emit:?}, epoch {epoch}");
        if emit == Emit::OnClose {
            kept.extend(want);
        }
        increments.extend(out.increment);
        if rng.random_range(0..3) == 0 {
            op.shrink(rng.random_range(0..4000)).unwrap();
        }
        if rng.random_range(0..3) == 0 {
            op = restored(&*op, &increments, &mut rng, after);
        }
        before = after;
    }
}

#[test]
fn windows_equal_rows_that_are_simply_kept_in_every_mode_over_disk_compaction_and_restarts() {
    for seed in 0..150 {
        for emit in [Emit::OnClose, Emit::Update, Emit::Complete] {
            let tumbling = |t: i64| vec![(t - t.rem_euclid(25), t - t.rem_euclid(25) + 25)];
            run(seed, &fixed(25, 25), emit, &tumbling);
            let sliding = |t: i64| {
                let last = t - t.rem_euclid(10);
                (0..).map(|k| last - 10 * k).take_while(|s| s + 35 > t).map(|s| (s, s + 35)).collect::<Vec<_>>()
            };
            run(seed, &fixed(35, 10), emit, &sliding);
        }
    }
}

/// All sessions of some rows, by the definition.
fn sessions(rows: &[Row], gap: i64) -> Groups {
    let mut by_key: BTreeMap<Option<String>, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|r| by_key.entry(r.key.clone()).or_default().push(r));
    let mut out = Groups::new();
    for (key, mut rows) in by_key {
        rows.sort_by_key(|r| r.time);
        let mut from = 0;
        for i in 1..=rows.len() {
            if i == rows.len() || rows[i].time > rows[i - 1].time + gap {
                let span = (rows[from].time, rows[i - 1].time + gap, key.clone());
                rows[from..i].iter().for_each(|r| add(&mut out, span.clone(), r));
                from = i;
            }
        }
    }
    out
}

#[test]
fn sessions_equal_the_batch_answer_in_every_mode_where_no_row_is_late_and_over_restarts() {
    for seed in 0..400 {
        let mut rng = Rng::seed_from_u64(seed);
        let emit = [Emit::OnClose, Emit::Update, Emit::Complete][seed as usize % 3];
        let gap = rng.random_range(1..40);
        let window = Windowing::Session(SessionSpec { column: "time".into(), gap });
        let mut op = operator(spec(window), emit).unwrap();
        let (mut rows, mut table, mut increments) = (vec![], Groups::new(), vec![]);
        let mut before = None::<Watermark>;
        for epoch in 0..rng.random_range(1..8) {
            let mut new = random_rows(&mut rng, epoch);
            new.retain(|r| before.is_none_or(|w| r.time >= w.0));
            for part in new.chunks(rng.random_range(1..40)) {
                assert!(op.push(0, &batch(part), before).unwrap().late.is_empty());
            }
            rows.extend(new);
            let after = before.max(Some(EventTime(epoch * 40 - 40 + rng.random_range(0..50))));
            let out = op.finish_epoch(before, after).unwrap();
            assert!(out.late.is_empty(), "seed {seed}");
            match emit {
                Emit::OnClose => read(&out.batches, &mut table),
                Emit::Complete if out.updated > 0 => {
                    table.clear();
                    read(&out.batches, &mut table);
                }
                Emit::Complete => {}
                Emit::Update => {
                    for changed in &out.changed {
                        let time = |i: usize| changed.column(i).as_primitive::<TimestampMicrosecondType>();
                        let key = changed.column(2).as_string::<i32>();
                        for r in 0..changed.num_rows() {
                            let k = key.is_valid(r).then(|| key.value(r).to_string());
                            table.remove(&(time(0).value(r), time(1).value(r), k));
                        }
                    }
                    read(&out.batches, &mut table);
                }
            }
            increments.extend(out.increment);
            if rng.random_range(0..3) == 0 {
                op = restored(&*op, &increments, &mut rng, after);
            }
            let mut want = sessions(&rows, gap);
            if emit == Emit::OnClose {
                want.retain(|k, _| after.is_some_and(|w| k.1 < w.0));
            }
            assert_eq!(table, want, "seed {seed}, {emit:?}, epoch {epoch}");
            before = after;
        }
    }
}

#[test]
fn a_damaged_state_file_is_refused_wherever_the_damage_is() {
    let mut op = operator(spec(fixed(25, 25)), Emit::OnClose).unwrap();
    let rows: Vec<Row> =
        (0..40).map(|i| Row { time: i, key: Some(format!("k{i}")), n: i, name: Some("x".into()) }).collect();
    op.push(0, &batch(&rows), None).unwrap();
    let increment = op.finish_epoch(None, None).unwrap().increment.unwrap();
    let (schema, description) = (op.state_schema(), op.description());
    let good = state::encode(&schema, &[increment], &description).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        let read = state::decode(bytes, &description, &schema, "f");
        assert!(read.is_err_and(|e| e.message.contains('f')), "{what}");
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        refused(&bad, &format!("byte {at} of {} changed", good.len()));
        refused(&good[..at], &format!("cut to {at}"));
    }
    let mut longer = good.clone();
    longer.push(0);
    refused(&longer, "a byte more");
    let other = state::decode(&good, "another aggregation", &schema, "f").err().unwrap();
    assert!(other.message.contains("another aggregation"), "{}", other.message);
}
