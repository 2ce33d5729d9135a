//! Which data files can contain one of some keys: by partition values, and by the statistics of every key column that
//! has bounds. Both are conditions on one row: a file is left out unless a single key fits all columns of the file.

use super::files::partition_value;
use crate::state::KeyCodec;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;
use deltalake::kernel::Add;
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;

/// Some writers cut the timestamps of a file's statistics to milliseconds.
const SLACK: i64 = 1000;

/// How the values of a column are ordered. None: its bounds are not used. (For floating-point numbers, bounds do not
/// cover NaN.)
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Whole,
    Date,
    Time,
    Decimal(i8),
    Text,
}

fn order(data_type: &DataType) -> Option<Order> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Order::Whole,
        DataType::Date32 => Order::Date,
        DataType::Timestamp(TimeUnit::Microsecond, _) => Order::Time,
        DataType::Decimal128(_, scale) => Order::Decimal(*scale),
        DataType::Utf8 => Order::Text,
        _ => return None,
    })
}

/// A value, or a bound of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    Number(i64),
    Bytes(Box<[u8]>),
}

/// A number whose order is that of the floats.
fn of_float(v: f64) -> i64 {
    let bits = v.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The inverse of `of_float`.
fn to_float(v: i64) -> f64 {
    f64::from_bits((v ^ (((v >> 63) as u64) >> 1) as i64) as u64)
}

/// The values of a column. None for NULL.
fn points(order: Order, column: &ArrayRef) -> Result<Vec<Option<Point>>> {
    let numbers = |column: &ArrayRef| -> Result<Vec<Option<Point>>> {
        let wide = cast(column, &DataType::Int64)?;
        Ok(wide.as_primitive::<Int64Type>().iter().map(|v| v.map(Point::Number)).collect())
    };
    Ok(match order {
        Order::Whole | Order::Time => numbers(column)?,
        Order::Date => numbers(&cast(column, &DataType::Int32)?)?,
        Order::Decimal(scale) => {
            let one = 10f64.powi(scale.into());
            let values = column.as_primitive::<Decimal128Type>();
            values.iter().map(|v| v.map(|v| Point::Number(of_float(v as f64 / one)))).collect()
        }
        Order::Text => column.as_string::<i32>().iter().map(|v| v.map(|v| Point::Bytes(v.as_bytes().into()))).collect(),
    })
}

/// A bound of the statistics, or one a little further out.
fn bound(order: Order, value: &Value, up: bool) -> Option<Point> {
    Some(match order {
        Order::Whole => Point::Number(value.as_i64()?),
        Order::Date => {
            let date = chrono::NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
            Point::Number(date.to_epoch_days().into())
        }
        Order::Time => {
            let at = chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok()?.timestamp_micros();
            Point::Number(if up { at.saturating_add(SLACK) } else { at.saturating_sub(SLACK) })
        }
        Order::Decimal(_) => {
            // Other writers, and the reader of JSON, have floats of 64 bits here.
            let value = value.as_f64()?;
            let room = value.abs() * 1e-9 + f64::MIN_POSITIVE;
            Point::Number(of_float(if up { value + room } else { value - room }))
        }
        Order::Text => Point::Bytes(value.as_str()?.as_bytes().into()),
    })
}

/// The statistics of a file.
struct Stats(Option<Value>);

impl Stats {
    fn of(file: &Add) -> Self {
        Self(file.stats.as_deref().and_then(|s| serde_json::from_str(s).ok()))
    }

    fn get(&self, which: &str, column: &str) -> Option<&Value> {
        self.0.as_ref()?.get(which)?.get(column)
    }

    fn bounds(&self, order: Order, column: &str) -> Option<(Point, Point)> {
        let of = |which, up| bound(order, self.get(which, column)?, up);
        Some((of("minValues", false)?, of("maxValues", true)?))
    }

    /// Whether there can be a NULL in the column.
    fn nulls(&self, column: &str) -> bool {
        self.get("nullCount", column).and_then(Value::as_u64) != Some(0)
    }
}

/// How a file shows the values of a key column.
enum Shown {
    /// By its partition value, which is compared as a value, because writers spell times and numbers differently.
    Partition(DataType, KeyCodec),
    Bounds(Order),
}

/// One key column of the keys.
struct Column {
    name: String,
    shown: Shown,
    /// The different values, sorted.
    values: Vec<Point>,
    /// The index of each row's value in `values`. `NULL` for NULL, which is no value of a column with bounds.
    ranks: Vec<u32>,
    /// The rows by value: those of value v are `rows[starts[v]..starts[v + 1]]`.
    rows: Vec<u32>,
    starts: Vec<u32>,
    nulls: Vec<u32>,
}

const NULL: u32 = u32::MAX;

impl Column {
    fn new(name: &str, shown: Shown, all: Vec<Option<Point>>) -> Self {
        let (mut nulls, mut sorted) = (vec![], Vec::with_capacity(all.len()));
        for (row, value) in all.into_iter().enumerate() {
            match value {
                Some(value) => sorted.push((value, row as u32)),
                None => nulls.push(row as u32),
            }
        }
        sorted.sort_unstable();
        let mut ranks = vec![NULL; sorted.len() + nulls.len()];
        let (mut values, mut rows, mut starts) = (vec![], Vec::with_capacity(sorted.len()), vec![]);
        for (value, row) in sorted {
            if values.last() != Some(&value) {
                values.push(value);
                starts.push(rows.len() as u32);
            }
            ranks[row as usize] = values.len() as u32 - 1;
            rows.push(row);
        }
        starts.push(rows.len() as u32);
        Self { name: name.into(), shown, values, ranks, rows, starts, nulls }
    }

    /// The values that a file can contain, and whether it can contain NULL.
    fn of(&self, file: &Add, stats: &Stats) -> Result<(Range<u32>, bool)> {
        let all = 0..self.values.len() as u32;
        Ok(match &self.shown {
            Shown::Partition(data_type, codec) => {
                let Some(text) = file.partition_values.get(&self.name) else { return Ok((all, true)) };
                let value = partition_value(text.as_deref(), data_type, 1)?;
                let bytes: Box<[u8]> = codec.encode(&[value])?.row(0).data().into();
                let at = self.values.partition_point(|v| *v < Point::Bytes(bytes.clone())) as u32;
                let there = self.values.get(at as usize) == Some(&Point::Bytes(bytes));
                (at..at + u32::from(there), false)
            }
            Shown::Bounds(order) => {
                let nulls = stats.nulls(&self.name);
                match stats.bounds(*order, &self.name) {
                    None => (all, nulls),
                    Some((low, high)) => {
                        let first = self.values.partition_point(|v| *v < low) as u32;
                        let end = self.values.partition_point(|v| *v <= high) as u32;
                        (first..end.max(first), nulls)
                    }
                }
            }
        })
    }

    fn count(&self, (values, nulls): &(Range<u32>, bool)) -> usize {
        let rows = self.starts[values.end as usize] - self.starts[values.start as usize];
        rows as usize + if *nulls { self.nulls.len() } else { 0 }
    }
}

/// Keys, by which files are selected.
pub(super) struct Prune {
    columns: Vec<Column>,
    rows: usize,
}

impl Prune {
    /// `keys` are the key columns.
    pub(super) fn new(schema: &Schema, partitions: &[String], keys: &[RecordBatch]) -> Result<Self> {
        let rows = keys.iter().map(RecordBatch::num_rows).sum();
        if rows >= NULL as usize {
            return Err(Error::internal("an epoch changes more than 4 billion keys"));
        }
        let mut columns = vec![];
        for (i, field) in schema.fields().iter().enumerate() {
            let mut all = Vec::with_capacity(rows);
            let shown = match (partitions.contains(field.name()), order(field.data_type())) {
                (true, _) => {
                    let codec = KeyCodec::new([field.data_type()])?;
                    for batch in keys {
                        let encoded = codec.encode(std::slice::from_ref(batch.column(i)))?;
                        all.extend(encoded.iter().map(|r| Some(Point::Bytes(r.data().into()))));
                    }
                    Shown::Partition(field.data_type().clone(), codec)
                }
                (false, Some(order)) => {
                    for batch in keys {
                        all.extend(points(order, batch.column(i))?);
                    }
                    Shown::Bounds(order)
                }
                (false, None) => continue,
            };
            columns.push(Column::new(field.name(), shown, all));
        }
        Ok(Self { columns, rows })
    }

    /// Whether the file can contain one of the keys. Without statistics, it can.
    pub(super) fn may_hold(&self, file: &Add) -> Result<bool> {
        if self.rows == 0 {
            return Ok(false);
        }
        let (mut found, mut stats) = (vec![], None);
        for column in &self.columns {
            let stats = match &column.shown {
                // Most files are decided by their partition, and their statistics need not be read.
                Shown::Partition(..) => &Stats(None),
                Shown::Bounds(_) => &*stats.get_or_insert_with(|| Stats::of(file)),
            };
            let of = column.of(file, stats)?;
            if column.count(&of) == 0 {
                return Ok(false);
            }
            found.push(of);
        }
        let fewest = (0..found.len()).min_by_key(|c| self.columns[*c].count(&found[*c]));
        let Some(fewest) = fewest else { return Ok(true) };
        let fits = |row: u32| {
            self.columns.iter().zip(&found).all(|(column, (values, nulls))| match column.ranks[row as usize] {
                NULL => *nulls,
                rank => values.contains(&rank),
            })
        };
        let (column, (values, nulls)) = (&self.columns[fewest], &found[fewest]);
        let with =
            &column.rows[column.starts[values.start as usize] as usize..column.starts[values.end as usize] as usize];
        let without = if *nulls { column.nulls.as_slice() } else { &[] };
        Ok(with.iter().chain(without).any(|row| fits(*row)))
    }
}

/// The keys that the rows of a file are between, as bytes of `KeyCodec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub low: Vec<u8>,
    pub high: Vec<u8>,
}

