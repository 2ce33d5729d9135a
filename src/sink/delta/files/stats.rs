//! The statistics by which readers skip a file, in the form of the log (Delta's protocol, "Per-file Statistics"): the
//! number of rows, and for each column the lowest and highest value and the number of NULLs. A bound is exact or
//! further out, never further in. If this is not possible, the bound is missing.
//!
//! The values come from Parquet's own statistics, which are exact, except for floating-point numbers. These are
//! computed here, because for Spark a NaN is greater than all numbers, and Parquet's minimum and maximum ignore it.
//! Parquet's own statistics of such columns are left out.

use super::partition::{DAY, date, decimal};
use arrow::array::*;
use arrow::datatypes::*;
use parquet::basic::{LogicalType, TimeUnit as ParquetUnit, Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, ColumnPath};
use std::fmt::Write;

/// Readers and writers of Delta use this many columns, unless the table has a different setting.
const COLUMNS: usize = 32;

/// The lowest and highest number of a floating-point column so far.
#[derive(Debug, Clone, Copy)]
struct Span {
    low: f64,
    high: f64,
    nan: bool,
    nulls: u64,
}

/// The path to a floating-point column through structs.
#[derive(Debug, Clone)]
struct Float {
    way: Vec<usize>,
    path: Vec<String>,
    span: Span,
}

/// The floating-point columns of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Floats(Vec<Float>);

impl Floats {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut out = vec![];
        for (i, field) in schema.fields().iter().enumerate().take(COLUMNS) {
            find(field, vec![i], vec![field.name().clone()], &mut out);
        }
        Self(out)
    }

    pub(super) fn see(&mut self, batch: &RecordBatch) {
        for float in &mut self.0 {
            let Some((first, rest)) = float.way.split_first() else { continue };
            let mut array = batch.column(*first).clone();
            for step in rest {
                let inner = array.as_struct().column(*step).clone();
                array = inner;
            }
            float.span.nulls += array.null_count() as u64;
            match array.data_type() {
                DataType::Float32 => {
                    let a = array.as_primitive::<Float32Type>();
                    widen(&mut float.span, a.values().iter().map(|v| f64::from(*v)), a.nulls());
                }
                _ => {
                    let a = array.as_primitive::<Float64Type>();
                    widen(&mut float.span, a.values().iter().copied(), a.nulls());
                }
            }
        }
    }

    /// Within a struct, a NULL can also be the struct's.
    fn nulls(&self, path: &[String]) -> Option<u64> {
        self.0.iter().find(|f| f.path == path && path.len() == 1).map(|f| f.span.nulls)
    }

    fn bounds(&self, path: &[String]) -> Option<(String, String)> {
        let span = self.0.iter().find(|f| f.path == path)?.span;
        // JSON does not have NaN or Infinity.
        if span.nan || !span.low.is_finite() || !span.high.is_finite() {
            return None;
        }
        // Readers that order by bits have −0.0 below 0.0, and a file can contain both.
        let low = if span.low == 0.0 { -0.0 } else { span.low };
        let high = if span.high == 0.0 { 0.0 } else { span.high };
        Some((serde_json::to_string(&low).ok()?, serde_json::to_string(&high).ok()?))
    }
}

fn find(field: &Field, way: Vec<usize>, path: Vec<String>, out: &mut Vec<Float>) {
    match field.data_type() {
        DataType::Float32 | DataType::Float64 => {
            out.push(Float {
                way,
                path,
                span: Span { low: f64::INFINITY, high: f64::NEG_INFINITY, nan: false, nulls: 0 },
            });
        }
        DataType::Struct(fields) => {
            for (i, inner) in fields.iter().enumerate() {
                let way = way.iter().copied().chain([i]).collect();
                find(inner, way, path.iter().cloned().chain([inner.name().clone()]).collect(), out);
            }
        }
        _ => {}
    }
}

fn widen(span: &mut Span, values: impl Iterator<Item = f64>, nulls: Option<&arrow::buffer::NullBuffer>) {
    let mut one = |v: f64| {
        span.nan |= v.is_nan();
        // A comparison with NaN is false, so NaN changes neither bound.
        span.low = if v < span.low { v } else { span.low };
        span.high = if v > span.high { v } else { span.high };
    };
    match nulls.filter(|n| n.null_count() > 0) {
        None => values.for_each(one),
        Some(nulls) => values.zip(nulls.iter()).filter(|(_, valid)| *valid).for_each(|(v, _)| one(v)),
    }
}

