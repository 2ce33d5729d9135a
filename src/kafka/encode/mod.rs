//! Rows to JSON in the form that our own reader reads back: times as RFC 3339 in UTC with microseconds, decimals as numbers, bytes as
//! base64, and NULLs written out. A value that JSON does not have (NaN, a duration) is an error that names the column.

mod cells;
pub(crate) mod text;

use crate::error::{Error, Result};
use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    buffer::NullBuffer,
    datatypes::{Field, Schema},
};
pub(crate) use cells::FINER;
use cells::{Cell, cell, supported};

/// Writes one JSON object per row, with the columns that are not skipped.
pub(crate) struct JsonEncoder {
    /// The index of the column, and the text in front of its value: `{"a":` or `,"b":`.
    columns: Vec<(usize, Vec<u8>)>,
}

impl JsonEncoder {
    /// Checks that every column has a JSON form, before any row is written.
    pub(crate) fn new(schema: &Schema, skip_columns: &[usize]) -> Result<Self> {
        let mut columns = Vec::new();
        for (i, field) in schema.fields().iter().enumerate() {
            if skip_columns.contains(&i) {
                continue;
            }
            supported(field, field.name())?;
            let mut before = vec![if columns.is_empty() { b'{' } else { b',' }];
            text::string(field.name(), &mut before);
            before.push(b':');
            columns.push((i, before));
        }
        Ok(Self { columns })
    }

    /// Appends the object of every row to `out`; row i ends at `ends[i]`. Errors count rows from `first` on.
    pub(crate) fn encode(
        &self,
        batch: &RecordBatch,
        first: u64,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        let schema = batch.schema();
        let cells = self
            .columns
            .iter()
            .map(|(i, before)| Ok((before.as_slice(), Column::new(batch.column(*i), schema.field(*i))?)))
            .collect::<Result<Vec<_>>>()?;
        ends.reserve(batch.num_rows());
        for row in 0..batch.num_rows() {
            for (before, column) in &cells {
                out.extend_from_slice(before);
                column.write(row, first, out)?;
            }
            out.extend_from_slice(if cells.is_empty() { b"{}" } else { b"}" });
            ends.push(out.len());
        }
        Ok(())
    }
}

/// The values of a column without names around them; row i ends at `ends[i]`. An error names the row.
pub(crate) fn values(
    array: &ArrayRef,
    field: &Field,
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Result<(), (usize, String)> {
    supported(field, field.name()).map_err(|e| (0, e.message))?;
    let column = Column::new(array, field).map_err(|e| (0, e.message))?;
    for row in 0..array.len() {
        if column.nulls.is_some_and(|n| n.is_null(row)) {
            out.extend_from_slice(b"null")
        } else {
            column.cell.write(row, out).map_err(|why| (row, why))?
        }
        ends.push(out.len());
    }
    Ok(())
}

/// A column and its nulls, which are the same for every type.
struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    cell: Box<dyn Cell + 'a>,
    name: &'a str,
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef, field: &'a Field) -> Result<Self> {
        Ok(Self { nulls: array.nulls(), cell: cell(array)?, name: field.name() })
    }

    #[inline]
    fn write(&self, row: usize, first: u64, out: &mut Vec<u8>) -> Result<()> {
        if self.nulls.is_some_and(|n| n.is_null(row)) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        self.cell.write(row, out).map_err(|why| named(self.name, first + row as u64, &why))
    }
}

/// The error of a value that cannot be published.
pub(crate) fn named(column: &str, row: u64, why: &str) -> Error {
    Error::malformed(format!("column '{column}', row {row}: {why}"))
}

/// The values of a column as bare bytes, for keys and for values that are sent as they are: text and bytes are not changed, and any
/// other value is its JSON without the quotes.
pub(super) struct BytesColumn<'a> {
    /// The logical nulls: the key of a dictionary may point to a null.
    nulls: Option<NullBuffer>,
    name: &'a str,
    cell: Box<dyn Cell + 'a>,
    /// The number of the first row.
    first: u64,
}

impl<'a> BytesColumn<'a> {
    pub(super) fn new(array: &'a ArrayRef, field: &'a Field, first: u64) -> Result<Self> {
        supported(field, field.name())?;
        Ok(Self { nulls: array.logical_nulls(), name: field.name(), cell: cell(array)?, first })
    }

    /// The bytes of the row, written to `scratch` where the column does not have them; `None` for NULL.
    pub(super) fn get<'s>(&'s self, row: usize, scratch: &'s mut Vec<u8>) -> Result<Option<&'s [u8]>> {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return Ok(None);
        }
        if let Some(bytes) = self.cell.bytes(row) {
            return Ok(Some(bytes));
        }
        scratch.clear();
        self.cell.write(row, scratch).map_err(|why| named(self.name, self.first + row as u64, &why))?;
        Ok(Some(bare(scratch)))
    }
}

/// JSON text without the quotes around it: a value that is neither text nor bytes becomes a key in this form.
pub(crate) fn bare(json: &[u8]) -> &[u8] {
    let quoted = json.len() >= 2 && json.first() == Some(&b'"') && json.last() == Some(&b'"');
    if quoted { &json[1..json.len() - 1] } else { json }
}

#[cfg(test)]
mod test;
