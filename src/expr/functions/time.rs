//! Functions of dates and times, in UTC.

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::calendar::{self, DAY, Zone, add_months, civil_from_days, days_from_civil, month_length};
use crate::expr::cast;
use crate::expr::coerce::Param::{Any, Big, Date, Double, Int, Number, Text, Time};
use crate::expr::coerce::{is_decimal, is_float, is_int, is_interval, is_timestamp};
use crate::expr::ddl::type_to_ddl;
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::{nums, nums_as, strings};
use crate::expr::node::Typed;
use crate::time::timestamp_type;
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;

const INT: DataType = DataType::Int32;
const BIG: DataType = DataType::Int64;
const DATE: DataType = DataType::Date32;

pub(super) const LIST: &[Spec] = &[
    spec("year", "year(date)", |c| day_part(c, |d| civil_from_days(d).0)),
    spec("quarter", "quarter(date)", |c| day_part(c, |d| (civil_from_days(d).1 + 2) / 3)),
    spec("month", "month(date)", |c| day_part(c, |d| civil_from_days(d).1)),
    spec("day", "day(date)", |c| day_part(c, |d| civil_from_days(d).2)),
    spec("dayofmonth", "dayofmonth(date)", |c| day_part(c, |d| civil_from_days(d).2)),
    spec("dayofweek", "dayofweek(date): 1 is Sunday", |c| day_part(c, |d| (d + 4).rem_euclid(7) + 1)),
    spec("weekday", "weekday(date): 0 is Monday", |c| day_part(c, |d| (d + 3).rem_euclid(7))),
    spec("dayofyear", "dayofyear(date)", |c| day_part(c, day_of_year)),
    spec("weekofyear", "weekofyear(date)", |c| day_part(c, |d| iso_week(d).1)),
    spec("hour", "hour(timestamp)", |c| time_part(c, |t| t.rem_euclid(DAY) / 3_600_000_000)),
    spec("minute", "minute(timestamp)", |c| time_part(c, |t| t.rem_euclid(DAY) / 60_000_000 % 60)),
    spec("second", "second(timestamp)", |c| time_part(c, |t| t.rem_euclid(DAY) / 1_000_000 % 60)),
    spec("extract", "extract(field FROM source)", extract),
    spec("date_part", "date_part(field, source)", extract),
    spec("datepart", "datepart(field, source)", extract),
    spec("dayname", "dayname(date)", |c| {
        name(c, |d| ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][(d + 4).rem_euclid(7) as usize])
    }),
    spec("monthname", "monthname(date)", |c| name(c, |d| MONTHS[(civil_from_days(d).1 - 1) as usize])),
    spec("date_add", "date_add(date, days)", |c| shift_days(c, 1)),
    spec("dateadd", "dateadd(date, days), dateadd(unit, n, timestamp)", |c| shift_days(c, 1)),
    spec("date_sub", "date_sub(date, days)", |c| shift_days(c, -1)),
    spec("datediff", "datediff(end, start)", difference),
    spec("date_diff", "date_diff(end, start)", difference),
    spec("add_months", "add_months(date, months)", |c| {
        c.take(&[Date, Int], 2)?.build(DATE, |a| {
            let (d, n) = (a.num::<Date32Type>(0)?, a.num::<Int32Type>(1)?);
            nums::<Date32Type>(a.rows, |i| day(add_months(i64::from(get!(d.get(i))), i64::from(get!(n.get(i))))))
        })
    }),
    spec("months_between", "months_between(a, b[, roundOff])", months_between),
    spec("last_day", "last_day(date)", |c| {
        c.take(&[Date], 1)?.build(DATE, |a| {
            let d = a.num::<Date32Type>(0)?;
            nums::<Date32Type>(a.rows, |i| {
                let (y, m, _) = civil_from_days(i64::from(get!(d.get(i))));
                day(days_from_civil(y, m, month_length(y, m)))
            })
        })
    }),
    spec("next_day", "next_day(date, dayOfWeek)", |c| {
        c.take(&[Date, Text], 2)?.build(DATE, |a| {
            let (d, name) = (a.num::<Date32Type>(0)?, a.str(1)?);
            nums::<Date32Type>(a.rows, |i| {
                let (d, name) = (i64::from(get!(d.get(i))), get!(name.get(i)).trim().to_uppercase());
                let full = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];
                let wanted = full.iter().position(|f| name == **f || name == f[..3] || name == f[..2]);
                let Some(wanted) = wanted else { return Err(row_error("a value is not a day of the week")) };
                let today = (d + 4).rem_euclid(7);
                day(d + (wanted as i64 - today - 1).rem_euclid(7) + 1)
            })
        })
    }),
    spec("make_date", "make_date(year, month, day)", |c| {
        c.take(&[Int, Int, Int], 3)?.build(DATE, |a| {
            let (y, m, d) = (a.num::<Int32Type>(0)?, a.num::<Int32Type>(1)?, a.num::<Int32Type>(2)?);
            nums::<Date32Type>(a.rows, |i| {
                let (y, m, d) = (i64::from(get!(y.get(i))), i64::from(get!(m.get(i))), i64::from(get!(d.get(i))));
                day(calendar::date(y, m, d).ok_or_else(|| row_error("a value is not a date that exists"))?)
            })
        })
    }),
    spec("date_trunc", "date_trunc(unit, timestamp)", |c| {
        c.take(&[Text, Time], 2)?.build_nullable(timestamp_type(), |a| {
            let (unit, t) = (a.str(0)?, a.num::<TimestampMicrosecondType>(1)?);
            nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
                Ok(truncate(get!(unit.get(i)), get!(t.get(i))))
            })
        })
    }),
    spec("trunc", "trunc(date, unit)", |c| {
        c.take(&[Date, Text], 2)?.build_nullable(DATE, |a| {
            let (d, unit) = (a.num::<Date32Type>(0)?, a.str(1)?);
            nums::<Date32Type>(a.rows, |i| match truncate_day(get!(unit.get(i)), i64::from(get!(d.get(i)))) {
                Some(d) => day(d),
                None => Ok(None),
            })
        })
    }),
    spec("timestampadd", "timestampadd(unit, n, timestamp)", timestamp_add),
    spec("timestampdiff", "timestampdiff(unit, start, end)", timestamp_diff),
    spec("unix_date", "unix_date(date)", |c| {
        let c = c.count(1, 1)?;
        if is_timestamp(&c.args[0].data_type) {
            return Err(c.error("a DATE is expected"));
        }
        c.take(&[Date], 1)?.build(INT, |a| {
            let d = a.num::<Date32Type>(0)?;
            nums::<Int32Type>(a.rows, |i| Ok(d.get(i)))
        })
    }),
    spec("date_from_unix_date", "date_from_unix_date(days)", |c| {
        c.take(&[Int], 1)?.build(DATE, |a| {
            let d = a.num::<Int32Type>(0)?;
            nums::<Date32Type>(a.rows, |i| Ok(d.get(i)))
        })
    }),
    spec("unix_seconds", "unix_seconds(timestamp)", |c| unix(c, 1_000_000)),
    spec("unix_millis", "unix_millis(timestamp)", |c| unix(c, 1_000)),
    spec("unix_micros", "unix_micros(timestamp)", |c| unix(c, 1)),
    spec("timestamp_seconds", "timestamp_seconds(n)", |c| {
        let c = c.count(1, 1)?;
        if c.args[0].data_type == DataType::Utf8 {
            return Err(c.error("a number is expected"));
        }
        let c = c.take(&[Number], 1)?;
        match c.args[0].data_type.clone() {
            DataType::Float32 | DataType::Float64 => {
                // As in Spark, NaN and the infinities are NULL, and a number out of range becomes the last time.
                c.retake(Double)?.build_nullable(timestamp_type(), |a| {
                    let x = a.num::<Float64Type>(0)?;
                    nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
                        let x = get!(x.get(i));
                        Ok(x.is_finite().then_some((x * 1e6) as i64))
                    })
                })
            }
            DataType::Decimal128(_, s) => c.build(timestamp_type(), move |a| {
                let x = a.num::<Decimal128Type>(0)?;
                let unit = 10i128.pow(u32::from(s.unsigned_abs()));
                nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
                    let micros = get!(x.get(i)).checked_mul(1_000_000).ok_or_else(|| row_error(OVERFLOW))?;
                    if micros % unit != 0 {
                        return Err(row_error("a value has digits finer than a microsecond"));
                    }
                    i64::try_from(micros / unit).map(Some).map_err(|_| row_error(OVERFLOW))
                })
            }),
            _ => from_unix(c, 1_000_000),
        }
    }),
    spec("timestamp_millis", "timestamp_millis(n)", |c| from_unix(c, 1_000)),
    spec("timestamp_micros", "timestamp_micros(n)", |c| from_unix(c, 1)),
    spec("from_utc_timestamp", "from_utc_timestamp(timestamp, zone)", |c| zoned(c, Zone::to_local)),
    spec("to_utc_timestamp", "to_utc_timestamp(timestamp, zone)", |c| zoned(c, Zone::to_utc)),
];

