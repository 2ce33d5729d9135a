use super::super::join::join_schema;
use super::super::test::*;
use super::*;
use crate::expr::{Dialect, bind};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of both sides, and the watermark with which each epoch began. The last one is the current watermark.
struct Oracle {
    rows: [Vec<Row>; 2],
    watermarks: Vec<Option<Watermark>>,
    on: Vec<(&'static str, &'static str)>,
    how: JoinKind,
    before: i64,
    after: i64,
}

/// For each (left, right) row, how often the pair was emitted.
type Pairs = BTreeMap<(i32, Option<i32>), usize>;

impl Oracle {
    fn key(&self, side: usize, row: &Row) -> Option<Vec<String>> {
        let names: Vec<&str> = self.on.iter().map(|(l, r)| if side == LEFT { *l } else { *r }).collect();
        row.key(&names)
    }
    fn takes_part(&self, side: usize, row: &Row) -> bool {
        !row.is_late(self.watermarks[row.epoch]) && self.key(side, row).is_some()
    }
    fn has_null(&self, side: usize, row: &Row) -> bool {
        self.key(side, row).unwrap().contains(&"null".to_string())
    }
    fn match_of(&self, l: &Row, r: &Row) -> bool {
        let (Some(lt), Some(rt)) = (l.time, r.time) else { return false };
        let key = self.key(LEFT, l);
        self.takes_part(LEFT, l)
            && self.takes_part(RIGHT, r)
            && !self.has_null(LEFT, l)
            && key == self.key(RIGHT, r)
            && rt >= lt.saturating_sub(self.before)
            && rt <= lt.saturating_add(self.after)
    }
    /// Whether the row matches a row of an epoch up to `until`.
    fn matched(&self, side: usize, row: &Row, until: usize) -> bool {
        let others = self.rows[1 - side].iter().filter(|r| r.epoch <= until);
        others.into_iter().any(|other| if side == LEFT { self.match_of(row, other) } else { self.match_of(other, row) })
    }
    /// The watermark has passed the last time that the row can match.
    fn is_over(&self, side: usize, row: &Row, watermark: Option<Watermark>) -> bool {
        let reach = if side == LEFT { self.after } else { self.before };
        watermark.is_some_and(|w| row.time.unwrap().saturating_add(reach) < w.0)
    }
    fn waits(&self, side: usize, row: &Row) -> bool {
        !self.has_null(side, row) || side == LEFT && self.how == JoinKind::Left
    }
    /// Whether the row is forgotten in this epoch.
    fn forgotten_in(&self, side: usize, row: &Row, epoch: usize) -> bool {
        let first = (row.epoch..)
            .find(|e| !self.waits(side, row) || *e > epoch || self.is_over(side, row, self.watermarks[e + 1]));
        first == Some(epoch)
    }
    fn participants(&self, side: usize) -> impl Iterator<Item = &Row> {
        self.rows[side].iter().filter(move |row| self.takes_part(side, row))
    }
    /// The rows that an epoch emits. A row counts as unmatched only if no row of the whole stream ever matches it.
    fn epoch(&self, epoch: usize) -> (Pairs, [u64; 2]) {
        let mut pairs = Pairs::new();
        for l in self.participants(LEFT) {
            for r in self.participants(RIGHT) {
                if l.epoch.max(r.epoch) == epoch && self.match_of(l, r) {
                    *pairs.entry((l.n, Some(r.n))).or_default() += 1;
                }
            }
        }
        let mut unmatched = [0; 2];
        for side in [LEFT, RIGHT] {
            for row in self.participants(side) {
                if self.forgotten_in(side, row, epoch) && !self.matched(side, row, usize::MAX) {
                    unmatched[side] += 1;
                    if side == LEFT && self.how == JoinKind::Left {
                        *pairs.entry((row.n, None)).or_default() += 1;
                    }
                }
            }
        }
        (pairs, unmatched)
    }
    /// The rows that are remembered after an epoch, and whether one of them would be emitted at `watermark`.
    fn remembered(&self, epoch: usize, watermark: Option<Watermark>) -> (usize, bool) {
        let (mut count, mut emits) = (0, false);
        for side in [LEFT, RIGHT] {
            for row in self.participants(side).filter(|r| r.epoch <= epoch && self.waits(side, r)) {
                if !self.is_over(side, row, self.watermarks[epoch + 1]) {
                    count += 1;
                    let unmatched = side == LEFT && self.how == JoinKind::Left && !self.matched(side, row, epoch);
                    emits |= unmatched && self.is_over(side, row, watermark);
                }
            }
        }
        (count, emits)
    }
}

