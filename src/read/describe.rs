//! `SHOW TABLES`, `DESCRIBE t` and `DESCRIBE HISTORY t`, for the tables of a call.

use super::{Rows, Source};
use crate::expr::type_to_ddl;
use crate::sink::delta;
use crate::{Error, Result};
use arrow::array::TimestampMicrosecondArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The request in one of these statements.
#[derive(Debug, PartialEq)]
enum Asked {
    Tables { like: Option<String> },
    Columns { table: String, extended: bool },
    History { table: String },
}

/// The answer, if the text is such a statement.
pub(super) async fn answer(text: &str, tables: &BTreeMap<String, Source>) -> Result<Option<Rows>> {
    let Some(asked) = read(text)? else { return Ok(None) };
    let find = |name: &str| {
        super::versions::table_of(tables, name).ok_or_else(|| {
            let hint = crate::error::did_you_mean(name, tables.keys().map(String::as_str));
            let known: Vec<&str> = tables.keys().map(String::as_str).collect();
            Error::schema(format!("SQL: there is no table '{name}'.{hint} Tables: {}.", known.join(", ")))
        })
    };
    Ok(Some(match asked {
        Asked::Tables { like } => {
            let wanted = |n: &&String| like.as_ref().is_none_or(|pattern| is_like_spark(n, pattern));
            let names: Vec<&str> = tables.keys().filter(wanted).map(String::as_str).collect();
            rows(vec![
                ("database", Arc::new(StringArray::from(vec![""; names.len()]))),
                ("tableName", Arc::new(StringArray::from(names.clone()))),
                ("isTemporary", Arc::new(BooleanArray::from(vec![false; names.len()]))),
            ])?
        }
        Asked::Columns { table, extended } => columns(&table, find(&table)?, extended).await?,
        Asked::History { table } => match find(&table)? {
            Source::Delta(location, _) => history(delta::history(location).await?)?,
            Source::Rows(..) => {
                return Err(Error::schema(format!("SQL: DESCRIBE HISTORY: '{table}' is not a Delta table")));
            }
        },
    }))
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<Rows> {
    let batch = RecordBatch::try_from_iter(columns)?;
    Ok(Rows { schema: batch.schema(), batches: vec![batch] })
}

/// In Spark's SHOW, `*` means any text and `|` means "or". Databricks also accepts the pattern of LIKE.
fn is_like_spark(name: &str, pattern: &str) -> bool {
    let name = name.to_lowercase();
    pattern.to_lowercase().split('|').any(|p| is_like(&name, p.trim()))
}

fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split(['*', '%']);
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A type as Spark's catalog writes it.
fn type_name(t: &DataType) -> String {
    match t {
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{}:{}", f.name(), type_name(f.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::List(of) => format!("array<{}>", type_name(of.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("map<{},{}>", type_name(kv[0].data_type()), type_name(kv[1].data_type()))
            }
            other => type_name(other),
        },
        plain => type_to_ddl(plain).to_lowercase(),
    }
}

async fn columns(name: &str, source: &Source, extended: bool) -> Result<Rows> {
    let (mut names, mut types, mut comments): (Vec<String>, Vec<String>, Vec<Option<String>>) = Default::default();
    let mut add = |name: &str, data_type: &str, comment: Option<&str>| {
        names.push(name.into());
        types.push(data_type.into());
        comments.push(comment.map(str::to_string));
    };
    match source {
        Source::Rows(schema, _) => {
            for f in super::plain(schema, vec![])?.schema.fields() {
                add(f.name(), &type_name(f.data_type()), None);
            }
        }
        Source::Delta(location, version) => {
            let about = delta::about(location, *version).await?;
            let fields = super::plain(&about.schema, vec![])?.schema;
            let comment = |name: &str| about.comments.get(name).map(String::as_str);
            for f in fields.fields() {
                add(f.name(), &type_name(f.data_type()), comment(f.name()));
            }
            if !about.partition_by.is_empty() {
                add("# Partition Information", "", Some(""));
                add("# col_name", "data_type", Some("comment"));
                for name in &about.partition_by {
                    let of = fields.field_with_name(name).map(|f| type_name(f.data_type()));
                    add(name, &of.unwrap_or_default(), comment(name));
                }
            }
            if extended {
                add("", "", Some(""));
                add("# Detailed Table Information", "", Some(""));
                add("Name", about.name.as_deref().unwrap_or(name), Some(""));
                if let Some(comment) = &about.comment {
                    add("Comment", comment, Some(""));
                }
                add("Location", &location.display(), Some(""));
                add("Provider", "delta", Some(""));
                add("Version", &about.version.to_string(), Some(""));
                let properties: Vec<String> = about.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
                add("Table Properties", &format!("[{}]", properties.join(",")), Some(""));
            }
        }
    }
    rows(vec![
        ("col_name", Arc::new(StringArray::from(names))),
        ("data_type", Arc::new(StringArray::from(types))),
        ("comment", Arc::new(StringArray::from(comments))),
    ])
}

