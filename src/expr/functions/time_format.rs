//! `date_format` and related functions (see `time_pattern` for the letters).

use super::time::plain_cast;
use super::{Call, Spec, get, spec};
use crate::Result;
use crate::calendar::DAY;
use crate::expr::coerce::Param::{Big, Text, Time};
use crate::expr::coerce::{is_number, is_timestamp};
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Args, nums, nums_as, written};
use crate::expr::moment;
use crate::expr::node::Typed;
use crate::expr::time_pattern::{DEFAULT, Pattern, Patterns};
use crate::time::timestamp_type;
use arrow::array::ArrayRef;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Date32Type, Int64Type, TimestampMicrosecondType};
use datafusion::error::Result as DfResult;

pub(super) const LIST: &[Spec] = &[
    spec("date_format", "date_format(timestamp, pattern)", |c| {
        let c = c.take(&[Time, Text], 2)?;
        let pattern = constant(&c, 1, false)?;
        c.build(DataType::Utf8, move |a| {
            let t = a.num::<TimestampMicrosecondType>(0)?;
            shown(a, &pattern, |row| Ok(t.get(row)))
        })
    }),
    spec("from_unixtime", "from_unixtime(seconds[, pattern])", |mut c| {
        if c.args.len() == 1 {
            c.sql = format!("from_unixtime({}, {DEFAULT})", c.args[0].sql);
        }
        let c = c.take(&[Big, Text], 1)?;
        let pattern = constant(&c, 1, false)?;
        c.build(DataType::Utf8, move |a| {
            let n = a.num::<Int64Type>(0)?;
            shown(a, &pattern, |row| {
                let Some(n) = n.get(row) else { return Ok(None) };
                n.checked_mul(1_000_000).map(Some).ok_or_else(|| row_error("a value is out of range for TIMESTAMP"))
            })
        })
    }),
    spec("to_date", "to_date(expr[, pattern])", |c| to_date(c, false)),
    spec("try_to_date", "try_to_date(expr[, pattern])", |c| to_date(c, true)),
    spec("to_timestamp", "to_timestamp(expr[, pattern])", |c| to_timestamp(c, false)),
    spec("to_timestamp_ltz", "to_timestamp_ltz(expr[, pattern])", |c| to_timestamp(c, false)),
    spec("try_to_timestamp", "try_to_timestamp(expr[, pattern])", |c| to_timestamp(c, true)),
    spec("unix_timestamp", "unix_timestamp([expr[, pattern]])", seconds),
    spec("to_unix_timestamp", "to_unix_timestamp(expr[, pattern])", seconds),
];

const MISMATCH: &str = "a value does not match the pattern";

fn is_text(typed: &Typed) -> bool {
    !is_timestamp(&typed.data_type) && typed.data_type != DataType::Date32
}

/// The pattern, if it is a constant. `None`: each row has its own.
fn constant(c: &Call, k: usize, reading: bool) -> Result<Option<Pattern>> {
    let text = match c.args.get(k) {
        None => DEFAULT,
        Some(arg) => match arg.text() {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    Pattern::new(text, reading).map(Some).map_err(|why| c.error(why))
}

/// The text of a time in each row.
fn shown(a: &Args, constant: &Option<Pattern>, time: impl Fn(usize) -> DfResult<Option<i64>>) -> DfResult<ArrayRef> {
    let own = if constant.is_none() { Some(a.str(1)?) } else { None };
    let mut patterns = Patterns::default();
    written(a.rows, |row, out| {
        let Some(t) = time(row)? else { return Ok(false) };
        let pattern = match (constant, own.as_ref().and_then(|p| p.get(row))) {
            (Some(pattern), _) => pattern,
            (None, Some(text)) => patterns.get(text, false)?,
            (None, None) => return Ok(false),
        };
        pattern.write(t, out);
        Ok(true)
    })
}

/// The value of the text in each row, by the pattern.
fn parsed<T: ArrowPrimitiveType>(
    a: &Args,
    constant: &Option<Pattern>,
    data_type: &DataType,
    r#try: bool,
    value: impl Fn(i64) -> T::Native,
) -> DfResult<ArrayRef> {
    let s = a.str(0)?;
    let own = if constant.is_none() { Some(a.str(1)?) } else { None };
    let mut patterns = Patterns::default();
    nums_as::<T>(a.rows, data_type, |row| {
        let text = get!(s.get(row));
        let pattern = match (constant, own.as_ref().and_then(|p| p.get(row))) {
            (Some(pattern), _) => pattern,
            (None, Some(text)) => patterns.get(text, true)?,
            (None, None) => return Ok(None),
        };
        match pattern.read(text) {
            Some(t) => Ok(Some(value(t))),
            None if r#try => Ok(None),
            None => Err(row_error(MISMATCH)),
        }
    })
}

fn to_date(c: Call, r#try: bool) -> Result<Typed> {
    let c = c.count(1, 2)?;
    if c.args.len() == 1 || !is_text(&c.args[0]) {
        let c = Call { args: vec![c.args[0].clone()], ..c };
        return plain_cast(c, DataType::Date32, r#try);
    }
    let c = c.take(&[Text, Text], 2)?;
    let pattern = constant(&c, 1, true)?;
    let kernel =
        move |a: &Args| parsed::<Date32Type>(a, &pattern, &DataType::Date32, r#try, |t| t.div_euclid(DAY) as i32);
    if r#try { c.build_nullable(DataType::Date32, kernel) } else { c.build(DataType::Date32, kernel) }
}

fn to_timestamp(c: Call, r#try: bool) -> Result<Typed> {
    let c = c.count(1, 2)?;
    if c.args.len() == 1 || !is_text(&c.args[0]) {
        let c = Call { args: vec![c.args[0].clone()], ..c };
        return plain_cast(c, timestamp_type(), r#try);
    }
    if is_number(&c.args[0].data_type) {
        return Err(c.error("a number has no pattern"));
    }
    let c = c.take(&[Text, Text], 2)?;
    let pattern = constant(&c, 1, true)?;
    let kernel = move |a: &Args| parsed::<TimestampMicrosecondType>(a, &pattern, &timestamp_type(), r#try, |t| t);
    if r#try { c.build_nullable(timestamp_type(), kernel) } else { c.build(timestamp_type(), kernel) }
}

fn seconds(mut c: Call) -> Result<Typed> {
    if c.args.is_empty() && c.name == "unix_timestamp" {
        let sql = format!("unix_timestamp(current_timestamp(), {DEFAULT})");
        c.args = vec![moment::now("current_timestamp()")];
        return seconds(c).map(|t| t.named(sql));
    }
    if c.args.len() == 1 {
        c.sql = format!("{}({}, {DEFAULT})", c.name, c.args[0].sql);
    }
    let mut c = c.count(1, 2)?;
    if !is_text(&c.args[0]) {
        c.args.truncate(1);
        return c.take(&[Time], 1)?.build(DataType::Int64, |a| {
            let t = a.num::<TimestampMicrosecondType>(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(t.get(i).map(|t| t / 1_000_000)))
        });
    }
    let c = c.take(&[Text, Text], 1)?;
    let pattern = constant(&c, 1, true)?;
    c.build(DataType::Int64, move |a| parsed::<Int64Type>(a, &pattern, &DataType::Int64, false, |t| t / 1_000_000))
}
