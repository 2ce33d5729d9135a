//! From rows to what accumulators take: keys, arguments, filters; rows that fail are found by bisection.

use super::AggregateSpec;
use crate::batch::FailedRow;
use crate::state::normalize_key;
use crate::{Kind, Result};
use arrow::array::*;

/// What the aggregates take of some rows.
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

/// Computes `rows` and hands them to `take`, whole if they can be, else in the parts that hold no failing row. `take` is told
/// where the part lies in `rows`; `origin` names each row's place in the batch that it came from.
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
            // A row of several windows fails once.
            if failed.last().is_none_or(|f| f.row != row) {
                failed.push(FailedRow { row, error: e.message });
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
