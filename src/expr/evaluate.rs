//! A bound expression, and the rows for which it fails.

use super::kernel::{TOO_LARGE, room, spread};
use crate::hash::hex;
use crate::stack::with_room;
use crate::{Error, Kind, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use sha2::{Digest, Sha256};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The reasons why arithmetic fails for a row.
pub(super) const OVERFLOW: &str = "arithmetic overflow";
pub(super) const ZERO: &str = "division by zero";

/// One bound scalar expression.
#[derive(Clone)]
pub struct Bound {
    /// The name of the output column: its alias, or the name that Spark gives it.
    pub name: String,
    /// The text as Spark prints it (Databricks) or as it was typed (DataFusion).
    pub sql: String,
    pub data_type: DataType,
    pub nullable: bool,
    expr: Arc<dyn PhysicalExpr>,
    columns: Vec<usize>,
    column: Option<usize>,
    /// The expression is so deep that it is evaluated on a larger stack.
    deep: bool,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS {}: {}", self.sql, self.name, self.data_type)
    }
}

impl Bound {
    pub(super) fn new(
        name: String,
        sql: String,
        data_type: DataType,
        nullable: bool,
        expr: Arc<dyn PhysicalExpr>,
    ) -> Self {
        let mut columns: Vec<usize> = collect_columns(&expr).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let column = expr.downcast_ref::<Column>().map(Column::index);
        let deep = is_deep(std::slice::from_ref(&expr));
        Self { name, sql, data_type, nullable, expr, columns, column, deep }
    }

    /// The values of all rows. One row that fails makes the whole call fail.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        if let Some(column) = self.column {
            return Ok(batch.column(column).clone());
        }
        self.run(batch).map_err(|text| Error::malformed(text).context(&self.sql))
    }

    fn run(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let rows = batch.num_rows();
        let array = guarded(self.deep, || self.expr.evaluate(batch).and_then(|v| spread(&v, rows)))?;
        if array.len() != rows {
            return Err(format!("gave {} values for {rows} rows", array.len()));
        }
        Ok(array)
    }

    /// The values, with NULL where a row failed, and the failed rows with the reason, which never contains a value of the row.
    pub fn evaluate_rows(&self, batch: &RecordBatch) -> Result<(ArrayRef, Vec<(u32, String)>)> {
        if let Some(column) = self.column {
            return Ok((batch.column(column).clone(), vec![]));
        }
        match self.run(batch) {
            Ok(array) => Ok((array, vec![])),
            Err(_) => {
                let (mut pieces, mut failed) = (vec![], vec![]);
                self.bisect(batch, 0, batch.num_rows(), &mut pieces, &mut failed);
                let pieces: Vec<&dyn Array> = pieces.iter().map(|p: &ArrayRef| p.as_ref()).collect();
                if pieces.is_empty() {
                    return Ok((new_null_array(&self.data_type, 0), failed));
                }
                Ok((together(&pieces).map_err(|e| e.context(&self.sql))?, failed))
            }
        }
    }

    fn bisect(
        &self,
        batch: &RecordBatch,
        start: usize,
        len: usize,
        pieces: &mut Vec<ArrayRef>,
        failed: &mut Vec<(u32, String)>,
    ) {
        if len == 0 {
            return;
        }
        match self.run(&batch.slice(start, len)) {
            Ok(array) => pieces.push(array),
            Err(text) if len == 1 => {
                pieces.push(new_null_array(&self.data_type, 1));
                failed.push((start as u32, text));
            }
            Err(_) => {
                let half = len / 2;
                self.bisect(batch, start, half, pieces, failed);
                self.bisect(batch, start + half, len - half, pieces, failed);
            }
        }
    }

    /// The input columns that the expression uses.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The input column, if the expression is nothing but a column.
    pub fn as_column(&self) -> Option<usize> {
        self.column
    }

    /// Distinguishes the expression from other expressions. The text is not enough: Spark prints the string 'a' and the column a alike.
    pub fn identity(&self) -> String {
        identity(&self.sql, std::slice::from_ref(&self.expr))
    }

    /// The expression for DataFusion's operators.
    pub fn physical(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }
}

/// Whether one of the expressions is so deep that the stack of a Python thread could be too small for it.
pub(super) fn is_deep(exprs: &[Arc<dyn PhysicalExpr>]) -> bool {
    fn deeper(expr: &Arc<dyn PhysicalExpr>, than: usize) -> bool {
        than == 0 || expr.children().into_iter().any(|c| deeper(c, than - 1))
    }
    exprs.iter().any(|e| deeper(e, 50))
}

