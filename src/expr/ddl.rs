//! Reads and writes Spark's DDL strings.

use super::lex::Token;
use super::parse::Parser;
use crate::error::near_miss;
use crate::stack::with_room;
use crate::time::timestamp_type;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const TYPES: &[&str] = &[
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "LONG",
    "SHORT",
    "BYTE",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "STRING",
    "BINARY",
    "DATE",
    "TIMESTAMP",
    "DECIMAL",
    "NUMERIC",
    "DEC",
    "ARRAY",
    "MAP",
    "STRUCT",
    "VARCHAR",
    "CHAR",
];

/// Reads "ip STRING, time TIMESTAMP, a INT NOT NULL COMMENT 'x', m MAP<STRING, INT>".
/// VARCHAR(n) and CHAR(n) are STRING: Delta keeps their length as metadata only, which bayou does not check.
pub fn parse_ddl(text: &str) -> Result<Schema> {
    with_room(|| schema_of(text))
}

fn schema_of(text: &str) -> Result<Schema> {
    let mut parser = Parser::new(text)?;
    if parser.peek() == &Token::End {
        return Err(Error::schema(
            "the schema is empty. Write it as \"name TYPE, …\", such as \"id BIGINT, time TIMESTAMP\".",
        ));
    }
    let fields = columns(&mut parser, Token::End)?;
    Ok(Schema::new(fields))
}

/// Reads one type, such as "DECIMAL(10, 2)" or "ARRAY<STRING>".
pub(crate) fn parse_type(text: &str) -> Result<DataType> {
    with_room(|| {
        let mut parser = Parser::new(text)?;
        let found = data_type(&mut parser)?;
        parser.end()?;
        Ok(found)
    })
}

fn columns(parser: &mut Parser<'_>, close: Token) -> Result<Vec<Field>> {
    let mut fields = vec![];
    let mut seen = HashSet::new();
    loop {
        let field = column(parser)?;
        // Names that differ in case are different fields of a message. A table does not distinguish them, so it refuses them.
        if !seen.insert(field.name().clone()) {
            return Err(Error::schema(format!("column '{}' occurs twice", field.name())));
        }
        fields.push(field);
        if parser.symbol(",") {
            continue;
        }
        if parser.peek() == &close {
            return Ok(fields);
        }
        let wanted = if close == Token::End { "a comma or the end" } else { "a comma or '>'" };
        return Err(parser.wrong(wanted));
    }
}

fn column(parser: &mut Parser<'_>) -> Result<Field> {
    let name = match parser.peek().clone() {
        Token::Word(w) | Token::Quoted(w) => {
            parser.next();
            w
        }
        Token::Number(_) => return Err(parser.wrong("a column name (one that starts with a digit goes in backticks)")),
        Token::Symbol(_) => {
            return Err(
                parser.wrong("a column name (one with other signs than letters, digits and _ goes in backticks)")
            );
        }
        _ => return Err(parser.wrong("a column name")),
    };
    parser.symbol(":");
    if matches!(parser.peek(), Token::End | Token::Symbol("," | ">")) {
        return Err(Error::schema(format!("column '{name}' has no type. Write it as in \"{name} STRING\".")));
    }
    let data_type = data_type(parser).map_err(|e| e.context(format!("column '{name}'")))?;
    let mut nullable = true;
    let mut metadata = HashMap::new();
    loop {
        if parser.word("not") {
            if !parser.word("null") {
                return Err(parser.wrong("NULL"));
            }
            nullable = false;
        } else if parser.word("comment") {
            match parser.next() {
                Token::Text(comment) => metadata.insert("comment".to_string(), comment),
                _ => return Err(Error::schema(format!("column '{name}': COMMENT takes a string"))),
            };
        } else {
            return Ok(Field::new(name, data_type, nullable).with_metadata(metadata));
        }
    }
}

pub(super) fn data_type(parser: &mut Parser<'_>) -> Result<DataType> {
    parser.deeper()?;
    let found = one_type(parser)?;
    parser.back();
    Ok(found)
}

