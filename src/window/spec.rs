//! The definition of an aggregation, and the columns of its rows.

use super::WindowSpec;
use crate::batch::Batch;
use crate::expr::{Aggregate, Aggregation, Bound};
use crate::state::Finished;
use crate::time::format_duration;
use crate::{Error, Kind, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Rows of one key that follow each other within `gap` are one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    pub column: String,
    pub gap: i64,
}

impl SessionSpec {
    pub fn new(column: &str, gap: &str) -> Result<Self> {
        let gap = crate::time::parse_duration(gap).map_err(|e| Error::config(format!("session_window gap: {e}")))?;
        if gap.is_zero() {
            return Err(Error::config("the gap of a session must be longer than zero"));
        }
        Ok(Self { column: column.into(), gap: crate::time::micros(gap) })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Windowing {
    /// One group for each key.
    None,
    Fixed(WindowSpec),
    Session(SessionSpec),
}

impl Windowing {
    pub fn column_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::None => None,
            Self::Fixed(w) => Some(&mut w.column),
            Self::Session(s) => Some(&mut s.column),
        }
    }
}

/// The definition of an aggregation.
#[derive(Clone)]
pub struct AggregateSpec {
    pub window: Windowing,
    /// The event time is the value of this input column plus `shift` microseconds.
    pub time: usize,
    pub shift: i64,
    pub keys: Vec<Bound>,
    pub aggregation: Arc<Aggregation>,
    /// window_start, window_end, keys, aggregates.
    pub schema: SchemaRef,
}

/// When groups are emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Once, when their window closes.
    OnClose,
    /// The changed groups, at the end of each epoch.
    Update,
    /// All groups at the end of each epoch. No group is ever forgotten, so no row is late.
    Complete,
}

pub(super) fn timestamp(name: &str, nullable: bool) -> Field {
    Field::new(name, crate::time::timestamp_type(), nullable)
}

pub(super) fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