const ONS: [&[(&str, &str)]; 5] = [
    &[("k", "k")],
    &[("x", "x")],
    &[("k", "k"), ("x", "x")],
    &[("k + 0", "k")],
    &[("CAST(s AS INT)", "CAST(s AS INT)")],
];

fn spec(rng: &mut Rng, on: &[(&str, &str)], how: JoinKind, before: i64, after: i64) -> IntervalJoinSpec {
    let (left, right) = (schema("lt"), schema("rt"));
    let on: Vec<(Bound, Bound)> = on
        .iter()
        .map(|(l, r)| (bind(l, &left, Dialect::Databricks).unwrap(), bind(r, &right, Dialect::Databricks).unwrap()))
        .collect();
    let (mut right_columns, full) = join_schema(&left, &right, &on, how, "_right").unwrap();
    let mut fields = full.fields().to_vec();
    // Without some columns, possibly without the columns of the key or of the time. The join needs those inside all the
    // same.
    while right_columns.len() > 1 && rng.random_bool(0.3) {
        let gone = rng.random_range(1..right_columns.len());
        right_columns.remove(gone);
        fields.remove(left.fields().len() + gone);
    }
    assert_eq!(right_columns[0], 0, "n is kept");
    let duration = |us: i64| Duration::from_micros(us as u64);
    IntervalJoinSpec {
        on,
        how,
        left_time: 4,
        right_time: 4,
        before: duration(before),
        after: duration(after),
        left_schema: left,
        right_schema: right,
        right_columns,
        schema: Arc::new(Schema::new(fields)),
    }
}

/// Every value of an emitted row is the original one.
fn check_values(spec: &IntervalJoinSpec, out: &RecordBatch, rows: &[Vec<Row>; 2]) {
    let width = spec.left_schema.fields().len();
    let (left, right) = (numbers(out, 0), numbers(out, width));
    let find = |side: usize, n: i32| rows[side].iter().find(|r| r.n == n).unwrap().clone();
    for i in 0..out.num_rows() {
        let expected = record_batch(&[find(LEFT, left[i].unwrap())], &spec.left_schema);
        for c in 0..width {
            assert_eq!(&out.column(c).slice(i, 1), expected.column(c));
        }
        for (at, c) in spec.right_columns.iter().enumerate() {
            let value = out.column(width + at).slice(i, 1);
            match right[i] {
                Some(n) => assert_eq!(&value, record_batch(&[find(RIGHT, n)], &spec.right_schema).column(*c)),
                None => assert_eq!(value.null_count(), 1),
            }
        }
    }
}

