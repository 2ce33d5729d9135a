//! Aggregates by window and key. Rows go in. Groups come out when their window closes, or the changed groups, or all
//! groups.

use super::input::compute_rows;
use super::spec::{AggregateSpec, Emit, Windowing, times};
use super::store::{Piece, Store};
use crate::batch::{Batch, LateRow};
use crate::state::{Finished, Groups, OpenWindow, Pushed, Stateful, results};
use crate::time::{EventTime, Watermark};
use crate::window::WindowSpec;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::{concat, take};
use arrow::datatypes::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The key under which groups without a window are stored.
const NO_WINDOW: i64 = i64::MIN;
/// From this many groups on, results are emitted as a batch of their own.
const BATCH: usize = 1 << 17;

/// A running aggregation over windows of a fixed or calendar size, or without windows.
pub(crate) struct Aggregator {
    spec: AggregateSpec,
    window: Option<WindowSpec>,
    emit: Emit,
    /// The groups of this epoch.
    epoch: Groups,
    epoch_schema: SchemaRef,
    live: Store,
    state_schema: SchemaRef,
}

impl Aggregator {
    pub(crate) fn new(spec: AggregateSpec, emit: Emit) -> Result<Self> {
        let window = match &spec.window {
            Windowing::None => None,
            Windowing::Fixed(w) => Some(w.clone()),
            Windowing::Session(_) => return Err(Error::internal("sessions have an operator of their own")),
        };
        let mut fields = spec.key_fields();
        if window.is_some() {
            fields.insert(0, super::spec::timestamp("window_start", false));
        }
        let epoch_schema = Arc::new(Schema::new(fields));
        let epoch = Groups::new(&epoch_schema, spec.aggregates())?;
        let (live, state_schema) = (Store::new(&spec)?, spec.state_schema()?);
        Ok(Self { spec, window, emit, epoch, epoch_schema, live, state_schema })
    }

    fn end_of(&self, start: i64) -> i64 {
        self.window.as_ref().map_or(i64::MAX, |w| w.end_of(start))
    }

    /// The end of closed windows at this watermark.
    fn closed(&self, watermark: Option<Watermark>) -> i64 {
        match self.emit {
            Emit::Complete => i64::MIN,
            Emit::OnClose | Emit::Update => watermark.map_or(i64::MIN, |w| w.0),
        }
    }

    fn add(
        &mut self,
        rows: &RecordBatch,
        starts: Option<ArrayRef>,
        origin: Option<&UInt32Array>,
        out: &mut Pushed,
    ) -> Result<()> {
        let Self { spec, epoch, .. } = self;
        compute_rows(spec, rows, origin, &mut out.failed, &mut |c, from, len| {
            let mut keys = Vec::with_capacity(c.keys.len() + 1);
            keys.extend(starts.as_ref().map(|s| s.slice(from, len)));
            keys.extend(c.keys);
            epoch.update(&keys, &c.arguments, &c.filters, len)
        })
    }

    /// The rows of some partial states by window, earliest window first.
    fn rows_by_window(&self, state: &RecordBatch) -> BTreeMap<i64, Vec<u32>> {
        if self.window.is_none() {
            return BTreeMap::from([(NO_WINDOW, (0..state.num_rows() as u32).collect())]);
        }
        let mut out: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, start) in state.column(0).as_primitive::<TimestampMicrosecondType>().values().iter().enumerate() {
            out.entry(*start).or_default().push(row as u32);
        }
        out
    }

    /// The places of the keys and the partial states in `state_schema`.
    fn parts(&self) -> (std::ops::Range<usize>, std::ops::RangeFrom<usize>) {
        let first = usize::from(self.window.is_some());
        let keys = self.spec.keys.len();
        (first..first + keys, first + keys..)
    }
}

