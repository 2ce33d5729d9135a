//! Converts rows to the input of accumulators: keys, arguments, filters. Failing rows are found by bisection.

use super::AggregateSpec;
use crate::batch::FailedRow;
use crate::state::normalize_key;
use crate::{Kind, Result};
use arrow::array::*;

/// The input of the aggregates for some rows.
pub(super) struct Computed {
    pub keys: Vec<ArrayRef>,
    pub arguments: Vec<Vec<ArrayRef>>,
    pub filters: Vec<Option<BooleanArray>>,
}

fn compute(spec: &AggregateSpec, rows: &RecordBatch) -> Result<Computed> {
    let keys = spec.keys.iter().map(|k| Ok(normalize_key(&k.evaluate(rows)?))).collect::<Result<_>>()?;
    let computed = spec.aggregates().iter().map(|a| a.evaluate(rows)).collect::<Result<Vec<_>>>()?;
    let (arguments, filters) = computed.into_iter().unzip();
    Ok(Computed { keys, arguments, filters })
}

/// Computes `rows` and passes them to `take`: all together if possible, otherwise in the parts that do not contain a
/// failing row. `take` gets the place of the part in `rows`. `origin` is the place of each row in the batch that it
/// came from.
pub(super) fn compute_rows(
    spec: &AggregateSpec,
    rows: &RecordBatch,
    origin: Option<&UInt32Array>,
    failed: &mut Vec<FailedRow>,
    take: &mut dyn FnMut(Computed, usize, usize) -> Result<()>,
) -> Result<()> {
    part(spec, rows, origin, 0, failed, take)
}

fn part(
    spec: &AggregateSpec,
    rows: &RecordBatch,
    origin: Option<&UInt32Array>,
    from: usize,
    failed: &mut Vec<FailedRow>,
    take: &mut dyn FnMut(Computed, usize, usize) -> Result<()>,
) -> Result<()> {
    let n = rows.num_rows();
    if n == 0 {
        return Ok(());
    }
    match compute(spec, rows) {
        Ok(computed) => take(computed, from, n),
        Err(e) if e.kind == Kind::Malformed && n == 1 => {
            let row = origin.map_or(from as u32, |o| o.value(from));
            // A row that is in several windows fails once.
            if failed.last().is_none_or(|f| f.row != row) {
                let cause = if failed.is_empty() { e.source } else { None };
                failed.push(FailedRow { cause, ..FailedRow::new(row, e.message) });
            }
            Ok(())
        }
        Err(e) if e.kind == Kind::Malformed => {
            let half = n / 2;
            part(spec, &rows.slice(0, half), origin, from, failed, take)?;
            part(spec, &rows.slice(half, n - half), origin, from + half, failed, take)
        }
        Err(e) => Err(e),
    }
}
