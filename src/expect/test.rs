use super::*;
use crate::expr::{Dialect, bind_predicate};
use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use rand::{RngExt, SeedableRng};

/// The oracle: row by row, as the definitions say.
#[test]
fn counts_and_survivors_are_what_the_definitions_say_for_random_rows() {
    let schema =
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for round in 0..200 {
        let value = |rng: &mut rand_chacha::ChaCha8Rng| (rng.random_range(0..5) > 0).then(|| rng.random_range(-3..10));
        let rows: Vec<(Option<i32>, Option<i32>)> =
            (0..rng.random_range(0..100)).map(|_| (value(&mut rng), value(&mut rng))).collect();
        let a: Int32Array = rows.iter().map(|r| r.0).collect();
        let b: Int32Array = rows.iter().map(|r| r.1).collect();
        let batch = Batch::new(RecordBatch::try_new(schema.clone(), vec![Arc::new(a), Arc::new(b)]).unwrap(), None);
        let all = [
            ("a > 0", Action::Keep),
            ("a IS NOT NULL", Action::Drop),
            ("b < 5", Action::Quarantine),
            ("a <> 3", Action::Drop),
            ("b > -3", Action::Fail),
        ];
        let used: Vec<_> = all.iter().filter(|_| rng.random_bool(0.7)).collect();
        let rules = used
            .iter()
            .map(|(sql, action)| Rule {
                name: (*sql).into(),
                condition: bind_predicate(sql, &schema, Dialect::Databricks).unwrap(),
                action: *action,
            })
            .collect();
        let judged = RuleSet { rules }.judge(&batch).unwrap();
        let holds = |sql: &str, (a, b): (Option<i32>, Option<i32>)| match sql {
            "a > 0" => a.is_some_and(|a| a > 0),
            "a IS NOT NULL" => a.is_some(),
            "b < 5" => b.is_some_and(|b| b < 5),
            "a <> 3" => a.is_some_and(|a| a != 3),
            _ => b.is_some_and(|b| b > -3),
        };
        let mut kept = vec![];
        let (mut quarantined, mut dropped) = (vec![], 0);
        let mut fatal = None;
        for (i, row) in rows.iter().enumerate() {
            let strongest = used.iter().filter(|(sql, _)| !holds(sql, *row)).map(|u| u.1).max().unwrap_or(Action::Keep);
            match strongest {
                Action::Keep => kept.push(row.0),
                Action::Drop => dropped += 1,
                Action::Quarantine => quarantined.push(i as u32),
                Action::Fail => fatal = fatal.or(Some(i as u32)),
            }
        }
        for (counts, (sql, _)) in judged.counts.iter().zip(&used) {
            let passed = rows.iter().filter(|r| holds(sql, **r)).count() as u64;
            assert_eq!((counts.passed, counts.failed), (passed, rows.len() as u64 - passed), "round {round}: {sql}");
        }
        assert_eq!(judged.fatal.map(|f| f.0), fatal);
        if fatal.is_none() {
            let got: Vec<Option<i32>> = judged.batch.rows.column(0).as_primitive::<Int32Type>().iter().collect();
            assert_eq!(got, kept, "round {round}");
            assert_eq!(judged.quarantined.iter().map(|q| q.0).collect::<Vec<_>>(), quarantined);
            assert_eq!(judged.dropped, dropped);
        }
    }
}