/// Parquet's own statistics are left out, because they would not show a NaN.
pub(super) fn without_floats(mut builder: WriterPropertiesBuilder, schema: &Schema) -> WriterPropertiesBuilder {
    let Ok(columns) = parquet::arrow::ArrowSchemaConverter::new().convert(schema) else { return builder };
    for column in columns.columns() {
        if matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE) {
            let path = ColumnPath::new(column.path().parts().to_vec());
            builder = builder.set_column_statistics_enabled(path, parquet::file::properties::EnabledStatistics::None);
        }
    }
    builder
}

/// Names with values, or with names below them, in the order of the columns.
enum Tree {
    Leaf(String),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn put(&mut self, path: &[String], value: String) {
        let Tree::Object(entries) = self else { return };
        let Some((name, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            return entries.push((name.clone(), Tree::Leaf(value)));
        }
        if !entries.iter().any(|(n, _)| n == name) {
            entries.push((name.clone(), Tree::Object(vec![])));
        }
        if let Some((_, inner)) = entries.iter_mut().find(|(n, _)| n == name) {
            inner.put(rest, value);
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Tree::Leaf(text) => out.push_str(text),
            Tree::Object(entries) => {
                out.push('{');
                for (i, (name, inner)) in entries.iter().enumerate() {
                    let _ = write!(out, "{}{}:", if i > 0 { "," } else { "" }, quoted(name));
                    inner.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The statistics for the log of a written file.
pub(super) fn stats(metadata: &ParquetMetaData, floats: &Floats) -> String {
    let (mut low, mut high, mut nulls) = (Tree::Object(vec![]), Tree::Object(vec![]), Tree::Object(vec![]));
    let columns = metadata.file_metadata().schema_descr();
    let mut tops: Vec<&str> = vec![];
    for (index, column) in columns.columns().iter().enumerate() {
        let path = column.path().parts();
        // Lists and maps do not have bounds.
        if column.max_rep_level() > 0 {
            continue;
        }
        if !tops.contains(&path[0].as_str()) {
            if tops.len() == COLUMNS {
                break;
            }
            tops.push(&path[0]);
        }
        let groups = metadata.row_groups().iter().map(|g| g.column(index).statistics());
        let all: Option<Vec<&Statistics>> = groups.collect();
        let is_float = matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE);
        let bounds = match (&all, is_float) {
            (_, true) => floats.bounds(path),
            (Some(all), false) => bounds(column, all),
            (None, false) => None,
        };
        if let Some((min, max)) = bounds {
            low.put(path, min);
            high.put(path, max);
        }
        let count = match is_float {
            true => floats.nulls(path),
            false => all.and_then(|all| all.iter().map(|s| s.null_count_opt()).sum()),
        };
        if let Some(count) = count {
            nulls.put(path, count.to_string());
        }
    }
    let mut out = format!("{{\"numRecords\":{},\"minValues\":", metadata.file_metadata().num_rows());
    low.write(&mut out);
    out.push_str(",\"maxValues\":");
    high.write(&mut out);
    out.push_str(",\"nullCount\":");
    nulls.write(&mut out);
    out.push('}');
    out
}

/// The lowest and the highest of the row groups' bounds, as JSON.
fn bounds(column: &ColumnDescriptor, groups: &[&Statistics]) -> Option<(String, String)> {
    // A row group that contains only NULL does not have bounds, and does not remove any.
    let rows = |s: &&&Statistics| s.min_bytes_opt().is_some() && s.max_bytes_opt().is_some();
    let some: Vec<&Statistics> = groups.iter().filter(rows).copied().collect();
    let logical = column.logical_type_ref();
    match column.physical_type() {
        Type::INT32 => {
            let ends = ends(&some, |s| match s {
                Statistics::Int32(v) => Some((i64::from(*v.min_opt()?), i64::from(*v.max_opt()?))),
                _ => None,
            })?;
            match logical {
                Some(LogicalType::Date) => both(ends, |d| date(d).map(|d| quoted(&d))),
                Some(LogicalType::Decimal(d)) => both(ends, |v| Some(decimal(v.into(), i8::try_from(d.scale).ok()?))),
                None | Some(LogicalType::Integer(_)) => both(ends, |v| Some(v.to_string())),
                _ => None,
            }
        }
        Type::INT64 => {
            let ends = ends(&some, |s| match s {
                Statistics::Int64(v) => Some((*v.min_opt()?, *v.max_opt()?)),
                _ => None,
            })?;
            match logical {
                Some(LogicalType::Timestamp(t)) if t.unit == ParquetUnit::MICROS && t.is_adjusted_to_u_t_c => {
                    Some((instant(ends.0, false)?, instant(ends.1, true)?))
                }
                Some(LogicalType::Decimal(d)) => both(ends, |v| Some(decimal(v.into(), i8::try_from(d.scale).ok()?))),
                None | Some(LogicalType::Integer(_)) => both(ends, |v| Some(v.to_string())),
                _ => None,
            }
        }
        Type::FIXED_LEN_BYTE_ARRAY => {
            let Some(LogicalType::Decimal(d)) = logical else { return None };
            let scale = i8::try_from(d.scale).ok()?;
            let ends = ends(&some, |s| Some((signed(s.min_bytes_opt()?)?, signed(s.max_bytes_opt()?)?)))?;
            both(ends, |v| Some(decimal(v, scale)))
        }
        // Cut to a prefix, which is not greater than the value. In the upper bound, the last character is increased.
        Type::BYTE_ARRAY if matches!(logical, Some(LogicalType::String)) => {
            let ends = ends(&some, |s| Some((s.min_bytes_opt()?, s.max_bytes_opt()?)))?;
            both(ends, |v| std::str::from_utf8(v).ok().map(quoted))
        }
        _ => None,
    }
}

fn ends<'a, T: Ord + Copy>(groups: &[&'a Statistics], of: impl Fn(&'a Statistics) -> Option<(T, T)>) -> Option<(T, T)> {
    let all: Option<Vec<(T, T)>> = groups.iter().map(|s| of(s)).collect();
    let all = all?;
    Some((all.iter().map(|e| e.0).min()?, all.iter().map(|e| e.1).max()?))
}

fn both<T>(ends: (T, T), text: impl Fn(T) -> Option<String>) -> Option<(String, String)> {
    Some((text(ends.0)?, text(ends.1)?))
}

/// Big-endian two's complement of up to 16 bytes.
fn signed(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut out = if first & 0x80 == 0 { [0u8; 16] } else { [0xff; 16] };
    let at = 16usize.checked_sub(bytes.len())?;
    out[at..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(out))
}

/// Microseconds as Delta's statistics store them: in milliseconds, because some readers cut them, rounded outwards.
fn instant(micros: i64, up: bool) -> Option<String> {
    let millis =
        if up { micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0) } else { micros.div_euclid(1000) };
    let (day, of_day) = (millis.div_euclid(DAY / 1000), millis.rem_euclid(DAY / 1000));
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let day = date(day)?;
    Some(format!("\"{day}T{:02}:{:02}:{:02}.{millis:03}Z\"", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_times_are_rounded_outwards() {
        assert_eq!(instant(1, false).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
        assert_eq!(instant(1, true).unwrap(), "\"1970-01-01T00:00:00.001Z\"");
        assert_eq!(instant(-1, false).unwrap(), "\"1969-12-31T23:59:59.999Z\"");
        assert_eq!(instant(-1, true).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
        // There is no later year, so there is no bound.
        assert_eq!(instant(253_402_300_799_999_999, true), None);
    }

    #[test]
    fn decimals_of_any_length_are_read_back_with_their_sign() {
        assert_eq!(signed(&[0xff, 0x38]), Some(-200));
        assert_eq!(signed(&[0x00, 0xc8]), Some(200));
        assert_eq!(signed(&(-1i128).to_be_bytes()), Some(-1));
        assert_eq!(signed(&[0; 17]), None);
    }

    #[test]
    fn a_nan_leaves_a_column_without_bounds_and_zeros_cover_both_signs() {
        let schema = Schema::new(vec![Field::new("d", DataType::Float64, true)]);
        let of = |values: Vec<Option<f64>>| {
            let mut floats = Floats::new(&schema);
            let array: ArrayRef = std::sync::Arc::new(Float64Array::from(values));
            floats.see(&RecordBatch::try_new(std::sync::Arc::new(schema.clone()), vec![array]).unwrap());
            floats.bounds(&["d".to_string()])
        };
        assert_eq!(of(vec![Some(1.0), None, Some(2.5)]), Some(("1.0".into(), "2.5".into())));
        assert_eq!(of(vec![Some(0.0)]), Some(("-0.0".into(), "0.0".into())));
        assert_eq!(of(vec![Some(1.0), Some(f64::NAN)]), None);
        assert_eq!(of(vec![Some(f64::INFINITY)]), None);
        assert_eq!(of(vec![None]), None);
    }
}
