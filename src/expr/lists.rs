//! Lists and maps as flat values with offsets, and lists that are picked from flat values. Nothing is allocated for each row.

use super::ddl::list_of;
use super::evaluate::row_error;
use super::float_order::normalize;
use super::kernel::room;
use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, ListArray, MapArray, StructArray, UInt32Array, UInt32Builder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use std::sync::Arc;

/// An array that a function builds for one row has at most this many elements.
pub(super) const MOST_ELEMENTS: usize = 10_000_000;

/// Checks that a row may have an array of this length.
pub(super) fn check_length(elements: usize) -> Result<()> {
    match elements > MOST_ELEMENTS {
        true => Err(row_error(format!("the array would have more than {MOST_ELEMENTS} elements"))),
        false => Ok(()),
    }
}

/// Checks that the arrays of a batch may have this many elements together (67 million). Fewer rows at once may fit.
pub(super) fn check_elements(elements: usize) -> Result<()> {
    room(0, elements.saturating_mul(32))
}

/// The lists, or the entries of the maps, without gaps: the offsets begin at 0 and end with the values, and a NULL list is empty.
pub(super) fn compact(array: &ArrayRef) -> Result<ListArray> {
    let list = match array.as_map_opt() {
        Some(map) => {
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let field = Arc::new(Field::new("element", entries.data_type().clone(), true));
            ListArray::try_new(field, map.offsets().clone(), entries, map.nulls().cloned())?
        }
        None => array.as_list::<i32>().clone(),
    };
    let offsets = list.offsets();
    let hidden = list.null_count() > 0 && (0..list.len()).any(|i| list.is_null(i) && offsets[i] != offsets[i + 1]);
    let (from, to) = (offsets[0], offsets[list.len()]);
    if !hidden && from == 0 && to as usize == list.values().len() {
        return Ok(list);
    }
    let field = match list.data_type() {
        DataType::List(field) => field.clone(),
        _ => Arc::new(Field::new("element", list.value_type(), true)),
    };
    if !hidden {
        let values = list.values().slice(from as usize, (to - from) as usize);
        let offsets = OffsetBuffer::new(offsets.iter().map(|o| o - from).collect::<Vec<_>>().into());
        return Ok(ListArray::try_new(field, offsets, values, list.nulls().cloned())?);
    }
    let mut seen = Picker::new(list.len(), (to - from) as usize);
    for row in 0..list.len() {
        let valid = list.is_valid(row);
        if valid {
            seen.extend(offsets[row] as usize..offsets[row + 1] as usize);
        }
        seen.end(valid)?;
    }
    seen.list_of(list.values(), field)
}

/// For each element, the row of its list.
pub(super) fn owners(offsets: &[i32]) -> UInt32Array {
    let mut out = Vec::with_capacity(offsets.last().map_or(0, |o| *o as usize));
    for (row, pair) in offsets.windows(2).enumerate() {
        out.extend(std::iter::repeat_n(row as u32, (pair[1] - pair[0]) as usize));
    }
    out.into()
}

/// Values as bytes that are equal where the values are equal, and that have their order: NULL is the least, NaN the greatest.
pub(super) fn keys<const N: usize>(columns: [&ArrayRef; N]) -> Result<[Rows; N]> {
    let data_type = columns.first().map_or(DataType::Null, |c| c.data_type().clone());
    let converter = RowConverter::new(vec![SortField::new(data_type)])?;
    let mut out = Vec::with_capacity(N);
    for column in columns {
        out.push(converter.convert_columns(&[normalize(column)])?);
    }
    out.try_into().map_err(|_| row_error("its values have no order"))
}

/// Lists that are made row by row of the positions of values.
pub(super) struct Picker {
    offsets: Vec<i32>,
    picked: UInt32Builder,
    valid: Vec<bool>,
    nulls: usize,
}

impl Picker {
    pub(super) fn new(rows: usize, elements: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, picked: UInt32Builder::with_capacity(elements), valid: Vec::with_capacity(rows), nulls: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, at: usize) {
        self.picked.append_value(at as u32);
    }

    pub(super) fn extend(&mut self, range: impl IntoIterator<Item = usize>) {
        range.into_iter().for_each(|at| self.push(at));
    }

    pub(super) fn repeat(&mut self, at: Option<usize>, times: usize) -> Result<()> {
        check_length(times)?;
        check_elements(self.picked.len() + times)?;
        (0..times).for_each(|_| self.picked.append_option(at.map(|at| at as u32)));
        Ok(())
    }