pub(super) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn day(days: i64) -> DfResult<Option<i32>> {
    i32::try_from(days).map(Some).map_err(|_| row_error(OVERFLOW))
}

pub(super) fn day_of_year(d: i64) -> i64 {
    d - days_from_civil(civil_from_days(d).0, 1, 1) + 1
}

/// The week of ISO 8601: the year that the week belongs to, and its number.
pub(super) fn iso_week(d: i64) -> (i64, i64) {
    let thursday = d - (d + 3).rem_euclid(7) + 3;
    let year = civil_from_days(thursday).0;
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

fn day_part(c: Call, f: fn(i64) -> i64) -> Result<Typed> {
    c.take(&[Date], 1)?.build(INT, move |a| {
        let d = a.num::<Date32Type>(0)?;
        nums::<Int32Type>(a.rows, |i| Ok(d.get(i).map(|d| f(i64::from(d)) as i32)))
    })
}

fn time_part(c: Call, f: fn(i64) -> i64) -> Result<Typed> {
    c.take(&[Time], 1)?.build(INT, move |a| {
        let t = a.num::<TimestampMicrosecondType>(0)?;
        nums::<Int32Type>(a.rows, |i| Ok(t.get(i).map(|t| f(t) as i32)))
    })
}

fn name(c: Call, f: fn(i64) -> &'static str) -> Result<Typed> {
    c.take(&[Date], 1)?.build(DataType::Utf8, move |a| {
        let d = a.num::<Date32Type>(0)?;
        strings(a.rows, |i| Ok(d.get(i).map(|d| f(i64::from(d)))))
    })
}

fn extract(c: Call) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let source = c.args.remove(1);
    if c.args[0].is_null_literal() {
        return Ok(Typed::null(&DataType::Float64).named(c.sql));
    }
    let Some(field) = c.args[0].text().map(str::to_uppercase) else {
        return Err(c.error("the field must be a constant"));
    };
    let sql = match c.name {
        "date_part" => c.sql.clone(),
        name => format!("{name}({} FROM {})", c.args[0].sql, source.sql),
    };
    if is_interval(&source.data_type) {
        return super::field(&source, &field, &sql)
            .ok_or_else(|| c.error(format!("'{field}' is not a field of this interval")));
    }
    let name = match field.as_str() {
        "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => "year",
        "QUARTER" | "QTR" => "quarter",
        "MONTH" | "MON" | "MONS" | "MONTHS" => "month",
        "WEEK" | "W" | "WEEKS" => "weekofyear",
        "DAY" | "D" | "DAYS" => "day",
        "DAYOFWEEK" | "DOW" => "dayofweek",
        "DOY" => "dayofyear",
        "HOUR" | "H" | "HOURS" | "HR" | "HRS" => "hour",
        "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => "minute",
        "YEAROFWEEK" => {
            c.args = vec![source];
            return day_part(c, |d| iso_week(d).0).map(|t| t.named(sql));
        }
        "DAYOFWEEK_ISO" | "DOW_ISO" => {
            c.args = vec![source];
            return day_part(c, |d| (d + 3).rem_euclid(7) + 1).map(|t| t.named(sql));
        }
        "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => {
            let to = DataType::Decimal128(8, 6);
            let out = to.clone();
            let c = Call { args: vec![Time.take(c.name, 1, source)?], sql, ..c };
            return c.build(to, move |a| {
                let t = a.num::<TimestampMicrosecondType>(0)?;
                nums_as::<Decimal128Type>(a.rows, &out, |i| Ok(t.get(i).map(|t| i128::from(t.rem_euclid(60_000_000)))))
            });
        }
        _ => return Err(c.error(format!("'{field}' is not a field of a date"))),
    };
    super::call(name, vec![source]).map(|t| t.named(sql))
}