fn one_type(parser: &mut Parser<'_>) -> Result<DataType> {
    let Token::Word(word) = parser.peek().clone() else {
        let Token::Symbol(symbol @ ("-" | "." | "/" | "@" | "%" | "&" | "+" | "*" | "^" | "~" | "!" | "?" | "|")) =
            parser.peek()
        else {
            return Err(parser.wrong("a type"));
        };
        return Err(parser.wrong(&format!("a type (a name with '{symbol}' in it goes in backticks)")));
    };
    parser.next();
    let upper = word.to_uppercase();
    Ok(match upper.as_str() {
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TINYINT" | "BYTE" => DataType::Int8,
        "SMALLINT" | "SHORT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" | "LONG" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "STRING" => DataType::Utf8,
        "BINARY" => DataType::Binary,
        "DATE" => DataType::Date32,
        "TIMESTAMP" | "TIMESTAMP_LTZ" => timestamp_type(),
        "TIMESTAMP_NTZ" => {
            return Err(Error::schema(
                "TIMESTAMP_NTZ is not supported: in Delta it needs a table feature that older readers refuse. \
                 Use TIMESTAMP (microseconds in UTC).",
            ));
        }
        "DECIMAL" | "NUMERIC" | "DEC" => decimal(parser)?,
        "VARCHAR" | "CHAR" | "CHARACTER" => {
            if parser.symbol("(") {
                whole(parser)?;
                parser.expect(")")?;
            }
            DataType::Utf8
        }
        "ARRAY" | "MAP" | "STRUCT" if parser.symbol("<>") => {
            let example = match upper.as_str() {
                "ARRAY" => "ARRAY<STRING>",
                "MAP" => "MAP<STRING, STRING>",
                _ => {
                    "STRUCT<a: INT>, or MAP<STRING, STRING> where the fields' names are not known, or STRING for the JSON text"
                }
            };
            return Err(Error::schema(format!("{upper}<> has nothing in it. Write it as in {example}.")));
        }
        "ARRAY" => {
            parser.expect("<")?;
            let item = data_type(parser)?;
            close(parser)?;
            list_of(item)
        }
        "MAP" => {
            parser.expect("<")?;
            let key = data_type(parser)?;
            if matches!(key, DataType::Map(..)) {
                return Err(Error::schema("a MAP cannot be the key of a MAP"));
            }
            parser.expect(",")?;
            let value = data_type(parser)?;
            close(parser)?;
            map_of(key, value)
        }
        "STRUCT" => {
            parser.expect("<")?;
            let fields = struct_fields(parser)?;
            DataType::Struct(fields)
        }
        "VARIANT" => {
            return Err(Error::schema(
                "type VARIANT is not a type of a column: tables stay readable by Spark 3.5. Use STRING, which keeps the JSON text, and parse_json(…) \
                 or a path (text:a.b) in expressions.",
            ));
        }
        "INTERVAL" | "VOID" | "NULL" | "OBJECT" => {
            return Err(Error::schema(format!("type {upper} is not supported")));
        }
        _ => {
            let known = match upper.as_str() {
                "TEXT" | "STR" | "NVARCHAR" => " Did you mean 'STRING'?".to_string(),
                "DATETIME" => " Did you mean 'TIMESTAMP'?".to_string(),
                "UINT64" => " Did you mean 'DECIMAL(20, 0)'?".to_string(),
                "INT64" | "UINT32" => " Did you mean 'BIGINT'?".to_string(),
                "INT32" | "UINT16" => " Did you mean 'INT'?".to_string(),
                "INT16" | "UINT8" => " Did you mean 'SMALLINT'?".to_string(),
                "INT8" => " Did you mean 'TINYINT'?".to_string(),
                "FLOAT64" => " Did you mean 'DOUBLE'?".to_string(),
                "FLOAT16" | "FLOAT32" => " Did you mean 'FLOAT'?".to_string(),
                "UTF8" | "LARGEUTF8" => " Did you mean 'STRING'?".to_string(),
                "DECIMAL256" => " Did you mean 'DECIMAL(38, 0)'?".to_string(),
                "TIME" | "TIME32" | "TIME64" => " A time of day is a STRING here, as \"12:30:00\".".to_string(),
                _ => near_miss(&upper, TYPES.iter().copied()),
            };
            return Err(Error::schema(format!("'{word}' is not a type.{known} The types are {}.", TYPES.join(", "))));
        }
    })
}

