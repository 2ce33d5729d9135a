//! Writes rows of several files, and new rows, in the order of their keys. Files that are in order are merged as they
//! are read. A file that is not in order is sorted in memory.

use super::files::{Batches, FileWriter, Properties, read_columns};
use super::merge::{bytes, conform};
use super::rewrite::{Keys, Reader, Scanned};
use super::units::Unit;
use crate::Result;
use arrow::array::*;
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch};
use arrow::row::Rows;
use deltalake::kernel::Add;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// The number of rows that are read and written at a time.
const ROWS: usize = 8192;

/// The new rows, in the order of their keys.
pub(super) struct Upserts {
    batches: Vec<RecordBatch>,
    /// The batch and row of each new row.
    places: Vec<(usize, usize)>,
    pub keys: Vec<Vec<u8>>,
    windows: Option<Vec<Option<i64>>>,
    /// About the size of a row in a file.
    pub row_bytes: u64,
}

impl Upserts {
    /// The rows of the table's columns, whose keys are all different.
    pub(super) fn new(keys: &Keys, batches: Vec<RecordBatch>) -> Result<Self> {
        let mut all = vec![];
        for (b, batch) in batches.iter().enumerate() {
            let of_keys = batch.project(&keys.at)?;
            let encoded = keys.encode(&of_keys)?;
            all.extend(
                (0..batch.num_rows())
                    .map(|row| (bytes(&encoded, row).to_vec(), (b, row), keys.window_of(&of_keys, row))),
            );
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let memory: usize = batches.iter().map(|b| b.get_array_memory_size()).sum();
        let row_bytes = (memory / 3 / all.len().max(1)).max(1) as u64;
        let mut out = Self {
            batches,
            places: Vec::with_capacity(all.len()),
            keys: Vec::with_capacity(all.len()),
            windows: keys.window.map(|_| Vec::with_capacity(all.len())),
            row_bytes,
        };
        for (key, place, window) in all {
            out.keys.push(key);
            out.places.push(place);
            if let Some(windows) = &mut out.windows {
                windows.push(window);
            }
        }
        Ok(out)
    }

    pub(super) fn none() -> Self {
        Self { batches: vec![], places: vec![], keys: vec![], windows: None, row_bytes: 1 }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The start of the window of a row.
    pub(super) fn window(&self, row: usize) -> Option<i64> {
        self.windows.as_ref().and_then(|w| w[row])
    }

    fn rows(&self, rows: Range<usize>) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Ok(interleave_record_batch(&batches, &self.places[rows])?)
    }
}

#[cfg(test)]
impl Upserts {
    pub(super) fn of_keys(keys: &[u8]) -> Self {
        Self { keys: keys.iter().map(|k| vec![*k]).collect(), ..Self::none() }
    }

    pub(super) fn of_windows(keys: &[(u8, i64)]) -> Self {
        let all = Self::of_keys(&keys.iter().map(|k| k.0).collect::<Vec<_>>());
        Self { windows: Some(keys.iter().map(|k| Some(k.1)).collect()), ..all }
    }
}

/// Rows in order.
enum Source<'a> {
    /// A file that is not read yet.
    Closed(Box<Scanned>),
    File {
        batches: Box<Batches>,
        file: Box<Add>,
        keep: Option<BooleanBuffer>,
        at: usize,
    },
    /// A file that was sorted: the rest of its rows.
    Sorted {
        rows: Vec<RecordBatch>,
        order: std::vec::IntoIter<(usize, usize)>,
    },
    Upserts(&'a Upserts, Vec<Range<usize>>),
}

impl Source<'_> {
    async fn open(reader: &Reader<'_>, scanned: Scanned) -> Result<Self> {
        let Scanned { file, data, keep, sorted, .. } = scanned;
        let data = match data {
            Some(data) => data,
            None => reader.bytes(&file).await?,
        };
        let batches = read_columns(data, ROWS, |_| true).map_err(|e| reader.failed(&file, &e))?;
        let mut source = Source::File { batches: Box::new(batches), file: Box::new(file), keep, at: 0 };
        if sorted {
            return Ok(source);
        }
        let (mut rows, mut all) = (vec![], vec![]);
        while let Some(batch) = source.next(reader)? {
            let encoded = reader.keys.encode_rows(&batch)?;
            all.extend((0..batch.num_rows()).map(|row| (bytes(&encoded, row).to_vec(), (rows.len(), row))));
            rows.push(batch);
        }
        all.sort_unstable();
        let order: Vec<(usize, usize)> = all.into_iter().map(|(_, place)| place).collect();
        Ok(Source::Sorted { rows, order: order.into_iter() })
    }