fn shift_days(c: Call, sign: i64) -> Result<Typed> {
    let c = c.count(2, 2)?;
    let t = &c.args[1].data_type;
    if *t == DataType::Int64 || is_float(t) || is_decimal(t) {
        return Err(c.error(format!("the number of days must be INT, not {}. Use CAST", type_to_ddl(t))));
    }
    let sql = match c.name {
        "dateadd" => c.sql.replacen("dateadd", "date_add", 1),
        _ => c.sql.clone(),
    };
    let c = Call { sql, ..c }.take(&[Date, Int], 2)?;
    c.build(DATE, move |a| {
        let (d, n) = (a.num::<Date32Type>(0)?, a.num::<Int32Type>(1)?);
        // In Spark this wraps around, as Java's Int does. Here it is an error.
        nums::<Date32Type>(a.rows, |i| day(i64::from(get!(d.get(i))) + sign * i64::from(get!(n.get(i)))))
    })
}

fn difference(c: Call) -> Result<Typed> {
    c.take(&[Date, Date], 2)?.build(INT, |a| {
        let (x, y) = (a.num::<Date32Type>(0)?, a.num::<Date32Type>(1)?);
        nums::<Int32Type>(a.rows, |i| day(i64::from(get!(x.get(i))) - i64::from(get!(y.get(i)))))
    })
}

