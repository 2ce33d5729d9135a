//! A column whose values are decoded as if they were messages.

use super::{Op, Stream};
use crate::decode::{DecodeOptions, Decoder, Format};
use crate::expr::{Bound, Dialect, bind, quoted, resolve_column, to_ddl, type_to_ddl};
use crate::flow::said::Said;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// A column that is decoded.
pub struct DecodeColumn {
    /// Text or bytes.
    pub value: Bound,
    pub declared: Option<SchemaRef>,
    pub options: DecodeOptions,
    /// The result is the only column of the decoder, and not a struct of its columns.
    pub whole: bool,
    /// The index of the result among the columns of `schema`.
    pub into: usize,
    pub schema: SchemaRef,
}

impl DecodeColumn {
    pub fn result_name(&self) -> &str {
        self.schema.field(self.into).name()
    }

    pub fn describe(&self) -> String {
        let into = if self.result_name() == self.value.name { "" } else { self.result_name() };
        let into = if into.is_empty() { String::new() } else { format!(" into {into}") };
        format!("decode {} as {}{into}", self.value.name, self.options.format.name())
    }
}

impl Stream {
    /// Decodes the values of a column. The result is a STRUCT, or the one column of documents that are lists or maps, in the place of the column `into`, or behind all columns.
    pub fn decode(
        &self,
        column: &str,
        declared: Option<SchemaRef>,
        format: Format,
        into: Option<&str>,
    ) -> Result<Self> {
        if matches!(format, Format::Raw(_)) {
            return Err(Error::config("decode() with format=\"raw\" has nothing to decode. Use the column as it is."));
        }
        let index = resolve_column(column, self.schema())?;
        let name = self.schema().field(index).name().clone();
        let value = bind(&quoted(&name), self.schema(), Dialect::Databricks)?;
        if !matches!(value.data_type, DataType::Utf8 | DataType::Binary) {
            return Err(Error::schema(format!(
                "decode() needs a STRING or BINARY column, and '{name}' is {}",
                type_to_ddl(&value.data_type)
            )));
        }
        let options = DecodeOptions { format, ..DecodeOptions::default() };
        let decoder = Decoder::new(declared.as_ref(), &options).map_err(|e| e.context("decode()"))?;
        let into = into.unwrap_or(&name);
        let fields = decoder.schema().fields();
        let whole = match &options.format {
            Format::Json(json) => json.whole,
            Format::Jsonl(_) => true,
            Format::Raw(_) => false,
        };
        let data_type = if whole { fields[0].data_type().clone() } else { DataType::Struct(fields.clone()) };
        let result = Field::new(into, data_type, true);
        let mut fields: Vec<Field> = self.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        let place = match fields.iter().position(|f| f.name().eq_ignore_ascii_case(into)) {
            Some(place) => {
                fields[place] = result.with_name(fields[place].name().clone());
                place
            }
            None => {
                fields.push(result);
                fields.len() - 1
            }
        };
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let said = Said::Decode {
            column: column.into(),
            values: declared.as_ref().map(|s| to_ddl(s)),
            format: options.format.clone(),
            into: Some(into.to_string()).filter(|i| *i != name),
        };
        let replaced = schema.field(place).name().clone();
        let event_time = self.0.event_time.clone().filter(|e| e.column != replaced);
        let keys = self.0.merge_keys.as_ref().map(|keys| {
            let kept = |key: &Option<String>| key.clone().filter(|k| *k != replaced);
            keys.iter().map(kept).collect()
        });
        let spec = DecodeColumn { value, declared, options, whole, into: place, schema: schema.clone() };
        Ok(self.then(Op::Decode(Arc::new(spec)), said, schema, event_time.clone()).with(event_time, keys))
    }
}