fn history(commits: Vec<delta::CommitOf>) -> Result<Rows> {
    let text = |of: fn(&delta::CommitOf) -> Option<&str>| -> ArrayRef {
        Arc::new(commits.iter().map(of).collect::<StringArray>())
    };
    let map = |of: fn(&delta::CommitOf) -> &BTreeMap<String, String>| -> Result<ArrayRef> {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for commit in &commits {
            for (k, v) in of(commit) {
                map.keys().append_value(k);
                map.values().append_value(v);
            }
            map.append(true)?;
        }
        Ok(Arc::new(map.finish()))
    };
    let times = commits.iter().map(|c| c.millis.map(|ms| ms * 1000)).collect::<TimestampMicrosecondArray>();
    rows(vec![
        ("version", Arc::new(commits.iter().map(|c| c.version as i64).collect::<Int64Array>())),
        ("timestamp", Arc::new(times.with_timezone("UTC"))),
        ("operation", text(|c| c.operation.as_deref())),
        ("operationParameters", map(|c| &c.parameters)?),
        ("readVersion", Arc::new(commits.iter().map(|c| c.read_version).collect::<Int64Array>())),
        ("isolationLevel", text(|c| c.isolation_level.as_deref())),
        ("isBlindAppend", Arc::new(commits.iter().map(|c| c.is_blind_append).collect::<BooleanArray>())),
        ("operationMetrics", map(|c| &c.metrics)?),
        ("userMetadata", text(|c| c.user_metadata.as_deref())),
        ("engineInfo", text(|c| c.engine.as_deref())),
    ])
}

fn read(text: &str) -> Result<Option<Asked>> {
    // A text that cannot be split into tokens is reported by the parser.
    let Ok(tokens) = Tokenizer::new(&DatabricksDialect {}, text).tokenize() else { return Ok(None) };
    let tokens = super::catalogs::merged(tokens);
    let mut words = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_) | Token::SemiColon)).peekable();
    let is = |t: Option<&Token>, word: &str| matches!(t, Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
    let wrong = |what: &str| Err(Error::schema(format!("SQL: {what}")));
    let first = words.next();
    let asked = if is(first.as_ref(), "SHOW") {
        if !is(words.next().as_ref(), "TABLES") {
            return wrong("SHOW supports only SHOW TABLES. For the columns of a table, use DESCRIBE t.");
        }
        if is(words.peek(), "IN") || is(words.peek(), "FROM") {
            return wrong("SHOW TABLES shows the tables of this call; there is no other schema. Leave IN … out.");
        }
        if is(words.peek(), "LIKE") {
            words.next();
        }
        match words.next() {
            None => Asked::Tables { like: None },
            Some(Token::SingleQuotedString(like) | Token::DoubleQuotedString(like)) => {
                Asked::Tables { like: Some(like) }
            }
            Some(other) => return wrong(&format!("SHOW TABLES [LIKE 'pattern'], not {other}")),
        }
    } else if is(first.as_ref(), "DESCRIBE") || is(first.as_ref(), "DESC") {
        let history = is(words.peek(), "HISTORY");
        if history {
            words.next();
        }
        if is(words.peek(), "TABLE") {
            words.next();
        }
        let extended = is(words.peek(), "EXTENDED") || is(words.peek(), "FORMATTED");
        if extended {
            words.next();
        }
        match words.next() {
            Some(Token::Word(name)) if history => Asked::History { table: name.value },
            // The planner handles DESCRIBE QUERY and DESCRIBE SELECT.
            Some(Token::Word(name)) if name.quote_style.is_none() && words.peek().is_some() && !extended => {
                return match name.value.to_uppercase().as_str() {
                    "DETAIL" => wrong("DESCRIBE DETAIL is not supported. Say DESCRIBE EXTENDED t."),
                    _ => Ok(None),
                };
            }
            Some(Token::Word(name)) => Asked::Columns { table: name.value, extended },
            _ => return wrong("DESCRIBE takes the name of a table, as in DESCRIBE t or DESCRIBE HISTORY t."),
        }
    } else {
        return Ok(None);
    };
    match words.next() {
        None => Ok(Some(asked)),
        Some(other) => wrong(&format!("'{other}' cannot be used in this statement")),
    }
}
