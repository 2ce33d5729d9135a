//! Aggregates by window and key: rows in, groups out when their window closes, or all of them (complete).

use crate::batch::{Batch, FailedRow};
use crate::expr::{Aggregate, Aggregation, Bound};
use crate::state::{Groups, normalize_key};
use crate::time::{EventTime, Watermark};
use crate::window::WindowSpec;
use crate::{Error, Kind, Result};
use arrow::array::*;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an aggregation computes.
#[derive(Clone)]
pub struct AggregateSpec {
    /// The window, and the index of its time column.
    pub window: Option<(WindowSpec, usize)>,
    pub keys: Vec<Bound>,
    pub aggregation: Arc<Aggregation>,
    /// window_start, window_end, keys, aggregates.
    pub schema: SchemaRef,
}

fn timestamp(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
}

impl AggregateSpec {
    pub fn new(window: Option<(WindowSpec, usize)>, keys: Vec<Bound>, aggregation: Aggregation) -> Result<Self> {
        let mut fields = vec![];
        if window.is_some() {
            fields.extend([timestamp("window_start"), timestamp("window_end")]);
        }
        fields.extend(keys.iter().map(|k| Field::new(&k.name, k.data_type.clone(), k.nullable)));
        fields.extend(aggregation.outputs());
        for (i, f) in fields.iter().enumerate() {
            if fields[..i].iter().any(|g| g.name().eq_ignore_ascii_case(f.name())) {
                return Err(Error::schema(format!(
                    "the column '{}' appears twice in the aggregate's result; name one with AS",
                    f.name()
                )));
            }
        }
        Ok(Self { window, keys, aggregation: Arc::new(aggregation), schema: Arc::new(Schema::new(fields)) })
    }

    fn aggregates(&self) -> &[Aggregate] {
        &self.aggregation.aggregates
    }

    fn key_fields(&self) -> Vec<Field> {
        self.keys.iter().map(|k| Field::new(&k.name, k.data_type.clone(), true)).collect()
    }

    /// The columns of a snapshot: window_start if there is a window, keys, partial states.
    pub fn state_schema(&self) -> Result<SchemaRef> {
        let mut fields = vec![];
        if self.window.is_some() {
            fields.push(timestamp("window_start"));
        }
        fields.extend(self.key_fields());
        for (i, a) in self.aggregates().iter().enumerate() {
            for (j, f) in a.state_fields()?.iter().enumerate() {
                fields.push(Field::new(format!("state_{i}_{j}"), f.data_type().clone(), true));
            }
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// What a snapshot is of; two aggregations with the same text can read each other's.
    pub fn description(&self) -> String {
        let keys: Vec<_> =
            self.keys.iter().map(|k| format!("{} {}", k.sql, crate::expr::type_to_ddl(&k.data_type))).collect();
        let aggregates: Vec<_> = self.aggregates().iter().map(|a| a.sql.clone()).collect();
        let window = self
            .window
            .as_ref()
            .map(|(w, _)| format!("window({}, {} µs, {} µs, {} µs); ", w.column, w.size, w.slide, w.offset));
        format!("{}by {}; {}", window.unwrap_or_default(), keys.join(", "), aggregates.join(", "))
    }
}

/// When groups are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Once, when their window closes.
    OnClose,
    /// All of them at each epoch's end; no group is ever forgotten, so no row is late.
    Complete,
}

/// A row for which it is too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateRow {
    pub row: u32,
    /// How far behind the watermark; None when the event time is NULL.
    pub behind: Option<std::time::Duration>,
}

#[derive(Debug, Default)]
pub struct Pushed {
    pub late: Vec<LateRow>,
    pub failed: Vec<FailedRow>,
}

/// The end of an epoch.
pub struct Finished {
    /// What is handed out.
    pub rows: RecordBatch,
    /// What the epoch added to the state; None when nothing.
    pub increment: Option<RecordBatch>,
    pub updated_groups: usize,
}

/// A running aggregation.
pub struct Aggregator {
    pub spec: AggregateSpec,
    pub emit: Emit,
    epoch: Groups,
    epoch_schema: SchemaRef,
    /// Groups by the start of their window; all under one key where there is no window.
    live: BTreeMap<i64, Groups>,
    /// The latest window start that was ever assigned.
    last_start: Option<i64>,
    key_schema: SchemaRef,
    state_schema: SchemaRef,
}