fn months_between(mut c: Call) -> Result<Typed> {
    use crate::expr::coerce::Param::Bool;
    if c.args.len() == 2 {
        c.sql = format!("months_between({}, {}, true)", c.args[0].sql, c.args[1].sql);
    }
    c.take(&[Time, Time, Bool], 2)?.build(DataType::Float64, |a| {
        let (x, y) = (a.num::<TimestampMicrosecondType>(0)?, a.num::<TimestampMicrosecondType>(1)?);
        let round = if a.len() > 2 { Some(a.bool(2)?) } else { None };
        nums::<Float64Type>(a.rows, |i| {
            let (x, y) = (get!(x.get(i)), get!(y.get(i)));
            let round = match &round {
                Some(round) => get!(round.get(i)),
                None => true,
            };
            let ((y1, m1, d1), (y2, m2, d2)) = (civil_from_days(x.div_euclid(DAY)), civil_from_days(y.div_euclid(DAY)));
            let months = ((y1 * 12 + m1) - (y2 * 12 + m2)) as f64;
            if d1 == d2 || (d1 == month_length(y1, m1) && d2 == month_length(y2, m2)) {
                return Ok(Some(months));
            }
            let seconds = |t: i64| t.rem_euclid(DAY) / 1_000_000;
            let rest = (d1 - d2) * 86_400 + seconds(x) - seconds(y);
            let out = months + rest as f64 / (31.0 * 86_400.0);
            Ok(Some(if round { (out * 1e8).round() / 1e8 } else { out }))
        })
    })
}

fn truncate_day(unit: &str, d: i64) -> Option<i64> {
    let (y, m, _) = civil_from_days(d);
    Some(match unit.to_uppercase().as_str() {
        "YEAR" | "YYYY" | "YY" => days_from_civil(y, 1, 1),
        "QUARTER" => days_from_civil(y, (m - 1) / 3 * 3 + 1, 1),
        "MONTH" | "MM" | "MON" => days_from_civil(y, m, 1),
        "WEEK" => d - (d + 3).rem_euclid(7),
        _ => return None,
    })
}

fn truncate(unit: &str, t: i64) -> Option<i64> {
    let size = match unit.to_uppercase().as_str() {
        "MICROSECOND" => 1,
        "MILLISECOND" => 1_000,
        "SECOND" => 1_000_000,
        "MINUTE" => 60_000_000,
        "HOUR" => 3_600_000_000,
        "DAY" | "DD" => DAY,
        other => return truncate_day(other, t.div_euclid(DAY))?.checked_mul(DAY),
    };
    t.checked_sub(t.rem_euclid(size))
}

/// Whether the unit is counted in months, and its number of months or microseconds.
fn unit_of(c: &Call) -> Result<(bool, i64)> {
    let Some(unit) = c.args[0].text().map(str::to_uppercase) else { return Err(c.error("the unit must be a word")) };
    Ok(match unit.as_str() {
        "YEAR" => (true, 12),
        "QUARTER" => (true, 3),
        "MONTH" => (true, 1),
        "WEEK" => (false, 7 * DAY),
        "DAY" | "DAYOFYEAR" => (false, DAY),
        "HOUR" => (false, 3_600_000_000),
        "MINUTE" => (false, 60_000_000),
        "SECOND" => (false, 1_000_000),
        "MILLISECOND" => (false, 1_000),
        "MICROSECOND" => (false, 1),
        _ => return Err(c.error(format!("'{unit}' is not a unit of time"))),
    })
}

