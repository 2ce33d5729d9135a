//! CSV in a text: one record, whose fields become those of a STRUCT, and back. Records are split as Spark's reader splits them.

use super::{Call, Spec, spec};
use crate::expr::cast;
use crate::expr::coerce::Param::{Any, Text};
use crate::expr::ddl::type_to_ddl;
use crate::expr::evaluate::row_error;
use crate::expr::from_json::type_of;
use crate::expr::kernel::{Args, Kernel, written};
use crate::expr::lists::record;
use crate::expr::node::Typed;
use crate::time::timestamp_type;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Fields};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use std::io::Write;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("from_csv", "from_csv(text, schema[, map(option, value, …)])", from_csv),
    spec("to_csv", "to_csv(struct[, map(option, value, …)])", to_csv),
    spec("schema_of_csv", "schema_of_csv(text[, map(option, value, …)]): of a constant", schema_of_csv),
];

/// The options of a call, by Spark's names.
#[derive(Clone, Debug)]
struct Options {
    separator: String,
    quote: char,
    escape: char,
    null: String,
    /// A field that does not fit is NULL, and the number of fields does not count.
    permissive: bool,
}

impl Options {
    fn read(c: &Call) -> Result<Self> {
        let mut out = Self { separator: ",".into(), quote: '"', escape: '\\', null: String::new(), permissive: false };
        for (name, value) in &c.options {
            let one = || match (value.chars().next(), value.chars().nth(1)) {
                (Some(one), None) => Ok(one),
                _ => Err(c.error(format!("the option {name} is one character, not '{value}'"))),
            };
            match (name.to_lowercase().as_str(), c.name) {
                ("sep" | "delimiter", _) if value.is_empty() => {
                    return Err(c.error(format!("the option {name} must not be empty")));
                }
                ("sep" | "delimiter", _) => out.separator = value.replace("\\t", "\t"),
                ("quote", _) => out.quote = one()?,
                ("escape", _) => out.escape = one()?,
                ("nullvalue", _) => out.null = value.clone(),
                ("mode", "from_csv") => match value.to_lowercase().as_str() {
                    "permissive" => out.permissive = true,
                    "failfast" => out.permissive = false,
                    _ => {
                        return Err(c.error(format!(
                            "the option mode is PERMISSIVE (a field that does not fit is NULL) or FAILFAST (the row's error), not '{value}'"
                        )));
                    }
                },
                _ => {
                    let mode = if c.name == "from_csv" { "mode, " } else { "" };
                    return Err(c.error(format!(
                        "the option {name} is not supported. There are {mode}sep, quote, escape and nullValue. For a time in a different form, read \
                         the field as STRING and use to_timestamp(field, pattern)"
                    )));
                }
            }
        }
        Ok(out)
    }

    /// Splits a record. A field in quotes may hold separators. What follows its closing quote makes it a field without quotes.
    fn split<'t>(&self, text: &'t str, out: &mut Vec<Field<'t>>) {
        out.clear();
        let mut rest = text;
        loop {
            let (field, behind) = if rest.starts_with(self.quote) { self.quoted(rest) } else { self.bare(rest, 0) };
            out.push(field);
            match behind {
                Some(behind) => rest = behind,
                None => return,
            }
        }
    }

    /// A field up to the first separator behind `from`.
    fn bare<'t>(&self, text: &'t str, from: usize) -> (Field<'t>, Option<&'t str>) {
        match text[from..].find(&self.separator) {
            Some(at) => (Field::Bare(&text[..from + at]), Some(&text[from + at + self.separator.len()..])),
            None => (Field::Bare(text), None),
        }
    }

    fn quoted<'t>(&self, text: &'t str) -> (Field<'t>, Option<&'t str>) {
        let mut value = String::new();
        let mut chars = text.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == self.escape
                && let Some((_, next)) = chars.peek().copied()
                && next == self.quote
            {
                value.push(next);
                chars.next();
            } else if c == self.quote {
                let behind = &text[at + c.len_utf8()..];
                if behind.is_empty() {
                    return (Field::Quoted(value), None);
                }
                return match behind.strip_prefix(&self.separator) {
                    Some(rest) => (Field::Quoted(value), Some(rest)),
                    None => self.bare(text, at),
                };
            } else {
                value.push(c);
            }
        }
        // The closing quote is missing.
        (Field::Quoted(value), None)
    }

    /// The value of a field, or NULL.
    fn value<'f>(&self, field: &'f Field<'_>) -> Option<&'f str> {
        match field {
            Field::Bare("") => None,
            Field::Bare(text) if *text == self.null => None,
            Field::Quoted(text) if *text == self.null => None,
            Field::Bare(text) => Some(text),
            Field::Quoted(text) => Some(text),
        }
    }
}

enum Field<'t> {
    Bare(&'t str),
    Quoted(String),
}

