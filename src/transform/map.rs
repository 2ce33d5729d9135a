//! Batches through a function of the user's. The core knows no Python: a function is a trait.

use crate::batch::{Batch, FailedRow};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// What `map_batches` calls. An error's text may quote what the function says; it is the user's own.
pub trait BatchFunction: Send + Sync {
    fn name(&self) -> &str;
    /// What tells it from another function.
    fn identity(&self) -> String;
    /// Rows in `schema`.
    fn call(&self, rows: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, String>;
}

/// After so many rows that fail, and none that did not, it is the function that is wrong.
const HOPELESS: usize = 100;

#[derive(Clone)]
pub struct MapBatches {
    pub function: Arc<dyn BatchFunction>,
    pub schema: SchemaRef,
}

/// What a function made of a batch, in pieces, and the input rows that it failed for.
pub struct Mapped {
    pub batches: Vec<Batch>,
    pub failed: Vec<FailedRow>,
}

impl MapBatches {
    pub fn apply(&self, input: &Batch) -> Result<Mapped> {
        let mut out = Mapped { batches: vec![], failed: vec![] };
        self.part(&input.rows, 0, &mut out)?;
        Ok(out)
    }

    /// Rows that fail are found by bisection: a part without them is mapped whole.
    fn part(&self, rows: &RecordBatch, from: usize, out: &mut Mapped) -> Result<()> {
        let n = rows.num_rows();
        if n == 0 {
            return Ok(());
        }
        match self.function.call(rows, &self.schema) {
            Ok(made) => out.batches.push(Batch::new(made, None)),
            Err(text) if n == 1 => {
                let error = format!("the function '{}' failed: {text}", self.function.name());
                if out.batches.is_empty() && out.failed.len() + 1 >= HOPELESS {
                    return Err(Error::malformed(format!(
                        "{error}. It failed for each of the first {HOPELESS} rows it was tried with alone: the function is to be corrected, not the rows."
                    )));
                }
                out.failed.push(FailedRow { row: from as u32, error });
            }
            Err(_) => {
                let half = n / 2;
                self.part(&rows.slice(0, half), from, out)?;
                self.part(&rows.slice(half, n - half), from + half, out)?;
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
        fn call(&self, rows: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, String> {
            let n = rows.column(0).as_primitive::<Int64Type>();
            if n.values().iter().any(|n| *n < 0) {
                return Err("ValueError: negative".into());
            }
            let doubled: Int64Array = n.unary(|n| n * 2);
            RecordBatch::try_new(schema.clone(), vec![Arc::new(doubled)]).map_err(|e| e.to_string())
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
    }

    #[test]
    fn a_function_that_fails_for_every_row_is_an_error_of_its_own() {
        let error = run(vec![-1; 1000]).unwrap_err();
        assert!(error.message.contains("double") && error.message.contains("ValueError"), "{}", error.message);
    }
}
