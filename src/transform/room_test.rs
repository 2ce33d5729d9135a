//! Values that do not fit into one batch.

use super::Project;
use crate::batch::Batch;
use crate::expr::{Dialect, bind, is_too_large};
use arrow::array::*;
use std::sync::Arc;

const DB: Dialect = Dialect::Databricks;

#[test]
fn values_that_have_no_room_in_one_batch_come_in_several() {
    let n = 1000usize;
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("{i:03}"))));
    let rows = RecordBatch::try_from_iter([("s", s)]).unwrap();
    let input = Batch::new(rows.clone(), None);
    for (text, length) in [
        ("repeat(s, 20000)", 60_000),
        ("hex(repeat(s, 20000))", 120_000),
        ("concat(repeat(s, 10000), repeat(s, 10000))", 60_000),
        ("rpad(s, 60000, 'x')", 60_000),
        ("replace(repeat(s, 10000), substring(s, 1, 1), 'xyz')", 0),
        ("base64(repeat(s, 20000))", 0),
        ("CASE WHEN length(s) > 3 THEN s ELSE repeat('abc', 20000) END", 60_000),
        ("repeat('abc', 20000)", 60_000),
        ("element_at(split(repeat(s, 20000), 'x'), 1)", 60_000),
        ("upper(repeat(s, 20000))", 60_000),
    ] {
        let project = Project::new(vec![bind(text, &rows.schema(), DB).unwrap()], &rows.schema());
        let parts = project.apply_in_parts(&input).unwrap();
        assert!(parts.len() > 1, "{text}");
        assert!(parts.iter().all(|(_, out)| out.failed.is_empty()), "{text}: {:?}", parts[0].1.failed);
        assert_eq!(parts.iter().map(|(_, out)| out.batch.len()).sum::<usize>(), n, "{text}");
        if length > 0 {
            let whole = |out: &Batch| out.rows.column(0).as_string::<i32>().iter().all(|s| s.unwrap().len() == length);
            assert!(parts.iter().all(|(_, out)| whole(&out.batch)), "{text}");
        }
    }
    // A value that is large only in an intermediate step needs only more batches.
    let short = bind("length(repeat(s, 20000))", &rows.schema(), DB).unwrap();
    let (lengths, failed) = short.evaluate_rows(&rows).unwrap();
    assert_eq!((lengths.len(), failed.len()), (n, 0));
    let parts = bind("split(repeat(s, 20000), '')", &rows.schema(), DB).unwrap().evaluate(&rows).unwrap_err();
    assert!(is_too_large(&parts), "{parts}");
    let one = bind("concat(repeat('a', 10000000), repeat(s, 3000000))", &rows.schema(), DB).unwrap();
    let (_, failed) = one.evaluate_rows(&rows.slice(0, 2)).unwrap();
    assert!(failed.len() == 2 && failed[0].1.contains("2 GiB"), "{failed:?}");
}