impl Stateful for Aggregator {
    fn push(&mut self, _input: usize, input: &Batch, before: Option<Watermark>) -> Result<Pushed> {
        let mut out = Pushed::default();
        let closed = self.closed(before);
        let Some(window) = self.window.clone() else {
            self.add(&input.rows, None, None, &mut out)?;
            return Ok(out);
        };
        let times = self.spec.event_times(&input.rows);
        let all_valid = times.null_count() == 0;
        let mut starts: Vec<i64> = Vec::with_capacity(times.len());
        // The row of each start. None while every row has exactly the start at its own place.
        let mut rows: Option<Vec<u32>> = (!window.is_tumbling()).then(|| Vec::with_capacity(times.len()));
        let (mut start, mut end) = (1, 0); // the window of the previous row: consecutive rows are often in the same window
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
                let behind = time.map(|t| Duration::from_micros(closed.saturating_sub(t).max(0) as u64));
                out.late.push(LateRow { row: row as u32, behind });
            }
        }
        let starts = super::spec::times(starts);
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

    fn finish_epoch(&mut self, _before: Option<Watermark>, after: Option<Watermark>) -> Result<Finished> {
        let updated = self.epoch.len();
        let closed = self.closed(after);
        let mut out = Finished { updated, ..Finished::default() };
        let mut emitter = Emitter::new(self.window.clone());
        if updated > 0 {
            let fresh = Groups::new(&self.epoch_schema, self.spec.aggregates())?;
            let (mut columns, states) = std::mem::replace(&mut self.epoch, fresh).into_states()?;
            columns.extend(states);
            let increment = RecordBatch::try_new(self.state_schema.clone(), columns)?;
            let (keys, states) = self.parts();
            let (keys, states) = (&increment.columns()[keys], &increment.columns()[states]);
            let bytes = self.live.key_bytes(keys, updated)?;
            let mut still_open: Vec<u32> = vec![];
            let mut at_once: Vec<u32> = vec![];
            for (start, rows) in self.rows_by_window(&increment) {
                let open = self.end_of(start) > closed;
                if open {
                    still_open.extend(&rows);
                } else if self.emit == Emit::OnClose && !self.live.has(start) {
                    // The window opened and closed within this epoch. There is nothing to merge with and nothing to
                    // keep.
                    at_once.extend(rows);
                    continue;
                }
                let read = self.emit == Emit::Update;
                for (rows, states) in self.live.merge(start, &bytes, states, rows, read)? {
                    let rows = UInt32Array::from(rows);
                    let keys = keys.iter().map(|k| take(k, &rows, None)).collect::<Result<Vec<_>, _>>()?;
                    emitter.add(vec![start; rows.len()], keys, states);
                    emitter.flush(&self.spec, BATCH, &mut out)?;
                }
            }
            if !at_once.is_empty() {
                let rows = UInt32Array::from(at_once);
                let column = |c: &ArrayRef| take(c, &rows, None);
                let starts = column(increment.column(0))?;
                let keys = keys.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                let states = states.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                let starts = starts.as_primitive::<TimestampMicrosecondType>().values().to_vec();
                emitter.add(starts, keys, states);
            }
            // Groups that have been emitted are not kept.
            out.increment = match still_open.len() {
                0 => None,
                n if n == updated => Some(increment),
                _ => Some(arrow::compute::take_record_batch(&increment, &UInt32Array::from(still_open))?),
            };
        }
        match self.emit {
            Emit::OnClose => {
                let due: Vec<i64> = self.live.starts().take_while(|s| self.end_of(*s) <= closed).collect();
                for start in due {
                    let spec = &self.spec;
                    self.live.take(start, &mut |piece| {
                        emitter.piece(piece);
                        emitter.flush(spec, BATCH, &mut out)
                    })?;
                }
            }
            Emit::Update => self.forget(after)?,
            Emit::Complete if updated > 0 => {
                for start in self.live.starts().collect::<Vec<_>>() {
                    let spec = &self.spec;
                    self.live.read(start, &mut |piece| {
                        emitter.piece(piece);
                        emitter.flush(spec, BATCH, &mut out)
                    })?;
                }
            }
            Emit::Complete => {}
        }
        emitter.flush(&self.spec, 1, &mut out)?;
        if self.emit == Emit::Update {
            let keys = self.spec.merge_keys();
            let failed = out.failed.iter().map(|(group, _)| group);
            let all = out.batches.iter().chain(failed);
            out.changed = all.map(|b| b.rows.project(&keys)).collect::<Result<_, _>>()?;
        }
        Ok(out)
    }

    fn description(&self) -> String {
        self.spec.description()
    }
    fn state_schema(&self) -> SchemaRef {
        self.state_schema.clone()
    }

    fn restore(&mut self, state: &RecordBatch) -> Result<()> {
        let (keys, states) = self.parts();
        let (keys, states) = (&state.columns()[keys], &state.columns()[states]);
        let bytes = self.live.key_bytes(keys, state.num_rows())?;
        for (start, rows) in self.rows_by_window(state) {
            self.live.merge(start, &bytes, states, rows, false)?;
        }
        Ok(())
    }

    fn forget(&mut self, watermark: Option<Watermark>) -> Result<()> {
        let closed = self.closed(watermark);
        let due: Vec<i64> = self.live.starts().take_while(|s| self.end_of(*s) <= closed).collect();
        due.into_iter().for_each(|s| self.live.forget(s));
        Ok(())
    }

    fn snapshot(&mut self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        // Small windows share a batch.
        let mut waiting: Vec<RecordBatch> = vec![];
        let mut rows = 0;
        let (schema, windowed) = (self.state_schema.clone(), self.window.is_some());
        let mut push = |batch: RecordBatch| -> Result<()> {
            rows += batch.num_rows();
            waiting.push(batch);
            if rows >= BATCH {
                each(arrow::compute::concat_batches(&schema, &std::mem::take(&mut waiting))?)?;
                rows = 0;
            }
            Ok(())
        };
        for start in self.live.starts().collect::<Vec<_>>() {
            self.live.read(start, &mut |piece| {
                let mut columns: Vec<ArrayRef> = vec![];
                if windowed {
                    columns.push(times(vec![start; piece.rows]));
                }
                columns.extend(piece.keys);
                columns.extend(piece.states);
                push(RecordBatch::try_new(schema.clone(), columns)?)
            })?;
        }
        match waiting.is_empty() {
            true => Ok(()),
            false => each(arrow::compute::concat_batches(&self.state_schema, &waiting)?),
        }
    }

    fn fresh(&self) -> Result<Box<dyn Stateful>> {
        Ok(Box::new(Self::new(self.spec.clone(), self.emit)?))
    }
    fn merges_anywhere(&self) -> bool {
        true
    }
    fn needed_until(&self, state: &RecordBatch) -> Option<EventTime> {
        let window = self.window.as_ref().filter(|_| self.emit != Emit::Complete)?;
        let starts = state.column(0).as_primitive::<TimestampMicrosecondType>();
        arrow::compute::max(starts).map(|s| EventTime(window.end_of(s)))
    }

    fn groups(&self) -> usize {
        self.live.groups()
    }
    fn memory(&self) -> usize {
        self.epoch.memory() + self.live.memory()
    }
    fn open_windows(&self) -> Vec<OpenWindow> {
        let Some(window) = &self.window else { return vec![] };
        let one = |s: i64| OpenWindow {
            start: EventTime(s),
            end: EventTime(window.end_of(s)),
            groups: self.live.groups_of(s),
        };
        self.live.starts().map(one).collect()
    }
    fn last_window(&self, until: EventTime) -> Option<EventTime> {
        let window = self.window.as_ref().filter(|_| self.emit != Emit::Complete)?;
        self.live.starts().rev().find(|s| *s <= until.0).map(|s| EventTime(window.end_of(s)))
    }
    fn would_emit(&self, after: Option<Watermark>) -> bool {
        let due = |s: i64| self.end_of(s) <= self.closed(after);
        self.emit == Emit::OnClose && self.live.starts().next().is_some_and(due)
    }
    fn shrink(&mut self, to: usize) -> Result<bool> {
        self.live.shrink(to)?;
        Ok(true)
    }
}

