//! Snapshot files: a checksum, a length, and one Arrow IPC stream. A damaged file, or a file of a different
//! aggregation, is refused.

use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use std::sync::Arc;

/// The version on which partial states depend.
pub(crate) const STATE_VERSION: &str = concat!("datafusion ", "55");

const MAGIC: &[u8; 8] = b"BAYOUST1";

/// Makes a snapshot file: magic, CRC-32 and length of the rest, then one Arrow IPC stream.
pub(crate) struct Encoder {
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
}

impl Encoder {
    pub(crate) fn new(schema: &SchemaRef, description: &str) -> Result<Self> {
        let metadata = [
            ("bayou.state".to_string(), description.to_string()),
            ("bayou.version".to_string(), STATE_VERSION.to_string()),
        ];
        let schema: SchemaRef = Arc::new(Schema::new(schema.fields().clone()).with_metadata(metadata.into()));
        let mut out = Vec::from(MAGIC);
        out.extend([0; 12]);
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        Ok(Self { writer: StreamWriter::try_new_with_options(out, &schema, options)?, schema })
    }

    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.writer.write(&RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())?)?)
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let mut out = self.writer.into_inner()?;
        let body = &out[20..];
        let (crc, len) = (crc32fast::hash(body), body.len() as u64);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out[12..20].copy_from_slice(&len.to_le_bytes());
        Ok(out)
    }
}

/// A snapshot file of these batches.
pub(crate) fn encode(schema: &SchemaRef, batches: &[RecordBatch], description: &str) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(schema, description)?;
    batches.iter().try_for_each(|b| encoder.push(b))?;
    encoder.finish()
}

/// Reads a snapshot file. A damaged file, or a file of different aggregates, is refused.
/// The rows are read batch by batch: a file can be as large as the state itself.
pub(crate) fn decode<'a>(
    bytes: &'a [u8],
    description: &str,
    schema: &SchemaRef,
    name: &'a str,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<'a>> {
    let reader = open(bytes, description, name)?;
    let found = reader.schema();
    // The checksum is right, so these types belong to a different definition.
    let other = |(old, new): &(&FieldRef, &FieldRef)| old.data_type() != new.data_type();
    let changed = found.fields().iter().zip(schema.fields()).find(other);
    if found.fields().len() != schema.fields().len() || changed.is_some() {
        let what = changed.map_or_else(
            || {
                format!(
                    "it has {1} columns of state, and the file has {0}",
                    found.fields().len(),
                    schema.fields().len()
                )
            },
            |(old, new)| {
                format!("{} was {} and is {}", new.name(), type_text(old.data_type()), type_text(new.data_type()))
            },
        );
        return Err(Error::config(format!(
            "the types under the aggregation \"{description}\" have changed ({what}), and its state cannot be carried over. CAST the argument to its \
             old type, or write to a new table, or start over with full_refresh=True."
        )));
    }
    let schema = schema.clone();
    Ok(reader.map(move |batch| {
        let batch = batch.map_err(|_| damaged(name, "not Arrow IPC"))?;
        RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|_| damaged(name, "its columns differ"))
    }))
}

/// The name of the type in SQL, if there is one.
fn type_text(t: &DataType) -> String {
    match t {
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 => "STRING".into(),
        DataType::Binary => "BINARY".into(),
        DataType::Decimal128(p, s) => format!("DECIMAL({p},{s})"),
        DataType::List(f) => format!("ARRAY<{}>", type_text(f.data_type())),
        other => other.to_string(),
    }
}

fn damaged(name: &str, what: &str) -> Error {
    Error::storage(format!(
        "the state file {name} is damaged ({what}). Restore it from a backup, or start over with full_refresh=True."
    ))
}

/// Reads a file with its own columns.
pub(crate) fn read(bytes: &[u8], description: &str, name: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let reader = open(bytes, description, name)?;
    let found = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|_| damaged(name, "not Arrow IPC"))?;
    Ok((found, batches))
}

fn open<'a>(bytes: &'a [u8], description: &str, name: &str) -> Result<StreamReader<&'a [u8]>> {
    let damaged = |what: &str| damaged(name, what);
    // The last byte is the version of the format.
    if bytes.len() >= 20 && bytes[..7] == MAGIC[..7] && bytes[7].is_ascii_digit() && bytes[7] != MAGIC[7] {
        let (found, known) = (char::from(bytes[7]), char::from(MAGIC[7]));
        let (age, instead) = match found > known {
            true => ("a newer", "Upgrade bayou"),
            false => ("an older", "Use that version"),
        };
        return Err(Error::config(format!(
            "the state file {name} was written by {age} bayou (format {found}, this one reads {known}). {instead}, or start over with \
             full_refresh=True."
        )));
    }
    if bytes.len() < 20 || &bytes[..8] != MAGIC {
        return Err(damaged("not a state file of a known version"));
    }
    let word = |r: std::ops::Range<usize>| bytes[r].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let body = &bytes[20..];
    if word(12..20) != body.len() as u64 {
        return Err(damaged("its length is wrong"));
    }
    if word(8..12) != u64::from(crc32fast::hash(body)) {
        return Err(damaged("its checksum is wrong"));
    }
    let reader = StreamReader::try_new(body, None).map_err(|_| damaged("not Arrow IPC"))?;
    let found = reader.schema();
    let metadata = found.metadata();
    let version = metadata.get("bayou.version").map_or("", String::as_str);
    if version != STATE_VERSION {
        return Err(Error::config(format!(
            "the state file {name} was written by '{version}', and this is '{STATE_VERSION}'. Partial states cannot \
             be carried over. Finish with the older bayou, or start over with full_refresh=True."
        )));
    }
    let other = metadata.get("bayou.state").map_or("", String::as_str);
    if other != description {
        return Err(Error::config(format!(
            "the state file {name} belongs to a different aggregation ({other} instead of {description}). Start over with full_refresh=True."
        )));
    }
    Ok(reader)
}
