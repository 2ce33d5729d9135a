//! Columns whose rows are added and changed in place. They store live partial states.

use crate::{Error, Result};
use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, UInt32Array, make_array, new_empty_array};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use std::ops::Range;
use std::sync::Arc;

/// The rows of some columns, by slot.
pub(crate) struct Columns {
    columns: Vec<Column>,
    len: usize,
}

struct Column {
    data_type: DataType,
    /// None while every row has a value.
    valid: Option<Vec<bool>>,
    values: Values,
}

enum Values {
    /// The number of bytes of each row.
    Fixed(usize, MutableBuffer),
    Bool(Vec<bool>),
    /// Values without a fixed size: arrays, and the place of each row in them. An array is dropped when its last value
    /// is overwritten. An overwritten value stays if its array has other values, until about half of all bytes are
    /// overwritten.
    Chunks {
        chunks: Vec<Chunk>,
        at: Vec<(u32, u32)>,
        free: Vec<u32>,
    },
}

struct Chunk {
    array: ArrayRef,
    /// The number of rows that are not overwritten.
    live: usize,
    bytes: usize,
}

impl Chunk {
    /// About the bytes of overwritten rows.
    fn dead(&self) -> usize {
        match self.array.len() {
            0 => 0,
            rows => (self.bytes as f64 * (1.0 - self.live as f64 / rows as f64)) as usize,
        }
    }
}

/// Puts an array into a free place, or at the end. Returns the place.
fn put(chunks: &mut Vec<Chunk>, free: &mut Vec<u32>, array: ArrayRef) -> u32 {
    let (live, bytes) = (array.len(), array.get_buffer_memory_size());
    let chunk = Chunk { array, live, bytes };
    match free.pop() {
        Some(at) => {
            chunks[at as usize] = chunk;
            at
        }
        None => {
            chunks.push(chunk);
            chunks.len() as u32 - 1
        }
    }
}

/// Up to this many bytes of overwritten values stay in any case.
const DEAD: usize = 64 << 10;
/// Many small arrays become one.
const CHUNKS: usize = 256;

macro_rules! by_width {
    ($width:expr, $go:ident) => {
        match $width {
            1 => $go!(1),
            2 => $go!(2),
            4 => $go!(4),
            8 => $go!(8),
            16 => $go!(16),
            32 => $go!(32),
            _ => {}
        }
    };
}

impl Columns {
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        let column = |t: &DataType| Column {
            data_type: t.clone(),
            valid: None,
            values: match t.primitive_width() {
                Some(width @ (1 | 2 | 4 | 8 | 16 | 32)) => Values::Fixed(width, MutableBuffer::new(0)),
                _ if *t == DataType::Boolean => Values::Bool(vec![]),
                _ => Values::Chunks { chunks: vec![], at: vec![], free: vec![] },
            },
        };
        Self { columns: schema.fields().iter().map(|f| column(f.data_type())).collect(), len: 0 }
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory_of(0..self.columns.len())
    }

    /// Adds the given rows of `arrays` at the end.
    pub(crate) fn append(&mut self, arrays: &[ArrayRef], rows: &[u32]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for (column, array) in self.columns.iter_mut().zip(arrays) {
            column.append(array, rows, self.len)?;
        }
        self.len += rows.len();
        Ok(())
    }

    /// The rows in `slots`, in this order.
    pub(crate) fn gather(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.gather_of(slots, 0..self.columns.len())
    }

    /// As `gather`, of some columns.
    pub(crate) fn gather_of(&self, slots: &[u32], columns: Range<usize>) -> Result<Vec<ArrayRef>> {
        self.columns[columns].iter().map(|c| c.gather(slots)).collect()
    }

    /// Writes row i of `arrays` to slot `slots[i]`. The slots are all different.
    pub(crate) fn scatter(&mut self, slots: &[u32], arrays: &[ArrayRef]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.scatter_of(slots, arrays, 0..self.columns.len())
    }

    /// Writes row i of `arrays`, which are some of the columns, to slot `slots[i]`. The slots are all different.
    pub(crate) fn scatter_of(&mut self, slots: &[u32], arrays: &[ArrayRef], columns: Range<usize>) -> Result<()> {
        for (column, array) in self.columns[columns].iter_mut().zip(arrays) {
            column.scatter(slots, array, self.len)?;
        }
        Ok(())
    }

    /// About the bytes of the values in some columns.
    pub(crate) fn memory_of(&self, columns: Range<usize>) -> usize {
        self.columns[columns].iter().map(Column::memory).sum()
    }
}

/// The bytes of the values of a fixed-width array, starting at its offset.
fn bytes_of(array: &ArrayRef, width: usize) -> Result<Buffer> {
    let data = array.to_data();
    let buffer = data.buffers().first().ok_or_else(|| Error::internal(format!("a column of {}", data.data_type())))?;
    Ok(buffer.slice_with_length(data.offset() * width, data.len() * width))
}

fn bools(array: &ArrayRef) -> Result<&BooleanArray> {
    array.as_any().downcast_ref().ok_or_else(|| Error::internal("a column is not BOOLEAN"))
}

impl Column {
    fn memory(&self) -> usize {
        self.valid.as_ref().map_or(0, Vec::capacity)
            + match &self.values {
                Values::Fixed(_, bytes) => bytes.capacity(),
                Values::Bool(v) => v.capacity(),
                Values::Chunks { chunks, at, .. } => chunks.iter().map(|c| c.bytes).sum::<usize>() + at.capacity() * 8,
            }
    }

    fn checked(&self, array: &ArrayRef) -> Result<()> {
        match *array.data_type() == self.data_type {
            true => Ok(()),
            false => Err(Error::internal(format!(
                "a partial state is {}, and {} is expected",
                array.data_type(),
                self.data_type
            ))),
        }
    }