/// Groups that are being emitted. They are evaluated together, also from several windows.
struct Emitter {
    window: Option<WindowSpec>,
    starts: Vec<i64>,
    keys: Vec<Vec<ArrayRef>>,
    states: Vec<Vec<ArrayRef>>,
}

impl Emitter {
    fn new(window: Option<WindowSpec>) -> Self {
        Self { window, starts: vec![], keys: vec![], states: vec![] }
    }

    fn add(&mut self, starts: Vec<i64>, keys: Vec<ArrayRef>, states: Vec<ArrayRef>) {
        self.starts.extend(starts);
        self.keys.push(keys);
        self.states.push(states);
    }

    fn piece(&mut self, piece: Piece) {
        self.add(vec![piece.start; piece.rows], piece.keys, piece.states);
    }

    /// Makes a batch of the waiting groups, if there are at least `least`.
    fn flush(&mut self, spec: &AggregateSpec, least: usize, out: &mut Finished) -> Result<()> {
        let rows = self.starts.len();
        if rows < least {
            return Ok(());
        }
        let keys = columns(std::mem::take(&mut self.keys))?;
        let states = columns(std::mem::take(&mut self.states))?;
        let starts = std::mem::take(&mut self.starts);
        let window = self.window.as_ref().map(|w| {
            let (mut last, mut end) = (None, 0);
            let end_of = |s: &i64| {
                if last != Some(*s) {
                    (last, end) = (Some(*s), w.end_of(*s));
                }
                end
            };
            let ends = starts.iter().map(end_of).collect();
            (starts, ends)
        });
        let inner = |from: usize, len: usize| {
            let states: Vec<ArrayRef> = states.iter().map(|s| s.slice(from, len)).collect();
            results(spec.aggregates(), &states, len)
        };
        spec.rows(window, keys, rows, &inner, out)
    }
}

/// Concatenates pieces of some columns.
pub(super) fn columns(mut pieces: Vec<Vec<ArrayRef>>) -> Result<Vec<ArrayRef>> {
    if pieces.len() == 1 {
        return Ok(pieces.remove(0));
    }
    let width = pieces.first().map_or(0, Vec::len);
    let column = |i: usize| {
        let all: Vec<&dyn Array> = pieces.iter().map(|p| p[i].as_ref()).collect();
        Ok(concat(&all)?)
    };
    (0..width).map(column).collect()
}
