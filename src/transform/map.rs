//! Applies a user's function to batches. The core does not know Python: a function is a trait.

use crate::batch::{Batch, FailedRow};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// The reason why a function gave no result.
pub enum Failure {
    /// The function failed for the rows that it was given. The source of the error is the exception.
    Rows(Error),
    /// The failure does not concern rows: an interrupt, or no memory.
    Stop(Error),
}

/// The function of `map_batches`. The text of an error can quote the function, because the function belongs to the
/// user.
pub trait BatchFunction: Send + Sync {
    fn name(&self) -> &str;
    /// Distinguishes the function from other functions.
    fn identity(&self) -> String;
    /// Rows in `schema`.
    fn call(&self, rows: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, Failure>;
}

/// If a batch fails, this many rows from all parts of the batch are tried first. If all of these rows fail, the function is wrong.
const PROBES: usize = 16;
/// Batches with fewer rows than this are not probed.
const MANY: usize = 100;

#[derive(Clone)]
pub struct MapBatches {
    pub function: Arc<dyn BatchFunction>,
    pub schema: SchemaRef,
}

/// The result of a function for a batch, in pieces, and the input rows for which it failed.
pub struct Mapped {
    pub batches: Vec<Batch>,
    pub failed: Vec<FailedRow>,
}

impl MapBatches {
    pub fn apply(&self, input: &Batch) -> Result<Mapped> {
        let mut out = Mapped { batches: vec![], failed: vec![] };
        let rows = &input.rows;
        match self.try_rows(rows)? {
            Ok(made) if rows.num_rows() > 0 => out.batches.push(Batch::new(made, None)),
            Ok(_) => {}
            Err(_) => {
                self.probe(rows)?;
                self.part(rows, 0, &mut out)?;
            }
        }
        Ok(out)
    }

    fn try_rows(&self, rows: &RecordBatch) -> Result<std::result::Result<RecordBatch, Error>> {
        if rows.num_rows() == 0 {
            return Ok(Ok(RecordBatch::new_empty(self.schema.clone())));
        }
        match self.function.call(rows, &self.schema) {
            Ok(made) => Ok(Ok(made)),
            Err(Failure::Rows(e)) => Ok(Err(e.context(format!("the function '{}' failed", self.function.name())))),
            Err(Failure::Stop(e)) => Err(e),
        }
    }

    fn probe(&self, rows: &RecordBatch) -> Result<()> {
        let n = rows.num_rows();
        if n < MANY {
            return Ok(());
        }
        let mut last = None;
        for i in 0..PROBES {
            match self.try_rows(&rows.slice(i * (n - 1) / (PROBES - 1), 1))? {
                Ok(_) => return Ok(()),
                Err(e) => last = Some(e),
            }
        }
        let Some(mut e) = last else { return Ok(()) };
        e.message = format!(
            "{}. It failed for each of {PROBES} rows from all over a batch of {n}. Correct the function, not the rows.",
            e.message.trim_end_matches('.')
        );
        Err(e)
    }

    /// Finds failing rows by bisection: a part without them is mapped as a whole. `rows` has failed as a whole.
    fn part(&self, rows: &RecordBatch, from: usize, out: &mut Mapped) -> Result<()> {
        let half = rows.num_rows() / 2;
        for (at, part) in [(from, rows.slice(0, half)), (from + half, rows.slice(half, rows.num_rows() - half))] {
            match self.try_rows(&part)? {
                Ok(_) if part.num_rows() == 0 => {}
                Ok(made) => out.batches.push(Batch::new(made, None)),
                Err(e) if part.num_rows() == 1 => {
                    // The first exception is enough: each one keeps the frames of its traceback alive.
                    let cause = if out.failed.is_empty() { e.source } else { None };
                    out.failed.push(FailedRow { row: at as u32, error: e.message, cause });
                }
                Err(_) => self.part(&part, at, out)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    /// Doubles, and fails where a row is negative.
    struct Double;
    impl BatchFunction for Double {
        fn name(&self) -> &str {
            "double"
        }
        fn identity(&self) -> String {
            "double".into()
        }
        fn call(&self, rows: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, Failure> {
            let n = rows.column(0).as_primitive::<Int64Type>();
            if n.values().iter().any(|n| *n < 0) {
                return Err(Failure::Rows(Error::function("ValueError: negative")));
            }
            let doubled: Int64Array = n.unary(|n| n * 2);
            RecordBatch::try_new(schema.clone(), vec![Arc::new(doubled)]).map_err(|e| Failure::Rows(e.into()))
        }
    }

    fn run(values: Vec<i64>) -> Result<(Vec<i64>, Vec<u32>)> {
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap();
        let map = MapBatches { function: Arc::new(Double), schema: rows.schema() };
        let out = map.apply(&Batch::new(rows, None))?;
        let values = out.batches.iter().flat_map(|b| b.rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        Ok((values.collect(), out.failed.iter().map(|f| f.row).collect()))
    }

    #[test]
    fn rows_that_fail_are_found_and_the_others_are_mapped_in_order() {
        assert_eq!(run(vec![1, 2, -3, 4, -5]).unwrap(), (vec![2, 4, 8], vec![2, 4]));
        assert_eq!(run(vec![]).unwrap(), (vec![], vec![]));
        assert_eq!(run(vec![-7]).unwrap(), (vec![], vec![0]));
        let (good, bad) = run(std::iter::repeat_n(-1, 120).chain(1..=500).collect()).unwrap();
        assert_eq!((good.len(), bad), (500, (0..120).collect()), "bad rows at the head are no more than bad rows");
    }

    #[test]
    fn a_function_that_fails_for_every_row_is_an_error_of_its_own() {
        let error = run(vec![-1; 1000]).unwrap_err();
        assert!(error.message.contains("double") && error.message.contains("ValueError"), "{}", error.message);
    }
}
