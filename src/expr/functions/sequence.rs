//! `sequence`: whole numbers, dates or timestamps from a start to a stop.

use super::{Call, Spec, spec};
use crate::Result;
use crate::calendar::{DAY, add_months};
use crate::expr::cast::implicit;
use crate::expr::coerce::{is_int, is_interval, is_timestamp, unify};
use crate::expr::ddl::list_of;
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::Args;
use crate::expr::lists::{check_elements, check_length};
use crate::expr::node::Typed;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[spec("sequence", "sequence(start, stop[, step])", sequence)];

/// The step of a row: a number, or months and microseconds.
#[derive(Clone, Copy)]
enum Step {
    By(i64),
    Time { months: i64, micros: i64 },
}

fn sequence(c: Call) -> Result<Typed> {
    let mut c = c.count(2, 3)?;
    let step = if c.args.len() > 2 { c.args.pop() } else { None };
    let wrong = "the bounds must be whole numbers with a whole step, or dates or timestamps with an INTERVAL";
    let timed = step.as_ref().is_some_and(|s| is_interval(&s.data_type));
    let mut all = std::mem::take(&mut c.args);
    if let Some(step) = step.clone().filter(|_| !timed) {
        all.push(step);
    }
    let (mut all, of) = unify(&c.sql, all)?;
    let of = if of == DataType::Null { DataType::Int32 } else { of };
    all = all.into_iter().map(|a| implicit(a, &of)).collect::<Result<_>>()?;
    let time = of == DataType::Date32 || is_timestamp(&of);
    // A step of a sequence of times is an INTERVAL.
    let fits = if time { timed || step.as_ref().is_none_or(|s| s.data_type == DataType::Null) } else { !timed };
    if !(is_int(&of) || time) || !fits {
        return Err(c.error(wrong));
    }
    if timed {
        all.extend(step);
    }
    c.args = all;
    let item = of.clone();
    c.build_nullable(list_of(of), move |a| make(a, &item))
}

/// The values of an argument: whole numbers, days, or microseconds.
fn wide(a: &Args, k: usize) -> DfResult<(Int64Array, usize)> {
    let array = a.array(k);
    let whole = match array.data_type() {
        DataType::Date32 => cast(array, &DataType::Int32)?,
        _ => array.clone(),
    };
    Ok((cast(&whole, &DataType::Int64)?.as_primitive::<Int64Type>().clone(), a.mask(k)))
}

fn make(a: &Args, item: &DataType) -> DfResult<ArrayRef> {
    let (start, start_mask) = wide(a, 0)?;
    let (stop, stop_mask) = wide(a, 1)?;
    let time = !is_int(item);
    let steps = if a.len() > 2 { Some(steps(a, 2)?) } else { None };
    let mut values: Vec<i64> = Vec::with_capacity(a.rows);
    let (mut offsets, mut valid) = (vec![0i32], Vec::with_capacity(a.rows));
    for row in 0..a.rows {
        let (i, j) = (row & start_mask, row & stop_mask);
        let step = match &steps {
            None => Some(None),
            Some((steps, mask)) => steps[row & mask].map(Some),
        };
        let known = start.is_valid(i) && stop.is_valid(j) && step.is_some();
        if known {
            let (from, to) = (start.value(i), stop.value(j));
            let forward = if to >= from { 1 } else { -1 };
            match (step.flatten(), time) {
                (Some(Step::Time { months, micros }), _) => times(&mut values, item, from, to, months, micros)?,
                (Some(Step::By(step)), _) => numbers(&mut values, from, to, step)?,
                (None, true) if *item != DataType::Date32 => numbers(&mut values, from, to, forward * DAY)?,
                (None, _) => numbers(&mut values, from, to, forward)?,
            }
            check_elements(values.len())?;
        }
        valid.push(known);
        offsets.push(values.len() as i32);
    }
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    let values = match item {
        DataType::Date32 => cast(&cast(&values, &DataType::Int32)?, item)?,
        _ => cast(&values, item)?,
    };
    let DataType::List(field) = list_of(item.clone()) else { return Err(row_error("a list has no type")) };
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::new(offsets.into()), values, nulls)?))
}

/// The steps, and the mask for their rows.
fn steps(a: &Args, k: usize) -> DfResult<(Vec<Option<Step>>, usize)> {
    let array = a.array(k);
    let steps = match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => array
            .as_primitive::<IntervalYearMonthType>()
            .iter()
            .map(|m| m.map(|m| Step::Time { months: i64::from(m), micros: 0 }))
            .collect(),
        DataType::Duration(_) => array
            .as_primitive::<DurationMicrosecondType>()
            .iter()
            .map(|n| n.map(|micros| Step::Time { months: 0, micros }))
            .collect(),
        DataType::Date32 | DataType::Timestamp(..) => vec![None; array.len()],
        _ => cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().iter().map(|n| n.map(Step::By)).collect(),
    };
    Ok((steps, a.mask(k)))
}

const DIRECTION: &str = "the step of sequence does not lead from its start to its stop";

fn numbers(out: &mut Vec<i64>, from: i64, to: i64, step: i64) -> DfResult<()> {
    if from == to {
        out.push(from);
        return Ok(());
    }
    if step == 0 || (step > 0) != (to > from) {
        return Err(row_error(DIRECTION));
    }
    let count = (i128::from(to) - i128::from(from)) / i128::from(step) + 1;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    check_length(count)?;
    check_elements(out.len() + count)?;
    out.extend((0..count as i64).map(|k| from + k * step));
    Ok(())
}

/// Dates count days, timestamps microseconds.
fn times(out: &mut Vec<i64>, item: &DataType, from: i64, to: i64, months: i64, micros: i64) -> DfResult<()> {
    let date = *item == DataType::Date32;
    if date && months == 0 && micros.abs() < DAY {
        return Err(row_error("the step of a sequence of dates is less than a day"));
    }
    let step = if months != 0 { months } else { micros };
    if months == 0 && !date {
        return numbers(out, from, to, step);
    }
    if from == to {
        out.push(from);
        return Ok(());
    }
    if step == 0 || (step > 0) != (to > from) {
        return Err(row_error(DIRECTION));
    }
    // The least number of microseconds between two values.
    let least =
        if months != 0 { months.unsigned_abs().saturating_mul(28 * DAY.unsigned_abs()) } else { micros.unsigned_abs() };
    let span = u64::try_from((i128::from(to) - i128::from(from)).unsigned_abs()).unwrap_or(u64::MAX);
    let span = if date { span.saturating_mul(DAY.unsigned_abs()) } else { span };
    let most = usize::try_from(span / least.max(1)).unwrap_or(usize::MAX);
    check_length(most)?;
    check_elements(out.len() + most)?;
    for k in 0.. {
        let value = match (months, date) {
            (0, _) => from.checked_mul(DAY).zip(micros.checked_mul(k)).and_then(|(f, s)| f.checked_add(s)),
            (_, true) => months.checked_mul(k).map(|m| add_months(from, m)),
            (_, false) => months
                .checked_mul(k)
                .and_then(|m| add_months(from.div_euclid(DAY), m).checked_mul(DAY))
                .and_then(|d| d.checked_add(from.rem_euclid(DAY))),
        };
        let value = value.ok_or_else(|| row_error(OVERFLOW))?;
        // A step with hours moves dates by their midnights.
        let value = if months == 0 { value.div_euclid(DAY) } else { value };
        if if step > 0 { value > to } else { value < to } {
            return Ok(());
        }
        out.push(value);
    }
    Ok(())
}