    /// The next rows, at least one.
    fn next(&mut self, reader: &Reader<'_>) -> Result<Option<RecordBatch>> {
        loop {
            let batch = match self {
                Source::Closed(_) => return Ok(None),
                Source::Upserts(upserts, ranges) => {
                    let Some(first) = ranges.first_mut() else { return Ok(None) };
                    let rows = first.start..first.end.min(first.start + ROWS);
                    first.start = rows.end;
                    if first.start >= first.end {
                        ranges.remove(0);
                    }
                    if rows.is_empty() {
                        continue;
                    }
                    upserts.rows(rows)?
                }
                Source::Sorted { rows, order } => {
                    let places: Vec<(usize, usize)> = order.take(ROWS).collect();
                    if places.is_empty() {
                        return Ok(None);
                    }
                    interleave_record_batch(&rows.iter().collect::<Vec<_>>(), &places)?
                }
                Source::File { batches, file, keep, at } => {
                    let Some(batch) = batches.next() else { return Ok(None) };
                    let batch = batch.map_err(|e| reader.failed(file, &e))?;
                    let batch = conform(&batch, &reader.keys.schema, &file.partition_values)?;
                    let from = *at;
                    *at += batch.num_rows();
                    match keep {
                        None => batch,
                        Some(keep) => {
                            let keep = BooleanArray::new(keep.slice(from, batch.num_rows()), None);
                            filter_record_batch(&batch, &keep)?
                        }
                    }
                }
            };
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }
}

/// The current batch of a source.
struct Head {
    batch: RecordBatch,
    keys: Option<Rows>,
    at: usize,
}

impl Head {
    fn key(&self) -> &[u8] {
        bytes(&self.keys, self.at)
    }

    /// The first row after the rows whose keys are not above `key`. The current row is one of these.
    fn until(&self, key: Option<&[u8]>) -> usize {
        let end = self.batch.num_rows();
        let Some(key) = key else { return end };
        // The step doubles, because the number of rows can be small or large.
        let (mut low, mut step) = (self.at, 1);
        while low + step < end && bytes(&self.keys, low + step) <= key {
            low += step;
            step *= 2;
        }
        let (mut low, mut high) = (low + 1, (low + step).min(end));
        while low < high {
            let middle = low + (high - low) / 2;
            if bytes(&self.keys, middle) <= key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Rows on their way to the files.
struct Output {
    writer: FileWriter,
    pieces: Vec<RecordBatch>,
    rows: usize,
}

impl Output {
    async fn push(&mut self, piece: RecordBatch) -> Result<()> {
        self.rows += piece.num_rows();
        self.pieces.push(piece);
        if self.rows >= ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        self.rows = 0;
        let Some(first) = pieces.first() else { return Ok(()) };
        self.writer.write(&concat_batches(&first.schema(), &pieces)?).await
    }
}

/// Writes a unit to files of about the same size, of about `target` bytes or less.
pub(super) async fn write(
    reader: &Reader<'_>,
    properties: Properties,
    unit: Unit,
    upserts: &Upserts,
    target: u64,
) -> Result<Vec<Add>> {
    let files = ((unit.bytes as f64 / target as f64).round() as u64).max(1);
    let limit = match files {
        1 => target.saturating_mul(3) / 2,
        n => unit.bytes / n,
    };
    let writer = FileWriter::new(properties).ending_at(limit.try_into().unwrap_or(usize::MAX));
    let mut out = Output { writer, pieces: vec![], rows: 0 };
    let (mut sources, mut heads, mut next) = (vec![], vec![], BinaryHeap::new());
    for file in unit.files {
        next.push(Reverse((file.low.clone(), sources.len())));
        sources.push(Source::Closed(Box::new(file)));
        heads.push(None);
    }
    let mut source = Source::Upserts(upserts, unit.upserts);
    if let Some(batch) = source.next(reader)? {
        let head = Head { keys: reader.keys.encode_rows(&batch)?, batch, at: 0 };
        next.push(Reverse((head.key().to_vec(), sources.len())));
        sources.push(source);
        heads.push(Some(head));
    }
    while let Some(Reverse((_, s))) = next.pop() {
        if let Source::Closed(_) = &sources[s] {
            let closed = std::mem::replace(&mut sources[s], Source::Upserts(upserts, vec![]));
            if let Source::Closed(file) = closed {
                sources[s] = Source::open(reader, *file).await?;
            }
        }
        loop {
            let head = match &mut heads[s] {
                Some(head) if head.at < head.batch.num_rows() => head,
                slot => {
                    let Some(batch) = sources[s].next(reader)? else {
                        // The bytes of the file are not needed any more.
                        sources[s] = Source::Upserts(upserts, vec![]);
                        *slot = None;
                        break;
                    };
                    slot.insert(Head { keys: reader.keys.encode_rows(&batch)?, batch, at: 0 })
                }
            };
            let other = next.peek().map(|Reverse((key, _))| key.as_slice());
            if other.is_some_and(|other| head.key() > other) {
                next.push(Reverse((head.key().to_vec(), s)));
                break;
            }
            let end = head.until(other);
            let piece = head.batch.slice(head.at, end - head.at);
            head.at = end;
            out.push(piece).await?;
        }
    }
    out.flush().await?;
    out.writer.close().await
}
