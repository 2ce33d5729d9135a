//! group_by and agg.

use super::{EventTimeColumn, Op, Stream, timestamp};
use crate::expr::{self, AggregateItem, Dialect, GroupItem, bind_aggregation, resolve_column};
use crate::flow::said::Said;
use crate::window::{AggregateSpec, SessionSpec, WindowSpec, Windowing};
use crate::{Error, Result};
use std::sync::Arc;

impl Stream {
    pub fn aggregate(
        &self,
        window: Windowing,
        keys: &[String],
        aggregates: &[impl Clone + Into<AggregateItem>],
        dialect: Dialect,
    ) -> Result<Self> {
        if self.is_running() {
            return Err(Error::config(
                "an aggregate over an aggregate needs final rows. Give the first aggregate a window, and a watermark (with_watermark) that \
                 closes the window. Or write the first aggregate to a table, and aggregate the table.",
            ));
        }
        if aggregates.is_empty() {
            return Err(Error::schema("agg() needs at least one aggregate, as in agg(\"count(*) AS n\")"));
        }
        if let Some(column) = self.nested_time(&window) {
            // The windows are over a column, so the field becomes one before them. The result does not have it.
            let path: Vec<String> = column.split('.').map(expr::quoted).collect();
            let item = format!("{} AS {}", path.join("."), expr::quoted(&column));
            return self.with_columns(&[item], Dialect::Databricks)?.aggregate(window, keys, aggregates, dialect);
        }
        let items: Vec<AggregateItem> = aggregates.iter().map(|item| item.clone().into()).collect();
        let said = Said::Aggregate {
            window: (&window).into(),
            keys: keys.to_vec(),
            aggregates: items.iter().map(Into::into).collect(),
            dialect,
        };
        let mut windows = vec![window];
        let mut bound = vec![];
        for key in keys {
            match expr::parse_group_item(key, self.schema(), dialect)? {
                GroupItem::Key(b) => bound.push(b),
                GroupItem::Window { column, size, slide, offset } => {
                    let spec = WindowSpec::new(&column, &size, slide.as_deref(), offset.as_deref(), "UTC")?;
                    windows.push(Windowing::Fixed(spec));
                }
                GroupItem::Session { column, gap } => {
                    windows.push(Windowing::Session(SessionSpec::new(&column, &gap)?))
                }
            }
        }
        let mut windows = windows.into_iter().filter(|w| *w != Windowing::None);
        let mut window = windows.next().unwrap_or(Windowing::None);
        if windows.next().is_some() {
            return Err(Error::config("group_by takes one window"));
        }
        let mut time = (0, 0);
        if let Some(column) = window.column_mut() {
            time = self.window_time(column)?;
            *column = self.schema().field(time.0).name().clone();
        }
        let event_time_of_rows = self.0.event_time.as_ref().map(|e| e.column.clone());
        let items: Vec<AggregateItem> = items
            .into_iter()
            .map(|item| match item {
                // A function gets its rows in the order of event time.
                AggregateItem::Function { alias, function, columns, data_type, order_by } => AggregateItem::Function {
                    alias,
                    function,
                    columns,
                    data_type,
                    order_by: order_by.or_else(|| event_time_of_rows.clone()),
                },
                sql => sql,
            })
            .collect();
        let aggregation = bind_aggregation(&items, self.schema(), dialect)?;
        let spec = AggregateSpec::new(window, time.0, time.1, bound, aggregation)?;
        let schema = spec.schema.clone();
        let event_time = self.0.event_time.as_ref().filter(|_| spec.is_windowed()).map(|e| EventTimeColumn {
            column: "window_end".into(),
            shift: -1,
            trackers: e.trackers.clone(),
        });
        let merge_keys = spec.merge_keys().into_iter().map(|i| Some(schema.field(i).name().clone())).collect();
        let made = self.then(Op::Aggregate(Arc::new(spec)), said, schema, event_time.clone());
        Ok(made.with(event_time, Some(merge_keys)))
    }

    /// The field within a struct that is the event time, or that the window is over.
    fn nested_time(&self, window: &Windowing) -> Option<String> {
        let of_window = window.clone().column_mut().map(|c| c.clone());
        let of_rows = self.0.event_time.as_ref().map(|e| e.column.clone());
        let column = of_rows.filter(|c| self.schema().index_of(c).is_err()).or(of_window)?;
        let (path, name, _) = expr::nested_field(&column, self.schema())?;
        (path.len() > 1).then_some(name)
    }

    /// The time column of a window, and the microseconds to add to its values.
    fn window_time(&self, column: &str) -> Result<(usize, i64)> {
        let event_time = self.0.event_time.as_ref();
        // A window over windows: the event time of a window's row is the last moment of that window.
        let of_windows = event_time.filter(|e| e.shift != 0);
        if let Some(e) = of_windows
            && (column.eq_ignore_ascii_case("window") || column.eq_ignore_ascii_case(&e.column))
        {
            return Ok((self.schema().index_of(&e.column)?, e.shift));
        }
        let index = resolve_column(column, self.schema())?;
        let field = self.schema().field(index);
        if !timestamp(field.data_type()) {
            return Err(Error::schema(format!(
                "window() needs a TIMESTAMP column, and '{}' is {}",
                field.name(),
                expr::type_to_ddl(field.data_type())
            )));
        }
        match event_time {
            Some(e) if e.shift != 0 => Err(Error::config(format!(
                "the event time of a window's rows is the last moment of their window. Write window(\"{}\", …) instead of '{}'.",
                e.column,
                field.name()
            ))),
            Some(e) if e.column != *field.name() => Err(Error::config(format!(
                "the window is over '{}' and the watermark is over '{}'. Use the same column for both.",
                field.name(),
                e.column
            ))),
            _ => Ok((index, 0)),
        }
    }
}
