use super::super::test::*;
use super::*;
use crate::position::Offset;
use rand::RngExt;
use std::collections::BTreeSet;

/// Computed from the definition, over all rows that were ever kept.
#[derive(Default)]
struct Oracle {
    kept: Vec<(Vec<String>, i64)>,
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Answer {
    kept: BTreeSet<i32>,
    late: BTreeSet<i32>,
    failed: BTreeSet<i32>,
    dropped: u64,
}

impl Oracle {
    fn epoch(&mut self, rows: &[Row], keys: &[&str], within: i64, before: Option<Watermark>) -> Answer {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|r| {
            let (place, offset) = r.origin.unwrap_or((usize::MAX, 0));
            (place, offset, r.time, r.n)
        });
        let mut out = Answer::default();
        for row in rows {
            let Some(time) = row.time.filter(|_| !row.is_late(before)) else {
                out.late.insert(row.n);
                continue;
            };
            let Some(key) = row.key(keys) else {
                out.failed.insert(row.n);
                continue;
            };
            if self.kept.iter().any(|(k, t)| *k == key && (t - time).abs() <= within) {
                out.dropped += 1;
            } else {
                self.kept.push((key, time));
                out.kept.insert(row.n);
            }
        }
        out
    }
}

fn spec(keys: &[&str], within: i64) -> DeduplicateSpec {
    let schema = schema("t");
    let within = Duration::from_micros(within as u64);
    DeduplicateSpec { keys: bound(keys, &schema), time: 4, within, schema }
}

/// One epoch of the operator.
fn run(
    rng: &mut Rng,
    op: &mut dyn Stateful,
    rows: &[Row],
    before: Option<Watermark>,
    after: Option<Watermark>,
) -> (Answer, Option<RecordBatch>) {
    let mut out = Answer::default();
    for part in cut(rng, rows) {
        let pushed = op.push(0, &batch(rng, &part, &schema("t")), before).unwrap();
        out.failed.extend(pushed.failed.iter().map(|f| part[f.row as usize].n));
        for late in pushed.late {
            let row = &part[late.row as usize];
            out.late.insert(row.n);
            let behind = row.time.map(|t| Duration::from_micros((before.unwrap().0 - t) as u64));
            assert_eq!(late.behind, behind);
        }
    }
    let finished = op.finish_epoch(before, after).unwrap();
    assert_eq!(finished.updated, finished.increment.as_ref().map_or(0, RecordBatch::num_rows));
    for batch in &finished.batches {
        for (i, n) in numbers(&batch.rows, 0).into_iter().enumerate() {
            let n = n.unwrap();
            assert!(out.kept.insert(n), "row {n} twice");
            let row = rows.iter().find(|r| r.n == n).unwrap();
            let origin = batch
                .origin
                .as_ref()
                .map(|o| (o.messages.source(o.message(i)).clone(), o.messages.offset(o.message(i))));
            assert_eq!(origin, row.origin.map(|(place, offset)| (places()[place].clone(), Offset(offset))));
        }
    }
    out.dropped = finished.metrics.iter().find(|m| m.0 == "numDroppedDuplicateRows").unwrap().1;
    (out, finished.increment)
}

#[test]
fn what_is_kept_is_what_the_definition_says_for_random_streams_with_stops() {
    for seed in 0..600 {
        let mut rng = seeded(seed);
        let keys = KEYS[rng.random_range(0..KEYS.len())];
        let within = [0, 1, 5, 20, 1000, i64::MAX / 2][rng.random_range(0..6)];
        let mut op: Box<dyn Stateful> = Box::new(Deduplicator::new(spec(keys, within)).unwrap());
        let (mut oracle, mut next, mut first) = (Oracle::default(), vec![0; places().len()], 0);
        let (mut before, mut increments) = (None, vec![]);
        let with_origin = rng.random_bool(0.7);
        for epoch in 0..rng.random_range(1..12) {
            let count = rng.random_range(0..60);
            let rows = rows(&mut rng, count, epoch, first, with_origin.then_some(&mut next));
            first += count as i32;
            let after = advance(&mut rng, before, epoch);
            let expected = oracle.epoch(&rows, keys, within, before);
            let (answer, increment) = run(&mut rng, &mut *op, &rows, before, after);
            assert_eq!(answer, expected, "seed {seed}, epoch {epoch}, keys {keys:?}, within {within}");
            let alive =
                oracle.kept.iter().filter(|(_, t)| after.is_none_or(|w| t.saturating_add(within) >= w.0)).count();
            assert_eq!(op.groups(), alive, "nothing is remembered longer than it matters");
            increments.extend(increment);
            before = after;
            if rng.random_bool(0.2) {
                op = restart(&mut rng, &mut *op, &mut increments, before);
            }
        }
    }
}

