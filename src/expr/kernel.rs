//! Arguments and builders of kernels.

use super::evaluate::row_error;
use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, BooleanArray,
    BooleanBuilder, PrimitiveArray, PrimitiveBuilder, StringArray, StringBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

pub(super) type Kernel = Arc<dyn Fn(&Args) -> Result<ArrayRef> + Send + Sync>;

pub(super) struct Args {
    /// The arguments as they came: a scalar is still a scalar.
    pub values: Vec<ColumnarValue>,
    arrays: Vec<ArrayRef>,
    pub rows: usize,
}

/// One argument. A scalar is an array of one value, which is read for every row.
#[derive(Clone, Copy)]
pub(super) struct Arg<'a, A> {
    pub array: &'a A,
    mask: usize,
}

impl<'a, A> Arg<'a, A>
where
    &'a A: ArrayAccessor,
{
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<<&'a A as ArrayAccessor>::Item> {
        let i = row & self.mask;
        if self.array.is_null(i) { None } else { Some(self.array.value(i)) }
    }
}

impl Args {
    pub(super) fn new(values: Vec<ColumnarValue>, rows: usize) -> Result<Self> {
        let arrays = values
            .iter()
            .map(|v| match v {
                ColumnarValue::Array(a) => Ok(a.clone()),
                ColumnarValue::Scalar(s) => s.to_array(),
            })
            .collect::<Result<_>>()?;
        Ok(Self { values, arrays, rows })
    }

    pub(super) fn mask(&self, k: usize) -> usize {
        if matches!(self.values[k], ColumnarValue::Scalar(_)) { 0 } else { usize::MAX }
    }

    pub(super) fn array(&self, k: usize) -> &ArrayRef {
        &self.arrays[k]
    }

    pub(super) fn len(&self) -> usize {
        self.arrays.len()
    }

    /// The argument as an array with a value for each row.
    pub(super) fn full(&self, k: usize) -> Result<ArrayRef> {
        spread(&self.values[k], self.rows)
    }

    fn arg<'a, A>(&'a self, k: usize, array: Option<&'a A>) -> Result<Arg<'a, A>> {
        let array = array.ok_or_else(|| {
            row_error(format!("argument {} is {}, which is a fault of bayou", k + 1, self.arrays[k].data_type()))
        })?;
        Ok(Arg { array, mask: self.mask(k) })
    }

    pub(super) fn str(&self, k: usize) -> Result<Arg<'_, StringArray>> {
        self.arg(k, self.arrays[k].as_string_opt::<i32>())
    }

    pub(super) fn bytes(&self, k: usize) -> Result<Arg<'_, BinaryArray>> {
        self.arg(k, self.arrays[k].as_binary_opt::<i32>())
    }

    pub(super) fn bool(&self, k: usize) -> Result<Arg<'_, BooleanArray>> {
        self.arg(k, self.arrays[k].as_boolean_opt())
    }

    pub(super) fn num<T: ArrowPrimitiveType>(&self, k: usize) -> Result<Arg<'_, PrimitiveArray<T>>> {
        self.arg(k, self.arrays[k].as_primitive_opt::<T>())
    }
}

/// At most this many bytes of text fit into a column of one batch, because Arrow's offsets have 32 bits. (Tests use less memory.)
pub(crate) const MOST_BYTES: usize = if cfg!(test) { 16 << 20 } else { i32::MAX as usize };

/// The error of a column that would be longer. Fewer rows at once may fit (see `evaluate`).
pub(super) const TOO_LARGE: &str = "its values together are longer than 2 GiB";

/// Checks that `more` bytes fit behind `have` bytes.
pub(super) fn room(have: usize, more: usize) -> Result<()> {
    if have.saturating_add(more) > MOST_BYTES { Err(row_error(TOO_LARGE)) } else { Ok(()) }
}

/// A value for each row.
pub(super) fn spread(value: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    if let ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))) = value {
        room(0, text.len().saturating_mul(rows))?;
    }
    if let ColumnarValue::Scalar(ScalarValue::Binary(Some(bytes))) = value {
        room(0, bytes.len().saturating_mul(rows))?;
    }
    value.to_array(rows)
}

/// Where the condition is TRUE; NULL counts as false.
pub(super) fn is_true(condition: &BooleanArray) -> BooleanArray {
    if condition.null_count() == 0 { condition.clone() } else { prep_null_mask_filter(condition) }
}

pub(super) fn strings<S: AsRef<str>>(rows: usize, mut f: impl FnMut(usize) -> Result<Option<S>>) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        match f(row)? {
            Some(s) => {
                room(out.values_slice().len(), s.as_ref().len())?;
                out.append_value(s);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Texts that are written one after the other into the memory of the column. False: NULL; the written text is removed.
pub(super) fn written(rows: usize, mut f: impl FnMut(usize, &mut Vec<u8>) -> Result<bool>) -> Result<ArrayRef> {
    let mut text: Vec<u8> = Vec::with_capacity(rows * 8);
    let (mut offsets, mut valid) = (Vec::with_capacity(rows + 1), Vec::with_capacity(rows));
    offsets.push(0);
    for row in 0..rows {
        let before = text.len();
        let some = f(row, &mut text)?;
        if !some {
            text.truncate(before);
        }
        room(0, text.len())?;
        offsets.push(text.len() as i32);
        valid.push(some);
    }
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    Ok(Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), text.into(), nulls)?))
}

pub(super) fn binaries<S: AsRef<[u8]>>(rows: usize, mut f: impl FnMut(usize) -> Result<Option<S>>) -> Result<ArrayRef> {
    let mut out = BinaryBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        match f(row)? {
            Some(s) => {
                room(out.values_slice().len(), s.as_ref().len())?;
                out.append_value(s);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

pub(super) fn bools(rows: usize, mut f: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
    let mut out = BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        out.append_option(f(row)?);
    }
    Ok(Arc::new(out.finish()))
}

pub(super) fn nums<T: ArrowPrimitiveType>(
    rows: usize,
    f: impl FnMut(usize) -> Result<Option<T::Native>>,
) -> Result<ArrayRef> {
    nums_as::<T>(rows, &T::DATA_TYPE, f)
}

/// As `nums`, for types with parameters: decimals, timestamps with a zone.
pub(super) fn nums_as<T: ArrowPrimitiveType>(
    rows: usize,
    data_type: &DataType,
    mut f: impl FnMut(usize) -> Result<Option<T::Native>>,
) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(rows);
    for row in 0..rows {
        out.append_option(f(row)?);
    }
    Ok(Arc::new(out.finish().with_data_type(data_type.clone())))
}