const NO_WINDOW: i64 = i64::MIN;

struct Computed {
    keys: Vec<ArrayRef>,
    arguments: Vec<Vec<ArrayRef>>,
    filters: Vec<Option<BooleanArray>>,
}

impl Aggregator {
    pub fn new(spec: AggregateSpec, emit: Emit) -> Result<Self> {
        let key_schema = Arc::new(Schema::new(spec.key_fields()));
        let mut epoch_keys = spec.key_fields();
        if spec.window.is_some() {
            epoch_keys.insert(0, timestamp("window_start"));
        }
        let epoch_schema = Arc::new(Schema::new(epoch_keys));
        let epoch = Groups::new(&epoch_schema, spec.aggregates())?;
        let state_schema = spec.state_schema()?;
        Ok(Self { spec, emit, epoch, epoch_schema, live: BTreeMap::new(), last_start: None, key_schema, state_schema })
    }

    pub fn state_schema(&self) -> &SchemaRef {
        &self.state_schema
    }
    pub fn groups(&self) -> usize {
        self.live.values().map(Groups::len).sum::<usize>()
    }
    pub fn memory(&self) -> usize {
        self.epoch.memory() + self.live.values().map(Groups::memory).sum::<usize>()
    }
    /// The ends of the windows that are open, earliest first.
    pub fn open_windows(&self) -> Vec<EventTime> {
        match &self.spec.window {
            Some((w, _)) => self.live.keys().map(|s| EventTime(w.end_of(*s))).collect(),
            None => vec![],
        }
    }

    /// The end of the last window that has rows, this epoch's included.
    pub fn last_window(&self) -> Option<EventTime> {
        let (window, _) = self.spec.window.as_ref()?;
        let last = self.live.keys().next_back().copied().max(self.last_start)?;
        Some(EventTime(window.end_of(last)))
    }

    /// Adds rows, judged by the watermark with which the epoch began.
    pub fn push(&mut self, input: &Batch, watermark: Option<Watermark>) -> Result<Pushed> {
        let mut out = Pushed::default();
        let closed = match self.emit {
            Emit::OnClose => watermark.map_or(i64::MIN, |w| w.0),
            Emit::Complete => i64::MIN,
        };
        let Some((window, column)) = self.spec.window.clone() else {
            self.add(&input.rows, None, None, &mut out)?;
            return Ok(out);
        };
        let times = input.rows.column(column).as_primitive::<TimestampMicrosecondType>();
        let all_valid = times.null_count() == 0;
        let mut starts: Vec<i64> = Vec::with_capacity(times.len());
        // Which row each start belongs to; left out while every row has just the one at its own place.
        let mut rows: Option<Vec<u32>> = (!window.is_tumbling()).then(|| Vec::with_capacity(times.len()));
        let (mut start, mut end) = (1, 0); // the window of the row before: rows come in runs
        for (row, time) in times.values().iter().enumerate() {
            let late = if !all_valid && times.is_null(row) {
                Some(None)
            } else if window.is_tumbling() {
                if *time < start || *time >= end {
                    start = window.last_start(*time);
                    end = window.end_of(start);
                }
                if end > closed {
                    starts.push(start);
                    if let Some(rows) = &mut rows {
                        rows.push(row as u32);
                    }
                    None
                } else {
                    Some(Some(*time))
                }
            } else {
                let before = starts.len();
                for s in window.starts(*time).filter(|s| window.end_of(*s) > closed) {
                    starts.push(s);
                    if let Some(rows) = &mut rows {
                        rows.push(row as u32);
                    }
                }
                (starts.len() == before).then_some(Some(*time))
            };
            if let Some(time) = late {
                rows.get_or_insert_with(|| (0..row as u32).collect());
                let behind = time.map(|t| std::time::Duration::from_micros(closed.saturating_sub(t).max(0) as u64));
                out.late.push(LateRow { row: row as u32, behind });
            }
        }
        self.last_start = self.last_start.max(starts.iter().copied().max());
        let starts = Arc::new(TimestampMicrosecondArray::from(starts).with_timezone("UTC")) as ArrayRef;
        match rows {
            None => self.add(&input.rows, Some(starts), None, &mut out)?,
            Some(rows) => {
                let rows = UInt32Array::from(rows);
                let taken = arrow::compute::take_record_batch(&input.rows, &rows)?;
                self.add(&taken, Some(starts), Some(&rows), &mut out)?;
            }
        }
        Ok(out)
    }

