//! Typed expressions while they are bound, and our own physical expressions.

use super::evaluate::guarded;
use super::kernel::{Args, Kernel};
use arrow::array::{Array, AsArray, BooleanArray, new_empty_array};
use arrow::compute::kernels::boolean::{and_kleene, is_null, or_kleene};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An expression with its type and its text in Spark.
#[derive(Clone)]
pub(super) struct Typed {
    pub expr: Arc<dyn PhysicalExpr>,
    pub data_type: DataType,
    pub nullable: bool,
    pub sql: String,
    /// Whether it was written as a literal. As in Spark, such a number in an operation with a DECIMAL has the precision of its own digits.
    pub literal: bool,
    /// The units with which Spark shows an interval, as places in YEAR, MONTH, DAY, HOUR, MINUTE, SECOND. None: all units of its type.
    pub units: Option<(u8, u8)>,
}

impl Typed {
    /// An expression that is neither a literal nor a constant.
    pub(super) fn other(expr: Arc<dyn PhysicalExpr>, data_type: DataType, nullable: bool, sql: String) -> Self {
        Self { expr, data_type, nullable, sql, literal: false, units: None }
    }

    pub(super) fn column(schema: &SchemaRef, index: usize) -> Self {
        let field = schema.field(index);
        Self {
            expr: Arc::new(Column::new(field.name(), index)),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            sql: field.name().clone(),
            literal: false,
            units: None,
        }
    }

    pub(super) fn literal(value: ScalarValue, sql: impl Into<String>) -> Self {
        let (data_type, nullable) = (value.data_type(), value.is_null());
        Self { expr: Arc::new(Literal::new(value)), data_type, nullable, sql: sql.into(), literal: true, units: None }
    }

    pub(super) fn null(data_type: &DataType) -> Self {
        let value = ScalarValue::try_new_null(data_type).unwrap_or(ScalarValue::Null);
        let mut typed = Self::literal(value, "NULL");
        typed.data_type = data_type.clone();
        typed
    }

    /// The value, if it does not depend on the row.
    pub(super) fn constant(&self) -> Option<&ScalarValue> {
        self.expr.downcast_ref::<Literal>().map(Literal::value)
    }

    pub(super) fn is_null_literal(&self) -> bool {
        self.constant().is_some_and(ScalarValue::is_null)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self.constant() {
            Some(ScalarValue::Utf8(Some(text))) => Some(text),
            _ => None,
        }
    }

    /// As an interval of these units.
    pub(super) fn with_units(mut self, units: Option<(u8, u8)>) -> Self {
        self.units = units;
        self
    }

    pub(super) fn named(mut self, sql: impl Into<String>) -> Self {
        self.sql = sql.into();
        self
    }

    /// A call of a kernel. It is computed now if no argument depends on the row.
    pub(super) fn call(args: Vec<Typed>, data_type: DataType, nullable: bool, sql: String, kernel: Kernel) -> Self {
        let nullable = nullable || args.iter().any(|a| a.nullable);
        let children: Vec<_> = args.iter().map(|a| a.expr.clone()).collect();
        let label = format!("{sql}:{data_type}");
        let expr: Arc<dyn PhysicalExpr> =
            Arc::new(Call { label, kernel, args: children, data_type: data_type.clone(), nullable });
        Self::other(expr, data_type, nullable, sql).fold(&args)
    }

    /// Wraps a physical expression of DataFusion's. It is computed now if no argument depends on the row.
    pub(super) fn wrap(
        expr: Arc<dyn PhysicalExpr>,
        args: &[Typed],
        data_type: DataType,
        nullable: bool,
        sql: impl Into<String>,
    ) -> Self {
        Self::other(expr, data_type, nullable, sql.into()).fold(args)
    }