fn stream(seed: u64) {
    let mut rng = seeded(seed);
    let on = ONS[rng.random_range(0..ONS.len())];
    let how = if rng.random_bool(0.5) { JoinKind::Inner } else { JoinKind::Left };
    let ranges = [0, 0, 1, 5, 20, 1000, i64::MAX];
    let (before, after) = (ranges[rng.random_range(0..7)], ranges[rng.random_range(0..7)]);
    let spec = spec(&mut rng, on, how, before, after);
    let mut oracle = Oracle { rows: [vec![], vec![]], watermarks: vec![None], on: on.to_vec(), how, before, after };
    let epochs = rng.random_range(1..12);
    // With a few rows in each epoch, an increment can contain only marks.
    let most = [3, 30][rng.random_range(0..2)];
    let mut first = 0;
    for epoch in 0..epochs {
        for side in [LEFT, RIGHT] {
            let count = rng.random_range(0..most);
            oracle.rows[side].extend(rows(&mut rng, count, epoch, first, None));
            first += count as i32;
        }
        let last = oracle.watermarks[epoch];
        oracle.watermarks.push(advance(&mut rng, last, epoch));
    }
    let chunk_rows = rng.random_range(1..20);
    let mut op: Box<dyn Stateful> = Box::new(IntervalJoin::with_chunks(spec.clone(), chunk_rows).unwrap());
    let mut increments = vec![];
    for epoch in 0..epochs {
        let place = format!("seed {seed}, epoch {epoch}: {how} on {on:?}, {before} before, {after} after");
        let (began, ends) = (oracle.watermarks[epoch], oracle.watermarks[epoch + 1]);
        let mut parts = vec![];
        for side in [LEFT, RIGHT] {
            let rows: Vec<Row> = oracle.rows[side].iter().filter(|r| r.epoch == epoch).cloned().collect();
            parts.extend(cut(&mut rng, &rows).into_iter().map(|part| (side, part)));
        }
        parts.shuffle(&mut rng);
        for (side, part) in parts {
            let schema = if side == LEFT { &spec.left_schema } else { &spec.right_schema };
            let pushed = op.push(side, &batch(&mut rng, &part, schema), began).unwrap();
            let late: Vec<u32> = pushed.late.iter().map(|l| l.row).collect();
            let failed: Vec<u32> = pushed.failed.iter().map(|f| f.row).collect();
            let which = |f: &dyn Fn(&Row) -> bool| {
                part.iter().enumerate().filter(|(_, r)| f(r)).map(|(i, _)| i as u32).collect::<Vec<_>>()
            };
            assert_eq!(late, which(&|r| r.is_late(began)), "{place}");
            assert_eq!(failed, which(&|r| !r.is_late(began) && !oracle.takes_part(side, r)), "{place}");
        }
        let finished = op.finish_epoch(began, ends).unwrap();
        let mut answer = Pairs::new();
        for batch in &finished.batches {
            assert!(batch.origin.is_none() && !batch.is_empty());
            check_values(&spec, &batch.rows, &oracle.rows);
            let floor = spec.output_watermark(began).map_or(i64::MIN, |w| w.0);
            let pairs = numbers(&batch.rows, 0).into_iter().zip(numbers(&batch.rows, spec.left_schema.fields().len()));
            for (l, r) in pairs {
                let time = |side: usize, n: Option<i32>| oracle.rows[side].iter().find(|row| Some(row.n) == n)?.time;
                assert!(time(LEFT, l) >= Some(floor), "{place}: below the output's watermark");
                assert!(r.is_none() || time(RIGHT, r) >= Some(floor), "{place}: below the output's watermark");
                *answer.entry((l.unwrap(), r)).or_default() += 1;
            }
        }
        let (expected, unmatched) = oracle.epoch(epoch);
        assert_eq!(answer, expected, "{place}");
        let metrics = vec![("numUnmatchedLeft", unmatched[0]), ("numUnmatchedRight", unmatched[1])];
        assert_eq!(finished.metrics, metrics, "{place}");
        assert_eq!(finished.updated, finished.increment.as_ref().map_or(0, RecordBatch::num_rows));
        increments.extend(finished.increment);
        if rng.random_bool(0.2) {
            op = restart(&mut rng, &mut *op, &mut increments, ends);
        }
        let next = ends.map(|w| w.plus(Duration::from_micros(rng.random_range(0..30))));
        let (remembered, emits) = oracle.remembered(epoch, next);
        assert_eq!(op.groups(), remembered, "{place}: what is remembered");
        assert_eq!(op.would_emit(next), emits, "{place}: what would be handed out at {next:?}");
    }
}