fn timestamp_add(c: Call) -> Result<Typed> {
    let c = c.count(3, 3)?;
    let (months, factor) = unit_of(&c)?;
    if !is_int(&c.args[1].data_type) {
        return Err(c.error("the number of units must be a whole number"));
    }
    c.take(&[Any, Big, Time], 3)?.build(timestamp_type(), move |a| {
        let (n, t) = (a.num::<Int64Type>(1)?, a.num::<TimestampMicrosecondType>(2)?);
        nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
            let (n, t) = (get!(n.get(i)), get!(t.get(i)));
            let by = n.checked_mul(factor).filter(|by| !months || by.abs() < 1_000_000_000);
            let out = by.and_then(|by| {
                if months {
                    add_months(t.div_euclid(DAY), by).checked_mul(DAY)?.checked_add(t.rem_euclid(DAY))
                } else {
                    t.checked_add(by)
                }
            });
            out.map(Some).ok_or_else(|| row_error(OVERFLOW))
        })
    })
}

fn timestamp_diff(c: Call) -> Result<Typed> {
    let c = c.count(3, 3)?;
    let (months, factor) = unit_of(&c)?;
    c.take(&[Any, Time, Time], 3)?.build(BIG, move |a| {
        let (from, to) = (a.num::<TimestampMicrosecondType>(1)?, a.num::<TimestampMicrosecondType>(2)?);
        nums::<Int64Type>(a.rows, |i| {
            let (from, to) = (get!(from.get(i)), get!(to.get(i)));
            if !months {
                return to.checked_sub(from).map(|d| Some(d / factor)).ok_or_else(|| row_error(OVERFLOW));
            }
            // java.time counts whole months. If the order of the times of day is opposite to the order of the days, the
            // end first moves by one day.
            let (day, mut end) = (from.div_euclid(DAY), to.div_euclid(DAY));
            let (time, end_time) = (from.rem_euclid(DAY), to.rem_euclid(DAY));
            if end > day && end_time < time {
                end -= 1;
            } else if end < day && end_time > time {
                end += 1;
            }
            let packed = |day: i64| {
                let (y, m, d) = civil_from_days(day);
                (y * 12 + m) * 32 + d
            };
            Ok(Some((packed(end) - packed(day)) / 32 / factor))
        })
    })
}

fn unix(c: Call, unit: i64) -> Result<Typed> {
    let c = c.count(1, 1)?;
    if matches!(c.args[0].data_type, DataType::Date32 | DataType::Utf8) {
        return Err(c.error("a TIMESTAMP is expected. Use CAST"));
    }
    c.take(&[Time], 1)?.build(BIG, move |a| {
        let t = a.num::<TimestampMicrosecondType>(0)?;
        nums::<Int64Type>(a.rows, |i| Ok(t.get(i).map(|t| t.div_euclid(unit))))
    })
}

fn from_unix(c: Call, unit: i64) -> Result<Typed> {
    let c = c.count(1, 1)?;
    if is_float(&c.args[0].data_type) || is_decimal(&c.args[0].data_type) {
        return Err(c.error("a whole number is expected. Use timestamp_seconds, or CAST"));
    }
    c.take(&[Big], 1)?.build(timestamp_type(), move |a| {
        let n = a.num::<Int64Type>(0)?;
        nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
            get!(n.get(i)).checked_mul(unit).map(Some).ok_or_else(|| row_error(OVERFLOW))
        })
    })
}

fn zoned(c: Call, f: fn(Zone, i64) -> Option<i64>) -> Result<Typed> {
    let c = c.take(&[Time, Text], 2)?;
    if let Some(zone) = c.args[1].text() {
        if Zone::parse(zone).is_none() {
            return Err(c.error(format!("'{zone}' is not a time zone")));
        }
    }
    c.build(timestamp_type(), move |a| {
        let (t, zone) = (a.num::<TimestampMicrosecondType>(0)?, a.str(1)?);
        let mut last: Option<(String, Zone)> = None;
        nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
            let (t, name) = (get!(t.get(i)), get!(zone.get(i)));
            if last.as_ref().is_none_or(|(n, _)| n != name) {
                let zone = Zone::parse(name).ok_or_else(|| row_error("a value is not a time zone"))?;
                last = Some((name.to_string(), zone));
            }
            match &last {
                Some((_, zone)) => f(*zone, t).map(Some).ok_or_else(|| row_error(OVERFLOW)),
                None => Ok(None),
            }
        })
    })
}

/// `to_date(x)` and `to_timestamp(x)` without a format are casts.
pub(super) fn plain_cast(mut c: Call, to: DataType, r#try: bool) -> Result<Typed> {
    let sql = c.sql.clone();
    cast::explicit(c.args.remove(0), &to, r#try).map(|t| t.named(sql))
}
