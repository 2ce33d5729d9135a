//! Bytes to Arrow: one file per format, the list of formats, and the decoder that they share.
//!
//! A message becomes one row or no row. (Later, SQL may make several rows of one row.) A message that cannot be decoded
//! never changes its neighbours: it is reported with its place, and the query's option `on_malformed` decides what
//! happens to the message.

mod decrypt;
mod format;
pub(crate) mod json;
pub(crate) mod jsonl;
mod options;
pub(crate) mod raw;
#[cfg(test)]
mod test;

pub(crate) use format::{Decode, FormatOptions, NoSchemas, Rows, SchemaResolver, Setup};
pub use format::{Format, Given};
pub use options::DecodeOptions;
pub(crate) use options::{Decrypt, OnTombstone};

use crate::batch::{Batch, Messages, Origin, TooLarge};
use crate::{Error, Result};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// A message that could not be decoded, and the reason. The text never contains any of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub message: u32,
    pub error: String,
    /// The field of the message, where the error is about one.
    pub field: Option<String>,
}

/// Decoded messages.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub batch: Batch,
    pub malformed: Vec<Malformed>,
    pub tombstones: Vec<u32>,
    pub unknown_fields: u64,
}

/// Decodes the messages of one source: the decoder of the format, and what all formats have in common.
pub(crate) struct Decoder {
    schema: SchemaRef,
    format: Box<dyn Decode>,
    include_metadata: bool,
    max_message_bytes: usize,
    decrypt: Option<Decrypt>,
}

/// The columns of a source, given `schema=`.
pub(crate) fn output_schema(declared: Option<&SchemaRef>, options: &DecodeOptions) -> Result<SchemaRef> {
    schema_of(options.format.options(), declared, options)
}

fn schema_of(format: &dyn FormatOptions, declared: Option<&SchemaRef>, options: &DecodeOptions) -> Result<SchemaRef> {
    let base = format.schema(declared)?;
    if !options.include_metadata {
        return Ok(base);
    }
    let mut fields: Vec<_> = base.fields().iter().cloned().collect();
    for extra in raw::metadata_fields() {
        if fields.iter().any(|f| f.name() == extra.name()) {
            return Err(Error::schema(format!(
                "include_metadata=True adds the column {}, which the schema has already. Rename the field in the schema.",
                extra.name()
            )));
        }
        fields.push(extra);
    }
    Ok(Arc::new(Schema::new(fields)))
}

impl Decoder {
    /// A decoder for formats whose messages carry no ids of schemas.
    pub(crate) fn new(declared: Option<&SchemaRef>, options: &DecodeOptions) -> Result<Self> {
        Self::with_resolver(declared, options, Arc::new(NoSchemas))
    }

    pub(crate) fn with_resolver(
        declared: Option<&SchemaRef>,
        options: &DecodeOptions,
        resolver: Arc<dyn SchemaResolver>,
    ) -> Result<Self> {
        Self::of(options.format.options(), declared, options, resolver)
    }

    /// A decoder of `format`. Of `options`, only those that all formats have in common are read.
    fn of(
        format: &dyn FormatOptions,
        declared: Option<&SchemaRef>,
        options: &DecodeOptions,
        resolver: Arc<dyn SchemaResolver>,
    ) -> Result<Self> {
        let schema = schema_of(format, declared, options)?;
        let null_rows = options.on_tombstone == OnTombstone::NullRow;
        if null_rows && let Some(set) = declared.and_then(|s| s.fields().iter().find(|f| !f.is_nullable())) {
            return Err(Error::config(format!(
                "on_tombstone=\"null_row\" turns a tombstone into a row of NULLs, and column '{}' is NOT NULL. Remove NOT NULL from the \
                 schema, or say on_tombstone=\"skip\" or \"quarantine\".",
                set.name()
            )));
        }
        let format = format.decoder(Setup { declared, null_rows, resolver })?;
        let DecodeOptions { include_metadata, max_message_bytes, .. } = *options;
        let decrypt = options.decrypt.clone();
        Ok(Self { schema, format, include_metadata, max_message_bytes, decrypt })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Advice about the schema that follows from the messages so far, one text each.
    pub(crate) fn hints(&self) -> Vec<String> {
        self.format.hints()
    }

    /// The messages at `wanted` that are too large to be decoded, and the others.
    fn too_large(&self, messages: &Messages, wanted: &[u32]) -> (Vec<Malformed>, Vec<u32>) {
        let limit = self.max_message_bytes;
        let (mut large, mut within) = (vec![], vec![]);
        for message in wanted {
            let Some(TooLarge { part, bytes }) = messages.above(*message as usize, limit) else {
                within.push(*message);
                continue;
            };
            let verb = if part == "headers" { "have" } else { "has" };
            let error = format!("the {part} {verb} more bytes than max_message_bytes={limit} ({bytes} bytes)");
            large.push(Malformed { message: *message, error, field: None });
        }
        (large, within)
    }

    /// Decodes the messages at `wanted`, in that order.
    pub(crate) fn decode(&mut self, messages: &Arc<Messages>, wanted: &[u32]) -> Result<Decoded> {
        let (mut large, within): (Vec<Malformed>, Vec<u32>);
        let wanted = if messages.any_above(self.max_message_bytes) {
            (large, within) = self.too_large(messages, wanted);
            &within
        } else {
            large = vec![];
            wanted
        };
        let mut out = match &self.decrypt {
            None => self.format.decode(messages, wanted)?,
            Some(function) => {
                let (clear, places, mut failed) = decrypt::clear(&*function.0, messages, wanted)?;
                let all: Vec<u32> = (0..places.len() as u32).collect();
                let mut out = self.format.decode(&Arc::new(clear), &all)?;
                let back = |i: &mut u32| *i = places[*i as usize];
                out.messages.iter_mut().chain(&mut out.tombstones).for_each(back);
                out.malformed.iter_mut().for_each(|m| back(&mut m.message));
                large.append(&mut failed);
                out
            }
        };
        let rows = if self.include_metadata {
            let mut columns = out.rows.columns().to_vec();
            columns.extend(raw::metadata(messages, &out.messages));
            RecordBatch::try_new(self.schema.clone(), columns)?
        } else {
            out.rows
        };
        if !large.is_empty() {
            out.malformed.append(&mut large);
            out.malformed.sort_by_key(|m| m.message);
        }
        let origin = Origin::new(messages.clone(), UInt32Array::from(out.messages));
        Ok(Decoded {
            batch: Batch::new(rows, Some(origin)),
            malformed: out.malformed,
            tombstones: out.tombstones,
            unknown_fields: out.unknown_fields,
        })
    }
}
