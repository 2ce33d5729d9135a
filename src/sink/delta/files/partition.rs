//! Partition columns: their values as text for the log, the folder of a value, and batches split by value.

use crate::hash::hex;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::*;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;

/// The folder of NULL. Readers of Hive's layout know this name.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// Whether readers take this text for NULL: the protocol's empty string, and the name of Hive's folder of NULL.
pub(crate) fn null_text(text: &str) -> bool {
    text.is_empty() || text == NULL_FOLDER
}

/// The partition columns of the table within the schema of all columns.
#[derive(Debug, Clone)]
pub(crate) struct Partitions {
    names: Vec<String>,
    columns: Vec<usize>,
    /// The columns that are stored in the files.
    rest: Vec<usize>,
}

/// The rows of a batch with one partition value.
pub(crate) struct Part {
    /// One text for each partition column. None is NULL.
    pub values: Vec<Option<String>>,
    pub rows: RecordBatch,
}

impl Partitions {
    pub(crate) fn new(schema: &Schema, by: &[String]) -> Result<Self> {
        let columns = by.iter().map(|n| schema.index_of(n)).collect::<Result<Vec<_>, _>>()?;
        let rest = (0..schema.fields().len()).filter(|i| !columns.contains(i)).collect();
        Ok(Self { names: by.to_vec(), columns, rest })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns that are stored in the files.
    pub(crate) fn file_schema(&self, schema: &Schema) -> Result<SchemaRef> {
        Ok(SchemaRef::new(schema.project(&self.rest)?))
    }

    /// The rows by partition, in the order in which the partitions first occur.
    pub(crate) fn split(&self, batch: &RecordBatch) -> Result<Vec<Part>> {
        if self.columns.is_empty() {
            return Ok(vec![Part { values: vec![], rows: batch.clone() }]);
        }
        let keys: Vec<ArrayRef> = self.columns.iter().map(|c| batch.column(*c).clone()).collect();
        let fields = keys.iter().map(|k| SortField::new(k.data_type().clone())).collect();
        let encoded = RowConverter::new(fields)?.convert_columns(&keys)?;
        let mut groups: HashMap<&[u8], usize> = HashMap::new();
        let mut rows: Vec<Vec<u32>> = vec![];
        for row in 0..batch.num_rows() {
            let next = rows.len();
            let group = *groups.entry(encoded.row(row).data()).or_insert(next);
            if group == next {
                rows.push(vec![]);
            }
            rows[group].push(row as u32);
        }
        let files = batch.project(&self.rest)?;
        let part = |rows: Vec<u32>| -> Result<Part> {
            let first = rows[0] as usize;
            let values = keys.iter().map(|k| text(k, first)).collect::<Result<_>>()?;
            let rows = match rows.len() == files.num_rows() {
                true => files.clone(),
                false => take_record_batch(&files, &UInt32Array::from(rows))?,
            };
            Ok(Part { values, rows })
        };
        rows.into_iter().map(part).collect()
    }

    /// The folder of these values, with a slash at its end. Empty without partitions. Readers take the values from the
    /// log and never from the folder. So a name that is too long for a file system is cut and gets a hash.
    pub(crate) fn folder(&self, values: &[Option<String>]) -> String {
        // File systems allow 255 bytes. The whole key of a store has at most 1,024.
        let most = (600 / self.names.len().max(1)).clamp(60, 200);
        let mut out = String::new();
        for (name, value) in self.names.iter().zip(values) {
            let value = value.as_ref().map_or(NULL_FOLDER.to_string(), |v| escape(v));
            let mut segment = format!("{}={value}", escape(name));
            if segment.len() > most {
                let hash: String = hex(Sha256::digest(segment.as_bytes()), 16);
                // Spark's VACUUM recognises a partition's folder by the text before the equals sign.
                let name = escape(name);
                let name = if name.len() < most { name } else { name.chars().take(20).collect() };
                segment = format!("{name}={hash}");
            }
            out.push_str(&segment);
            out.push('/');
        }
        out
    }
}

/// Percent-encoded, except characters that every store and file system accepts.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => out.push(byte as char),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    // Stores take these names for folders. A blank or point at the end causes trouble.
    match out.as_str() {
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        _ => out,
    }
}

/// A value in the form of the log (Delta's protocol, "Partition Value Serialization"). None is NULL.
fn text(array: &ArrayRef, row: usize) -> Result<Option<String>> {
    if array.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_string(),
        DataType::Utf8View => array.as_string_view().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Decimal128(_, scale) => decimal(array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Date32 => within_calendar(date(array.as_primitive::<Date32Type>().value(row).into()))?,
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let at = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let day = within_calendar(date(at.div_euclid(DAY)))?;
            let time = time_of_day(at.rem_euclid(DAY));
            match zone {
                // Without the Z, Spark takes the text for a time in the zone of the reader.
                Some(_) => format!("{day}T{time}Z"),
                None => format!("{day} {time}"),
            }
        }
        other => return Err(Error::internal(format!("a partition column of type {other}"))),
    }))
}