/// The spans of files, as far as partition values and statistics show them. `schema` has the key columns.
pub(super) fn spans(schema: &Schema, partitions: &[String], files: &[&Add]) -> Result<Vec<Span>> {
    let mut out = vec![Span { low: vec![], high: vec![] }; files.len()];
    // Whether the columns so far have decided the bounds of a file.
    let mut open = vec![(true, true); files.len()];
    let stats: Vec<Stats> = files.iter().map(|f| Stats::of(f)).collect();
    for field in schema.fields() {
        let is_partition = partitions.contains(field.name());
        let ends = |file: &Add, stats: &Stats, up: bool| -> Result<Option<ArrayRef>> {
            if is_partition {
                return match file.partition_values.get(field.name()) {
                    Some(text) => Ok(Some(partition_value(text.as_deref(), field.data_type(), 1)?)),
                    None => Ok(None),
                };
            }
            // NULL sorts below all values.
            let Some(order) = order(field.data_type()).filter(|_| up || !stats.nulls(field.name())) else {
                return Ok(None);
            };
            let Some((low, high)) = stats.bounds(order, field.name()) else { return Ok(None) };
            one(order, if up { high } else { low }, up, field.data_type())
        };
        let codec = KeyCodec::new([field.data_type()])?;
        for (at, file) in files.iter().enumerate() {
            for up in [false, true] {
                let still = if up { &mut open[at].1 } else { &mut open[at].0 };
                let bytes = if up { &mut out[at].high } else { &mut out[at].low };
                if !*still {
                    continue;
                }
                match ends(file, &stats[at], up)? {
                    Some(value) => bytes.extend_from_slice(codec.encode(&[value])?.row(0).data()),
                    None => *still = false,
                }
                // Above the bytes of every key that begins in this way.
                if !*still && up {
                    bytes.push(0xff);
                }
            }
        }
    }
    Ok(out)
}

