//! `+` and `-` with dates, timestamps and intervals.

use crate::calendar::{DAY, add_months};
use crate::expr::arith::mismatch;
use crate::expr::cast::implicit;
use crate::expr::coerce::{is_int, is_interval, is_timestamp};
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::{nums, nums_as};
use crate::expr::node::Typed;
use crate::time::timestamp_type;
use crate::{Error, Result};
use arrow::datatypes::*;
use std::sync::Arc;

/// The sum or difference; `None` where neither side is a date, a timestamp or an interval.
pub fn moved(op: &'static str, left: &Typed, right: &Typed) -> Result<Option<Typed>> {
    let (l, r) = (&left.data_type, &right.data_type);
    let is_time = |t: &DataType| *t == DataType::Date32 || is_timestamp(t);
    if !is_time(l) && !is_time(r) && !is_interval(l) && !is_interval(r) {
        return Ok(None);
    }
    let sql = &format!("({} {op} {})", left.sql, right.sql);
    // The point in time comes first.
    let (point, by) = if is_time(l) { (left.clone(), right.clone()) } else { (right.clone(), left.clone()) };
    if op == "-" && !is_time(l) || !is_time(&point.data_type) {
        return Err(mismatch(sql, left, right));
    }
    if is_time(&by.data_type) {
        return Err(Error::schema(format!(
            "{sql}: the difference of two times is an INTERVAL, which no column can hold. Use datediff, \
             timestampdiff(SECOND, from, to) or unix_micros(a) - unix_micros(b)."
        )));
    }
    let sign: i64 = if op == "-" { -1 } else { 1 };
    let date = point.data_type == DataType::Date32;
    if date && is_int(&by.data_type) {
        let name = if sign < 0 { "date_sub" } else { "date_add" };
        return Ok(Some(super::call(name, vec![point, by])?.named(format!(
            "{name}({}, {})",
            if is_time(l) { &left.sql } else { &right.sql },
            if is_time(l) { &right.sql } else { &left.sql }
        ))));
    }
    let overflow = || row_error(OVERFLOW);
    let whole_days = by.sql.ends_with(" DAY");
    let sql = match &by.data_type {
        DataType::Duration(_) if date && whole_days => {
            let name = if sign < 0 { "date_sub" } else { "date_add" };
            &format!("{name}({}, extractansiintervaldays({}))", point.sql, by.sql)
        }
        _ => &format!("{} {op} {}", point.sql, by.sql),
    };
    let out = match &by.data_type {
        DataType::Interval(_) if date => Typed::call(
            vec![point, by],
            DataType::Date32,
            false,
            sql.to_string(),
            Arc::new(move |a| {
                let (d, n) = (a.num::<Date32Type>(0)?, a.num::<IntervalYearMonthType>(1)?);
                nums::<Date32Type>(a.rows, |i| match (d.get(i), n.get(i)) {
                    (Some(d), Some(n)) => {
                        i32::try_from(add_months(i64::from(d), sign * i64::from(n))).map(Some).map_err(|_| overflow())
                    }
                    _ => Ok(None),
                })
            }),
        ),
        DataType::Interval(_) => Typed::call(
            vec![point, by],
            timestamp_type(),
            false,
            sql.to_string(),
            Arc::new(move |a| {
                let (t, n) = (a.num::<TimestampMicrosecondType>(0)?, a.num::<IntervalYearMonthType>(1)?);
                nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| match (t.get(i), n.get(i)) {
                    (Some(t), Some(n)) => add_months(t.div_euclid(DAY), sign * i64::from(n))
                        .checked_mul(DAY)
                        .and_then(|d| d.checked_add(t.rem_euclid(DAY)))
                        .map(Some)
                        .ok_or_else(overflow),
                    _ => Ok(None),
                })
            }),
        ),
        DataType::Duration(_) => {
            let point = implicit(point, &timestamp_type())?;
            let moved = Typed::call(
                vec![point, by],
                timestamp_type(),
                false,
                sql.to_string(),
                Arc::new(move |a| {
                    let (t, n) = (a.num::<TimestampMicrosecondType>(0)?, a.num::<DurationMicrosecondType>(1)?);
                    nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| match (t.get(i), n.get(i)) {
                        (Some(t), Some(n)) => t.checked_add(sign * n).map(Some).ok_or_else(overflow),
                        _ => Ok(None),
                    })
                }),
            );
            if date && whole_days { implicit(moved, &DataType::Date32)?.named(sql) } else { moved }
        }
        _ => return Err(mismatch(sql, left, right)),
    };
    Ok(Some(out))
}
