//! Rows as plain text, for terminals, logs and consoles. It never fails, whatever the values are.

use crate::error::printable;
use crate::expr::type_to_ddl;
use crate::read::Rows;
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;

/// The longest text in a cell, and the width of a table from which on columns are left out.
const CELL: usize = 80;
const WIDTH: usize = 220;

/// At most `most` rows, as a table with a frame.
pub(super) fn table(rows: &Rows, most: usize) -> String {
    let mut left = most;
    let mut parts = vec![];
    for b in &rows.batches {
        let n = b.num_rows().min(left);
        if n > 0 {
            parts.push(b.slice(0, n));
        }
        left -= n;
    }
    let mut cells: Vec<Vec<ArrayRef>> = parts.iter().map(|b| b.columns().iter().map(readable).collect()).collect();
    let fits = fitting(&rows.schema, &cells);
    cells.iter_mut().for_each(|c| c.truncate(fits));
    let shown = |f: &FieldRef| Field::new(printable(f.name()), DataType::Utf8, true);
    let schema = Arc::new(Schema::new(rows.schema.fields().iter().take(fits).map(shown).collect::<Vec<_>>()));
    let batches: Vec<RecordBatch> = parts
        .iter()
        .zip(cells)
        .filter_map(|(b, columns)| {
            let options = RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
            RecordBatch::try_new_with_options(schema.clone(), columns, &options).ok()
        })
        .collect();
    let text = arrow::util::pretty::pretty_format_batches_with_schema(schema, &batches);
    let mut text = text.map_or_else(|e| e.to_string(), |t| t.to_string());
    let total: usize = rows.batches.iter().map(RecordBatch::num_rows).sum();
    if total > most {
        text += &format!("\n… and {} more rows", total - most);
    }
    let hidden = rows.schema.fields().iter().skip(fits);
    let names: Vec<String> =
        hidden.map(|f| format!("{} {}", printable(f.name()), cut(&type_to_ddl(f.data_type())))).collect();
    if !names.is_empty() {
        text += &format!("\n… and {} more columns: {}", names.len(), names.join(", "));
    }
    text
}

/// How many columns, from the left, have room in the width.
fn fitting(schema: &Schema, cells: &[Vec<ArrayRef>]) -> usize {
    let mut width = 1;
    for (i, field) in schema.fields().iter().enumerate() {
        let longest =
            cells.iter().flat_map(|c| c[i].as_string::<i32>().iter().flatten()).map(|t| t.chars().count()).max();
        width += longest.unwrap_or(0).max(field.name().chars().count()) + 3;
        if width > WIDTH && i > 0 {
            return i;
        }
    }
    schema.fields().len()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// Every value as text that is safe to print on a terminal, without control characters. Bytes that are UTF-8 text become text.
fn readable(column: &ArrayRef) -> ArrayRef {
    let cell = |row: usize| -> Option<String> {
        if column.is_null(row) {
            return Some("NULL".into());
        }
        let text = match column.data_type() {
            DataType::Binary => {
                let bytes = column.as_binary::<i32>().value(row);
                std::str::from_utf8(bytes).map_or_else(|_| format!("0x{}", hex(bytes)), str::to_string)
            }
            _ => shown(column, row),
        };
        Some(cut(&printable(&text)))
    };
    Arc::new((0..column.len()).map(cell).collect::<StringArray>())
}

/// A value as text. Dates and times outside the calendar of the formatting library are numbers.
pub(super) fn shown(array: &dyn Array, row: usize) -> String {
    arrow::util::display::array_value_to_string(array, row).unwrap_or_else(|_| match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            format!("{} microseconds since 1970", array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Date32 => format!("{} days since 1970", array.as_primitive::<Date32Type>().value(row)),
        other => format!("a value of type {other}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(64).map(|b| format!("{b:02x}")).collect()
}