fn from_csv(c: Call) -> Result<Typed> {
    let options = Options::read(&c)?;
    let mut c = c.count(2, 2)?;
    let Some(ddl) = c.args[1].text() else {
        return Err(c.error("the schema must be a constant, such as 'a INT, b STRING'"));
    };
    let to = type_of(ddl).map_err(|e: Error| e.context(&c.sql))?;
    let DataType::Struct(fields) = &to else {
        return Err(c.error(format!("the schema is {}. It must be columns or a STRUCT<…>", type_to_ddl(&to))));
    };
    // As in Spark, every field may be NULL.
    let fields: Fields = fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>().into();
    let mut kernels = vec![];
    for field in &fields {
        let t = field.data_type();
        let kernel = if t.is_nested() { None } else { cast::text_kernel(t, options.permissive) };
        let Some(kernel) = kernel else {
            let (name, t) = (field.name(), type_to_ddl(t));
            return Err(
                c.error(format!("the field {name} is {t}, which no field of a CSV record can be. Read it as STRING"))
            );
        };
        kernels.push(kernel);
    }
    let distinct = format!("{to} {:?}", c.options);
    c.args.truncate(1);
    if !matches!(c.args[0].data_type, DataType::Utf8 | DataType::Null) {
        return Err(c.error(format!("{} is {}, not STRING", c.args[0].sql, type_to_ddl(&c.args[0].data_type))));
    }
    let mut c = c.take(&[Text], 1)?;
    // As in Spark, schema and options are not part of the name. They still distinguish two calls, so they are added as a constant that is not read.
    c.sql = format!("from_csv({})", c.args[0].sql);
    c.args.push(Typed::literal(distinct.as_str().into(), ""));
    c.build_nullable(DataType::Struct(fields.clone()), move |a| read(a, &fields, &kernels, &options))
}

fn read(a: &Args, fields: &Fields, kernels: &[Kernel], options: &Options) -> DfResult<ArrayRef> {
    let text = a.str(0)?;
    let mut columns: Vec<StringBuilder> = fields.iter().map(|_| StringBuilder::new()).collect();
    let mut split = vec![];
    let mut valid = Vec::with_capacity(a.rows);
    for row in 0..a.rows {
        valid.push(text.get(row).is_some());
        let Some(text) = text.get(row) else {
            columns.iter_mut().for_each(StringBuilder::append_null);
            continue;
        };
        options.split(text, &mut split);
        if split.len() != fields.len() && !options.permissive {
            return Err(row_error(format!("CSV: {} fields instead of {}", split.len(), fields.len())));
        }
        for ((i, field), column) in fields.iter().enumerate().zip(&mut columns) {
            let value = split.get(i).and_then(|f| options.value(f));
            match value {
                // A cast of a text does not mind blanks, but here they are part of the field.
                Some(value) if *field.data_type() != DataType::Utf8 && !plain(value, field.data_type()) => {
                    if !options.permissive {
                        let (name, t) = (field.name(), type_to_ddl(field.data_type()));
                        return Err(row_error(format!("CSV, field '{name}': a value cannot be read as {t}")));
                    }
                    column.append_null();
                }
                value => column.append_option(value),
            }
        }
    }
    let mut arrays = Vec::with_capacity(fields.len());
    for (kernel, mut column) in kernels.iter().zip(columns) {
        let column: StringArray = column.finish();
        arrays.push(kernel(&Args::new(vec![ColumnarValue::Array(Arc::new(column))], a.rows)?)?);
    }
    record(fields, arrays, Some(NullBuffer::from(valid)), a.rows)
}

/// Whether a text can be a field of this type; the cast decides the rest.
fn plain(text: &str, t: &DataType) -> bool {
    match t {
        DataType::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
        _ => text.trim().len() == text.len(),
    }
}

fn schema_of_csv(c: Call) -> Result<Typed> {
    let options = Options::read(&c)?;
    let c = c.count(1, 1)?;
    let Some(text) = c.args[0].text() else { return Err(c.error("the text must be a constant")) };
    let mut split = vec![];
    options.split(text, &mut split);
    let columns: Vec<String> = split
        .iter()
        .enumerate()
        .map(|(i, field)| format!("_c{i}: {}", options.value(field).map_or("STRING".into(), guess)))
        .collect();
    Ok(Typed::literal(format!("STRUCT<{}>", columns.join(", ")).as_str().into(), c.sql.clone()))
}

