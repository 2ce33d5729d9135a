//! Sessions: rows of one key that follow each other within a gap.
//!
//! A row at `t` is the session `[t, t + gap]`. Sessions of one key that overlap or touch become one, as in Spark. A
//! session is closed when the watermark has passed its end. A row exactly at its end still belongs to it, and the
//! watermark only says that no row before it will arrive. So without late rows, the sessions do not depend on how the
//! stream was divided into epochs.
//!
//! The session of a row is known only when all rows of the epoch have arrived. So the rows are kept until the end of
//! the epoch, as columns that the aggregates take, and sorted once. A row is late if its session, merged with its
//! neighbours and with the open sessions, is closed by the watermark with which the epoch began.
//!
//! An increment contains the changed sessions as a whole. For each session that was merged into a different one, it has
//! a row without an end.

use super::aggregate::columns;
use super::input::compute_rows;
use super::spec::{AggregateSpec, Emit, SessionSpec, Windowing, times};
use crate::batch::{Batch, LateRow};
use crate::state::{Columns, Finished, KeyCodec, OpenWindow, Pushed, Stateful, results};
use crate::time::{EventTime, Watermark};
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::{concat, take};
use arrow::datatypes::*;
use datafusion::logical_expr::EmitTo;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

type Key = Arc<[u8]>;

pub(crate) struct Sessions {
    spec: AggregateSpec,
    gap: i64,
    emit: Emit,
    /// The rows of this epoch, in the form that the aggregates take.
    held: Vec<Held>,
    codec: Option<KeyCodec>,
    open: Open,
    state_schema: SchemaRef,
}

/// Some of the rows of the epoch.
struct Held {
    times: Vec<i64>,
    keys: Vec<ArrayRef>,
    arguments: Vec<Vec<ArrayRef>>,
    filters: Vec<Option<BooleanArray>>,
    /// Rows that are late unless their session becomes longer: their index in the held rows, and the row itself.
    suspects: Vec<u32>,
    rows: Option<Batch>,
}

/// The open sessions.
struct Open {
    states: Columns,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<Key, Vec<u32>>,
    by_end: BTreeSet<(i64, u32)>,
    key_bytes: usize,
}

#[derive(Clone)]
struct Slot {
    key: Key,
    start: i64,
    end: i64,
}

/// A session of this epoch, after merging.
struct Merged {
    key: Key,
    start: i64,
    end: i64,
    members: Vec<u32>,
    late: bool,
}

impl Open {
    fn new(partials: &SchemaRef) -> Self {
        Self {
            states: Columns::new(partials),
            slots: vec![],
            free: vec![],
            by_key: HashMap::new(),
            by_end: BTreeSet::new(),
            key_bytes: 0,
        }
    }

    fn remove(&mut self, slot: u32) {
        let Slot { key, end, .. } = self.slots[slot as usize].clone();
        self.by_end.remove(&(end, slot));
        if let Some(slots) = self.by_key.get_mut(&key) {
            slots.retain(|s| *s != slot);
            if slots.is_empty() {
                self.by_key.remove(&key);
                self.key_bytes -= key.len();
            }
        }
        self.free.push(slot);
    }

