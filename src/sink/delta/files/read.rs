//! Reads a data file, also one that Spark wrote.

use arrow::datatypes::*;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type;
use parquet::errors::Result;
use std::sync::Arc;

/// The number of rows that are read at a time.
const ROWS: usize = 1 << 16;

/// The rows of a file. Spark's 96-bit timestamps are read as microseconds. Arrow would take them for nanoseconds, and
/// those outside the years 1677 to 2262 would become different times.
pub(crate) fn read(file: Bytes) -> Result<Batches> {
    read_columns(file, ROWS, |_| true)
}

/// The rows of a file.
pub(crate) type Batches = ParquetRecordBatchReader;

/// The rows of a file, `rows` at a time, in the columns whose names are wanted.
pub(crate) fn read_columns(file: Bytes, rows: usize, wanted: impl Fn(&str) -> bool) -> Result<Batches> {
    let mut metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
    let columns = metadata.metadata().file_metadata().schema_descr();
    if columns.columns().iter().any(|c| c.physical_type() == Type::INT96) {
        let fields: Vec<Field> = metadata.schema().fields().iter().map(|f| in_microseconds(f)).collect();
        let schema = Arc::new(Schema::new(fields));
        metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new().with_schema(schema))?;
    }
    let fields = metadata.schema().fields().iter().enumerate();
    let roots: Vec<usize> = fields.filter(|(_, f)| wanted(f.name())).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(metadata.metadata().file_metadata().schema_descr(), roots);
    ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_batch_size(rows)
        .build()
}

fn in_microseconds(field: &Field) -> Field {
    let inner = |f: &FieldRef| Arc::new(in_microseconds(f));
    let data_type = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(f) => DataType::List(inner(f)),
        DataType::Map(f, sorted) => DataType::Map(inner(f), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}