/// Runs code that may panic within a library. A panic becomes an error.
pub(super) fn guarded(deep: bool, f: impl FnOnce() -> Result<ArrayRef, DataFusionError>) -> Result<ArrayRef, String> {
    let run = || if deep { with_room(f) } else { f() };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(made) => made.map_err(|e| failure(&e)),
        // Arrow panics where the values of a column are too long for its offsets.
        Err(said) => {
            let said = said.downcast_ref::<String>().map(String::as_str).or(said.downcast_ref::<&str>().copied());
            Err(if said.is_some_and(|s| s.contains("overflow")) { TOO_LARGE } else { "it cannot be computed" }.into())
        }
    }
}

/// Whether the error means that the values of all rows together were too large: fewer rows at once may succeed.
pub(crate) fn is_too_large(e: &Error) -> bool {
    e.kind == Kind::Malformed && e.message.contains(TOO_LARGE)
}

/// The number of bytes of text in an array, or in its largest part. Offsets of 32 bits limit this number. An element of a list counts as
/// eight bytes, because lists have such offsets too.
pub(crate) fn text_bytes(array: &dyn Array) -> usize {
    let span = |offsets: &[i32]| (offsets[0] as usize, (offsets[offsets.len() - 1] - offsets[0]) as usize);
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()).1,
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()).1,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, len) = span(list.value_offsets());
            text_bytes(&list.values().slice(from, len)).max(len.saturating_mul(8))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, len) = span(map.value_offsets());
            text_bytes(&map.entries().slice(from, len)).max(len.saturating_mul(8))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|c| text_bytes(c)).max().unwrap_or(0),
        _ => 0,
    }
}

/// About the bytes that an array's values take.
pub(crate) fn value_bytes(array: &dyn Array) -> usize {
    let span = |offsets: &[i32]| (offsets[0] as usize, (offsets[offsets.len() - 1] - offsets[0]) as usize);
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()).1,
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()).1,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, len) = span(list.value_offsets());
            len * size_of::<i32>() + value_bytes(&list.values().slice(from, len))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, len) = span(map.value_offsets());
            len * size_of::<i32>() + value_bytes(&map.entries().slice(from, len))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|c| value_bytes(c)).sum(),
        other => array.len() * other.primitive_width().unwrap_or(1),
    }
}

/// The pieces one after the other, if they fit into one array.
fn together(pieces: &[&dyn Array]) -> Result<ArrayRef> {
    room(0, pieces.iter().map(|p| text_bytes(*p)).sum()).map_err(|_| Error::malformed(TOO_LARGE))?;
    Ok(concat(pieces)?)
}

/// `text`, and a hash of its names and values where it has strings.
pub(super) fn identity(text: &str, exprs: &[Arc<dyn PhysicalExpr>]) -> String {
    let (mut leaves, mut strings) = (String::new(), false);
    exprs.iter().for_each(|e| walk(e, &mut leaves, &mut strings));
    if strings {
        let hash: String = hex(Sha256::digest(leaves.as_bytes()), 4);
        format!("{text} #{hash}")
    } else {
        text.to_string()
    }
}

fn walk(expr: &Arc<dyn PhysicalExpr>, leaves: &mut String, strings: &mut bool) {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        *strings |= literal.value().data_type().is_string();
        leaves.push_str(&format!("{:?};", literal.value()));
    } else if let Some(column) = expr.downcast_ref::<Column>() {
        leaves.push_str(&format!("column {:?};", column.name()));
    } else if let Some(name) = super::once::variable(expr) {
        // Spark shows all variables alike.
        *strings = true;
        leaves.push_str(&format!("{name:?};"));
    }
    expr.children().into_iter().for_each(|c| walk(c, leaves, strings));
}

/// Why an expression failed for a row, in our own words, which never contain a value of the row.
#[derive(Debug)]
pub(super) struct RowError(pub String);

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for RowError {}

pub(super) fn row_error(text: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(RowError(text.into())))
}

/// The reason without any value. Texts of libraries are replaced, because they quote the value that failed.
pub(super) fn failure(e: &DataFusionError) -> String {
    use arrow::error::ArrowError;
    let root = e.find_root();
    match root {
        DataFusionError::External(inner) => match inner.downcast_ref::<RowError>() {
            Some(e) => e.0.clone(),
            None => "it cannot be computed".into(),
        },
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::DivideByZero => ZERO.into(),
            ArrowError::ArithmeticOverflow(_) => OVERFLOW.into(),
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "a value cannot be cast".into(),
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<RowError>() {
                Some(e) => e.0.clone(),
                None => "it cannot be computed".into(),
            },
            _ => "it cannot be computed".into(),
        },
        DataFusionError::ResourcesExhausted(_) => "out of memory".into(),
        _ => "it cannot be computed".into(),
    }
}