fn struct_fields(parser: &mut Parser<'_>) -> Result<Fields> {
    let mut fields = vec![];
    let mut seen = HashSet::new();
    loop {
        let field = column(parser)?;
        if !seen.insert(field.name().clone()) {
            return Err(Error::schema(format!("field '{}' occurs twice in a STRUCT", field.name())));
        }
        fields.push(field);
        if !parser.symbol(",") {
            close(parser)?;
            return Ok(fields.into());
        }
    }
}

/// `>`, also as the first part of `>>`.
fn close(parser: &mut Parser<'_>) -> Result<()> {
    if parser.split_angle() { Ok(()) } else { Err(parser.wrong("'>'")) }
}

fn whole(parser: &mut Parser<'_>) -> Result<i64> {
    match parser.peek() {
        Token::Number(n) => {
            let n = n.parse().map_err(|_| parser.wrong("a whole number"))?;
            parser.next();
            Ok(n)
        }
        _ => Err(parser.wrong("a whole number")),
    }
}

fn decimal(parser: &mut Parser<'_>) -> Result<DataType> {
    let (mut precision, mut scale) = (10, 0);
    if parser.symbol("(") {
        precision = whole(parser)?;
        if parser.symbol(",") {
            scale = whole(parser)?;
        }
        parser.expect(")")?;
    }
    if !(1..=38).contains(&precision) || scale > precision {
        return Err(Error::schema(format!(
            "DECIMAL({precision}, {scale}) does not exist: the precision is 1 to 38, the scale at most the precision"
        )));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

/// The type of an array in bayou.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

/// The type of a map in bayou.
pub(super) fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
}

/// The DDL string of a schema; `parse_ddl` reads it back.
pub(crate) fn to_ddl(schema: &Schema) -> String {
    schema.fields().iter().map(|f| column_ddl(f, " ")).collect::<Vec<_>>().join(", ")
}

fn column_ddl(field: &Field, between: &str) -> String {
    let mut out = format!("{}{between}{}", super::lookup::quoted(field.name()), type_to_ddl(field.data_type()));
    if !field.is_nullable() {
        out.push_str(" NOT NULL");
    }
    if let Some(comment) = field.metadata().get("comment") {
        out.push_str(&format!(" COMMENT '{}'", comment.replace('\\', "\\\\").replace('\'', "\\'")));
    }
    out
}

/// The name of a type as Spark writes it.
pub(crate) fn type_to_ddl(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Boolean => "BOOLEAN".into(),
        T::Int8 => "TINYINT".into(),
        T::Int16 => "SMALLINT".into(),
        T::Int32 => "INT".into(),
        T::Int64 => "BIGINT".into(),
        T::Float32 => "FLOAT".into(),
        T::Float64 => "DOUBLE".into(),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "STRING".into(),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "BINARY".into(),
        T::Date32 | T::Date64 => "DATE".into(),
        T::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        T::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        T::Decimal128(p, s) => format!("DECIMAL({p},{s})"),
        T::List(f) | T::LargeList(f) | T::FixedSizeList(f, _) => format!("ARRAY<{}>", type_to_ddl(f.data_type())),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(kv) if kv.len() == 2 => {
                format!("MAP<{}, {}>", type_to_ddl(kv[0].data_type()), type_to_ddl(kv[1].data_type()))
            }
            other => other.to_string(),
        },
        T::Struct(fields) => {
            format!("STRUCT<{}>", fields.iter().map(|f| column_ddl(f, ": ")).collect::<Vec<_>>().join(", "))
        }
        T::Null => "VOID".into(),
        T::Interval(_) => "INTERVAL YEAR TO MONTH".into(),
        T::Duration(_) => "INTERVAL DAY TO SECOND".into(),
        other => other.to_string(),
    }
}