/// The value of a text of the log, `rows` times. Times without a zone are UTC.
pub(crate) fn partition_value(text: Option<&str>, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    // By Delta's protocol an empty text is NULL. Spark keeps the empty text of a STRING, and so do tables of older
    // versions of bayou.
    let Some(text) = text.filter(|t| !t.is_empty() || *data_type == DataType::Utf8) else {
        return Ok(new_null_array(data_type, rows));
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text; rows]));
    match data_type == texts.data_type() {
        true => Ok(texts),
        false => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            Ok(cast_with_options(&texts, data_type, &options)?)
        }
    }
}

/// An unscaled decimal as plain digits.
pub(super) fn decimal(unscaled: i128, scale: i8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}

/// Days since 1970 as `YYYY-MM-DD`. None outside the years 0001 to 9999, which Delta's readers do not know.
pub(super) fn date(days: i64) -> Option<String> {
    let date = chrono::NaiveDate::from_epoch_days(i32::try_from(days).ok()?)?;
    let year = chrono::Datelike::year(&date);
    (1..=9999).contains(&year).then(|| date.format("%Y-%m-%d").to_string())
}

fn within_calendar(date: Option<String>) -> Result<String> {
    // Such rows have been set aside before.
    date.ok_or_else(|| Error::internal("a partition's date is outside the years 0001 to 9999"))
}

pub(super) const DAY: i64 = 86_400_000_000;

fn time_of_day(micros: i64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_plain_digits_at_every_scale() {
        for (unscaled, scale, wanted) in [
            (-105, 2, "-1.05"),
            (-5, 2, "-0.05"),
            (0, 2, "0.00"),
            (7, 0, "7"),
            (7, -2, "700"),
            (1_123_456_789_012_345_678, 18, "1.123456789012345678"),
            (99_999_999_999_999_999_999_999_999_999_999_999_999, 0, "99999999999999999999999999999999999999"),
        ] {
            assert_eq!(decimal(unscaled, scale), wanted);
        }
    }

    #[test]
    fn folders_are_names_that_every_store_takes_and_long_values_are_told_apart() {
        let schema = Schema::new(vec![Field::new("p", DataType::Utf8, true), Field::new("n", DataType::Int32, true)]);
        let by = Partitions::new(&schema, &["p".into()]).unwrap();
        let of = |v: &str| by.folder(&[Some(v.into())]);
        assert_eq!(of("a b/~ü"), "p=a%20b%2F%7E%C3%BC/");
        assert_eq!(of(".."), "p=%2E%2E/");
        assert_eq!(by.folder(&[None]), "p=__HIVE_DEFAULT_PARTITION__/");
        let long = [of(&"x".repeat(300)), of(&"x".repeat(301)), of(&"ü".repeat(100)), of(&"中".repeat(2000))];
        assert!(long.iter().all(|f| f.len() < 100 && f.starts_with("p=")), "{long:?}");
        assert!(long.iter().collect::<std::collections::HashSet<_>>().len() == 4);
    }

    #[test]
    fn a_time_says_that_it_is_in_utc_and_is_read_back_in_either_spelling() {
        let utc: DataType = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let at = 1_704_069_000_123_456;
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC"));
        assert_eq!(text(&times, 0).unwrap().unwrap(), "2024-01-01T00:30:00.123456Z");
        let local: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![at]));
        assert_eq!(text(&local, 0).unwrap().unwrap(), "2024-01-01 00:30:00.123456");
        for spelling in ["2024-01-01T00:30:00.123456Z", "2024-01-01 00:30:00.123456"] {
            assert_eq!(&partition_value(Some(spelling), &utc, 1).unwrap(), &times, "{spelling}");
        }
    }

    #[test]
    fn a_batch_is_split_by_exact_values() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("d", DataType::Float64, true),
            Field::new("n", DataType::Int32, true),
        ]));
        let d = Float64Array::from(vec![Some(0.0), Some(-0.0), None, Some(0.0), Some(f64::NAN)]);
        let n = Int32Array::from(vec![1, 2, 3, 4, 5]);
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(d), Arc::new(n)]).unwrap();
        let parts = Partitions::new(&schema, &["d".into()]).unwrap().split(&batch).unwrap();
        let seen: Vec<_> = parts
            .iter()
            .map(|p| (p.values[0].as_deref(), p.rows.column(0).as_primitive::<Int32Type>().values().to_vec()))
            .collect();
        assert_eq!(seen, vec![(Some("0"), vec![1, 4]), (Some("-0"), vec![2]), (None, vec![3]), (Some("NaN"), vec![5])]);
    }
}