    fn add(
        &mut self,
        rows: &RecordBatch,
        starts: Option<ArrayRef>,
        origin: Option<&UInt32Array>,
        out: &mut Pushed,
    ) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match self.compute(rows) {
            Ok(c) => {
                let mut keys = Vec::with_capacity(c.keys.len() + 1);
                keys.extend(starts);
                keys.extend(c.keys);
                self.epoch.update(&keys, &c.arguments, &c.filters, rows.num_rows())
            }
            Err(e) if e.kind == Kind::Malformed && rows.num_rows() == 1 => {
                let row = origin.map_or(0, |o| o.value(0));
                if out.failed.last().is_none_or(|f| f.row != row) {
                    out.failed.push(FailedRow { row, error: e.message });
                }
                Ok(())
            }
            // By bisection: the halves that hold no failing row are aggregated whole.
            Err(e) if e.kind == Kind::Malformed => {
                let n = rows.num_rows();
                let all = UInt32Array::from_iter_values(0..n as u32);
                let origin = origin.unwrap_or(&all);
                for (from, len) in [(0, n / 2), (n / 2, n - n / 2)] {
                    let part = starts.as_ref().map(|s| s.slice(from, len));
                    self.add(&rows.slice(from, len), part, Some(&origin.slice(from, len)), out)?;
                }
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn compute(&self, rows: &RecordBatch) -> Result<Computed> {
        let keys = self.spec.keys.iter().map(|k| Ok(normalize_key(&k.evaluate(rows)?))).collect::<Result<_>>()?;
        let aggregates = self.spec.aggregates();
        let arguments = aggregates.iter().map(|a| a.evaluate_arguments(rows)).collect::<Result<_>>()?;
        let filters = aggregates.iter().map(|a| a.evaluate_filter(rows)).collect::<Result<_>>()?;
        Ok(Computed { keys, arguments, filters })
    }

    /// Ends the epoch: its groups are merged into the live ones, and what is due is handed out.
    pub fn finish_epoch(&mut self, watermark: Option<Watermark>) -> Result<Finished> {
        let updated_groups = self.epoch.len();
        let fresh = Groups::new(&self.epoch_schema, self.spec.aggregates())?;
        let (mut columns, states) = std::mem::replace(&mut self.epoch, fresh).into_states()?;
        let increment = if updated_groups > 0 {
            columns.extend(states);
            Some(RecordBatch::try_new(self.state_schema.clone(), columns)?)
        } else {
            None
        };
        if let Some(increment) = &increment {
            self.merge(increment)?;
        }
        let rows = match self.emit {
            Emit::OnClose => self.take_closed(watermark)?,
            Emit::Complete if updated_groups > 0 => self.results()?,
            Emit::Complete => RecordBatch::new_empty(self.spec.schema.clone()),
        };
        // What is already handed out need not be kept.
        let increment = match (increment, &self.spec.window, self.emit) {
            (Some(batch), Some((window, _)), Emit::OnClose) => {
                let closed = watermark.map_or(i64::MIN, |w| w.0);
                let starts = batch.column(0).as_primitive::<TimestampMicrosecondType>();
                let open: BooleanArray = starts.values().iter().map(|s| Some(window.end_of(*s) > closed)).collect();
                let kept = filter_record_batch(&batch, &open)?;
                (kept.num_rows() > 0).then_some(kept)
            }
            (increment, ..) => increment,
        };
        Ok(Finished { rows, increment, updated_groups })
    }

    /// Merges a snapshot (base or increment) into the live groups.
    pub fn merge(&mut self, state: &RecordBatch) -> Result<()> {
        let rows = state.num_rows();
        let aggregates = self.spec.aggregation.aggregates.clone();
        let keys = self.spec.keys.len();
        if self.spec.window.is_none() {
            let groups = self.bucket(NO_WINDOW)?;
            return groups.merge(&state.columns()[..keys], &state.columns()[keys..], &aggregates, rows);
        }
        let starts = state.column(0).as_primitive::<TimestampMicrosecondType>();
        let mut by_window: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, start) in starts.values().iter().enumerate() {
            by_window.entry(*start).or_default().push(row as u32);
        }
        for (start, rows) in by_window {
            let part = match rows.len() == state.num_rows() {
                true => state.clone(),
                false => arrow::compute::take_record_batch(state, &UInt32Array::from(rows))?,
            };
            let columns = &part.columns()[1..];
            self.bucket(start)?.merge(&columns[..keys], &columns[keys..], &aggregates, part.num_rows())?;
        }
        Ok(())
    }

    fn bucket(&mut self, start: i64) -> Result<&mut Groups> {
        match self.live.entry(start) {
            std::collections::btree_map::Entry::Occupied(e) => Ok(e.into_mut()),
            std::collections::btree_map::Entry::Vacant(e) => {
                Ok(e.insert(Groups::new(&self.key_schema, &self.spec.aggregation.aggregates)?))
            }
        }
    }

    /// Forgets windows that are closed without handing them out: they were, before the snapshot was made.
    pub fn forget_closed(&mut self, watermark: Option<Watermark>) {
        if let (Some((window, _)), Some(w), Emit::OnClose) = (&self.spec.window, watermark, self.emit) {
            self.live.retain(|start, _| window.end_of(*start) > w.0);
        }
    }

    fn take_closed(&mut self, watermark: Option<Watermark>) -> Result<RecordBatch> {
        let mut out = vec![];
        if let (Some((window, _)), Some(w)) = (self.spec.window.clone(), watermark) {
            while let Some((start, _)) = self.live.first_key_value()
                && window.end_of(*start) <= w.0
            {
                let Some((start, groups)) = self.live.pop_first() else { break };
                out.push(self.output(start, groups)?);
            }
        }
        Ok(concat_batches(&self.spec.schema, &out)?)
    }

    /// All groups' results; the groups stay.
    fn results(&mut self) -> Result<RecordBatch> {
        let mut out = vec![];
        let aggregates = self.spec.aggregation.aggregates.clone();
        for (start, groups) in std::mem::take(&mut self.live) {
            // Evaluating consumes: results come from a copy that is merged from the partial states.
            let (keys, states) = groups.into_states()?;
            let rows = states.first().map_or(0, |s| s.len());
            let mut copy = Groups::new(&self.key_schema, &aggregates)?;
            copy.merge(&keys, &states, &aggregates, rows)?;
            out.push(self.output(start, copy)?);
            let mut kept = Groups::new(&self.key_schema, &aggregates)?;
            kept.merge(&keys, &states, &aggregates, rows)?;
            self.live.insert(start, kept);
        }
        Ok(concat_batches(&self.spec.schema, &out)?)
    }

    fn output(&self, start: i64, groups: Groups) -> Result<RecordBatch> {
        let rows = groups.len();
        let (keys, inner) = groups.into_results(self.spec.aggregates())?;
        let mut columns: Vec<ArrayRef> = vec![];
        if let Some((window, _)) = &self.spec.window {
            for at in [start, window.end_of(start)] {
                columns.push(Arc::new(TimestampMicrosecondArray::from_value(at, rows).with_timezone("UTC")));
            }
        }
        columns.extend(keys);
        columns.extend(self.spec.aggregation.project(&inner, rows)?);
        Ok(RecordBatch::try_new(self.spec.schema.clone(), columns)?)
    }

    /// All live groups as one snapshot; the groups stay.
    pub fn base(&mut self) -> Result<RecordBatch> {
        let mut out = vec![];
        let aggregates = self.spec.aggregation.aggregates.clone();
        for (start, groups) in std::mem::take(&mut self.live) {
            let (keys, states) = groups.into_states()?;
            let rows = states.first().map_or(0, |s| s.len());
            let mut kept = Groups::new(&self.key_schema, &aggregates)?;
            kept.merge(&keys, &states, &aggregates, rows)?;
            self.live.insert(start, kept);
            let mut columns: Vec<ArrayRef> = vec![];
            if self.spec.window.is_some() {
                columns.push(Arc::new(TimestampMicrosecondArray::from_value(start, rows).with_timezone("UTC")));
            }
            columns.extend(keys);
            columns.extend(states);
            out.push(RecordBatch::try_new(self.state_schema.clone(), columns)?);
        }
        Ok(concat_batches(&self.state_schema, &out)?)
    }
}
