//! Finds the rows of a batch that are in time and whose keys can be computed.

use crate::batch::{Batch, FailedRow, LateRow};
use crate::expr::{Bound, type_to_ddl};
use crate::state::Pushed;
use crate::time::{EventTime, Watermark};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Schema, TimeUnit, TimestampMicrosecondType};
use std::time::Duration;

/// The rows of a batch that are in time and have keys, and the other rows.
pub(super) struct Admitted {
    pub batch: Batch,
    /// None of them NULL.
    pub times: TimestampMicrosecondArray,
    /// Evaluated for each row of `batch`.
    pub keys: Vec<ArrayRef>,
    pub pushed: Pushed,
}

impl Admitted {
    pub(super) fn time(&self, row: usize) -> EventTime {
        EventTime(self.times.value(row))
    }
}

/// A row without event time, or with an event time below the watermark `before` with which the epoch began, is late.
/// Keys are computed only for the other rows: a late row is late whether or not its keys can be computed.
pub(super) fn admit(input: &Batch, time: usize, keys: &[Bound], before: Option<Watermark>) -> Result<Admitted> {
    let mut pushed = Pushed::default();
    let times = event_times(&input.rows, time)?;
    let in_time = match before {
        Some(before) => times.values().iter().all(|t| *t >= before.0),
        None => true,
    };
    let mut batch = input.clone();
    let mut places: Option<UInt32Array> = None;
    if !in_time || times.null_count() > 0 {
        let mut kept = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let (time, row) = (EventTime(times.value(row)), row as u32);
            match before {
                _ if times.is_null(row as usize) => pushed.late.push(LateRow { row, behind: None }),
                Some(before) if time < before => pushed.late.push(LateRow { row, behind: Some(behind(before, time)) }),
                _ => kept.push(row),
            }
        }
        // If a time is NULL, its bytes can be anything. Such a row must not become late for a second reason.
        if kept.len() < times.len() {
            let kept = UInt32Array::from(kept);
            batch = input.take(&kept)?;
            places = Some(kept);
        }
    }
    let (batch, keys, mut failed) = computed(&batch, keys)?;
    if let Some(places) = places {
        failed.iter_mut().for_each(|f| f.row = places.value(f.row as usize));
    }
    pushed.failed = failed;
    let times = event_times(&batch.rows, time)?.clone();
    Ok(Admitted { batch, times, keys, pushed })
}

/// The rows for which all keys can be computed, with their keys, and the other rows.
pub(super) fn computed(input: &Batch, keys: &[Bound]) -> Result<(Batch, Vec<ArrayRef>, Vec<FailedRow>)> {
    let (mut columns, mut failed) = (Vec::with_capacity(keys.len()), vec![]);
    for key in keys {
        let (column, errors) = key.evaluate_rows(&input.rows)?;
        columns.push(column);
        failed.extend(errors.into_iter().map(|(row, e)| FailedRow::new(row, format!("the key '{}': {e}", key.name))));
    }
    if failed.is_empty() {
        return Ok((input.clone(), columns, failed));
    }
    // Stable sort: if several keys of a row fail, the first key's failure is reported.
    failed.sort_by_key(|f| f.row);
    failed.dedup_by_key(|f| f.row);
    let mut good = vec![true; input.len()];
    for f in &failed {
        good[f.row as usize] = false;
    }
    let good = BooleanArray::from(good);
    let columns = columns.iter().map(|c| filter(c, &good)).collect::<Result<_, _>>()?;
    Ok((input.filter(&good)?, columns, failed))
}

fn behind(watermark: Watermark, time: EventTime) -> Duration {
    Duration::from_micros(watermark.0.saturating_sub(time.0).max(0) as u64)
}

fn event_times(rows: &RecordBatch, column: usize) -> Result<&TimestampMicrosecondArray> {
    rows.columns().get(column).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()).ok_or_else(|| {
        Error::internal(format!("column {column} of {} is not an event time in microseconds", rows.schema()))
    })
}

/// Checks whether the column can be an event time. `place` names the step, for errors.
pub(super) fn check_time(place: &str, schema: &Schema, column: usize) -> Result<()> {
    let Some(field) = schema.fields().get(column) else {
        return Err(Error::internal(format!("{place}: there is no column {column} for the event time")));
    };
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Ok(()),
        other => Err(Error::schema(format!(
            "{place}: the event time '{}' is {}, not TIMESTAMP. Write with_columns(\"CAST(`{}` AS TIMESTAMP) AS `{}`\") before it",
            field.name(),
            type_to_ddl(other),
            field.name(),
            field.name()
        ))),
    }
}
