//! Arithmetic with dates, timestamps and intervals.
//!
//! An interval exists within expressions only. As in Spark there are three kinds: months (`Interval(YearMonth)`), microseconds
//! (`Duration`), and both together with days (`Interval(MonthDayNano)`, which `make_interval` makes). The units with which Spark shows
//! an interval are in `Typed::units`, because Arrow's types do not have them.

use super::{Call, Spec, get, spec};
use crate::calendar::{DAY, add_months};
use crate::expr::arith::{self, mismatch};
use crate::expr::cast::implicit;
use crate::expr::coerce::Param::{Int, Number};
use crate::expr::coerce::{is_int, is_interval, is_number, is_timestamp};
use crate::expr::ddl::type_to_ddl;
use crate::expr::evaluate::{OVERFLOW, ZERO, row_error};
use crate::expr::kernel::{Kernel, nums, nums_as, strings};
use crate::expr::literal::written;
use crate::expr::node::Typed;
use crate::time::timestamp_type;
use crate::{Error, Result};
use arrow::datatypes::*;
use std::sync::Arc;

type Micros = TimestampMicrosecondType;
type Span = DurationMicrosecondType;
type Months = IntervalYearMonthType;
type Calendar = IntervalMonthDayNanoType;

/// The type of an interval of months.
pub(super) const MONTHS: DataType = DataType::Interval(IntervalUnit::YearMonth);
/// The type of an interval of days to microseconds.
pub(super) const SPAN: DataType = DataType::Duration(TimeUnit::Microsecond);
const CALENDAR: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

pub(super) const LIST: &[Spec] = &[
    spec("make_interval", "make_interval([years[, months[, weeks[, days[, hours[, mins[, secs]]]]]]])", |c| {
        make_interval(c, false)
    }),
    spec("try_make_interval", "try_make_interval(years[, months[, weeks[, days[, hours[, mins[, secs]]]]]])", |c| {
        make_interval(c, true)
    }),
    spec("make_dt_interval", "make_dt_interval([days[, hours[, mins[, secs]]]])", |c| {
        let c = filled(c, 4)?;
        c.build(SPAN, |a| {
            let parts = [a.num::<Int32Type>(0)?, a.num::<Int32Type>(1)?, a.num::<Int32Type>(2)?];
            let seconds = a.num::<Decimal128Type>(3)?;
            nums::<Span>(a.rows, |i| {
                let mut total = get!(seconds.get(i));
                for (part, unit) in parts.iter().zip([DAY, 3_600_000_000, 60_000_000]) {
                    total += i128::from(get!(part.get(i))) * i128::from(unit);
                }
                i64::try_from(total).map(Some).map_err(|_| row_error(OVERFLOW))
            })
        })
    }),
    spec("make_ym_interval", "make_ym_interval([years[, months]])", |c| {
        let c = filled(c, 2)?;
        c.build(MONTHS, |a| {
            let (y, m) = (a.num::<Int32Type>(0)?, a.num::<Int32Type>(1)?);
            nums::<Months>(a.rows, |i| {
                let total = i64::from(get!(y.get(i))) * 12 + i64::from(get!(m.get(i)));
                i32::try_from(total).map(Some).map_err(|_| row_error(OVERFLOW))
            })
        })
    }),
];

/// Fills the missing arguments with zeros, as Spark shows them. The seconds are DECIMAL(18,6).
fn filled(mut c: Call, most: usize) -> Result<Call> {
    c = c.count(0, most)?;
    let seconds = most > 2;
    while c.args.len() < most {
        let last = seconds && c.args.len() + 1 == most;
        c.args.push(match last {
            true => Typed::literal(datafusion::common::ScalarValue::Decimal128(Some(0), 18, 6), "0.000000"),
            false => Typed::literal(0i32.into(), "0"),
        });
    }
    let shown: Vec<&str> = c.args.iter().map(|a| a.sql.as_str()).collect();
    c.sql = format!("{}({})", c.name, shown.join(", "));
    let name = c.name;
    let take = |(i, arg): (usize, Typed)| match seconds && i + 1 == most {
        true => implicit(Number.take(name, i, arg)?, &DataType::Decimal128(18, 6)),
        false => Int.take(name, i, arg),
    };
    c.args = std::mem::take(&mut c.args).into_iter().enumerate().map(take).collect::<Result<_>>()?;
    Ok(c)
}

