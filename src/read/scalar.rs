//! An expression of Spark's language as a function of the planner.

use super::language::argument;
use super::spoken::Name;
use crate::Error;
use crate::expr::{Bound, Dialect, Moment, Native, bind, native};
use crate::time::EventTime;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The arguments as columns of these types. An aggregate without arguments has one, which no text names.
pub fn schema_of<'a>(columns: &[String], types: impl Iterator<Item = &'a DataType>) -> SchemaRef {
    let name = |k: usize| columns.get(k).cloned().unwrap_or_else(|| argument(k));
    let field = |(k, t): (usize, &DataType)| Field::new(name(k), super::plain_type(t), true);
    Arc::new(Schema::new(types.enumerate().map(field).collect::<Vec<_>>()))
}

/// The arguments of a call as rows.
pub fn rows_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> DfResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let plain = |(column, f): (ArrayRef, &FieldRef)| match column.data_type() == f.data_type() {
        true => Ok(column),
        // A partition column comes as a dictionary.
        false => arrow::compute::cast(&column, f.data_type()),
    };
    let columns = columns.into_iter().zip(schema.fields()).map(plain).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// An error with the names of columns in place of arguments.
pub fn failed(e: Error, names: &[String]) -> DataFusionError {
    let mut message = e.message;
    // The advice is for streams: there is one dialect over tables.
    if let Some(at) = message.find(" DataFusion has ") {
        message.truncate(at);
    }
    for (k, name) in names.iter().enumerate() {
        let argument = argument(k);
        message = message.replace(&format!("`{argument}`"), name).replace(&argument, name);
    }
    DataFusionError::External(Box::new(Error { message, ..e }))
}

#[derive(Clone)]
pub struct Scalar(Arc<Inner>);

struct Inner {
    name: String,
    text: String,
    /// What the text calls the arguments.
    columns: Vec<String>,
    names: Vec<String>,
    signature: Signature,
    moment: EventTime,
    /// By the types of the arguments.
    bound: Mutex<HashMap<Vec<DataType>, Arc<Bound>>>,
    bound_name: Mutex<Option<String>>,
    /// It stands beside the conditions that the planner has of it already.
    rest: bool,
}

impl Scalar {
    pub fn new(name: String, text: String, columns: Vec<String>, names: &[Name], moment: EventTime) -> Self {
        Self::of(name, text, columns, names.iter().map(Name::shown).collect(), moment, false)
    }

    fn of(name: String, text: String, columns: Vec<String>, names: Vec<String>, moment: EventTime, rest: bool) -> Self {
        let signature = Signature::variadic_any(Volatility::Immutable);
        let signature = Signature::one_of(
            vec![signature.type_signature, datafusion::logical_expr::TypeSignature::Nullary],
            Volatility::Immutable,
        );
        Self(Arc::new(Inner {
            name,
            text,
            columns,
            names,
            signature,
            moment,
            bound: Mutex::default(),
            bound_name: Mutex::default(),
            rest,
        }))
    }

    pub fn called(&self) -> &str {
        &self.0.name
    }

    pub fn bound_name(&self) -> String {
        self.0.bound_name.lock().clone().unwrap_or_else(|| self.0.text.clone())
    }

    fn bound(&self, types: &[DataType]) -> DfResult<Arc<Bound>> {
        if let Some(bound) = self.0.bound.lock().get(types) {
            return Ok(bound.clone());
        }
        let bound = bind(&self.0.text, &schema_of(&self.0.columns, types.iter()), Dialect::Databricks);
        let bound = Arc::new(bound.map_err(|e| failed(e, &self.0.names))?);
        *self.0.bound_name.lock() = Some(bound.name.clone());
        self.0.bound.lock().insert(types.to_vec(), bound.clone());
        Ok(bound)
    }

    fn lowered(&self, args: &[Expr], info: &SimplifyContext) -> DfResult<Option<Native>> {
        let types = args.iter().map(|a| info.get_data_type(a)).collect::<DfResult<Vec<_>>>()?;
        let schema = schema_of(&self.0.columns, types.iter());
        // Types are coerced already: a string view or a dictionary is compared with a string as a string.
        let plain = |((arg, t), f): ((&Expr, &DataType), &FieldRef)| match t == f.data_type() {
            true => arg.clone(),
            false => cast(arg.clone(), f.data_type().clone()),
        };
        let args: Vec<Expr> = args.iter().zip(&types).zip(schema.fields()).map(plain).collect();
        Ok(native(&self.0.text, &schema, &args))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.name, self.0.rest) == (&other.0.name, other.0.rest)
    }
}
impl Eq for Scalar {}
impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
        self.0.rest.hash(state);
    }
}
impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn signature(&self) -> &Signature {
        &self.0.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(self.bound(types)?.data_type.clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let bound = self.bound(&types)?;
        Ok(Arc::new(Field::new(&self.0.name, bound.data_type.clone(), bound.nullable)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let bound = self.bound(&types)?;
        // A constant that fails is no error where there is no row.
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(args.return_field.data_type())));
        }
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns = args.args.into_iter().map(|a| a.into_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let batch = rows_of(&schema_of(&self.0.columns, types.iter()), columns, rows)?;
        let _moment = Moment::is(self.0.moment);
        let array = bound.evaluate(&batch).map_err(|e| failed(e, &self.0.names))?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
    /// Plain comparisons become the planner's own: files are skipped by them, and joins look them up.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        if self.0.rest {
            return Ok(ExprSimplifyResult::Original(args));
        }
        Ok(match self.lowered(&args, info) {
            Ok(Some(Native { expr, whole: true })) => ExprSimplifyResult::Simplified(expr),
            Ok(Some(Native { expr, whole: false })) => {
                let Inner { name, text, columns, names, moment, .. } = &*self.0;
                let rest = Self::of(name.clone(), text.clone(), columns.clone(), names.clone(), *moment, true);
                ExprSimplifyResult::Simplified(expr.and(ScalarUDF::from(rest).call(args)))
            }
            _ => ExprSimplifyResult::Original(args),
        })
    }
}
