//! Times from their parts, the moment of the epoch, and times in other zones.

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::calendar::{self, DAY, Zone, time_of_day};
use crate::expr::cast::implicit;
use crate::expr::coerce::Param::{Int, Number, Text, Time};
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::{Args, nums_as};
use crate::expr::moment;
use crate::expr::node::Typed;
use crate::time::timestamp_type;
use arrow::array::ArrayRef;
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;

pub(super) const LIST: &[Spec] = &[
    spec("make_timestamp", "make_timestamp(year, month, day, hour, min, sec[, zone])", |c| make(c, false)),
    spec("make_timestamp_ltz", "make_timestamp_ltz(year, month, day, hour, min, sec[, zone])", |c| make(c, false)),
    spec("try_make_timestamp", "try_make_timestamp(year, month, day, hour, min, sec[, zone])", |c| make(c, true)),
    spec("try_make_timestamp_ltz", "try_make_timestamp_ltz(year, month, day, hour, min, sec[, zone])", |c| {
        make(c, true)
    }),
    spec("current_timestamp", "current_timestamp()", |c| now(c, "current_timestamp()")),
    spec("now", "now()", |c| now(c, "now()")),
    spec("getdate", "getdate()", |c| now(c, "getdate()")),
    spec("current_date", "current_date()", today),
    spec("curdate", "curdate()", today),
    spec("current_timezone", "current_timezone()", |c| {
        let c = c.count(0, 0)?;
        Ok(Typed::literal("UTC".into(), c.sql))
    }),
    spec("convert_timezone", "convert_timezone([from,] to, timestamp)", convert),
];

fn now(c: Call, sql: &str) -> Result<Typed> {
    c.count(0, 0)?;
    Ok(moment::now(sql))
}

fn today(c: Call) -> Result<Typed> {
    c.count(0, 0)?;
    implicit(moment::now("current_date()"), &DataType::Date32)
}

/// Year to second, in microseconds. As in Spark, 60 seconds are the next minute.
fn instant(parts: [i64; 5], seconds: i128) -> Option<i64> {
    let [year, month, day, hour, minute] = parts;
    let micros = i64::try_from(seconds).ok()?;
    let (whole, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let day = calendar::date(year, month, day)?.checked_mul(DAY)?;
    match whole {
        60 if fraction == 0 => day.checked_add(time_of_day(hour, minute, 59, 0)? + 1_000_000),
        _ => day.checked_add(time_of_day(hour, minute, whole, fraction)?),
    }
}

fn zone_of(name: &str) -> DfResult<Zone> {
    Zone::parse(name).ok_or_else(|| row_error("a value is not a time zone"))
}

fn make(c: Call, r#try: bool) -> Result<Typed> {
    let mut c = c.count(6, 7)?;
    let name = c.name;
    let take = |(i, arg): (usize, Typed)| match i {
        5 => implicit(Number.take(name, i, arg)?, &DataType::Decimal128(16, 6)),
        6 => Text.take(name, i, arg),
        _ => Int.take(name, i, arg),
    };
    c.args = std::mem::take(&mut c.args).into_iter().enumerate().map(take).collect::<Result<_>>()?;
    let kernel = move |a: &Args| -> DfResult<ArrayRef> {
        let parts = (0..5).map(|k| a.num::<Int32Type>(k)).collect::<DfResult<Vec<_>>>()?;
        let seconds = a.num::<Decimal128Type>(5)?;
        let zone = if a.len() > 6 { Some(a.str(6)?) } else { None };
        nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
            let mut v = [0i64; 5];
            for (v, part) in v.iter_mut().zip(&parts) {
                *v = i64::from(get!(part.get(i)));
            }
            let seconds = get!(seconds.get(i));
            let zone = match &zone {
                Some(zone) => Some(zone_of(get!(zone.get(i)))),
                None => None,
            };
            let made = instant(v, seconds);
            let made = match zone {
                Some(Err(_)) if r#try => None,
                Some(zone) => {
                    let zone = zone?;
                    made.and_then(|t| zone.to_utc(t))
                }
                None => made,
            };
            match made {
                None if !r#try => Err(row_error("the parts are not a time that exists")),
                made => Ok(made),
            }
        })
    };
    if r#try { c.build_nullable(timestamp_type(), kernel) } else { c.build(timestamp_type(), kernel) }
}

/// From the wall clock of one zone to that of another.
fn convert(mut c: Call) -> Result<Typed> {
    c = c.count(2, 3)?;
    if c.args.len() == 2 {
        c.sql = format!("convert_timezone(current_timezone(), {}, {})", c.args[0].sql, c.args[1].sql);
        c.args.insert(0, Typed::literal("UTC".into(), "current_timezone()"));
    }
    for zone in &c.args[..2] {
        if let Some(name) = zone.text().filter(|name| Zone::parse(name).is_none()) {
            return Err(c.error(format!("'{name}' is not a time zone")));
        }
    }
    c.take(&[Text, Text, Time], 3)?.build(timestamp_type(), |a| {
        let (from, to, t) = (a.str(0)?, a.str(1)?, a.num::<TimestampMicrosecondType>(2)?);
        nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
            let (from, to) = (zone_of(get!(from.get(i)))?, zone_of(get!(to.get(i)))?);
            let t = get!(t.get(i));
            from.to_utc(t).and_then(|t| to.to_local(t)).map(Some).ok_or_else(|| row_error(OVERFLOW))
        })
    })
}
