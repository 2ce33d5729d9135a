//! An item of `group_by`: a key, or a window over event time.

use super::lookup::resolve_column;
use super::parse::{self, Ast, Function};
use super::{Bound, Dialect, bind};
use crate::stack::with_room;
use crate::{Error, Result};
use arrow::datatypes::{DataType, SchemaRef};

#[derive(Clone, Debug)]
pub(crate) enum GroupItem {
    Key(Bound),
    /// `window(column, size, slide, offset)`: the column has its name in the schema, durations are as they were typed.
    Window {
        column: String,
        size: String,
        slide: Option<String>,
        offset: Option<String>,
    },
    /// `session_window(column, gap)`.
    Session {
        column: String,
        gap: String,
    },
}

/// Reads "model", "upper(model) AS m", "window(time, '1 minute')", "session_window(time, '5 minutes')".
pub(crate) fn parse_group_item(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<GroupItem> {
    // Both dialects have bayou's windows.
    if let Ok(item) = with_room(|| parse::item(text)) {
        if let Ast::Function(function) = &item.ast {
            if function.name == "window" || function.name == "session_window" {
                if let Some(alias) = item.alias {
                    return Err(Error::schema(format!(
                        "'{text}': a window has no alias ('{alias}'); its columns are window_start and window_end"
                    )));
                }
                return window(function, schema).map_err(|e| e.context(format!("'{text}'")));
            }
        }
    }
    let key = bind(text, schema, dialect)?;
    if matches!(key.data_type, DataType::Map(..)) {
        return Err(Error::schema(format!("'{text}': a MAP cannot be a key of group_by")));
    }
    Ok(GroupItem::Key(key))
}

fn window(function: &Function, schema: &SchemaRef) -> Result<GroupItem> {
    let session = function.name == "session_window";
    let usage = if session {
        "session_window(time, '5 minutes')"
    } else {
        "window(time, '1 minute'), window(time, size, slide) or window(time, size, slide, offset)"
    };
    let wrong = |why: &str| Error::schema(format!("{}: {why}. Write it as {usage}.", function.name));
    let most = if session { 2 } else { 4 };
    if !(2..=most).contains(&function.args.len()) || function.aggregate_clause().is_some() {
        return Err(wrong("a column and durations are expected"));
    }
    let Ast::Column(path) = &function.args[0] else {
        return Err(wrong("the first argument must be a column"));
    };
    let index = resolve_column(&path.join("."), schema)?;
    let field = schema.field(index);
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return Err(Error::schema(format!(
            "column '{}' is {}, and the event time must be TIMESTAMP",
            field.name(),
            super::type_to_ddl(field.data_type())
        )));
    }
    let mut durations = vec![];
    for (i, arg) in function.args[1..].iter().enumerate() {
        match arg {
            Ast::Text(duration) if session || i == 2 => {
                crate::time::parse_duration(duration).map_err(Error::schema)?;
                durations.push(duration.clone());
            }
            Ast::Text(duration) => {
                crate::time::parse_span(duration).map_err(Error::schema)?;
                durations.push(duration.clone());
            }
            _ => return Err(wrong("durations must be strings")),
        }
    }
    let mut durations = durations.into_iter();
    let column = field.name().clone();
    let size = durations.next().ok_or_else(|| wrong("a duration is expected"))?;
    if session {
        return Ok(GroupItem::Session { column, gap: size });
    }
    Ok(GroupItem::Window { column, size, slide: durations.next(), offset: durations.next() })
}