impl AggregateSpec {
    pub fn new(window: Windowing, time: usize, shift: i64, keys: Vec<Bound>, aggregation: Aggregation) -> Result<Self> {
        let mut fields = vec![];
        if window != Windowing::None {
            fields.extend([timestamp("window_start", false), timestamp("window_end", false)]);
        }
        fields.extend(keys.iter().map(|k| Field::new(&k.name, k.data_type.clone(), k.nullable)));
        fields.extend(aggregation.outputs());
        for (i, f) in fields.iter().enumerate() {
            if fields[..i].iter().any(|g| g.name().eq_ignore_ascii_case(f.name())) {
                return Err(Error::schema(format!(
                    "the column '{}' appears twice in the result of the aggregate. Rename one with AS.",
                    f.name()
                )));
            }
        }
        Ok(Self {
            window,
            time,
            shift,
            keys,
            aggregation: Arc::new(aggregation),
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// The columns of the input that are read.
    pub fn columns(&self) -> BTreeSet<usize> {
        let time = self.is_windowed().then_some(self.time);
        let keys = self.keys.iter().flat_map(|k| k.columns().iter().copied());
        let aggregates = self.aggregation.aggregates.iter().flat_map(|a| a.columns());
        time.into_iter().chain(keys).chain(aggregates).collect()
    }

    pub fn is_windowed(&self) -> bool {
        self.window != Windowing::None
    }

    /// The index of the column that the window is over.
    pub fn window_column(&self) -> Option<&str> {
        match &self.window {
            Windowing::None => None,
            Windowing::Fixed(w) => Some(&w.column),
            Windowing::Session(s) => Some(&s.column),
        }
    }

    /// The columns of the result that identify its rows. An update is merged by them. The end of a session is one of
    /// them, because a longer session replaces the shorter one.
    pub fn merge_keys(&self) -> Vec<usize> {
        let first = if self.is_windowed() { 2 } else { 0 };
        let window = match self.window {
            Windowing::None => vec![],
            Windowing::Fixed(_) => vec![0],
            Windowing::Session(_) => vec![0, 1],
        };
        window.into_iter().chain(first..first + self.keys.len()).collect()
    }

    pub(super) fn aggregates(&self) -> &[Aggregate] {
        &self.aggregation.aggregates
    }

    pub(super) fn key_fields(&self) -> Vec<Field> {
        self.keys.iter().map(|k| Field::new(&k.name, k.data_type.clone(), true)).collect()
    }

    /// The partial states of all aggregates.
    pub(super) fn partials(&self) -> Result<Vec<Field>> {
        let mut fields = vec![];
        for (i, a) in self.aggregates().iter().enumerate() {
            for (j, f) in a.state_fields()?.iter().enumerate() {
                fields.push(Field::new(format!("state_{i}_{j}"), f.data_type().clone(), true));
            }
        }
        Ok(fields)
    }

    /// The columns of a snapshot: the window (the end of a removed session is NULL), keys, partial states.
    pub fn state_schema(&self) -> Result<SchemaRef> {
        let mut fields = match self.window {
            Windowing::None => vec![],
            Windowing::Fixed(_) => vec![timestamp("window_start", false)],
            Windowing::Session(_) => vec![timestamp("window_start", false), timestamp("window_end", true)],
        };
        fields.extend(self.key_fields());
        fields.extend(self.partials()?);
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The text that identifies a snapshot. Two aggregations with the same text can read each other's snapshots.
    pub fn description(&self) -> String {
        let keys: Vec<_> =
            self.keys.iter().map(|k| format!("{} {}", k.identity(), crate::expr::type_to_ddl(&k.data_type))).collect();
        let aggregates: Vec<_> = self.aggregates().iter().map(Aggregate::identity).collect();
        let window = match &self.window {
            Windowing::None => String::new(),
            Windowing::Fixed(w) => format!("{}; ", w.describe()),
            Windowing::Session(s) => format!("session({}, {} µs); ", s.column, s.gap),
        };
        format!("{window}by {}; {}", keys.join(", "), aggregates.join(", "))
    }

    /// For people: "window(time, 1 minute), model".
    pub fn grouping(&self) -> String {
        let text = |us: i64| format_duration(Duration::from_micros(us.unsigned_abs()));
        let window = match &self.window {
            Windowing::None => None,
            Windowing::Fixed(w) => Some(format!("window({}, {w})", w.column)),
            Windowing::Session(s) => Some(format!("session_window({}, {})", s.column, text(s.gap))),
        };
        let by: Vec<String> = window.into_iter().chain(self.keys.iter().map(|k| k.sql.clone())).collect();
        if by.is_empty() { "everything".into() } else { by.join(", ") }
    }

    /// The event times of a batch, shifted. NULLs stay NULL.
    pub(super) fn event_times(&self, rows: &RecordBatch) -> TimestampMicrosecondArray {
        let times = rows.column(self.time).as_primitive::<TimestampMicrosecondType>();
        if self.shift == 0 {
            return times.clone();
        }
        let shift = self.shift;
        times.unary::<_, TimestampMicrosecondType>(|t| t.saturating_add(shift)).with_timezone("UTC")
    }

    /// The rows of the result: windows, keys and inner results.
    /// The rows of some groups. A group whose result cannot be computed is set aside, and the others continue. `inner`
    /// computes some of the groups.
    pub(super) fn rows(
        &self,
        window: Option<(Vec<i64>, Vec<i64>)>,
        keys: Vec<ArrayRef>,
        groups: usize,
        inner: &dyn Fn(usize, usize) -> Result<Vec<ArrayRef>>,
        out: &mut Finished,
    ) -> Result<()> {
        let mut pieces = vec![(0, groups)];
        while let Some((from, len)) = pieces.pop() {
            let part = |w: &Vec<i64>| w[from..from + len].to_vec();
            let window = window.as_ref().map(|(starts, ends)| (part(starts), part(ends)));
            let keys: Vec<ArrayRef> = keys.iter().map(|k| k.slice(from, len)).collect();
            match inner(from, len).and_then(|inner| self.output(window.clone(), keys.clone(), &inner, len)) {
                Ok(batch) => out.batches.push(Batch::new(batch, None)),
                Err(e) if e.kind != Kind::Malformed => return Err(e),
                Err(e) if len == 1 => out.failed.push((Batch::new(self.group(window, keys)?, None), e)),
                Err(_) => {
                    // The first half is processed next, so that rows stay in order.
                    pieces.push((from + len / 2, len - len / 2));
                    pieces.push((from, len / 2));
                }
            }
        }
        Ok(())
    }

    /// The window and the keys of a group: the first columns of the output.
    fn group(&self, window: Option<(Vec<i64>, Vec<i64>)>, keys: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![];
        if let Some((starts, ends)) = window {
            columns.extend([times(starts), times(ends)]);
        }
        columns.extend(keys);
        let fields = self.schema.fields().iter().take(columns.len()).cloned().collect::<Vec<_>>();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }

    pub(super) fn output(
        &self,
        window: Option<(Vec<i64>, Vec<i64>)>,
        keys: Vec<ArrayRef>,
        inner: &[ArrayRef],
        rows: usize,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![];
        if let Some((starts, ends)) = window {
            columns.extend([times(starts), times(ends)]);
        }
        columns.extend(keys);
        columns.extend(self.aggregation.project(inner, rows)?);
        debug_assert!(columns.iter().all(|c| c.len() == rows));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
