//! Operands that an expression uses several times (`CASE x WHEN …`, `x BETWEEN a AND b`, `nullif(x, y)`). Such an operand is computed
//! once and added to the batch as a column. So the time that a nested expression takes grows with its size, not exponentially with its
//! depth.

use super::kernel::is_true;
use super::node::Typed;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_common::utils::scatter;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The expression that `body` makes of an operand, which is computed once. Columns and constants are passed to `body` as they are.
pub(super) fn once(operand: Typed, body: impl FnOnce(Typed) -> crate::Result<Typed>) -> crate::Result<Typed> {
    if operand.constant().is_some() || operand.expr.downcast_ref::<Column>().is_some() {
        return body(operand);
    }
    let name = format!("\u{0}operand {}", NEXT.fetch_add(1, Ordering::Relaxed));
    let slot = Slot { name: name.clone(), data_type: operand.data_type.clone(), nullable: operand.nullable };
    let Typed { expr: value, data_type, nullable, sql, .. } = operand;
    let made = body(Typed::other(Arc::new(slot), data_type, nullable, sql))?;
    let expr = Arc::new(Once { name, parts: [value, made.expr] });
    Ok(Typed::other(expr, made.data_type, made.nullable, made.sql))
}

/// The place of the operand within the body.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Slot {
    name: String,
    data_type: DataType,
    nullable: bool,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("operand")
    }
}

impl PhysicalExpr for Slot {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.nullable)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let found = batch.schema_ref().fields().iter().rposition(|f| *f.name() == self.name);
        let at = found.ok_or_else(|| DataFusionError::Internal("an operand is not there".into()))?;
        Ok(ColumnarValue::Array(batch.column(at).clone()))
    }
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new("operand", self.data_type.clone(), self.nullable)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![]
    }
    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Once {
    name: String,
    /// The operand, and the body with its slot.
    parts: [Arc<dyn PhysicalExpr>; 2],
}

impl fmt::Display for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.parts[1], self.parts[0])
    }
}

impl PhysicalExpr for Once {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.parts[1].data_type(schema)
    }
    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.parts[1].nullable(schema)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let value = self.parts[0].evaluate(batch)?.into_array(rows)?;
        let field = Arc::new(Field::new(&self.name, value.data_type().clone(), true));
        let fields: Vec<FieldRef> = batch.schema_ref().fields().iter().cloned().chain([field]).collect();
        let columns = batch.columns().iter().cloned().chain([value]).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let wider = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        self.parts[1].evaluate(&wider)
    }
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.parts[1].return_field(schema)
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.parts.iter().collect()
    }
    fn with_new_children(self: Arc<Self>, mut c: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let body = c.remove(1);
        Ok(Arc::new(Self { name: self.name.clone(), parts: [c.remove(0), body] }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// CASE within a body. DataFusion's own CASE is not used, because it removes the columns that it does not know.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Choose {
    /// Conditions and values alternate; the last may be the value for the rows where no condition is true.
    pub parts: Vec<Arc<dyn PhysicalExpr>>,
    pub data_type: DataType,
    pub nullable: bool,
}

impl fmt::Display for Choose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        write!(f, "choose({})", parts.join(", "))
    }
}

impl PhysicalExpr for Choose {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.nullable)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let mut out: ArrayRef = new_null_array(&self.data_type, rows);
        let mut open = BooleanArray::from(vec![true; rows]);
        let take = |mask: &BooleanArray, part: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
            if mask.true_count() == rows {
                return part.evaluate(batch)?.into_array(rows);
            }
            let some = filter_record_batch(batch, mask)?;
            scatter(mask, &part.evaluate(&some)?.into_array(some.num_rows())?)
        };
        for pair in self.parts.chunks(2) {
            if open.true_count() == 0 {
                break;
            }
            let hit = match pair {
                [when, _] => {
                    let hit = take(&open, when)?;
                    arrow::compute::and(&is_true(hit.as_boolean()), &open)?
                }
                _ => open.clone(),
            };
            let (count, value) = (hit.true_count(), &pair[pair.len() - 1]);
            if count == rows {
                return Ok(ColumnarValue::Array(take(&hit, value)?));
            }
            if count > 0 {
                out = zip(&hit, &take(&hit, value)?, &out)?;
                open = arrow::compute::and_not(&open, &hit)?;
            }
        }
        Ok(ColumnarValue::Array(out))
    }
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new("choose", self.data_type.clone(), self.nullable)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.parts.iter().collect()
    }
    fn with_new_children(self: Arc<Self>, parts: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { parts, data_type: self.data_type.clone(), nullable: self.nullable }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The name of variable `k` of a lambda within `depth` others. The name is the same each time, because it is part of the identity of an expression.
pub(super) fn variable_name(depth: usize, k: usize) -> String {
    format!("\u{0}variable {depth}.{k}")
}

/// A variable of a lambda, which Spark shows as `sql`.
pub(super) fn slot(name: String, data_type: DataType, sql: &str) -> Typed {
    let expr = Arc::new(Slot { name, data_type: data_type.clone(), nullable: true });
    Typed::other(expr, data_type, true, sql.to_string())
}

/// The name of the variable, if the expression is one of a lambda.
pub(super) fn variable(expr: &Arc<dyn PhysicalExpr>) -> Option<&str> {
    expr.downcast_ref::<Slot>().map(|s| s.name.as_str()).filter(|n| n.starts_with("\u{0}variable"))
}

/// All operands and variables that the expression names.
pub(super) fn slots_of(expr: &Arc<dyn PhysicalExpr>) -> Vec<String> {
    fn walk(expr: &Arc<dyn PhysicalExpr>, out: &mut Vec<String>) {
        if let Some(slot) = expr.downcast_ref::<Slot>()
            && !out.contains(&slot.name)
        {
            out.push(slot.name.clone());
        }
        expr.children().into_iter().for_each(|c| walk(c, out));
    }
    let mut out = vec![];
    walk(expr, &mut out);
    out
}

/// Whether an expression uses an operand or a variable, its own inner ones included.
pub(super) fn uses_operand(typed: &Typed) -> bool {
    fn walk(expr: &Arc<dyn PhysicalExpr>) -> bool {
        expr.downcast_ref::<Slot>().is_some() || expr.children().into_iter().any(walk)
    }
    walk(&typed.expr)
}