#[test]
fn of_rows_of_one_message_the_same_is_kept_whatever_their_order() {
    let row = |n, origin| Row { n, k: Some(1), x: None, s: None, time: Some(5), origin, epoch: 0 };
    for origin in [None, Some((2, 7))] {
        for seed in 0..20 {
            let rows: Vec<Row> = (0..6).map(|n| row(n, origin)).collect();
            let mut op = Deduplicator::new(spec(&["k"], 10)).unwrap();
            let (answer, _) = run(&mut seeded(seed), &mut op, &rows, None, None);
            assert_eq!(answer.kept, [0].into());
        }
    }
}

#[test]
fn of_rows_that_were_made_of_one_message_the_first_is_kept_whatever_their_times_and_batches() {
    for seed in 0..50 {
        let rng = &mut seeded(seed);
        // Row n is element n % 3 of element n / 3; the later its place, the earlier its time.
        let row =
            |n| Row { n, k: Some(1), x: None, s: None, time: Some(9 - i64::from(n)), origin: Some((2, 7)), epoch: 0 };
        let first = rng.random_range(0..6);
        let rows: Vec<Row> = (first..9).map(row).collect();
        let mut op = Deduplicator::new(spec(&["k"], 20)).unwrap();
        for part in cut(rng, &rows).into_iter().filter(|part| !part.is_empty()) {
            let mut batch = batch(rng, &part, &schema("t"));
            let place = |f: fn(u32) -> u32| part.iter().map(|r| Some(f(r.n as u32))).collect::<UInt32Array>();
            if let Some(origin) = &mut batch.origin {
                origin.elements = vec![place(|n| n / 3), place(|n| n % 3)];
            }
            op.push(0, &batch, None).unwrap();
        }
        let kept = op.finish_epoch(None, None).unwrap().batches;
        let kept: Vec<_> = kept.iter().flat_map(|b| numbers(&b.rows, 0)).collect();
        assert_eq!(kept, [Some(first)], "seed {seed}");
    }
}

#[test]
fn keys_that_are_none_are_refused_with_the_way_out() {
    let none = Deduplicator::new(DeduplicateSpec { keys: vec![], ..spec(&["k"], 1) }).err().unwrap();
    assert!(none.message.contains("Name at least one column"), "{none}");
    let time = Deduplicator::new(DeduplicateSpec { time: 3, ..spec(&["k"], 1) }).err().unwrap();
    assert!(time.message.contains("CAST(`s` AS TIMESTAMP)"), "{time}");
}

/// `cargo test --release --lib a_million_keys -- --ignored --nocapture`
#[test]
#[ignore = "not a test: it measures"]
fn a_million_keys_in_an_epoch_take_about_a_second() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ]));
    let keys = bound(&["id"], &schema);
    let within = Duration::from_secs(3600);
    let mut op = Deduplicator::new(DeduplicateSpec { keys, time: 1, within, schema: schema.clone() }).unwrap();
    for (name, from) in [("new", 0), ("half of them repeated", 500_000), ("all repeated", 500_000)] {
        let batches: Vec<Batch> = (0..123)
            .map(|b| {
                let ids = from + b * 8192..from + (b + 1) * 8192;
                let id: arrow::array::StringArray =
                    ids.clone().map(|i| Some(format!("event-{i:012}-of-a-tracker"))).collect();
                let t: TimestampMicrosecondArray = ids.map(|i| Some(i * 1000)).collect();
                let columns: Vec<ArrayRef> = vec![Arc::new(id), Arc::new(t.with_timezone("UTC"))];
                Batch::new(RecordBatch::try_new(schema.clone(), columns).unwrap(), None)
            })
            .collect();
        let start = std::time::Instant::now();
        for batch in &batches {
            op.push(0, batch, None).unwrap();
        }
        let pushed = start.elapsed();
        let finished = op.finish_epoch(None, None).unwrap();
        let took = start.elapsed();
        let kept: usize = finished.batches.iter().map(Batch::len).sum();
        println!(
            "{} rows, {name}: push {pushed:?}, in all {took:?}; {kept} kept, {} remembered, {} bytes each",
            123 * 8192,
            op.groups(),
            op.memory() / op.groups()
        );
    }
    let start = std::time::Instant::now();
    op.forget(Some(EventTime(i64::MAX))).unwrap();
    println!("forgetting all: {:?}; {} bytes left", start.elapsed(), op.memory());
}
