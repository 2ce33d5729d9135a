//! Key columns as bytes. Equal keys have equal bytes: NULL equals NULL, all NaNs are one value, and −0.0 equals 0.0.

use super::normalize_key;
use crate::Result;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};

/// Converts between key columns and their bytes. The order of the bytes is the order of the keys (NULLs first, column
/// by column).
pub(crate) struct KeyCodec {
    converter: RowConverter,
}

impl KeyCodec {
    pub(crate) fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self> {
        let fields = types.into_iter().map(|t| SortField::new(t.clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)? })
    }

    /// One row of bytes for each row of the columns. There must be at least one column.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        let columns: Vec<ArrayRef> = columns.iter().map(normalize_key).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// The columns from which `rows` were made.
    pub(crate) fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.into_iter().map(|r| parser.parse(r)))?)
    }
}
