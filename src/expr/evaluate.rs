//! A bound expression, and which rows it fails for.

use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// One bound scalar expression.
#[derive(Clone)]
pub struct Bound {
    /// The output column: its alias, or as Spark names it.
    pub name: String,
    /// The text as Spark prints it (Databricks), or as it was typed.
    pub sql: String,
    pub data_type: DataType,
    pub nullable: bool,
    expr: Arc<dyn PhysicalExpr>,
    columns: Vec<usize>,
    column: Option<usize>,
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
        Self { name, sql, data_type, nullable, expr, columns, column }
    }

    /// The values for every row. One row that fails makes the whole fail.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        if let Some(column) = self.column {
            return Ok(batch.column(column).clone());
        }
        self.run(batch).map_err(|text| Error::malformed(text).context(&self.sql))
    }

    fn run(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let rows = batch.num_rows();
        let array = self.expr.evaluate(batch).and_then(|v| v.into_array(rows)).map_err(|e| failure(&e))?;
        if array.len() != rows {
            return Err(format!("gave {} values for {rows} rows", array.len()));
        }
        Ok(array)
    }

    /// The values, NULL where a row failed, and those rows with the reason (which never holds a value of the row).
    pub fn evaluate_rows(&self, batch: &RecordBatch) -> Result<(ArrayRef, Vec<(u32, String)>)> {
        if let Some(column) = self.column {
            return Ok((batch.column(column).clone(), vec![]));
        }
        match self.run(batch) {
            Ok(array) => Ok((array, vec![])),
            Err(_) => {
                let (mut pieces, mut failed) = (vec![], vec![]);
                self.bisect(batch, 0, batch.num_rows(), &mut pieces, &mut failed);
                let pieces: Vec<&dyn arrow::array::Array> = pieces.iter().map(|p: &ArrayRef| p.as_ref()).collect();
                if pieces.is_empty() {
                    return Ok((new_null_array(&self.data_type, 0), failed));
                }
                Ok((concat(&pieces)?, failed))
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

    /// The input columns it uses.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The input column, when it is just that.
    pub fn as_column(&self) -> Option<usize> {
        self.column
    }

    /// What tells it from another expression, where its text does not: Spark prints the string 'a' and the column a alike.
    pub fn identity(&self) -> String {
        identity(&self.sql, std::slice::from_ref(&self.expr))
    }

    /// For DataFusion's operators.
    pub fn physical(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }
}

/// `text`, and where there are strings in it a hash of what each name and value in it is.
pub(super) fn identity(text: &str, exprs: &[Arc<dyn PhysicalExpr>]) -> String {
    let (mut leaves, mut strings) = (String::new(), false);
    exprs.iter().for_each(|e| walk(e, &mut leaves, &mut strings));
    match strings {
        false => text.to_string(),
        true => {
            let hash: String = Sha256::digest(leaves.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("{text} #{hash}")
        }
    }
}

fn walk(expr: &Arc<dyn PhysicalExpr>, leaves: &mut String, strings: &mut bool) {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        *strings |= literal.value().data_type().is_string();
        leaves.push_str(&format!("{:?};", literal.value()));
    } else if let Some(column) = expr.downcast_ref::<Column>() {
        leaves.push_str(&format!("column {:?};", column.name()));
    }
    expr.children().into_iter().for_each(|c| walk(c, leaves, strings));
}

/// Why an expression failed on a row, in words of ours: they never hold a value of the row.
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

/// The reason without any value: texts of others are replaced, because they quote what they failed on.
pub(super) fn failure(e: &DataFusionError) -> String {
    use arrow::error::ArrowError;
    let root = e.find_root();
    match root {
        DataFusionError::External(inner) => match inner.downcast_ref::<RowError>() {
            Some(e) => e.0.clone(),
            None => "it cannot be computed".into(),
        },
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::DivideByZero => "division by zero".into(),
            ArrowError::ArithmeticOverflow(_) => "arithmetic overflow".into(),
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