#[test]
fn pairs_and_rows_without_one_are_what_the_definition_says_for_random_streams_with_stops() {
    (0..1000).for_each(stream);
}

#[test]
fn a_mark_is_needed_as_long_as_the_row_that_it_marks() {
    let mut rng = seeded(1);
    let spec = spec(&mut rng, &[("k", "k")], JoinKind::Left, 0, 20);
    let mut op = IntervalJoin::new(spec.clone()).unwrap();
    let row = |n, time| Row { n, k: Some(1), x: None, s: None, time: Some(time), origin: None, epoch: 0 };
    op.push(LEFT, &Batch::new(record_batch(&[row(0, 0)], &spec.left_schema), None), None).unwrap();
    let first = op.finish_epoch(None, None).unwrap().increment.unwrap();
    op.push(RIGHT, &Batch::new(record_batch(&[row(1, 5)], &spec.right_schema), None), None).unwrap();
    let mark = op.finish_epoch(None, Some(EventTime(10))).unwrap().increment.unwrap();
    assert_eq!((first.num_rows(), mark.num_rows()), (1, 1), "the right row is over already");
    for state in [first, mark] {
        assert_eq!(op.needed_until(&state), Some(EventTime(21)));
    }
}

#[test]
fn state_columns_have_names_of_their_own() {
    let mut rng = seeded(1);
    let spec = spec(&mut rng, &[("k + 0", "k + 0")], JoinKind::Inner, 1, 1);
    let names: Vec<String> =
        IntervalJoin::new(spec).unwrap().state_schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names[..9], ["_side", "_id", "_matched", "_time", "l_n", "l_k", "l_x", "l_s", "l_lt"]);
    assert_eq!(names.last().unwrap(), "r_(k + 0)");
}

/// `cargo test --release --lib a_million_rows_a_side -- --ignored --nocapture`
#[test]
#[ignore = "not a test: it measures"]
fn a_million_rows_a_side_are_joined_in_seconds() {
    let mut rng = seeded(1);
    let spec = IntervalJoinSpec { on: vec![], ..spec(&mut rng, &[("k", "k")], JoinKind::Left, 1000, 1000) };
    let on = bound(&["k"], &spec.left_schema).into_iter().zip(bound(&["k"], &spec.right_schema)).collect();
    let spec = IntervalJoinSpec { on, ..spec };
    let mut op = IntervalJoin::new(spec.clone()).unwrap();
    let row = |n: i32| Row {
        n,
        k: Some(i64::from(n % 100_000)),
        x: Some(0.5),
        s: Some("1"),
        time: Some(i64::from(n / 100_000) * 1_000_000 + i64::from(n % 100)),
        origin: None,
        epoch: 0,
    };
    let mut sides = [vec![], vec![]];
    for b in 0..123 {
        let rows: Vec<Row> = (b * 8192..(b + 1) * 8192).map(row).collect();
        sides[LEFT].push(Batch::new(record_batch(&rows, &spec.left_schema), None));
        sides[RIGHT].push(Batch::new(record_batch(&rows, &spec.right_schema), None));
    }
    let start = std::time::Instant::now();
    for b in 0..123 {
        op.push(LEFT, &sides[LEFT][b], None).unwrap();
        op.push(RIGHT, &sides[RIGHT][b], None).unwrap();
    }
    let pushed = start.elapsed();
    let finished = op.finish_epoch(None, None).unwrap();
    let pairs: usize = finished.batches.iter().map(Batch::len).sum();
    println!(
        "2 x {} rows: push {pushed:?}, in all {:?}; {pairs} pairs, {} remembered, {} bytes each",
        123 * 8192,
        start.elapsed(),
        op.groups(),
        op.memory() / op.groups()
    );
    let start = std::time::Instant::now();
    op.finish_epoch(None, Some(EventTime(i64::MAX))).unwrap();
    println!("forgetting all: {:?}; {} bytes left", start.elapsed(), op.memory());
}