fn make_interval(c: Call, r#try: bool) -> Result<Typed> {
    let c = filled(c, 7)?;
    let kernel = move |a: &crate::expr::kernel::Args| {
        let parts = (0..6).map(|k| a.num::<Int32Type>(k)).collect::<datafusion::error::Result<Vec<_>>>()?;
        let seconds = a.num::<Decimal128Type>(6)?;
        nums::<Calendar>(a.rows, |i| {
            let mut v = [0i64; 6];
            for (v, part) in v.iter_mut().zip(&parts) {
                *v = i64::from(get!(part.get(i)));
            }
            let micros = get!(seconds.get(i)) + i128::from(v[4]) * 3_600_000_000 + i128::from(v[5]) * 60_000_000;
            let made = || {
                let (months, days) = (v[0] * 12 + v[1], v[2] * 7 + v[3]);
                let nanos = i64::try_from(micros.checked_mul(1_000)?).ok()?;
                Some(Calendar::make_value(months.try_into().ok()?, days.try_into().ok()?, nanos))
            };
            match made() {
                None if !r#try => Err(row_error(OVERFLOW)),
                made => Ok(made),
            }
        })
    };
    if r#try { c.build_nullable(CALENDAR, kernel) } else { c.build(CALENDAR, kernel) }
}

/// A kernel of two arguments. A result that is missing is an error, or NULL with `r#try`.
fn two<X: ArrowPrimitiveType, Y: ArrowPrimitiveType, Z: ArrowPrimitiveType>(
    to: DataType,
    r#try: bool,
    f: impl Fn(X::Native, Y::Native) -> Result<Z::Native, &'static str> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let (x, y) = (a.num::<X>(0)?, a.num::<Y>(1)?);
        nums_as::<Z>(a.rows, &to, |i| match (x.get(i), y.get(i)) {
            (Some(x), Some(y)) => match f(x, y) {
                Ok(z) => Ok(Some(z)),
                Err(_) if r#try => Ok(None),
                Err(why) => Err(row_error(why)),
            },
            _ => Ok(None),
        })
    })
}

fn is_time(t: &DataType) -> bool {
    *t == DataType::Date32 || is_timestamp(t)
}

