//! `from_json`: a column of text through the reader of messages. A value that does not fit is the error of its row, or NULL where the call says
//! so (`try_from_json`, mode PERMISSIVE).

use super::evaluate::row_error;
use super::parse::Parser;
use super::{ddl, lex};
use crate::json::{Column, ColumnOptions, Cursor, Fault, Taken, TimestampUnit, fault};
use crate::stack::with_room;
use crate::{Error, Result, calendar};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use chrono_tz::Tz;
use datafusion::error::Result as DfResult;

/// The options of a call, by Spark's names.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub r#try: bool,
    zone: Option<Tz>,
    unit: Option<TimestampUnit>,
    nan: bool,
}

impl Options {
    pub(super) fn of_values(r#try: bool) -> Self {
        Self { r#try, ..Self::default() }
    }

    /// Reads `map('mode', 'PERMISSIVE', …)`.
    pub(super) fn read(pairs: &[(String, String)], r#try: bool) -> Result<Self> {
        let mut out = Self::of_values(r#try);
        for (name, value) in pairs {
            let wrong =
                |known: &str| Err(Error::schema(format!("from_json: the option {name} is {known}, not '{value}'")));
            match (name.to_lowercase().as_str(), value.to_lowercase().as_str()) {
                ("mode", "permissive") => out.r#try = true,
                ("mode", "failfast") => out.r#try = false,
                ("mode", _) => {
                    return wrong("PERMISSIVE (NULL where a text does not fit) or FAILFAST (the row's error)");
                }
                ("timezone", _) => out.zone = calendar::named(value)?,
                ("timestampunit", unit) => {
                    out.unit = Some(match unit {
                        "s" => TimestampUnit::S,
                        "ms" => TimestampUnit::Ms,
                        "us" => TimestampUnit::Us,
                        "ns" => TimestampUnit::Ns,
                        _ => return wrong("s, ms, us or ns"),
                    });
                }
                ("allownonnumericnumbers", "true") => out.nan = true,
                ("allownonnumericnumbers", "false") => out.nan = false,
                ("allownonnumericnumbers", _) => return wrong("true or false"),
                _ => {
                    return Err(Error::schema(format!(
                        "from_json: the option {name} is not supported. The options are mode, timeZone, timestampUnit and allowNonNumericNumbers."
                    )));
                }
            }
        }
        Ok(out)
    }
}

/// The type that a schema text means: a type, or columns.
pub(super) fn type_of(text: &str) -> Result<DataType> {
    with_room(|| {
        let alone = Parser::new(text).and_then(|mut parser| {
            let found = ddl::data_type(&mut parser)?;
            if parser.peek() == &lex::Token::End { Ok(found) } else { Err(Error::schema("more than a type")) }
        });
        match alone {
            Ok(found) => Ok(found),
            Err(_) => ddl::parse_ddl(text).map(|schema| DataType::Struct(schema.fields().clone())),
        }
    })
}

/// Reads texts as values of one type.
#[derive(Clone)]
pub(super) struct Reader {
    field: Field,
    options: Options,
}

impl Reader {
    pub(super) fn new(data_type: DataType, options: Options) -> Result<Self> {
        let reader = Self { field: Field::new("value", data_type, true), options };
        reader.column()?;
        Ok(reader)
    }

    fn column(&self) -> Result<Column> {
        let Options { zone, unit, .. } = self.options;
        Column::new(&self.field, "", &|_| ColumnOptions { zone, unit, ..ColumnOptions::default() })
    }

    pub(super) fn read<'a>(&self, rows: usize, text: impl Fn(usize) -> Option<&'a str>) -> DfResult<ArrayRef> {
        let internal = |e: Error| row_error(e.message);
        let mut column = self.column().map_err(internal)?;
        for row in 0..rows {
            let Some(text) = text(row) else {
                column.push_null();
                continue;
            };
            if let Err(f) = self.one(&mut column, text) {
                if !self.options.r#try {
                    return Err(row_error(described(&f)));
                }
                column.truncate(row);
                column.push_null();
            }
        }
        column.finish().map_err(internal)
    }

    fn one(&self, column: &mut Column, text: &str) -> Result<(), Box<Fault>> {
        let mut cursor = Cursor::new(text.as_bytes());
        cursor.taken = Taken { nan: self.options.nan, ..Taken::UNNAMED };
        column.read(&mut cursor, 0)?;
        cursor.skip_space();
        if cursor.at == text.len() { Ok(()) } else { fault("more than one JSON document in one text", cursor.at) }
    }
}

fn described(f: &Fault) -> String {
    match f.field.as_str() {
        "" => format!("JSON: {}", f.what),
        field => format!("JSON, field '{field}': {}", f.what),
    }
}
