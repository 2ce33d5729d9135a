//! Each step in the user's words: the text of expressions, the names, the options. They are kept in addition to the bound form of the step. A
//! different engine can run the same flow from these words.

use crate::decode::Format;
use crate::expect::Action;
use crate::expr::{AggregateItem, Dialect, type_to_ddl};
use crate::transform::JoinKind;
use crate::window::{WatermarkSpec, Windowing};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A step in the user's words. Sources describe themselves (`source::KafkaSource`, for example).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Said {
    Source,
    Union,
    Select {
        items: Vec<String>,
        dialect: Dialect,
    },
    WithColumns {
        items: Vec<String>,
        dialect: Dialect,
    },
    /// (old, new)
    Rename {
        names: Vec<(String, String)>,
    },
    Drop {
        names: Vec<String>,
    },
    /// The schema of the values is DDL.
    Decode {
        column: String,
        values: Option<String>,
        format: Format,
        into: Option<String>,
    },
    Where {
        condition: String,
        dialect: Dialect,
    },
    Expect {
        name: String,
        condition: String,
        action: Action,
        dialect: Dialect,
    },
    Watermark {
        spec: WatermarkSpec,
    },
    Aggregate {
        window: SaidWindow,
        keys: Vec<String>,
        aggregates: Vec<SaidAggregate>,
        dialect: Dialect,
    },
    Named {
        name: String,
    },
    Table {
        name: String,
    },
    /// Only the name of the function is kept. `schema` is DDL. None: the columns do not change.
    MapBatches {
        function: String,
        schema: Option<String>,
    },
    DropDuplicates {
        keys: Vec<String>,
        within: Duration,
    },
    JoinStream {
        on: Vec<(String, String)>,
        how: JoinKind,
        suffix: String,
        before: Duration,
        after: Duration,
    },
    JoinTable {
        on: Vec<(String, String)>,
        how: JoinKind,
        suffix: String,
    },
}

/// The window that was given as the window argument, not as one of the keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SaidWindow {
    None,
    Fixed { column: String, size: String, slide: Option<String>, offset: Option<String>, timezone: Option<String> },
    Session { column: String, gap: String },
}

impl From<&Windowing> for SaidWindow {
    fn from(window: &Windowing) -> Self {
        match window {
            Windowing::None => Self::None,
            Windowing::Fixed(w) => Self::Fixed {
                column: w.column.clone(),
                size: w.size_text(),
                slide: w.slide_text(),
                offset: w.offset_text(),
                timezone: w.timezone().map(str::to_string),
            },
            Windowing::Session(s) => {
                let gap = crate::time::format_duration(Duration::from_micros(s.gap.unsigned_abs()));
                Self::Session { column: s.column.clone(), gap }
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SaidAggregate {
    Sql {
        alias: Option<String>,
        text: String,
    },
    /// Only the name of the function is kept. The type is DDL.
    Function {
        alias: Option<String>,
        function: String,
        columns: Vec<String>,
        data_type: String,
        order_by: Option<String>,
    },
}

impl From<&AggregateItem> for SaidAggregate {
    fn from(item: &AggregateItem) -> Self {
        match item {
            AggregateItem::Sql { alias, text } => Self::Sql { alias: alias.clone(), text: text.clone() },
            AggregateItem::Function { alias, function, columns, data_type, order_by } => Self::Function {
                alias: alias.clone(),
                function: function.name().to_string(),
                columns: columns.clone(),
                data_type: type_to_ddl(data_type),
                order_by: order_by.clone(),
            },
        }
    }
}
