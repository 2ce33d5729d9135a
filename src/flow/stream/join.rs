//! Joins and deduplication.

use super::{Op, Stream};
use crate::expr::{Dialect, bind_select, resolve_column};
use crate::flow::said::Said;
use crate::flow::static_join::{StaticJoin, StaticSide};
use crate::transform::{
    DeduplicateSpec, IntervalJoinSpec, JoinKind, StaticJoinSpec, StaticTable, bind_on, join_schema,
};
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use std::time::Duration;

/// The options of a join, as users write them.
pub struct JoinOptions {
    /// (left, right)
    pub on: Vec<(String, String)>,
    pub how: JoinKind,
    pub suffix: String,
}

impl JoinOptions {
    fn said(&self, before: Duration, after: Duration) -> Said {
        Said::JoinStream { on: self.on.clone(), how: self.how, suffix: self.suffix.clone(), before, after }
    }

    fn said_of_table(&self) -> Said {
        Said::JoinTable { on: self.on.clone(), how: self.how, suffix: self.suffix.clone() }
    }
}

pub fn parse_how(how: &str) -> Result<JoinKind> {
    match how {
        "inner" => Ok(JoinKind::Inner),
        "left" | "left_outer" | "leftouter" => Ok(JoinKind::Left),
        "right" | "right_outer" | "rightouter" => {
            Err(Error::config("join: how=\"right\" is not a join. Exchange the two sides and use how=\"left\"."))
        }
        other => Err(Error::config(format!(
            "join: how='{other}': use \"inner\" or \"left\".{}",
            crate::error::did_you_mean(other, ["inner", "left"])
        ))),
    }
}

impl Stream {
    fn refuse_running(&self, what: &str) -> Result<()> {
        match self.is_running() {
            false => Ok(()),
            true => Err(Error::config(format!(
                "{what} needs final rows, and a running aggregate changes with every row. Put {what} before group_by, or give the \
                 aggregate a window and a watermark."
            ))),
        }
    }

    /// The index of the event-time column.
    fn time_column(&self, what: &str) -> Result<usize> {
        let e = self.0.event_time.as_ref().ok_or_else(|| {
            Error::config(format!(
                "{what} needs an event time and a watermark. Put with_watermark(column, delay) before {what}, and keep that column."
            ))
        })?;
        self.schema().index_of(&e.column).map_err(|_| {
            Error::config(format!(
                "{what} needs the event time as a column, and '{0}' is a field of a struct. Write with_columns(\"{0} AS {1}\") before with_watermark(\"{1}\", …).",
                e.column,
                e.column.rsplit('.').next().unwrap_or("time")
            ))
        })
    }

    /// If no keys are given, all columns are keys.
    pub fn drop_duplicates(&self, keys: &[String], within: Duration) -> Result<Self> {
        self.refuse_running("drop_duplicates")?;
        let time = self.time_column("drop_duplicates")?;
        let said = Said::DropDuplicates { keys: keys.to_vec(), within };
        let all = ["*".to_string()];
        let names: Vec<String> = match keys.is_empty() {
            true => all.to_vec(),
            false => keys.to_vec(),
        };
        let bound = bind_select(&names, self.schema(), Dialect::default()).map_err(|e| e.context("drop_duplicates"))?;
        let spec = DeduplicateSpec { keys: bound, time, within, schema: self.schema().clone() };
        // A column that cannot be a key is refused now, when the line is typed.
        crate::transform::Deduplicator::new(spec.clone())?;
        Ok(self.then(Op::Deduplicate(Arc::new(spec)), said, self.schema().clone(), self.0.event_time.clone()))
    }

    /// Joins rows with equal keys whose time in the other stream is within [this time − before, this time + after].
    pub fn join_stream(
        &self,
        other: &Stream,
        options: &JoinOptions,
        before: Duration,
        after: Duration,
    ) -> Result<Self> {
        self.refuse_running("join")?;
        other.refuse_running("join")?;
        let on = bind_on(&options.on, self.schema(), other.schema())?;
        let (right_columns, schema) = join_schema(self.schema(), other.schema(), &on, options.how, &options.suffix)?;
        let spec = IntervalJoinSpec {
            on,
            how: options.how,
            left_time: self.time_column("join")?,
            right_time: other.time_column("join")?,
            before,
            after,
            left_schema: self.schema().clone(),
            right_schema: other.schema().clone(),
            right_columns,
            schema: schema.clone(),
        };
        crate::transform::IntervalJoin::new(spec.clone())?;
        let event_time = match (&self.0.event_time, &other.0.event_time) {
            (Some(x), Some(y)) => {
                let mut both = x.clone();
                both.trackers.extend(y.trackers.iter().cloned());
                Some(both)
            }
            _ => None,
        };
        Ok(Self::new(
            Op::IntervalJoin(Arc::new(spec)),
            options.said(before, after),
            vec![self.clone(), other.clone()],
            schema,
            event_time,
        ))
    }

    /// Joins with a table.
    pub fn join_table(&self, side: StaticSide, table: &SchemaRef, options: &JoinOptions) -> Result<Self> {
        let on = bind_on(&options.on, self.schema(), table)?;
        for (_, right) in &options.on {
            resolve_column(right, table)?;
        }
        let (right_columns, schema) = join_schema(self.schema(), table, &on, options.how, &options.suffix)?;
        let spec = StaticJoinSpec { on, how: options.how, right_columns, schema: schema.clone() };
        let join = StaticJoin { spec, side, table: table.clone() };
        if let StaticSide::Rows { rows, .. } = &join.side {
            StaticTable::build(&join.spec, rows)?;
        }
        Ok(self.then(Op::StaticJoin(Arc::new(join)), options.said_of_table(), schema, self.0.event_time.clone()))
    }
}
