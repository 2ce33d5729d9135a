//! Finds the column for each part of a message.

use super::ProduceOptions;
use crate::{
    batch::Headers,
    error::{Error, Result, did_you_mean},
    kafka::encode::{BytesColumn, JsonEncoder},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StructArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit},
};
use rdkafka::message::{Header, OwnedHeaders};

/// Computed once for each schema.
pub(super) struct Plan {
    schema: SchemaRef,
    json: JsonEncoder,
    key: Option<usize>,
    value: Option<usize>,
    partition: Option<usize>,
    timestamp: Option<usize>,
    headers: Option<usize>,
}

impl Plan {
    pub(super) fn new(schema: &SchemaRef, options: &ProduceOptions) -> Result<Self> {
        let find = |what: &str, name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => column(schema, what, name).map(Some),
        };
        let key = find("key", &options.key)?;
        let value = find("value", &options.value)?;
        let partition = find("partition", &options.partition_column)?;
        let timestamp = find("timestamp", &options.timestamp)?;
        let headers = find("headers", &options.headers_column)?;
        let mut skip: Vec<usize> = partition.into_iter().chain(headers).collect();
        if !options.include_key_in_value {
            skip.extend(key);
        }
        if value.is_some() {
            skip = (0..schema.fields().len()).collect();
        }
        let json = JsonEncoder::new(schema, &skip)?;
        Ok(Self { schema: schema.clone(), json, key, value, partition, timestamp, headers })
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// `first` is the number of the first row, for errors.
    pub(super) fn messages<'a>(&self, batch: &'a RecordBatch, first: u64) -> Result<Messages<'a>> {
        let field = |i: usize| batch.schema_ref().field(i);
        let bytes = |i: Option<usize>| i.map(|i| BytesColumn::new(batch.column(i), field(i), first)).transpose();
        let (mut json, mut ends) = (Vec::new(), Vec::new());
        let value = bytes(self.value)?;
        if value.is_none() {
            self.json.encode(batch, first, &mut json, &mut ends)?;
        }
        Ok(Messages {
            json,
            ends,
            value,
            key: bytes(self.key)?,
            partition: self.partition.map(|i| partitions(batch.column(i), field(i))).transpose()?,
            timestamp: self.timestamp.map(|i| timestamps(batch.column(i), field(i))).transpose()?,
            headers: self.headers.map(|i| HeadersColumn::new(batch.column(i), field(i))).transpose()?,
        })
    }
}

fn column(schema: &Schema, what: &str, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let names = schema.fields().iter().map(|f| f.name().as_str());
        let hint = did_you_mean(name, names.clone());
        let all = names.collect::<Vec<_>>().join(", ");
        Error::schema(format!("there is no column '{name}' for the {what}.{hint} The columns are {all}."))
    })
}

/// The messages of a batch, by part.
pub(super) struct Messages<'a> {
    json: Vec<u8>,
    ends: Vec<usize>,
    value: Option<BytesColumn<'a>>,
    key: Option<BytesColumn<'a>>,
    partition: Option<Int32Array>,
    timestamp: Option<Int64Array>,
    headers: Option<HeadersColumn<'a>>,
}

impl Messages<'_> {
    #[inline]
    pub(super) fn key<'s>(&'s self, row: usize, scratch: &'s mut Vec<u8>) -> Result<Option<&'s [u8]>> {
        self.key.as_ref().map_or(Ok(None), |key| key.get(row, scratch))
    }

    #[inline]
    pub(super) fn value<'s>(&'s self, row: usize, scratch: &'s mut Vec<u8>) -> Result<Option<&'s [u8]>> {
        match &self.value {
            Some(value) => value.get(row, scratch),
            None => {
                let start = if row == 0 { 0 } else { self.ends[row - 1] };
                Ok(Some(&self.json[start..self.ends[row]]))
            }
        }
    }

    /// The JSON of all rows; row i ends at the i-th number. Empty if a column is the value.
    pub(super) fn take_json(&mut self) -> (Vec<u8>, Vec<usize>) {
        (std::mem::take(&mut self.json), std::mem::take(&mut self.ends))
    }

    pub(super) fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// The headers of the row's own column.
    pub(super) fn own_headers(&self, row: usize) -> Result<Option<Headers>> {
        let Some(column) = self.headers.as_ref().filter(|c| c.array.is_valid(row)) else { return Ok(None) };
        let mut out = Headers::new();
        column.each(row, &mut |name, value| out.push((name.into(), value.map(<[u8]>::to_vec))))?;
        Ok(Some(out))
    }

    pub(super) fn partition(&self, row: usize) -> Option<i32> {
        self.partition.as_ref().filter(|p| p.is_valid(row)).map(|p| p.value(row))
    }

    pub(super) fn timestamp(&self, row: usize) -> Option<i64> {
        self.timestamp.as_ref().filter(|t| t.is_valid(row)).map(|t| t.value(row))
    }

    /// The headers for every message, then the headers of the row.
    pub(super) fn headers(&self, row: usize, fixed: &[(String, Option<Vec<u8>>)]) -> Result<Option<OwnedHeaders>> {
        if fixed.is_empty() && self.headers.is_none() {
            return Ok(None);
        }
        let mut headers = OwnedHeaders::new_with_capacity(fixed.len());
        for (key, value) in fixed {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        match &self.headers {
            Some(column) => column.add(row, headers).map(Some),
            None => Ok(Some(headers)),
        }
    }
}

