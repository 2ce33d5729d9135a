//! An expression of Spark's language as a function of the planner.

use super::call::{Call, rows_of};
use super::spoken::Name;
use crate::expr::{Bound, Dialect, Moment, Native, bind, native};
use crate::time::EventTime;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Clone)]
pub struct Scalar(Arc<Inner>);

struct Inner {
    call: Call<Bound>,
    signature: Signature,
    /// It stands beside the conditions that the planner has of it already.
    rest: bool,
}

impl Scalar {
    pub fn new(name: String, text: String, columns: Vec<String>, names: &[Name], moment: EventTime) -> Self {
        Self::of(Call::new(name, text, columns, names, moment), false)
    }

    fn of(call: Call<Bound>, rest: bool) -> Self {
        let signature = Signature::variadic_any(Volatility::Immutable);
        let signature = Signature::one_of(
            vec![signature.type_signature, datafusion::logical_expr::TypeSignature::Nullary],
            Volatility::Immutable,
        );
        Self(Arc::new(Inner { call, signature, rest }))
    }

    pub fn called(&self) -> &str {
        &self.0.call.name
    }

    pub fn bound_name(&self) -> String {
        self.0.call.bound_name()
    }

    fn bound(&self, types: &[DataType]) -> DfResult<Arc<Bound>> {
        self.0.call.bound(types, |text, schema| {
            let bound = bind(text, schema, Dialect::Databricks)?;
            let name = bound.name.clone();
            Ok((bound, Some(name)))
        })
    }

    fn lowered(&self, args: &[Expr], info: &SimplifyContext) -> DfResult<Option<Native>> {
        let types = args.iter().map(|a| info.get_data_type(a)).collect::<DfResult<Vec<_>>>()?;
        let schema = self.0.call.schema(types.iter());
        // Types are coerced already: a string view or a dictionary is compared with a string as a string.
        let plain = |((arg, t), f): ((&Expr, &DataType), &FieldRef)| match t == f.data_type() {
            true => arg.clone(),
            false => cast(arg.clone(), f.data_type().clone()),
        };
        let args: Vec<Expr> = args.iter().zip(&types).zip(schema.fields()).map(plain).collect();
        Ok(native(&self.0.call.text, &schema, &args))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.call.name, self.0.rest) == (&other.0.call.name, other.0.rest)
    }
}
impl Eq for Scalar {}
impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.call.name.hash(state);
        self.0.rest.hash(state);
    }
}
impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.call.text)
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        &self.0.call.name
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
        Ok(Arc::new(Field::new(&self.0.call.name, bound.data_type.clone(), bound.nullable)))
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
        let batch = rows_of(&self.0.call.schema(types.iter()), columns, rows)?;
        let _moment = Moment::is(self.0.call.moment);
        let array = bound.evaluate(&batch).map_err(|e| self.0.call.failed(e))?;
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
                let rest = Self::of(self.0.call.again(), true);
                ExprSimplifyResult::Simplified(expr.and(ScalarUDF::from(rest).call(args)))
            }
            _ => ExprSimplifyResult::Original(args),
        })
    }
}
