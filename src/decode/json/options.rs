//! The options of `format="json"`.

use super::{ColumnOptions, JsonDecoder, TimestampUnit};
use crate::decode::{Decode, FormatOptions, Given, Setup};
use crate::json::Taken;
use crate::{Error, Result, calendar};
use arrow::datatypes::{DataType, Fields, SchemaRef};
use chrono_tz::Tz;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct JsonOptions {
    /// The zone of timestamps without an offset; the default is UTC.
    pub timezone: Option<String>,
    /// The unit of numbers in TIMESTAMP columns.
    pub timestamp_unit: Option<TimestampUnit>,
    /// The units of single fields, by path, as "a.b". The unit of a struct counts for those of its fields that have no
    /// unit of their own.
    pub timestamp_units: BTreeMap<String, TimestampUnit>,
    /// In columns of numbers, a string that holds a number is read as that number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_quoted_numbers: bool,
    /// NaN, Infinity and -Infinity are values of FLOAT and DOUBLE columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_nan: bool,
    /// A message without one of the schema's fields is malformed. Otherwise the field is NULL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing_is_malformed: bool,
    /// The document as a whole is a list or a map. It becomes the only column, `value`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl JsonOptions {
    /// Refuses zones and fields that do not exist.
    pub(in crate::decode) fn check(&self, declared: Option<&SchemaRef>) -> Result<Option<Tz>> {
        let zone = self.timezone.as_deref().map_or(Ok(None), calendar::named)?;
        for column in self.timestamp_units.keys() {
            let inner = |s: &SchemaRef| inside(s.field(0).data_type()).is_some_and(|fields| has_path(fields, column));
            if declared.is_none_or(|s| if self.whole { !inner(s) } else { !has_path(s.fields(), column) }) {
                return Err(Error::config(format!(
                    "timestamp_unit names the column '{column}', which the schema does not have"
                )));
            }
        }
        Ok(zone)
    }

    /// The options by name, in the form that names state on disk.
    pub(in crate::decode) fn identity_of(&self, format: &str) -> String {
        let name = |unit: TimestampUnit| match unit {
            TimestampUnit::S => "S",
            TimestampUnit::Ms => "Ms",
            TimestampUnit::Us => "Us",
            TimestampUnit::Ns => "Ns",
        };
        let unit = self.timestamp_unit.map_or("None".to_string(), |unit| format!("Some({})", name(unit)));
        let each = |(path, unit): (&String, &TimestampUnit)| format!("{path:?}: {}", name(*unit));
        let units: Vec<String> = self.timestamp_units.iter().map(each).collect();
        // These options are newer: the text has them only where they are set, so that state of older versions is found.
        let flags = [
            (self.allow_quoted_numbers, "allow_quoted_numbers"),
            (self.allow_nan, "allow_nan"),
            (self.missing_is_malformed, "missing_is_malformed"),
            (self.whole, "whole"),
        ];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| format!(", {name}: true")).collect();
        format!(
            "format: {format}, timezone: {:?}, timestamp_unit: {unit}, timestamp_units: {{{}}}{flags}",
            self.timezone,
            units.join(", ")
        )
    }

    /// The texts that are accepted besides standard JSON.
    pub(in crate::decode) fn taken(&self) -> Taken {
        Taken { nan: self.allow_nan, quoted_numbers: self.allow_quoted_numbers, ..Taken::STANDARD }
    }

    /// The options of the fields within the column `value`, which is the document as a whole.
    pub(in crate::decode) fn within(&self, zone: Option<Tz>) -> impl Fn(&str) -> ColumnOptions {
        let all_required = self.missing_is_malformed;
        move |path| {
            let inner = path.strip_prefix("value").map_or(path, |rest| rest.trim_start_matches('.'));
            ColumnOptions { zone, unit: self.unit_of(inner), all_required }
        }
    }

    fn unit_of(&self, path: &str) -> Option<TimestampUnit> {
        let mut path = Some(path);
        while let Some(this) = path {
            if let Some(unit) = self.timestamp_units.get(this) {
                return Some(*unit);
            }
            path = this.rsplit_once('.').map(|(above, _)| above);
        }
        self.timestamp_unit
    }
}

impl FormatOptions for JsonOptions {
    fn names() -> &'static [&'static str] {
        &["json"]
    }

    fn about() -> &'static str {
        ""
    }

    fn read(given: Given) -> Result<Self> {
        Ok(Self {
            timezone: given.timezone,
            timestamp_unit: given.timestamp_unit,
            timestamp_units: given.timestamp_units,
            allow_quoted_numbers: given.allow_quoted_numbers,
            allow_nan: given.allow_nan,
            missing_is_malformed: given.missing_is_malformed,
            whole: given.whole,
        })
    }

    fn schema(&self, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
        match declared {
            Some(schema) if schema.fields().is_empty() => {
                Err(Error::schema("schema= has no columns. Write it as in schema=\"time TIMESTAMP, bpm INT\"."))
            }
            Some(schema) => Ok(schema.clone()),
            None => Err(Error::schema(
                "format=\"json\" needs schema=, a DDL string such as \"time TIMESTAMP, bpm INT\". To look at a topic first: peek(topic).",
            )),
        }
    }

    fn decoder(&self, setup: Setup<'_>) -> Result<Box<dyn Decode>> {
        let zone = self.check(setup.declared)?;
        let (schema, taken) = (self.schema(setup.declared)?, self.taken());
        if self.whole {
            let options = self.within(zone);
            return Ok(Box::new(JsonDecoder::of_whole(&schema, &options, setup.null_rows, taken)?));
        }
        let all_required = self.missing_is_malformed;
        let options = |path: &str| ColumnOptions { zone, unit: self.unit_of(path), all_required };
        Ok(Box::new(JsonDecoder::new(&schema, &options, setup.null_rows, taken)?))
    }

    fn identity(&self) -> String {
        self.identity_of("Json")
    }
}

/// The fields within a type. Lists and maps add nothing to a path.
fn inside(t: &DataType) -> Option<&Fields> {
    match t {
        DataType::Struct(fields) => Some(fields),
        DataType::List(item) => inside(item.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) => kv.get(1).and_then(|v| inside(v.data_type())),
            _ => None,
        },
        _ => None,
    }
}

/// Whether there is a field with this path, such as "a.b".
fn has_path(fields: &Fields, path: &str) -> bool {
    fields.iter().any(|f| {
        path == f.name()
            || path
                .strip_prefix(f.name().as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| inside(f.data_type()).is_some_and(|fields| has_path(fields, rest)))
    })
}