fn partitions(array: &ArrayRef, field: &Field) -> Result<Int32Array> {
    if !array.data_type().is_integer() {
        return Err(Error::schema(format!(
            "column '{}' for the partition must contain whole numbers, not {}",
            field.name(),
            array.data_type()
        )));
    }
    Ok(strict_cast(array, field, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
}

/// Milliseconds. A finer time is cut, because Kafka stores only milliseconds.
fn timestamps(array: &ArrayRef, field: &Field) -> Result<Int64Array> {
    let millis = match array.data_type() {
        DataType::Timestamp(_, zone) => {
            strict_cast(array, field, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?
        }
        t if t.is_integer() => array.clone(),
        other => {
            return Err(Error::schema(format!(
                "column '{}' for the timestamp must be TIMESTAMP or a number of milliseconds, not {other}",
                field.name()
            )));
        }
    };
    Ok(strict_cast(&millis, field, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn strict_cast(array: &ArrayRef, field: &Field, to: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &strict).map_err(|e| Error::malformed(format!("column '{}': {e}", field.name())))
}

/// A column of maps, or of lists of (key, value).
struct HeadersColumn<'a> {
    array: &'a ArrayRef,
    keys: BytesColumn<'a>,
    values: BytesColumn<'a>,
    offsets: &'a [i32],
    name: &'a str,
}

impl<'a> HeadersColumn<'a> {
    fn new(array: &'a ArrayRef, field: &'a Field) -> Result<Self> {
        let wrong = || {
            Error::schema(format!(
                "column '{}' for headers must be a MAP<STRING, …> or an ARRAY<STRUCT<key STRING, value …>>, not {}",
                field.name(),
                array.data_type()
            ))
        };
        let (entries, offsets): (&StructArray, _) = match array.data_type() {
            DataType::Map(..) => (array.as_map().entries(), array.as_map().value_offsets()),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (list.values().as_struct_opt().ok_or_else(wrong)?, list.value_offsets())
            }
            _ => return Err(wrong()),
        };
        if entries.num_columns() != 2 {
            return Err(wrong());
        }
        let part = |i: usize| BytesColumn::new(entries.column(i), &entries.fields()[i], 0);
        Ok(Self { array, keys: part(0)?, values: part(1)?, offsets, name: field.name() })
    }

    fn add(&self, row: usize, headers: OwnedHeaders) -> Result<OwnedHeaders> {
        let mut headers = Some(headers);
        self.each(row, &mut |key, value| headers = headers.take().map(|h| h.insert(Header { key, value })))?;
        headers.ok_or_else(|| Error::internal("the headers of a message are gone"))
    }

    fn each(&self, row: usize, add: &mut dyn FnMut(&str, Option<&[u8]>)) -> Result<()> {
        if self.array.is_null(row) {
            return Ok(());
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for entry in self.offsets[row] as usize..self.offsets[row + 1] as usize {
            let name = self.keys.get(entry, &mut key)?.and_then(|name| std::str::from_utf8(name).ok());
            let name = name.ok_or_else(|| {
                Error::malformed(format!("column '{}': a header without a name in row {row} of the batch", self.name))
            })?;
            add(name, self.values.get(entry, &mut value)?);
        }
        Ok(())
    }
}
