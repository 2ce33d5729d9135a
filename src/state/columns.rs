//! Columns whose rows are added and changed in place. They store live partial states.

use crate::{Error, Result};
use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, UInt32Array, make_array};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use std::sync::Arc;

/// The rows of some columns, by slot.
pub struct Columns {
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
    /// Values without a fixed size: arrays, and the place of each row in them. An overwritten value stays until half of
    /// all values are overwritten.
    Chunks {
        chunks: Vec<ArrayRef>,
        at: Vec<(u32, u32)>,
        rows: usize,
    },
}

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
    pub fn new(schema: &SchemaRef) -> Self {
        let column = |t: &DataType| Column {
            data_type: t.clone(),
            valid: None,
            values: match t.primitive_width() {
                Some(width @ (1 | 2 | 4 | 8 | 16 | 32)) => Values::Fixed(width, MutableBuffer::new(0)),
                _ if *t == DataType::Boolean => Values::Bool(vec![]),
                _ => Values::Chunks { chunks: vec![], at: vec![], rows: 0 },
            },
        };
        Self { columns: schema.fields().iter().map(|f| column(f.data_type())).collect(), len: 0 }
    }

    pub fn memory(&self) -> usize {
        let one = |c: &Column| {
            c.valid.as_ref().map_or(0, Vec::capacity)
                + match &c.values {
                    Values::Fixed(_, bytes) => bytes.capacity(),
                    Values::Bool(v) => v.capacity(),
                    Values::Chunks { chunks, at, .. } => {
                        chunks.iter().map(|c| c.get_buffer_memory_size()).sum::<usize>() + at.capacity() * 8
                    }
                }
        };
        self.columns.iter().map(one).sum()
    }

    /// Adds the given rows of `arrays` at the end.
    pub fn append(&mut self, arrays: &[ArrayRef], rows: &[u32]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for (column, array) in self.columns.iter_mut().zip(arrays) {
            column.append(array, rows, self.len)?;
        }
        self.len += rows.len();
        Ok(())
    }

    /// Writes row i of `arrays` to slot `slots[i]`.
    pub fn scatter(&mut self, slots: &[u32], arrays: &[ArrayRef]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        for (column, array) in self.columns.iter_mut().zip(arrays) {
            column.scatter(slots, array, self.len)?;
        }
        Ok(())
    }

    /// The rows in `slots`, in this order.
    pub fn gather(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.columns.iter().map(|c| c.gather(slots)).collect()
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
            Values::Chunks { chunks, at, rows: held } => {
                let chunk = take(array, &UInt32Array::from(rows.to_vec()), None)?;
                *held += chunk.len();
                at.extend((0..chunk.len() as u32).map(|row| (chunks.len() as u32, row)));
                chunks.push(chunk);
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
            Values::Chunks { chunks, at, rows } => {
                *rows += array.len();
                for (row, slot) in slots.iter().enumerate() {
                    at[*slot as usize] = (chunks.len() as u32, row as u32);
                }
                chunks.push(array.clone());
            }
        }
        self.tidy()
    }

    /// Removes overwritten values when they are more than the valid ones, and merges many small arrays.
    fn tidy(&mut self) -> Result<()> {
        let Values::Chunks { chunks, at, rows } = &mut self.values else { return Ok(()) };
        if chunks.len() < 2 || (*rows <= 2 * at.len() + 1024 && chunks.len() < 256) {
            return Ok(());
        }
        let all: Vec<&dyn Array> = chunks.iter().map(|c| c.as_ref()).collect();
        let places: Vec<(usize, usize)> = at.iter().map(|(c, r)| (*c as usize, *r as usize)).collect();
        let one = interleave(&all, &places)?;
        *rows = one.len();
        for (row, place) in at.iter_mut().enumerate() {
            *place = (0, row as u32);
        }
        *chunks = vec![one];
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
                    return Ok(arrow::array::new_empty_array(&self.data_type));
                }
                let all: Vec<&dyn Array> = chunks.iter().map(|c| c.as_ref()).collect();
                let places: Vec<(usize, usize)> =
                    slots.iter().map(|s| at[*s as usize]).map(|(c, r)| (c as usize, r as usize)).collect();
                interleave(&all, &places)?
            }
        })
    }
}