    fn append(&mut self, array: &ArrayRef, rows: &[u32], len: usize) -> Result<()> {
        self.checked(array)?;
        if array.null_count() > 0 || self.valid.is_some() {
            let valid = self.valid.get_or_insert_with(|| vec![true; len]);
            valid.extend(rows.iter().map(|r| array.is_valid(*r as usize)));
        }
        match &mut self.values {
            Values::Fixed(width, bytes) => {
                let source = bytes_of(array, *width)?;
                let source = source.as_slice();
                let width = *width;
                bytes.reserve(rows.len() * width);
                // Consecutive rows are copied together, because new groups are consecutive.
                let mut i = 0;
                while i < rows.len() {
                    let first = rows[i] as usize;
                    let mut run = 1;
                    while i + run < rows.len() && rows[i + run] as usize == first + run {
                        run += 1;
                    }
                    bytes.extend_from_slice(&source[first * width..(first + run) * width]);
                    i += run;
                }
            }
            Values::Bool(values) => {
                let source = bools(array)?.values().clone();
                values.extend(rows.iter().map(|r| source.value(*r as usize)));
            }
            Values::Chunks { chunks, at, free } => {
                let place = put(chunks, free, take(array, &UInt32Array::from(rows.to_vec()), None)?);
                at.extend((0..rows.len() as u32).map(|row| (place, row)));
            }
        }
        self.tidy()
    }

    fn scatter(&mut self, slots: &[u32], array: &ArrayRef, len: usize) -> Result<()> {
        self.checked(array)?;
        if array.null_count() > 0 || self.valid.is_some() {
            let valid = self.valid.get_or_insert_with(|| vec![true; len]);
            for (i, slot) in slots.iter().enumerate() {
                valid[*slot as usize] = array.is_valid(i);
            }
        }
        match &mut self.values {
            Values::Fixed(width, bytes) => {
                let source = bytes_of(array, *width)?;
                let (source, target) = (source.as_slice(), bytes.as_slice_mut());
                macro_rules! go {
                    ($w:literal) => {
                        for (i, slot) in slots.iter().enumerate() {
                            let at = *slot as usize * $w;
                            target[at..at + $w].copy_from_slice(&source[i * $w..i * $w + $w]);
                        }
                    };
                }
                by_width!(*width, go);
            }
            Values::Bool(values) => {
                let source = bools(array)?.values();
                for (i, slot) in slots.iter().enumerate() {
                    values[*slot as usize] = source.value(i);
                }
            }
            Values::Chunks { chunks, at, free } => {
                let place = put(chunks, free, array.clone());
                for (row, slot) in slots.iter().enumerate() {
                    let (before, _) = std::mem::replace(&mut at[*slot as usize], (place, row as u32));
                    let chunk = &mut chunks[before as usize];
                    chunk.live -= 1;
                    if chunk.live == 0 {
                        *chunk = Chunk { array: new_empty_array(&self.data_type), live: 0, bytes: 0 };
                        free.push(before);
                    }
                }
            }
        }
        self.tidy()
    }

    /// Removes overwritten values when they are more than the valid ones, and merges many small arrays.
    fn tidy(&mut self) -> Result<()> {
        let Values::Chunks { chunks, at, free } = &mut self.values else { return Ok(()) };
        let (dead, all) = chunks.iter().fold((0, 0), |(dead, all), c| (dead + c.dead(), all + c.bytes));
        if chunks.len() < 2 || (dead <= DEAD.max(all / 2) && chunks.len() - free.len() < CHUNKS) {
            return Ok(());
        }
        let all: Vec<&dyn Array> = chunks.iter().map(|c| c.array.as_ref()).collect();
        let places: Vec<(usize, usize)> = at.iter().map(|(c, r)| (*c as usize, *r as usize)).collect();
        let one = interleave(&all, &places)?;
        for (row, place) in at.iter_mut().enumerate() {
            *place = (0, row as u32);
        }
        (*chunks, *free) = (vec![], vec![]);
        put(chunks, free, one);
        Ok(())
    }

    fn gather(&self, slots: &[u32]) -> Result<ArrayRef> {
        let nulls = || -> Option<NullBuffer> {
            let valid = self.valid.as_ref()?;
            Some(slots.iter().map(|s| valid[*s as usize]).collect::<Vec<bool>>().into())
        };
        Ok(match &self.values {
            Values::Fixed(width, bytes) => {
                let source = bytes.as_slice();
                let mut out = MutableBuffer::with_capacity(slots.len() * width);
                macro_rules! go {
                    ($w:literal) => {
                        for slot in slots {
                            let at = *slot as usize * $w;
                            out.extend_from_slice(&source[at..at + $w]);
                        }
                    };
                }
                by_width!(*width, go);
                let data = ArrayData::builder(self.data_type.clone())
                    .len(slots.len())
                    .add_buffer(out.into())
                    .nulls(nulls())
                    .build()?;
                make_array(data)
            }
            Values::Bool(values) => {
                let bits: Vec<bool> = slots.iter().map(|s| values[*s as usize]).collect();
                Arc::new(BooleanArray::new(bits.into(), nulls()))
            }
            Values::Chunks { chunks, at, .. } => {
                if slots.is_empty() || chunks.is_empty() {
                    return Ok(new_empty_array(&self.data_type));
                }
                let all: Vec<&dyn Array> = chunks.iter().map(|c| c.array.as_ref()).collect();
                let places: Vec<(usize, usize)> =
                    slots.iter().map(|s| at[*s as usize]).map(|(c, r)| (c as usize, r as usize)).collect();
                interleave(&all, &places)?
            }
        })
    }
}