/// The sum or difference; `None` where neither side is a date, a timestamp or an interval.
pub(crate) fn moved(op: &'static str, left: &Typed, right: &Typed, r#try: Option<&str>) -> Result<Option<Typed>> {
    let (l, r) = (&left.data_type, &right.data_type);
    if !is_time(l) && !is_time(r) && !is_interval(l) && !is_interval(r) {
        return Ok(None);
    }
    let infix = format!("({} {op} {})", left.sql, right.sql);
    let sign: i64 = if op == "-" { -1 } else { 1 };
    let named = |typed: Typed| match r#try {
        Some(sql) => typed.named(sql),
        None => typed,
    };
    let attempt = r#try.is_some();
    // Two intervals of different kinds, or an interval and NULL.
    if (is_interval(l) || *l == DataType::Null) && (is_interval(r) || *r == DataType::Null) {
        let both = if *l == DataType::Null { right } else { left };
        let (l, r) = (implicit(left.clone(), &both.data_type), implicit(right.clone(), &both.data_type));
        let (Ok(l), Ok(r)) = (l, r) else { return Err(mismatch(&infix, left, right)) };
        // A NULL has no units. An interval without units of its own has all of its type.
        let units = match (left.data_type == DataType::Null, right.data_type == DataType::Null) {
            (true, _) => right.units,
            (_, true) => left.units,
            _ => left.units.zip(right.units).map(|(x, y)| (x.0.min(y.0), x.1.max(y.1))),
        };
        return sum(vec![l, r], both.data_type.clone(), sign, infix, attempt).map(|t| Some(named(t).with_units(units)));
    }
    // The difference of two times.
    let text = |t: &DataType| *t == DataType::Utf8;
    let null_left = *l == DataType::Null && op == "-";
    let differs = is_time(l) && (is_time(r) || text(r) || *r == DataType::Null && is_timestamp(l))
        || is_time(r) && (text(l) || null_left);
    if op == "-" && differs {
        let dates = !is_timestamp(l) && !is_timestamp(r);
        let to = if dates { DataType::Date32 } else { timestamp_type() };
        let args = vec![implicit(left.clone(), &to)?, implicit(right.clone(), &to)?];
        let typed = if dates {
            let days = |x: i32, y: i32| Ok((i64::from(x) - i64::from(y)) * DAY);
            Typed::call(args, SPAN, attempt, infix, two::<Date32Type, Date32Type, Span>(SPAN, attempt, days))
                .with_units(Some((2, 2)))
        } else {
            let micros = |x: i64, y: i64| x.checked_sub(y).ok_or(OVERFLOW);
            Typed::call(args, SPAN, attempt, infix, two::<Micros, Micros, Span>(SPAN, attempt, micros))
        };
        return Ok(Some(named(typed)));
    }
    // The point in time comes first.
    let (point, by) = if is_time(l) { (left.clone(), right.clone()) } else { (right.clone(), left.clone()) };
    if op == "-" && !is_time(l) || !is_time(&point.data_type) || is_time(&by.data_type) {
        return Err(mismatch(&infix, left, right));
    }
    let date = point.data_type == DataType::Date32;
    if date && (is_int(&by.data_type) || by.data_type == DataType::Null) {
        let name = if sign < 0 { "date_sub" } else { "date_add" };
        let sql = format!("{name}({}, {})", point.sql, by.sql);
        let moved = super::call(name, vec![point, by])?.named(sql);
        return Ok(Some(named(moved)));
    }
    let whole_days = by.data_type == SPAN && by.units == Some((2, 2));
    let sql = if date && whole_days {
        let name = if sign < 0 { "date_sub" } else { "date_add" };
        format!("{name}({}, extractansiintervaldays({}))", point.sql, by.sql)
    } else {
        format!("{} {op} {}", point.sql, by.sql)
    };
    shifted(point, by, sign, sql, whole_days, attempt, || mismatch(&infix, left, right)).map(|t| Some(named(t)))
}