/// The type of a field, as Spark guesses it.
fn guess(text: &str) -> String {
    let of = |text: &str, t: &DataType| {
        let one: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let args = Args::new(vec![ColumnarValue::Array(one)], 1).ok();
        let read = cast::text_kernel(t, true).zip(args).and_then(|(kernel, args)| kernel(&args).ok());
        read.is_some_and(|array| array.is_valid(0))
    };
    let fits = |t: &DataType| plain(text, t) && of(text, t);
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.is_empty() && digits.len() <= 38 && digits.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<i64>() {
            Ok(v) if i32::try_from(v).is_ok() => "INT".into(),
            Ok(_) => "BIGINT".into(),
            Err(_) => format!("DECIMAL({},0)", digits.len()),
        };
    }
    // A number and a point, as Java reads it.
    if let Some(whole) = digits.strip_suffix('.').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit())) {
        return format!("DECIMAL({},0)", whole.len());
    }
    let word = matches!(digits, "NaN" | "Inf" | "Infinity");
    let number = word || text.trim().starts_with(|b: char| b.is_ascii_digit() || matches!(b, '-' | '+' | '.'));
    if number && of(text.trim(), &DataType::Float64) {
        return "DOUBLE".into();
    }
    let dashed = text.contains('-');
    let guesses = [
        ("DATE", DataType::Date32, dashed && text.len() == 10),
        ("TIMESTAMP", timestamp_type(), dashed),
        ("BOOLEAN", DataType::Boolean, true),
    ];
    guesses.iter().find(|(_, t, may)| *may && fits(t)).map_or("STRING", |(name, ..)| name).to_string()
}

fn to_csv(c: Call) -> Result<Typed> {
    let options = Options::read(&c)?;
    let mut c = c.take(&[Any], 1)?;
    let DataType::Struct(fields) = c.args[0].data_type.clone() else {
        return Err(c.error(format!("a STRUCT is expected, not {}", type_to_ddl(&c.args[0].data_type))));
    };
    let mut kernels = vec![];
    for field in &fields {
        let kernel = match field.data_type() {
            DataType::Timestamp(..) | DataType::Binary | DataType::Utf8 => None,
            t if t.is_nested() => {
                let (name, t) = (field.name(), type_to_ddl(t));
                return Err(c.error(format!(
                    "the field {name} is {t}, which has no CSV. Write it as text, with to_json({name})"
                )));
            }
            t => match cast::kernel(t, &DataType::Utf8, false) {
                Some(kernel) => Some(kernel),
                None => {
                    return Err(c.error(format!("the field {} is {}, which has no CSV", field.name(), type_to_ddl(t))));
                }
            },
        };
        kernels.push(kernel);
    }
    let distinct = format!("{:?}", c.options);
    c.sql = format!("to_csv({})", c.args[0].sql);
    c.args.push(Typed::literal(distinct.as_str().into(), ""));
    c.build(DataType::Utf8, move |a| {
        let array = a.full(0)?;
        let columns = array.as_struct().columns();
        let mut texts: Vec<ArrayRef> = vec![];
        for (column, kernel) in columns.iter().zip(&kernels) {
            texts.push(match kernel {
                Some(kernel) => kernel(&Args::new(vec![ColumnarValue::Array(column.clone())], a.rows)?)?,
                None => column.clone(),
            });
        }
        let mut field = vec![];
        written(a.rows, |row, out| {
            if array.is_null(row) {
                return Ok(false);
            }
            for (i, column) in texts.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(options.separator.as_bytes());
                }
                if column.is_null(row) {
                    out.extend_from_slice(options.null.as_bytes());
                    continue;
                }
                field.clear();
                put(column, row, &mut field);
                options.put(&String::from_utf8_lossy(&field), out);
            }
            Ok(true)
        })
    })
}

/// The text of a value.
fn put(column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    match column.data_type() {
        DataType::Timestamp(..) => {
            crate::expr::to_json::put(column, row, out);
            out.retain(|b| *b != b'"');
        }
        DataType::Binary => {
            // As Spark shows bytes.
            let hex: Vec<String> = column.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02X}")).collect();
            drop(write!(out, "[{}]", hex.join(" ")));
        }
        _ => out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes()),
    }
}

impl Options {
    /// Writes a field, in quotes where it needs them. As in Spark, blanks around it are not written.
    fn put(&self, field: &str, out: &mut Vec<u8>) {
        let field = field.trim_matches(|c: char| c <= ' ');
        let mut utf8 = [0; 4];
        let quote = self.quote.encode_utf8(&mut utf8).as_bytes();
        if field.is_empty() {
            out.extend_from_slice(quote);
            out.extend_from_slice(quote);
            return;
        }
        if !field.contains(&self.separator) && !field.contains([self.quote, '\n', '\r']) {
            out.extend_from_slice(field.as_bytes());
            return;
        }
        out.extend_from_slice(quote);
        for c in field.chars() {
            let mut utf8 = [0; 4];
            if c == self.quote {
                out.extend_from_slice(self.escape.encode_utf8(&mut utf8).as_bytes());
            }
            out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
        }
        out.extend_from_slice(quote);
    }
}
