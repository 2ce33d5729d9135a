use super::super::join::join_schema;
use super::super::test::*;
use super::*;
use crate::expr::{Dialect, bind};
use rand::RngExt;

const ONS: [&[(&str, &str)]; 5] = [
    &[("k", "k")],
    &[("x", "x")],
    &[("k", "k"), ("x", "x")],
    &[("CAST(s AS INT)", "CAST(n % 3 AS INT)")],
    &[("k + 0", "k")],
];

fn table_key(row: &Row, key: &str) -> String {
    match key {
        "CAST(n % 3 AS INT)" => (row.n % 3).to_string(),
        other => row.key(&[other]).unwrap().remove(0),
    }
}

#[test]
fn rows_come_once_for_each_match_with_their_origins_for_random_tables() {
    for seed in 0..500 {
        let mut rng = seeded(seed);
        let on = ONS[rng.random_range(0..ONS.len())];
        let how = if rng.random_bool(0.5) { JoinKind::Inner } else { JoinKind::Left };
        let (stream, table) = (schema("t"), schema("u"));
        let pairs: Vec<(Bound, Bound)> = on
            .iter()
            .map(|(l, r)| {
                (bind(l, &stream, Dialect::Databricks).unwrap(), bind(r, &table, Dialect::Databricks).unwrap())
            })
            .collect();
        let (right_columns, schema) = join_schema(&stream, &table, &pairs, how, "_right").unwrap();
        let spec = StaticJoinSpec { on: pairs, how, right_columns, schema };
        let count = rng.random_range(0..20);
        let right = rows(&mut rng, count, 0, 0, None);
        // The table that was built piece by piece is the same as the table that was built at once.
        let all = record_batch(&right, &table);
        let mut joined = StaticTable::new(&spec, None).unwrap();
        let mut from = 0;
        while from < all.num_rows() {
            let rows = rng.random_range(0..=6).min(all.num_rows() - from);
            joined.add(&all.slice(from, rows)).unwrap();
            from += rows;
        }
        let count = rng.random_range(0..40);
        let mut next = vec![0; places().len()];
        let left = rows(&mut rng, count, 0, 0, Some(&mut next));
        let input = batch(&mut rng, &left, &stream);
        let out = joined.apply(&input).unwrap();

        let mut expected: Vec<(usize, Option<usize>)> = vec![];
        let mut failed = vec![];
        for (i, l) in left.iter().enumerate() {
            let names: Vec<&str> = on.iter().map(|o| o.0).collect();
            let Some(key) = l.key(&names) else {
                failed.push(i as u32);
                continue;
            };
            let matches =
                |r: &Row| on.iter().zip(&key).all(|((_, name), key)| *key == table_key(r, name) && key != "null");
            let found: Vec<usize> = (0..right.len()).filter(|j| matches(&right[*j])).collect();
            if found.is_empty() && how == JoinKind::Left {
                expected.push((i, None));
            }
            expected.extend(found.into_iter().map(|j| (i, Some(j))));
        }
        assert_eq!(out.failed.iter().map(|f| f.row).collect::<Vec<_>>(), failed, "seed {seed}");
        assert_eq!(out.batch.len(), expected.len(), "seed {seed}: {how} on {on:?}");
        for (row, (i, j)) in expected.into_iter().enumerate() {
            for c in 0..stream.fields().len() {
                assert_eq!(&out.batch.rows.column(c).slice(row, 1), &input.rows.column(c).slice(i, 1), "seed {seed}");
            }
            let right_batch = record_batch(&right, &table);
            for (at, c) in spec.right_columns.iter().enumerate() {
                let value = out.batch.rows.column(stream.fields().len() + at).slice(row, 1);
                match j {
                    Some(j) => assert_eq!(&value, &right_batch.column(*c).slice(j, 1), "seed {seed}"),
                    None => assert_eq!(value.null_count(), 1, "seed {seed}"),
                }
            }
            if let (Some(now), Some(then)) = (&out.batch.origin, &input.origin) {
                assert_eq!(now.message(row), then.message(i), "seed {seed}");
            }
        }
        assert_eq!(out.batch.origin.is_some(), input.origin.is_some());
    }
}

#[test]
fn a_table_whose_keys_are_of_another_type_is_refused() {
    let (stream, table) = (schema("t"), schema("u"));
    let on = vec![(bound(&["k"], &stream).remove(0), bound(&["s"], &table).remove(0))];
    let spec = StaticJoinSpec { on, how: JoinKind::Inner, right_columns: vec![], schema: stream.clone() };
    let e = StaticTable::build(&spec, &RecordBatch::new_empty(table)).err().unwrap();
    assert!(e.message.contains("'k' is BIGINT on the left and 's' is STRING on the right"), "{e}");
}
