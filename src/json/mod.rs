//! JSON text to columns: the one reader of JSON, for messages (`decode`), for SQL (`from_json` and similar functions)
//! and for values from Python.
//!
//! ```text
//! scan      the lexer: walks over a text and checks its grammar
//! scalar    numbers, dates and timestamps, exactly or not at all
//! column    column builders whose last row can be removed
//! ```

mod column;
mod number;
mod scalar;
mod scan;

pub(crate) use column::{Column, ColumnOptions, Fields};
pub(crate) use scalar::TimestampUnit;
pub(crate) use scan::{Cursor, Fault, Next, Scan, Taken, Text, fault, unescape};

use crate::Result;
use arrow::array::ArrayRef;
use arrow::datatypes::Field;

/// A column from the JSON text of its values; the value of row i ends at `ends[i]`. NaN and Infinity are numbers here. The error names
/// the row of the first value that does not fit and, where the value is nested, its path.
pub(crate) fn column(
    field: &Field,
    text: &[u8],
    ends: &[usize],
) -> Result<std::result::Result<ArrayRef, (usize, String)>> {
    let mut column = Column::new(field, "", &|_| ColumnOptions::default())?;
    let mut start = 0;
    for (row, end) in ends.iter().enumerate() {
        let mut cursor = Cursor::new(&text[start..*end]);
        cursor.taken = Taken { nan: true, ..Taken::UNNAMED };
        if let Err(f) = column.read(&mut cursor, 0) {
            let place = if f.field.is_empty() { String::new() } else { format!("{}: ", f.field) };
            return Ok(Err((row, format!("{place}{}", f.what))));
        }
        start = *end;
    }
    Ok(Ok(column.finish()?))
}
