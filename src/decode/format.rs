//! The list of formats, and the interface of a format: options that make a decoder.
//!
//! A new format is a file with its options (`FormatOptions`) and its decoder (`Decode`), and a line in `formats!` below. Error texts
//! and descriptions take the names from that list.

use super::json::{JsonOptions, TimestampUnit};
use super::jsonl::JsonlOptions;
use super::raw::RawOptions;
use super::{Malformed, Result};
use crate::Error;
use crate::batch::Messages;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The options of formats, as a user gives them. Each format uses the options that it knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    pub timezone: Option<String>,
    pub timestamp_unit: Option<TimestampUnit>,
    /// By the path of a field, as "a.b".
    pub timestamp_units: BTreeMap<String, TimestampUnit>,
    pub allow_quoted_numbers: bool,
    pub allow_nan: bool,
    pub missing_is_malformed: bool,
    /// `schema=` is one type, an ARRAY or a MAP, for the document as a whole. Its one column is `value`.
    pub whole: bool,
}

/// The parameters of a factory besides the options of its format.
pub struct Setup<'a> {
    /// `schema=`, if it was given.
    pub declared: Option<&'a SchemaRef>,
    /// A message with a null value becomes a row of NULLs.
    pub null_rows: bool,
    pub resolver: Arc<dyn SchemaResolver>,
}

/// The options of one format.
pub trait FormatOptions {
    /// The values of `format=` that mean this format; the first is its name. Lower case.
    fn names() -> &'static [&'static str]
    where
        Self: Sized;

    /// A few words about the format, for the error that lists the formats. May be empty.
    fn about() -> &'static str
    where
        Self: Sized;

    fn read(given: Given) -> Result<Self>
    where
        Self: Sized;

    /// The columns of the format's rows, given `schema=`.
    fn schema(&self, declared: Option<&SchemaRef>) -> Result<SchemaRef>;

    /// The factory. It refuses options and types that the format does not support.
    fn decoder(&self, setup: Setup<'_>) -> Result<Box<dyn Decode>>;

    /// The format and its options as text. The names of state on disk contain this text, so later versions must write the same
    /// text for the same options.
    fn identity(&self) -> String;
}

/// Turns messages into rows. A decoder is pure: it does no I/O, and everything that it needs from outside is passed in.
pub trait Decode: Send {
    /// Decodes the messages at `wanted`, in that order.
    fn decode(&mut self, messages: &Messages, wanted: &[u32]) -> Result<Rows>;

    /// Advice about the declared schema that follows from the messages so far, one text each.
    fn hints(&self) -> Vec<String> {
        vec![]
    }
}

/// The decoded messages of one call.
#[derive(Debug)]
pub struct Rows {
    pub rows: RecordBatch,
    /// The message of each row.
    pub messages: Vec<u32>,
    pub malformed: Vec<Malformed>,
    pub tombstones: Vec<u32>,
    pub unknown_fields: u64,
}

impl Rows {
    pub fn new(rows: RecordBatch, messages: Vec<u32>) -> Self {
        Self { rows, messages, malformed: vec![], tombstones: vec![], unknown_fields: 0 }
    }
}

/// Finds a schema by the id that a message carries. The runner of a decoder passes it in, and asks the registry.
pub trait SchemaResolver: Send + Sync {
    /// The schema's text. `None`: there is no such schema, and a message with this id is malformed. An error means that the
    /// registry did not answer: it ends the call of `decode`, and no message is lost or counted.
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>>;
}

/// The resolver for formats whose messages carry no ids.
pub(crate) struct NoSchemas;

impl SchemaResolver for NoSchemas {
    fn schema(&self, _: u32) -> Result<Option<Arc<str>>> {
        Ok(None)
    }
}

/// Makes the enum of formats from the list of their options.
macro_rules! formats {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($format:ident($options:ty),)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        $vis enum $name {
            $($format($options),)*
        }

        impl $name {
            /// The format that `format=` names, in upper or lower case, with the options that it knows.
            $vis fn read(name: &str, given: $crate::decode::Given) -> $crate::Result<Self> {
                use $crate::decode::FormatOptions;
                let lower = name.to_lowercase();
                $(
                    if <$options>::names().contains(&lower.as_str()) {
                        return Ok(Self::$format(<$options>::read(given)?));
                    }
                )*
                Err($crate::decode::format::unknown(name, &[$((<$options>::names()[0], <$options>::about()),)*]))
            }

            $vis fn name(&self) -> &'static str {
                match self {
                    $(Self::$format(_) => <$options as $crate::decode::FormatOptions>::names()[0],)*
                }
            }

            $vis fn options(&self) -> &dyn $crate::decode::FormatOptions {
                match self {
                    $(Self::$format(options) => options,)*
                }
            }
        }
    };
}
#[cfg(test)]
pub(super) use formats;

formats! {
    /// How messages are encoded, with the options of that format.
    pub enum Format {
        Json(JsonOptions),
        Jsonl(JsonlOptions),
        Raw(RawOptions),
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::Json(JsonOptions::default())
    }
}

/// The error for a `format=` that is not in the list.
pub(super) fn unknown(name: &str, known: &[(&str, &str)]) -> Error {
    let each = |(name, about): &(&str, &str)| match *about {
        "" => format!("format=\"{name}\""),
        about => format!("format=\"{name}\" ({about})"),
    };
    let mut all: Vec<String> = known.iter().map(each).collect();
    let last = all.pop().unwrap_or_default();
    let all = if all.is_empty() { last } else { format!("{} or {last}", all.join(", ")) };
    Error::config(format!("format='{name}' is not a format that this version reads. Use {all}."))
}