fn sum(args: Vec<Typed>, to: DataType, sign: i64, sql: String, r#try: bool) -> Result<Typed> {
    let kernel = match to {
        DataType::Duration(_) => two::<Span, Span, Span>(to.clone(), r#try, move |x, y| {
            y.checked_mul(sign).and_then(|y| x.checked_add(y)).ok_or(OVERFLOW)
        }),
        DataType::Interval(IntervalUnit::YearMonth) => two::<Months, Months, Months>(to.clone(), r#try, move |x, y| {
            i32::try_from(i64::from(x) + sign * i64::from(y)).map_err(|_| OVERFLOW)
        }),
        _ => two::<Calendar, Calendar, Calendar>(to.clone(), r#try, move |x, y| {
            let small = |x: i32, y: i32| i32::try_from(i64::from(x) + sign * i64::from(y)).map_err(|_| OVERFLOW);
            let nanos = y.nanoseconds.checked_mul(sign).and_then(|y| x.nanoseconds.checked_add(y)).ok_or(OVERFLOW)?;
            Ok(Calendar::make_value(small(x.months, y.months)?, small(x.days, y.days)?, nanos))
        }),
    };
    Ok(Typed::call(args, to, r#try, sql, kernel))
}

/// A date or timestamp, and an interval that is added to it.
fn shifted(
    point: Typed,
    by: Typed,
    sign: i64,
    sql: String,
    whole_days: bool,
    r#try: bool,
    wrong: impl Fn() -> Error,
) -> Result<Typed> {
    fn later(t: i64, months: i64) -> Option<i64> {
        add_months(t.div_euclid(DAY), months).checked_mul(DAY)?.checked_add(t.rem_euclid(DAY))
    }
    fn date_later(d: i32, months: i64) -> Option<i64> {
        Some(add_months(i64::from(d), months))
    }
    let date = point.data_type == DataType::Date32;
    let day = |days: Option<i64>| days.and_then(|d| i32::try_from(d).ok()).ok_or(OVERFLOW);
    let by_type = by.data_type.clone();
    let (to, kernel) = match &by_type {
        DataType::Interval(IntervalUnit::YearMonth) if date => {
            let f = move |d, n: i32| day(date_later(d, sign * i64::from(n)));
            (DataType::Date32, two::<Date32Type, Months, Date32Type>(DataType::Date32, r#try, f))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let f = move |t, n: i32| later(t, sign * i64::from(n)).ok_or(OVERFLOW);
            (timestamp_type(), two::<Micros, Months, Micros>(timestamp_type(), r#try, f))
        }
        DataType::Interval(_) if date => {
            let f = move |d, n: IntervalMonthDayNano| {
                if n.nanoseconds != 0 {
                    return Err("an interval with hours does not go with a DATE. Use a TIMESTAMP");
                }
                day(date_later(d, sign * i64::from(n.months)).map(|d| d + sign * i64::from(n.days)))
            };
            (DataType::Date32, two::<Date32Type, Calendar, Date32Type>(DataType::Date32, r#try, f))
        }
        DataType::Interval(_) => {
            let f = move |t, n: IntervalMonthDayNano| {
                let days = i64::from(n.days) * DAY + n.nanoseconds / 1_000;
                later(t, sign * i64::from(n.months)).and_then(|t| t.checked_add(sign * days)).ok_or(OVERFLOW)
            };
            (timestamp_type(), two::<Micros, Calendar, Micros>(timestamp_type(), r#try, f))
        }
        DataType::Duration(_) if date && whole_days => {
            let f = move |d: i32, n: i64| day(i64::from(d).checked_add(sign * (n / DAY)));
            (DataType::Date32, two::<Date32Type, Span, Date32Type>(DataType::Date32, r#try, f))
        }
        DataType::Duration(_) => {
            let f = move |t: i64, n: i64| n.checked_mul(sign).and_then(|n| t.checked_add(n)).ok_or(OVERFLOW);
            (timestamp_type(), two::<Micros, Span, Micros>(timestamp_type(), r#try, f))
        }
        _ => return Err(wrong()),
    };
    let point = if to == DataType::Date32 { point } else { implicit(point, &timestamp_type())? };
    Ok(Typed::call(vec![point, by], to, r#try, sql, kernel))
}

/// The nearest whole number; a half is rounded away from zero.
fn nearest(x: f64) -> Option<i64> {
    let x = x.round();
    // 2^63 is one more than i64 has.
    (x.is_finite() && x >= i64::MIN as f64 && x < i64::MAX as f64).then_some(x as i64)
}

fn divided(x: i128, by: i128) -> i128 {
    let (q, r) = (x / by, x % by);
    if r.abs() * 2 >= by.abs() { q + x.signum() * by.signum() } else { q }
}

/// An interval times a number, an interval divided by a number, or whole intervals within an interval; `None` where neither is an interval.
pub(crate) fn scaled(op: arith::Op, left: &Typed, right: &Typed, sql: &str, r#try: bool) -> Result<Option<Typed>> {
    use arith::Op;
    let (l, r) = (&left.data_type, &right.data_type);
    if !is_interval(l) && !is_interval(r) {
        return Ok(None);
    }
    if op == Op::IntegralDivide && l == r && *l != CALENDAR {
        let units = |x: i64, y: i64| if y == 0 { Err(ZERO) } else { x.checked_div(y).ok_or(OVERFLOW) };
        let kernel = match l {
            DataType::Duration(_) => two::<Span, Span, Int64Type>(DataType::Int64, r#try, units),
            _ => two::<Months, Months, Int64Type>(DataType::Int64, r#try, move |x, y| units(x.into(), y.into())),
        };
        let typed = Typed::call(vec![left.clone(), right.clone()], DataType::Int64, r#try, sql.into(), kernel);
        return Ok(Some(typed));
    }
    let (interval, number, turned) =
        if is_interval(l) { (left.clone(), right.clone(), false) } else { (right.clone(), left.clone(), true) };
    let number = match number.data_type {
        DataType::Utf8 => implicit(number, &DataType::Float64)?,
        DataType::Null => implicit(number, &DataType::Int32)?,
        _ => number,
    };
    let fits = op == Op::Multiply || op == Op::Divide && !turned;
    if !fits || !is_number(&number.data_type) {
        return Err(mismatch(sql, left, right));
    }
    let calendar = interval.data_type == CALENDAR;
    let sql = match (calendar, op) {
        (true, Op::Multiply) if !r#try => format!("multiply_interval({}, {})", interval.sql, number.sql),
        (true, _) if !r#try => format!("divide_interval({}, {})", interval.sql, number.sql),
        _ if turned && !r#try => format!("({} * {})", interval.sql, number.sql),
        _ => sql.to_string(),
    };
    let times = op == Op::Multiply;
    let number = match number.data_type {
        _ if calendar => implicit(number, &DataType::Float64)?,
        DataType::Float32 => implicit(number, &DataType::Float64)?,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => implicit(number, &DataType::Int64)?,
        _ => number,
    };
    let whole = move |x: i64, n: i128, scale: u32| -> Result<i64, &'static str> {
        let unit = 10i128.pow(scale);
        let made = match times {
            true => i128::from(x).checked_mul(n).map(|v| divided(v, unit)),
            false if n == 0 => return Err(ZERO),
            false => i128::from(x).checked_mul(unit).map(|v| divided(v, n)),
        };
        made.and_then(|v| i64::try_from(v).ok()).ok_or(OVERFLOW)
    };
    let fraction = move |x: f64, n: f64| -> Result<i64, &'static str> {
        match times {
            true => nearest(x * n).ok_or(OVERFLOW),
            false if n == 0.0 => Err(ZERO),
            false => nearest(x / n).ok_or(OVERFLOW),
        }
    };
    let small = |v: Result<i64, &'static str>| v.and_then(|v| i32::try_from(v).map_err(|_| OVERFLOW));
    let (to, n) = (interval.data_type.clone(), number.data_type.clone());
    let kernel = match (&to, &n) {
        (DataType::Duration(_), DataType::Int64) => {
            two::<Span, Int64Type, Span>(SPAN, r#try, move |x, n| whole(x, n.into(), 0))
        }
        (DataType::Duration(_), DataType::Decimal128(_, s)) => {
            let scale = u32::from(s.unsigned_abs());
            two::<Span, Decimal128Type, Span>(SPAN, r#try, move |x, n| whole(x, n, scale))
        }
        (DataType::Duration(_), _) => two::<Span, Float64Type, Span>(SPAN, r#try, move |x, n| fraction(x as f64, n)),
        (DataType::Interval(IntervalUnit::YearMonth), DataType::Int64) => {
            two::<Months, Int64Type, Months>(MONTHS, r#try, move |x, n| small(whole(x.into(), n.into(), 0)))
        }
        (DataType::Interval(IntervalUnit::YearMonth), DataType::Decimal128(_, s)) => {
            let scale = u32::from(s.unsigned_abs());
            two::<Months, Decimal128Type, Months>(MONTHS, r#try, move |x, n| small(whole(x.into(), n, scale)))
        }
        (DataType::Interval(IntervalUnit::YearMonth), _) => {
            two::<Months, Float64Type, Months>(MONTHS, r#try, move |x, n| small(fraction(x.into(), n)))
        }
        _ => two::<Calendar, Float64Type, Calendar>(CALENDAR, r#try, move |x, n| {
            if !times && n == 0.0 {
                return Err(ZERO);
            }
            // As in Spark, a fraction of a month is cut, and a fraction of a day becomes hours.
            let by = if times { n } else { 1.0 / n };
            let (months, days) = (f64::from(x.months) * by, f64::from(x.days) * by);
            let rest = (days - days.trunc()) * DAY as f64;
            let micros = nearest((x.nanoseconds / 1_000) as f64 * by + rest).ok_or(OVERFLOW)?;
            let nanos = micros.checked_mul(1_000).ok_or(OVERFLOW)?;
            Ok(Calendar::make_value(months.trunc() as i32, days.trunc() as i32, nanos))
        }),
    };
    Ok(Some(Typed::call(vec![interval, number], to, r#try, sql, kernel)))
}

/// `- i` and `abs(i)`.
pub(crate) fn turned(interval: Typed, absolute: bool, sql: String) -> Typed {
    let units = interval.units;
    let to = interval.data_type.clone();
    let kernel: Kernel = match to {
        DataType::Duration(_) => Arc::new(move |a| {
            let x = a.num::<Span>(0)?;
            let turn = |v: i64| if absolute && v >= 0 { Some(v) } else { v.checked_neg() };
            nums::<Span>(a.rows, |i| turn(get!(x.get(i))).map(Some).ok_or_else(|| row_error(OVERFLOW)))
        }),
        DataType::Interval(IntervalUnit::YearMonth) => Arc::new(move |a| {
            let x = a.num::<Months>(0)?;
            let turn = |v: i32| if absolute && v >= 0 { Some(v) } else { v.checked_neg() };
            nums::<Months>(a.rows, |i| turn(get!(x.get(i))).map(Some).ok_or_else(|| row_error(OVERFLOW)))
        }),
        _ => Arc::new(move |a| {
            let x = a.num::<Calendar>(0)?;
            nums::<Calendar>(a.rows, |i| {
                let v = get!(x.get(i));
                let parts = (v.months.checked_neg(), v.days.checked_neg(), v.nanoseconds.checked_neg());
                let (Some(m), Some(d), Some(n)) = parts else { return Err(row_error(OVERFLOW)) };
                Ok(Some(Calendar::make_value(m, d, n)))
            })
        }),
    };
    Typed::call(vec![interval], to, false, sql, kernel).with_units(units)
}

/// -1, 0 or 1.
pub(crate) fn sign_of(interval: Typed, sql: String) -> Typed {
    let months = interval.data_type == MONTHS;
    let sign = |v: i64| v.signum() as f64;
    let kernel: Kernel = Arc::new(move |a| {
        if months {
            let x = a.num::<Months>(0)?;
            return nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(|v| sign(v.into()))));
        }
        let x = a.num::<Span>(0)?;
        nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(sign)))
    });
    Typed::call(vec![interval], DataType::Float64, false, sql, kernel)
}

/// The units of an interval as places in YEAR, MONTH, DAY, HOUR, MINUTE, SECOND.
fn units(interval: &Typed) -> (usize, usize) {
    let of_type = if interval.data_type == MONTHS { (0, 1) } else { (2, 5) };
    interval.units.map_or(of_type, |(first, last)| (usize::from(first), usize::from(last)))
}

/// The interval as Spark shows it: INTERVAL '1 02:03:04' DAY TO SECOND, or 1 days 2 hours.
pub(crate) fn to_text(interval: Typed) -> Typed {
    let (first, last) = units(&interval);
    let sql = interval.sql.clone();
    let kernel: Kernel = match interval.data_type {
        DataType::Duration(_) => Arc::new(move |a| {
            let x = a.num::<Span>(0)?;
            strings(a.rows, |i| Ok(x.get(i).map(|v| written(0, v, first, last))))
        }),
        DataType::Interval(IntervalUnit::YearMonth) => Arc::new(move |a| {
            let x = a.num::<Months>(0)?;
            strings(a.rows, |i| Ok(x.get(i).map(|v| written(v.into(), 0, first, last))))
        }),
        _ => Arc::new(move |a| {
            let x = a.num::<Calendar>(0)?;
            strings(a.rows, |i| Ok(x.get(i).map(calendar_text)))
        }),
    };
    Typed::call(vec![interval], DataType::Utf8, false, sql, kernel)
}

fn calendar_text(v: IntervalMonthDayNano) -> String {
    let mut parts = vec![];
    let mut add = |n: i64, unit: &str| {
        if n != 0 {
            parts.push(format!("{n} {unit}"));
        }
    };
    add(i64::from(v.months / 12), "years");
    add(i64::from(v.months % 12), "months");
    add(i64::from(v.days), "days");
    let micros = v.nanoseconds / 1_000;
    add(micros / 3_600_000_000, "hours");
    add(micros / 60_000_000 % 60, "minutes");
    let rest = micros % 60_000_000;
    if rest != 0 {
        let sign = if rest < 0 { "-" } else { "" };
        let (whole, fraction) = (rest.abs() / 1_000_000, rest.abs() % 1_000_000);
        let fraction = format!("{fraction:06}");
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        parts.push(format!("{sign}{whole}{point}{fraction} seconds"));
    }
    if parts.is_empty() { "0 seconds".into() } else { parts.join(" ") }
}

/// The number of the smallest unit of an interval, as CAST gives it.
pub(crate) fn to_number(interval: Typed, to: &DataType, r#try: bool) -> Result<Typed> {
    const UNITS: [i64; 6] = [12, 1, DAY, 3_600_000_000, 60_000_000, 1_000_000];
    let sql = interval.sql.clone();
    let unit = UNITS[units(&interval).1];
    let wrong = || Error::schema(format!("{sql}: a cast from INTERVAL to {} is not supported", type_to_ddl(to)));
    let numbers = number_of(interval).map_err(|_| wrong())?;
    let whole = |a: Typed| -> Typed {
        Typed::call(
            vec![a],
            DataType::Int64,
            false,
            format!("{sql} in {unit}"),
            Arc::new(move |a| {
                let x = a.num::<Int64Type>(0)?;
                nums::<Int64Type>(a.rows, |i| Ok(x.get(i).map(|v| v / unit)))
            }),
        )
    };
    let cast = |typed: Typed| match r#try {
        true => crate::expr::cast::explicit(typed, to, true),
        false => implicit(typed, to),
    };
    match to {
        t if is_int(t) => cast(whole(numbers)),
        DataType::Decimal128(..) if unit == 1_000_000 => {
            let exact = Typed::call(
                vec![numbers],
                DataType::Decimal128(19, 6),
                false,
                sql.clone(),
                Arc::new(|a| {
                    let x = a.num::<Int64Type>(0)?;
                    nums_as::<Decimal128Type>(a.rows, &DataType::Decimal128(19, 6), |i| Ok(x.get(i).map(i128::from)))
                }),
            );
            cast(exact)
        }
        DataType::Decimal128(..) => cast(whole(numbers)),
        _ => Err(wrong()),
    }
}

/// A field of an interval, for `extract`; `None` where it has no such field.
pub(crate) fn field(interval: &Typed, field: &str, sql: &str) -> Option<Typed> {
    let (first, last) = units(interval);
    let place = match field {
        "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => 0,
        "MONTH" | "MON" | "MONS" | "MONTHS" => 1,
        "DAY" | "D" | "DAYS" => 2,
        "HOUR" | "H" | "HOURS" | "HR" | "HRS" => 3,
        "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => 4,
        "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => 5,
        _ => return None,
    };
    let calendar = interval.data_type == CALENDAR;
    if !calendar && !(first..=last).contains(&place) {
        return None;
    }
    let part = move |months: i64, days: Option<i64>, micros: i64| match place {
        0 => months / 12,
        1 => months % 12,
        2 => days.unwrap_or(0) + micros / DAY,
        3 => micros % DAY / 3_600_000_000,
        4 => micros % 3_600_000_000 / 60_000_000,
        _ => micros % 60_000_000,
    };
    let to = match place {
        0 | 2 => DataType::Int32,
        5 => DataType::Decimal128(8, 6),
        _ => DataType::Int8,
    };
    let kind = interval.data_type.clone();
    let out = to.clone();
    let kernel: Kernel = Arc::new(move |a| {
        let all: Vec<Option<i64>> = match kind {
            DataType::Duration(_) => {
                let x = a.num::<Span>(0)?;
                (0..a.rows).map(|i| x.get(i).map(|v| part(0, None, v))).collect()
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                let x = a.num::<Months>(0)?;
                (0..a.rows).map(|i| x.get(i).map(|v| part(v.into(), None, 0))).collect()
            }
            _ => {
                let x = a.num::<Calendar>(0)?;
                let of = |v: IntervalMonthDayNano| part(v.months.into(), Some(v.days.into()), v.nanoseconds / 1_000);
                (0..a.rows).map(|i| x.get(i).map(of)).collect()
            }
        };
        match &out {
            DataType::Int32 => nums::<Int32Type>(a.rows, |i| Ok(all[i].map(|v| v as i32))),
            DataType::Int8 => nums::<Int8Type>(a.rows, |i| Ok(all[i].map(|v| v as i8))),
            out => nums_as::<Decimal128Type>(a.rows, out, |i| Ok(all[i].map(i128::from))),
        }
    });
    Some(Typed::call(vec![interval.clone()], to, false, sql.into(), kernel))
}

/// The number of microseconds or months that an interval is.
pub(crate) fn number_of(interval: Typed) -> Result<Typed> {
    let sql = interval.sql.clone();
    let kernel: Kernel = match interval.data_type {
        DataType::Duration(_) => Arc::new(|a| {
            let x = a.num::<Span>(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(x.get(i)))
        }),
        DataType::Interval(IntervalUnit::YearMonth) => Arc::new(|a| {
            let x = a.num::<Months>(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(x.get(i).map(i64::from)))
        }),
        _ => return Err(Error::schema(format!("{sql}: an interval of months and days has no order and no sum"))),
    };
    Ok(Typed::call(vec![interval], DataType::Int64, false, sql, kernel))
}

/// The interval of a number. `number_of` made the number, or numbers from which it was computed, from an interval like
/// `like`.
pub(crate) fn of_number(number: Typed, like: &Typed) -> Typed {
    let (sql, to) = (number.sql.clone(), like.data_type.clone());
    let kernel: Kernel = match to {
        DataType::Duration(_) => Arc::new(|a| {
            let x = a.num::<Int64Type>(0)?;
            nums::<Span>(a.rows, |i| Ok(x.get(i)))
        }),
        _ => Arc::new(|a| {
            let x = a.num::<Int64Type>(0)?;
            nums::<Months>(a.rows, |i| i32::try_from(get!(x.get(i))).map(Some).map_err(|_| row_error(OVERFLOW)))
        }),
    };
    Typed::call(vec![number], to, true, sql, kernel).with_units(like.units)
}

/// Spark's name for the type.
pub(crate) fn type_name(interval: &Typed) -> String {
    if interval.data_type == CALENDAR {
        return "interval".into();
    }
    const FIELDS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let (first, last) = units(interval);
    let to = if last > first { format!(" to {}", FIELDS[last]) } else { String::new() };
    format!("interval {}{to}", FIELDS[first])
}