    /// Adds sessions. Their states are the rows of `states`.
    fn add(&mut self, new: Vec<Slot>, states: &[ArrayRef]) -> Result<()> {
        let (mut reused, mut reused_rows, mut appended) = (vec![], vec![], vec![]);
        for (row, session) in new.into_iter().enumerate() {
            let slot = match self.free.pop() {
                Some(slot) => {
                    self.slots[slot as usize] = session.clone();
                    reused.push(slot);
                    reused_rows.push(row as u32);
                    slot
                }
                None => {
                    self.slots.push(session.clone());
                    appended.push(row as u32);
                    self.slots.len() as u32 - 1
                }
            };
            self.by_end.insert((session.end, slot));
            let key_len = session.key.len();
            let of_key = self.by_key.entry(session.key).or_default();
            if of_key.is_empty() {
                self.key_bytes += key_len;
            }
            of_key.push(slot);
        }
        self.states.append(states, &appended)?;
        let rows = UInt32Array::from(reused_rows);
        let states = states.iter().map(|s| take(s, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.states.scatter(&reused, &states)
    }
}

impl Sessions {
    pub(crate) fn new(spec: AggregateSpec, emit: Emit) -> Result<Self> {
        let Windowing::Session(SessionSpec { gap, .. }) = spec.window else {
            return Err(Error::internal("only sessions are sessions"));
        };
        let fields = spec.key_fields();
        let codec = match fields.is_empty() {
            true => None,
            false => Some(KeyCodec::new(fields.iter().map(Field::data_type))?),
        };
        let open = Open::new(&Arc::new(Schema::new(spec.partials()?)));
        let state_schema = spec.state_schema()?;
        Ok(Self { spec, gap, emit, held: vec![], codec, open, state_schema })
    }

    fn is_closed(&self, end: i64, watermark: Option<Watermark>) -> bool {
        self.emit != Emit::Complete && watermark.is_some_and(|w| end < w.0)
    }

    fn key_columns(&self, keys: &[&Key]) -> Result<Vec<ArrayRef>> {
        match &self.codec {
            Some(codec) => codec.decode(keys.iter().map(|k| &***k)),
            None => Ok(vec![]),
        }
    }

    /// The rows of the epoch by session: the sessions, and the session of each row (in the order of `held`).
    fn merge_rows(&self, before: Option<Watermark>) -> Result<(Vec<Merged>, Vec<u32>)> {
        let times: Vec<i64> = self.held.iter().flat_map(|h| h.times.iter().copied()).collect();
        let keys = columns(self.held.iter().map(|h| h.keys.clone()).collect())?;
        let rows = self.codec.as_ref().map(|c| c.encode(&keys)).transpose()?;
        let bytes = |row: u32| rows.as_ref().map_or(&[][..], |r| r.row(row as usize).data());
        // Rows are ordered by key first, so that only numbers are sorted.
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let of_row: Vec<u32> = (0..times.len() as u32)
            .map(|row| {
                let next = numbers.len() as u32;
                *numbers.entry(bytes(row)).or_insert(next)
            })
            .collect();
        let mut order: Vec<u32> = (0..times.len() as u32).collect();
        order.sort_unstable_by_key(|r| (of_row[*r as usize], times[*r as usize]));
        let mut session_of = vec![0u32; times.len()];
        let mut merged: Vec<Merged> = vec![];
        let mut at = 0;
        while at < order.len() {
            let number = of_row[order[at] as usize];
            let mut until = at + 1;
            while until < order.len() && of_row[order[until] as usize] == number {
                until += 1;
            }
            let mine = &order[at..until];
            let key = bytes(mine[0]);
            let (key, mut open) = match self.open.by_key.get_key_value(key) {
                Some((key, slots)) => (key.clone(), slots.clone()),
                None => (Key::from(key), vec![]),
            };
            open.sort_unstable_by_key(|s| self.open.slots[*s as usize].start);
            let mut open = open.into_iter().peekable();
            let first = merged.len();
            // A sweep over the rows and open sessions of this key, by their start.
            for row in mine {
                let time = times[*row as usize];
                while let Some(slot) = open.next_if(|s| self.open.slots[*s as usize].start <= time) {
                    let Slot { start, end, .. } = self.open.slots[slot as usize];
                    join(&mut merged, first, &key, start, end).members.push(slot);
                }
                join(&mut merged, first, &key, time, time.saturating_add(self.gap));
                session_of[*row as usize] = merged.len() as u32 - 1;
            }
            for slot in open {
                let Slot { start, end, .. } = self.open.slots[slot as usize];
                join(&mut merged, first, &key, start, end).members.push(slot);
            }
            at = until;
        }
        for m in &mut merged {
            m.late = m.members.is_empty() && self.is_closed(m.end, before);
        }
        Ok((merged, session_of))
    }

    /// The partial states of the merged sessions, in their order. Late ones have none.
    fn accumulate(&mut self, merged: &[Merged], session_of: &[u32], number: &[u32]) -> Result<Vec<ArrayRef>> {
        let total = number.iter().filter(|n| **n != u32::MAX).count();
        let numbered = || merged.iter().zip(number).filter(|(_, n)| **n != u32::MAX);
        let group_of: Vec<u32> = session_of.iter().map(|s| number[*s as usize]).collect();
        let mut states = vec![];
        let members: Vec<u32> = numbered().flat_map(|(m, _)| m.members.iter().copied()).collect();
        let member_groups: Vec<usize> =
            numbered().flat_map(|(m, n)| std::iter::repeat_n(*n as usize, m.members.len())).collect();
        let old = self.open.states.gather(&members)?;
        let mut at = 0;
        for (i, aggregate) in self.spec.aggregates().iter().enumerate() {
            let mut acc = aggregate.accumulator()?;
            let mut row = 0;
            let mut seen = 0;
            for held in &self.held {
                let groups = &group_of[row..row + held.times.len()];
                row += held.times.len();
                let (arguments, filter, groups) = match groups.contains(&u32::MAX) {
                    false => (
                        held.arguments[i].clone(),
                        held.filters[i].clone(),
                        groups.iter().map(|g| *g as usize).collect(),
                    ),
                    true => kept(&held.arguments[i], held.filters[i].as_ref(), groups)?,
                };
                let groups: Vec<usize> = groups;
                // Only groups up to the last one that had a row: DataFusion counts every lower group as seen.
                seen = seen.max(groups.iter().max().map_or(0, |g| g + 1));
                acc.update_batch(&arguments, &groups, filter.as_ref(), seen)?;
            }
            let width = aggregate.state_fields()?.len();
            acc.merge_batch(&old[at..at + width], &member_groups, total)?;
            at += width;
            states.extend(acc.state(EmitTo::All)?);
        }
        Ok(states)
    }

    /// Emits sessions. A session whose result cannot be computed is set aside.
    fn hand_out(&self, sessions: &[&Slot], states: &[ArrayRef], out: &mut Finished) -> Result<()> {
        let keys: Vec<&Key> = sessions.iter().map(|s| &s.key).collect();
        let window = (sessions.iter().map(|s| s.start).collect(), sessions.iter().map(|s| s.end).collect());
        let inner = |from: usize, len: usize| {
            let states: Vec<ArrayRef> = states.iter().map(|s| s.slice(from, len)).collect();
            results(self.spec.aggregates(), &states, len)
        };
        self.spec.rows(Some(window), self.key_columns(&keys)?, sessions.len(), &inner, out)
    }

    fn state_rows(&self, sessions: &[&Slot], gone: &[Slot], states: &[ArrayRef]) -> Result<RecordBatch> {
        let all = || sessions.iter().copied().chain(gone);
        let ends = sessions.iter().map(|s| Some(s.end)).chain(gone.iter().map(|_| None));
        let mut columns: Vec<ArrayRef> = vec![
            times(all().map(|s| s.start).collect()),
            Arc::new(ends.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ];
        columns.extend(self.key_columns(&all().map(|s| &s.key).collect::<Vec<_>>())?);
        for state in states {
            let nulls = new_null_array(state.data_type(), gone.len());
            columns.push(if gone.is_empty() { state.clone() } else { concat(&[state.as_ref(), nulls.as_ref()])? });
        }
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    /// The sessions whose end the watermark has passed. They are forgotten.
    fn take_closed(&mut self, watermark: Option<Watermark>) -> Result<Option<(Vec<Slot>, Vec<ArrayRef>)>> {
        let due = self.open.by_end.iter().take_while(|(end, _)| self.is_closed(*end, watermark));
        let slots: Vec<u32> = due.map(|(_, slot)| *slot).collect();
        if slots.is_empty() {
            return Ok(None);
        }
        let sessions = slots.iter().map(|s| self.open.slots[*s as usize].clone()).collect();
        let states = self.open.states.gather(&slots)?;
        slots.into_iter().for_each(|s| self.open.remove(s));
        Ok(Some((sessions, states)))
    }
}

/// The session of `[start, end]`: the last one of this key, or a new one. Starts arrive in order.
fn join<'a>(merged: &'a mut Vec<Merged>, first: usize, key: &Key, start: i64, end: i64) -> &'a mut Merged {
    let touches = merged.len() > first && merged.last().is_some_and(|m| start <= m.end);
    if !touches {
        merged.push(Merged { key: key.clone(), start, end, members: vec![], late: false });
    }
    let last = merged.len() - 1;
    merged[last].end = merged[last].end.max(end);
    &mut merged[last]
}

type Taken = (Vec<ArrayRef>, Option<BooleanArray>, Vec<usize>);

/// The rows whose group is not `MAX`.
fn kept(arguments: &[ArrayRef], filter: Option<&BooleanArray>, groups: &[u32]) -> Result<Taken> {
    let rows: UInt32Array = (0..groups.len() as u32).filter(|r| groups[*r as usize] != u32::MAX).collect();
    let arguments = arguments.iter().map(|a| take(a, &rows, None)).collect::<Result<_, _>>()?;
    let filter = filter.map(|f| take(f, &rows, None)).transpose()?.map(|f| f.as_boolean().clone());
    Ok((arguments, filter, rows.values().iter().map(|r| groups[*r as usize] as usize).collect()))
}

impl Stateful for Sessions {
    fn push(&mut self, _input: usize, input: &Batch, before: Option<Watermark>) -> Result<Pushed> {
        let mut out = Pushed::default();
        let all = self.spec.event_times(&input.rows);
        let (batch, origin, times);
        if all.null_count() > 0 {
            let nulls = (0..all.len()).filter(|r| all.is_null(*r));
            out.late.extend(nulls.map(|r| LateRow { row: r as u32, behind: None }));
            let rows: UInt32Array = (0..all.len() as u32).filter(|r| all.is_valid(*r as usize)).collect();
            batch = input.take(&rows)?;
            times = rows.values().iter().map(|r| all.value(*r as usize)).collect::<Vec<i64>>();
            origin = Some(rows);
        } else {
            (batch, origin, times) = (input.clone(), None, all.values().to_vec());
        }
        let (gap, emit) = (self.gap, self.emit);
        let suspect = |t: i64| emit != Emit::Complete && before.is_some_and(|w| t.saturating_add(gap) < w.0);
        let held = &mut self.held;
        compute_rows(&self.spec, &batch.rows, origin.as_ref(), &mut out.failed, &mut |c, from, len| {
            let times = times[from..from + len].to_vec();
            let suspects: Vec<u32> = (0..len as u32).filter(|r| suspect(times[*r as usize])).collect();
            let rows = match suspects.is_empty() {
                true => None,
                false => Some(batch.take(&suspects.iter().map(|r| r + from as u32).collect::<Vec<_>>().into())?),
            };
            held.push(Held { times, keys: c.keys, arguments: c.arguments, filters: c.filters, suspects, rows });
            Ok(())
        })?;
        Ok(out)
    }

    fn finish_epoch(&mut self, before: Option<Watermark>, after: Option<Watermark>) -> Result<Finished> {
        let mut out = Finished::default();
        if !self.held.is_empty() {
            let (merged, session_of) = self.merge_rows(before)?;
            let number = number(&merged, &session_of);
            let states = self.accumulate(&merged, &session_of, &number)?;
            self.find_late(&merged, &session_of, before, &mut out)?;
            let mut changed: Vec<(u32, &Merged)> =
                number.iter().copied().zip(&merged).filter(|(n, _)| *n != u32::MAX).collect();
            changed.sort_unstable_by_key(|(n, _)| *n);
            let members: Vec<u32> = changed.iter().flat_map(|(_, m)| m.members.iter().copied()).collect();
            let gone: Vec<Slot> = members.iter().map(|s| self.open.slots[*s as usize].clone()).collect();
            let sessions: Vec<Slot> =
                changed.iter().map(|(_, m)| Slot { key: m.key.clone(), start: m.start, end: m.end }).collect();
            let shown: Vec<&Slot> = sessions.iter().collect();
            out.updated = sessions.len();
            if self.emit == Emit::Update && !sessions.is_empty() {
                self.hand_out(&shown, &states, &mut out)?;
                let keys = self.spec.merge_keys();
                let failed = out.failed.iter().map(|(group, _)| group);
                let all: Vec<RecordBatch> =
                    out.batches.iter().chain(failed).map(|b| b.rows.project(&keys)).collect::<Result<_, _>>()?;
                out.changed.extend(all);
                if !gone.is_empty() {
                    let mut columns = vec![
                        times(gone.iter().map(|s| s.start).collect()),
                        times(gone.iter().map(|s| s.end).collect()),
                    ];
                    columns.extend(self.key_columns(&gone.iter().map(|s| &s.key).collect::<Vec<_>>())?);
                    let schema = self.spec.schema.project(&keys)?;
                    out.changed.push(RecordBatch::try_new(Arc::new(schema), columns)?);
                }
            }
            // A session that starts where one of its members started replaces that member. The rows of the other
            // members are cleared.
            let starts: hashbrown::HashSet<(&Key, i64)> = shown.iter().map(|s| (&s.key, s.start)).collect();
            let cleared: Vec<Slot> = gone.iter().filter(|s| !starts.contains(&(&s.key, s.start))).cloned().collect();
            if !sessions.is_empty() {
                out.increment = Some(self.state_rows(&shown, &cleared, &states)?);
            }
            drop((starts, changed));
            members.into_iter().for_each(|s| self.open.remove(s));
            self.open.add(sessions, &states)?;
            self.held.clear();
        }
        let closed = self.take_closed(after)?;
        match self.emit {
            Emit::OnClose => {
                if let Some((sessions, states)) = closed {
                    self.hand_out(&sessions.iter().collect::<Vec<_>>(), &states, &mut out)?;
                }
            }
            Emit::Update => {}
            Emit::Complete if out.updated > 0 => {
                let slots: Vec<u32> = self.open.by_end.iter().map(|(_, s)| *s).collect();
                let sessions: Vec<&Slot> = slots.iter().map(|s| &self.open.slots[*s as usize]).collect();
                self.hand_out(&sessions, &self.open.states.gather(&slots)?, &mut out)?;
            }
            Emit::Complete => {}
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
        let keys = self.spec.keys.len();
        let starts = state.column(0).as_primitive::<TimestampMicrosecondType>();
        let ends = state.column(1).as_primitive::<TimestampMicrosecondType>();
        let rows = self.codec.as_ref().map(|c| c.encode(&state.columns()[2..2 + keys])).transpose()?;
        let (mut new, mut new_rows) = (vec![], vec![]);
        for row in 0..state.num_rows() {
            let bytes = rows.as_ref().map_or(&[][..], |r| r.row(row).data());
            let start = starts.value(row);
            let known = self
                .open
                .by_key
                .get(bytes)
                .and_then(|slots| slots.iter().copied().find(|s| self.open.slots[*s as usize].start == start));
            known.into_iter().for_each(|s| self.open.remove(s));
            if ends.is_valid(row) {
                new.push(Slot { key: bytes.into(), start, end: ends.value(row) });
                new_rows.push(row as u32);
            }
        }
        let rows = UInt32Array::from(new_rows);
        let states = state.columns()[2 + keys..].iter().map(|s| take(s, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.open.add(new, &states)
    }

    fn forget(&mut self, watermark: Option<Watermark>) -> Result<()> {
        self.take_closed(watermark).map(drop)
    }

    fn snapshot(&mut self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let slots: Vec<u32> = self.open.by_end.iter().map(|(_, s)| *s).collect();
        slots.chunks(1 << 17).try_for_each(|slots| {
            let sessions: Vec<&Slot> = slots.iter().map(|s| &self.open.slots[*s as usize]).collect();
            each(self.state_rows(&sessions, &[], &self.open.states.gather(slots)?)?)
        })
    }

    fn fresh(&self) -> Result<Box<dyn Stateful>> {
        Ok(Box::new(Self::new(self.spec.clone(), self.emit)?))
    }

    fn needed_until(&self, state: &RecordBatch) -> Option<EventTime> {
        if self.emit == Emit::Complete {
            return None;
        }
        // A row without an end does not count. Its session was merged into a larger session, which is in the same increment and ends no earlier.
        let ends = state.column(1).as_primitive::<TimestampMicrosecondType>();
        arrow::compute::max(ends).map(|e| EventTime(e.saturating_add(1)))
    }

    fn groups(&self) -> usize {
        self.open.by_end.len()
    }
    fn memory(&self) -> usize {
        let of = |a: &[ArrayRef]| a.iter().map(|a| a.get_buffer_memory_size()).sum::<usize>();
        let held = |h: &Held| h.times.capacity() * 8 + of(&h.keys) + h.arguments.iter().map(|a| of(a)).sum::<usize>();
        self.held.iter().map(held).sum::<usize>()
            + self.open.states.memory()
            + self.open.slots.capacity() * 32
            + self.open.by_key.allocation_size()
            + self.open.by_key.len() * 32
            + self.open.key_bytes
            + self.open.by_end.len() * 32
    }
    fn open_windows(&self) -> Vec<OpenWindow> {
        let one = |(_, slot): &(i64, u32)| {
            let s = &self.open.slots[*slot as usize];
            OpenWindow { start: EventTime(s.start), end: EventTime(s.end), groups: 1 }
        };
        self.open.by_end.iter().map(one).collect()
    }
    fn last_window(&self, until: EventTime) -> Option<EventTime> {
        if self.emit == Emit::Complete {
            return None;
        }
        let last = self.open.by_end.iter().rev().find(|(_, s)| self.open.slots[*s as usize].start <= until.0);
        // The session closes when the watermark has passed its end.
        last.map(|(end, _)| EventTime(end.saturating_add(1)))
    }
    fn would_emit(&self, after: Option<Watermark>) -> bool {
        self.emit == Emit::OnClose && self.open.by_end.first().is_some_and(|(end, _)| self.is_closed(*end, after))
    }
}

impl Sessions {
    fn find_late(
        &self,
        merged: &[Merged],
        session_of: &[u32],
        before: Option<Watermark>,
        out: &mut Finished,
    ) -> Result<()> {
        let mut row = 0;
        for held in &self.held {
            if let Some(rows) = &held.rows {
                for (i, suspect) in held.suspects.iter().enumerate() {
                    let session = session_of[row + *suspect as usize];
                    if merged[session as usize].late {
                        let behind = before.map(|w| w.0.saturating_sub(held.times[*suspect as usize]).max(0) as u64);
                        let late = LateRow { row: i as u32, behind: behind.map(Duration::from_micros) };
                        out.late.push((rows.clone(), late));
                    }
                }
            }
            row += held.times.len();
        }
        Ok(())
    }
}

/// A number for each session that has rows and is not late, in the order of their first rows, because an accumulator
/// counts every number below the highest one as seen. `MAX` for the others.
fn number(merged: &[Merged], session_of: &[u32]) -> Vec<u32> {
    let mut out = vec![u32::MAX; merged.len()];
    let mut next = 0;
    for session in session_of {
        let session = *session as usize;
        if !merged[session].late && out[session] == u32::MAX {
            out[session] = next;
            next += 1;
        }
    }
    out
}