    /// Ends a row. A row that is not valid is NULL.
    pub(super) fn end(&mut self, valid: bool) -> Result<()> {
        check_elements(self.picked.len())?;
        self.offsets.push(self.picked.len() as i32);
        self.valid.push(valid);
        self.nulls += usize::from(!valid);
        Ok(())
    }

    pub(super) fn list(self, values: &ArrayRef) -> Result<ArrayRef> {
        let DataType::List(field) = list_of(values.data_type().clone()) else {
            return Err(row_error("a list has no type"));
        };
        Ok(Arc::new(self.list_of(values, field)?))
    }

    pub(super) fn list_of(mut self, values: &ArrayRef, field: FieldRef) -> Result<ListArray> {
        let values = take(values, &self.picked.finish(), None)?;
        let nulls = (self.nulls > 0).then(|| NullBuffer::from(self.valid));
        Ok(ListArray::try_new(field, OffsetBuffer::new(self.offsets.into()), values, nulls)?)
    }
}

/// Lists of these values.
pub(super) fn list(offsets: OffsetBuffer<i32>, values: ArrayRef, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let DataType::List(field) = list_of(values.data_type().clone()) else {
        return Err(row_error("a list has no type"));
    };
    Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls)?))
}

/// A struct whose fields are these columns.
pub(super) fn record(
    fields: &Fields,
    columns: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
    rows: usize,
) -> Result<ArrayRef> {
    if fields.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
    }
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
}

/// The types of the keys and values of a MAP.
pub(super) fn key_value(t: &DataType) -> Option<(DataType, DataType)> {
    match t {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => Some((kv[0].data_type().clone(), kv[1].data_type().clone())),
            _ => None,
        },
        _ => None,
    }
}

/// Maps of the type `to` from their keys and values. A NULL key and a key that a map has twice are errors of the row, as in Spark.
pub(super) fn map(
    to: &DataType,
    offsets: OffsetBuffer<i32>,
    keys_: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    if keys_.logical_null_count() > 0 {
        return Err(row_error("a key of a map is NULL"));
    }
    let [rows] = keys([&keys_])?;
    let mut seen = rustc_hash::FxHashSet::default();
    for pair in offsets.windows(2) {
        let (from, to) = (pair[0] as usize, pair[1] as usize);
        let twice = match to - from {
            0 | 1 => false,
            // Few keys are compared, many are hashed.
            2..=8 => (from + 1..to).any(|i| (from..i).any(|j| rows.row(i) == rows.row(j))),
            _ => {
                seen.clear();
                !(from..to).all(|i| seen.insert(rows.row(i)))
            }
        };
        if twice {
            return Err(row_error("a map has a key twice"));
        }
    }
    map_of_entries(to, offsets, keys_, values, nulls)
}

/// As `map`, of keys that were the keys of a map before.
pub(super) fn map_of_entries(
    to: &DataType,
    offsets: OffsetBuffer<i32>,
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let (DataType::Map(field, sorted), DataType::Struct(fields)) = (to, entries_of(to)) else {
        return Err(row_error("a map has no type"));
    };
    let entries = StructArray::try_new(fields, vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, *sorted)?))
}

/// The type of the entries of a MAP.
pub(super) fn entries_of(t: &DataType) -> DataType {
    match t {
        DataType::Map(field, _) => field.data_type().clone(),
        _ => DataType::Null,
    }
}

/// Whether values of the type are equal or ordered. As in Spark, maps and intervals of months and microseconds together
/// have no equality and no order.
pub(super) fn is_ordered(t: &DataType) -> bool {
    match t {
        DataType::Map(..) => false,
        DataType::List(item) => is_ordered(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| is_ordered(f.data_type())),
        t => !super::compare::is_unordered(t) && !super::variant::is(t),
    }
}

/// The field number `k` of a struct. It is NULL in the rows where the struct is NULL.
pub(super) fn field_of(parent: &StructArray, k: usize) -> Result<ArrayRef> {
    let child = parent.column(k);
    if parent.null_count() == 0 {
        return Ok(child.clone());
    }
    let nulls = NullBuffer::union(parent.nulls(), child.nulls());
    Ok(arrow::array::make_array(child.to_data().into_builder().nulls(nulls).build()?))
}