    fn fold(self, args: &[Typed]) -> Self {
        if !args.iter().all(|a| a.constant().is_some()) || self.data_type.is_nested() {
            return self;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let value = guarded(false, || {
            let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
            self.expr.evaluate(&one)?.into_array(1)
        });
        match value.map(|array| ScalarValue::try_from_array(&array, 0)) {
            Ok(Ok(value)) if value.data_type() == self.data_type => {
                Self { nullable: value.is_null(), expr: Arc::new(Literal::new(value)), ..self }
            }
            // As in Spark, it fails when it is evaluated, for every row.
            _ => self,
        }
    }
}

/// A kernel over arguments.
pub(super) struct Call {
    label: String,
    kernel: Kernel,
    args: Vec<Arc<dyn PhysicalExpr>>,
    data_type: DataType,
    nullable: bool,
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label && self.args == other.args
    }
}
impl Eq for Call {}
impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.label.hash(state);
        self.args.hash(state);
    }
}
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl PhysicalExpr for Call {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.nullable)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if batch.num_rows() == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&self.data_type)));
        }
        let values = self.args.iter().map(|a| a.evaluate(batch)).collect::<Result<Vec<_>>>()?;
        let scalar = values.iter().all(|v| matches!(v, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { batch.num_rows() };
        let array = (self.kernel)(&Args::new(values, rows)?)?;
        debug_assert_eq!(array.data_type(), &self.data_type, "{}", self.label);
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(&self.label, self.data_type.clone(), self.nullable)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }
    fn with_new_children(self: Arc<Self>, args: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self {
            label: self.label.clone(),
            kernel: self.kernel.clone(),
            args,
            data_type: self.data_type.clone(),
            nullable: self.nullable,
        }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// AND and OR. If the right side fails, it is evaluated again, only for the rows that need it: `b <> 0 AND a / b > 1`.
/// DataFusion's own AND and OR evaluate the right side for all rows as soon as one row needs it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Logic {
    pub and: bool,
    pub sides: [Arc<dyn PhysicalExpr>; 2],
}

impl fmt::Display for Logic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.sides[0], if self.and { "AND" } else { "OR" }, self.sides[1])
    }
}

impl PhysicalExpr for Logic {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.sides[0].nullable(schema)? || self.sides[1].nullable(schema)?)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.sides[0].evaluate(batch)?.into_array(rows)?;
        let left = left.as_boolean();
        // For AND a row is decided when it is false, for OR when it is true.
        let decided = if self.and { left.false_count() } else { left.true_count() };
        if decided == rows {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = match self.sides[1].evaluate(batch) {
            Ok(right) => right.into_array(rows)?,
            Err(e) if decided == 0 => return Err(e),
            Err(_) => {
                let open: BooleanArray = left.iter().map(|v| Some(v != Some(!self.and))).collect();
                let open_batch = arrow::compute::filter_record_batch(batch, &open)?;
                let some = self.sides[1].evaluate(&open_batch)?.into_array(open_batch.num_rows())?;
                datafusion::physical_expr_common::utils::scatter(&open, &some)?
            }
        };
        let out = if self.and { and_kleene(left, right.as_boolean())? } else { or_kleene(left, right.as_boolean())? };
        Ok(ColumnarValue::Array(Arc::new(out)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.sides.iter().collect()
    }
    fn with_new_children(self: Arc<Self>, mut c: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let right = c.remove(1);
        Ok(Arc::new(Self { and: self.and, sides: [c.remove(0), right] }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The first value that is not NULL. Later arguments are evaluated only for the rows that need them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Coalesce {
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    pub data_type: DataType,
}

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(ToString::to_string).collect();
        write!(f, "coalesce({})", args.join(", "))
    }
}

impl PhysicalExpr for Coalesce {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }
    fn nullable(&self, schema: &Schema) -> Result<bool> {
        for arg in &self.args {
            if !arg.nullable(schema)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let mut out = self.args[0].evaluate(batch)?.into_array(rows)?;
        for arg in &self.args[1..] {
            if out.null_count() == 0 {
                break;
            }
            let missing = is_null(&out)?;
            let open = arrow::compute::filter_record_batch(batch, &missing)?;
            let some = arg.evaluate(&open)?.into_array(open.num_rows())?;
            let some = datafusion::physical_expr_common::utils::scatter(&missing, &some)?;
            out = zip(&missing, &some, &out)?;
        }
        Ok(ColumnarValue::Array(out))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }
    fn with_new_children(self: Arc<Self>, args: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { args, data_type: self.data_type.clone() }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