/// A value as an array of one. None if the type does not have it.
fn one(order: Order, point: Point, up: bool, data_type: &DataType) -> Result<Option<ArrayRef>> {
    let array: ArrayRef = match (order, point) {
        (Order::Whole | Order::Time, Point::Number(v)) => Arc::new(Int64Array::from(vec![v])),
        (Order::Date, Point::Number(v)) => match i32::try_from(v) {
            Ok(v) => Arc::new(Int32Array::from(vec![v])),
            Err(_) => return Ok(None),
        },
        (Order::Decimal(scale), Point::Number(v)) => {
            let unscaled = to_float(v) * 10f64.powi(scale.into());
            let unscaled = if up { unscaled.ceil() } else { unscaled.floor() };
            if unscaled.abs() >= 1e37 {
                return Ok(None);
            }
            Arc::new(Decimal128Array::from(vec![unscaled as i128]).with_data_type(data_type.clone()))
        }
        (Order::Text, Point::Bytes(v)) => Arc::new(StringArray::from(vec![String::from_utf8_lossy(&v).into_owned()])),
        _ => return Ok(None),
    };
    let array = cast(&array, data_type)?;
    Ok(array.is_valid(0).then_some(array))
}

/// The lowest and highest time of a column in a file.
pub(super) fn times(file: &Add, column: &Field) -> Option<(i64, i64)> {
    if let Some(text) = file.partition_values.get(column.name()) {
        let value = partition_value(text.as_deref(), column.data_type(), 1).ok()?;
        let at = value.as_primitive_opt::<TimestampMicrosecondType>()?;
        return at.is_valid(0).then(|| (at.value(0), at.value(0)));
    }
    let stats = Stats::of(file);
    let of = |which: &str| {
        Some(chrono::DateTime::parse_from_rfc3339(stats.get(which, column.name())?.as_str()?).ok()?.timestamp_micros())
    };
    if stats.nulls(column.name()) {
        return None;
    }
    Some((of("minValues")?, of("maxValues")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn file(stats: &str) -> Add {
        Add { stats: Some(stats.into()), ..Add::default() }
    }

    fn held(keys: Vec<(&str, ArrayRef)>, partitions: &[&str], file: &Add) -> bool {
        let batch = RecordBatch::try_from_iter_with_nullable(keys.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let partitions: Vec<String> = partitions.iter().map(|p| p.to_string()).collect();
        Prune::new(&batch.schema(), &partitions, std::slice::from_ref(&batch)).unwrap().may_hold(file).unwrap()
    }

    fn times_of(values: Vec<Option<i64>>) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    }

    #[test]
    fn a_file_is_looked_into_where_it_may_hold_a_time_or_a_null() {
        let of = |nulls: u64| {
            let stats = r#"{"numRecords":3,"minValues":{"ts":"2024-01-01T00:00:00.000Z"},"maxValues":{"ts":"2024-01-02T00:00:00.000Z"},"nullCount":{"ts":N}}"#;
            file(&stats.replace('N', &nulls.to_string()))
        };
        let day = 1_704_067_200_000_000;
        let held = |values: Vec<Option<i64>>, file: &Add| held(vec![("ts", times_of(values))], &[], file);
        assert!(held(vec![Some(day)], &of(0)));
        assert!(held(vec![Some(day - 1_000)], &of(0)), "other writers cut to milliseconds");
        assert!(!held(vec![Some(day - 2_000)], &of(1)));
        // NULL is not between the bounds.
        assert!(held(vec![Some(day - 2_000), None], &of(1)));
        assert!(!held(vec![Some(day - 2_000), None], &of(0)));
        assert!(held(vec![None], &Add::default()));
        assert!(held(vec![None], &file("{}")));
        assert!(held(vec![Some(0)], &file("not JSON")));
        assert!(!held(vec![], &of(1)), "without a key nothing changes");
    }

    #[test]
    fn every_type_with_bounds_prunes_and_the_others_do_not() {
        let stats = r#"{"numRecords":9,"minValues":{"a":10},"maxValues":{"a":20},"nullCount":{"a":0}}"#;
        let texts = r#"{"numRecords":9,"minValues":{"a":"10"},"maxValues":{"a":"20"},"nullCount":{"a":0}}"#;
        let dates = r#"{"minValues":{"a":"1970-01-11"},"maxValues":{"a":"1970-01-21"},"nullCount":{"a":0}}"#;
        let decimal =
            |v: i128| -> ArrayRef { Arc::new(Decimal128Array::from(vec![v]).with_precision_and_scale(20, 2).unwrap()) };
        let cases: Vec<(&str, [ArrayRef; 4])> = vec![
            (stats, [9i64, 10, 20, 21].map(|v| Arc::new(Int64Array::from(vec![v])) as ArrayRef)),
            (stats, [9i8, 10, 20, 21].map(|v| Arc::new(Int8Array::from(vec![v])) as ArrayRef)),
            (stats, [999i128, 1000, 2000, 2001].map(decimal)),
            (texts, ["1", "10", "20", "200"].map(|v| Arc::new(StringArray::from(vec![v])) as ArrayRef)),
            (dates, [9i32, 10, 20, 21].map(|v| Arc::new(Date32Array::from(vec![v])) as ArrayRef)),
        ];
        for (stats, values) in cases {
            let found = values.clone().map(|v| held(vec![("a", v)], &[], &file(stats)));
            assert_eq!(found, [false, true, true, false], "{:?}", values[0].data_type());
        }
        let float: ArrayRef = Arc::new(Float64Array::from(vec![99.0]));
        assert!(held(vec![("a", float)], &[], &file(stats)), "NaN lies outside the bounds of floats");
        let far: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN]));
        assert!(!held(vec![("a", far)], &[], &file(stats)));
    }

    #[test]
    fn one_and_the_same_key_has_to_fit_all_columns() {
        let stats = r#"{"minValues":{"a":10,"b":"k"},"maxValues":{"a":20,"b":"m"},"nullCount":{"a":0,"b":0}}"#;
        let pairs = |pairs: &[(i32, &str)]| {
            let a: ArrayRef = Arc::new(Int32Array::from_iter_values(pairs.iter().map(|p| p.0)));
            let b: ArrayRef = Arc::new(StringArray::from_iter_values(pairs.iter().map(|p| p.1)));
            held(vec![("a", a), ("b", b)], &[], &file(stats))
        };
        assert!(pairs(&[(15, "l")]));
        assert!(!pairs(&[(15, "z"), (30, "l")]), "each column alone would fit");
        assert!(pairs(&[(15, "z"), (30, "l"), (20, "k")]));
    }

    #[test]
    fn partition_values_prune_as_values_together_with_bounds() {
        let stats = r#"{"minValues":{"b":10},"maxValues":{"b":20},"nullCount":{"b":0}}"#;
        let of = |p: Option<&str>| Add {
            partition_values: HashMap::from([("ts".to_string(), p.map(str::to_string))]),
            ..file(stats)
        };
        let keys = |ts: Vec<Option<i64>>, b: Vec<i32>, file: &Add| {
            held(vec![("ts", times_of(ts)), ("b", Arc::new(Int32Array::from(b)))], &["ts"], file)
        };
        let at = 1_704_069_000_000_000;
        for spelling in ["2024-01-01T00:30:00.000000Z", "2024-01-01 00:30:00"] {
            assert!(keys(vec![Some(at)], vec![15], &of(Some(spelling))), "{spelling}");
            assert!(!keys(vec![Some(at + 1)], vec![15], &of(Some(spelling))), "{spelling}");
            assert!(!keys(vec![Some(at), Some(0)], vec![30, 15], &of(Some(spelling))), "{spelling}");
        }
        assert!(keys(vec![None], vec![15], &of(None)));
        assert!(!keys(vec![Some(at)], vec![15], &of(None)));
    }

    #[test]
    fn floats_are_ordered_as_whole_numbers_and_back() {
        let all = [f64::NEG_INFINITY, -1e300, -1.5, -0.0, 0.0, 1e-300, 1.5, f64::INFINITY];
        assert!(all.map(of_float).is_sorted());
        assert!(all.iter().all(|v| to_float(of_float(*v)).to_bits() == v.to_bits()));
    }

    #[test]
    fn spans_of_decimals_cover_their_rounding() {
        let data_type = DataType::Decimal128(38, 2);
        let schema = Schema::new(vec![Field::new("a", data_type.clone(), true)]);
        let codec = KeyCodec::new([&data_type]).unwrap();
        let key = |v: i128| {
            let column: ArrayRef = Arc::new(Decimal128Array::from(vec![v]).with_data_type(data_type.clone()));
            codec.encode(&[column]).unwrap().row(0).data().to_vec()
        };
        let stats = r#"{"minValues":{"a":-12345678901234567.89},"maxValues":{"a":0.05},"nullCount":{"a":0}}"#;
        let span = spans(&schema, &[], &[&file(stats)]).unwrap().remove(0);
        for (value, inside) in
            [(-1_234_567_890_123_456_789, true), (5, true), (7, false), (-2_000_000_000_000_000_000, false)]
        {
            assert_eq!(span.low <= key(value) && key(value) <= span.high, inside, "{value}");
        }
    }

    #[test]
    fn spans_cover_what_a_file_can_hold() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
        let codec = KeyCodec::new([&DataType::Int32, &DataType::Utf8]).unwrap();
        let key = |a: Option<i32>, b: Option<&str>| {
            let columns: [ArrayRef; 2] = [Arc::new(Int32Array::from(vec![a])), Arc::new(StringArray::from(vec![b]))];
            codec.encode(&columns).unwrap().row(0).data().to_vec()
        };
        let stats = r#"{"minValues":{"a":1,"b":"k"},"maxValues":{"a":2,"b":"m"},"nullCount":{"a":0,"b":1}}"#;
        let files = [file(stats), Add::default()];
        let spans = spans(&schema, &[], &files.iter().collect::<Vec<_>>()).unwrap();
        for (a, b, inside) in
            [(1, Some("k"), true), (2, Some("m"), true), (1, None, true), (0, Some("z"), false), (3, None, false)]
        {
            let key = key(Some(a), b);
            assert_eq!(spans[0].low <= key && key <= spans[0].high, inside, "{a} {b:?}");
            assert!(spans[1].low <= key && key <= spans[1].high);
        }
        assert!(spans[0].high < key(Some(2), Some("n")));
    }
}
