//! An expression of Spark's language as a function of the planner.

use super::call::{Call, rows_of};
use super::language::argument;
use super::names::ticked;
use super::spoken::Name;
use crate::expr::{Bound, Dialect, Moment, Native, bind, bind_key, key_type, native};
use crate::time::EventTime;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ScalarValue, TableReference};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Scalar(Arc<Inner>);

struct Inner {
    call: Call<Bound>,
    signature: Signature,
    part: Part,
    /// For an equality: the texts of its sides.
    sides: Option<(String, String)>,
}

/// The part of an expression that the function computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    All,
    /// All of the expression, in addition to the conditions that the planner has derived from it.
    Rest,
    /// A side of an equality, as a value of a type in which equal values are the same bits.
    Left(DataType),
    Right(DataType),
}

impl Scalar {
    pub(super) fn new(
        name: String,
        text: String,
        columns: Vec<String>,
        names: &[Name],
        moment: EventTime,
        sides: Option<(String, String)>,
    ) -> Self {
        Self::of(Call::new(name, text, columns, names, moment), Part::All, sides)
    }

    fn of(call: Call<Bound>, part: Part, sides: Option<(String, String)>) -> Self {
        let signature = Signature::variadic_any(Volatility::Immutable);
        let signature = Signature::one_of(
            vec![signature.type_signature, datafusion::logical_expr::TypeSignature::Nullary],
            Volatility::Immutable,
        );
        Self(Arc::new(Inner { call, signature, part, sides }))
    }

    /// A cast to the type, as Spark casts two values to a common type. In the type, equal values are the same bits.
    pub(super) fn cast(to: &DataType, of: String, moment: EventTime) -> Self {
        let text = format!("`{}`", argument(0));
        let call = Call::new(format!("__as_{to}"), text, vec![argument(0)], &[Name::Plain(of)], moment);
        Self::of(call, Part::Left(to.clone()), None)
    }

    pub(super) fn called(&self) -> &str {
        &self.0.call.name
    }

    pub(super) fn bound_name(&self) -> String {
        self.0.call.bound_name()
    }

    fn bound(&self, types: &[DataType]) -> DfResult<Arc<Bound>> {
        self.0.call.bound(types, |text, schema| {
            let bound = match &self.0.part {
                Part::Left(to) | Part::Right(to) => bind_key(text, to, schema)?,
                _ => bind(text, schema, Dialect::Databricks)?,
            };
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
        let plain: Vec<Expr> = args.iter().zip(&types).zip(schema.fields()).map(plain).collect();
        Ok(native(&self.0.call.text, &schema, &plain).or_else(|| self.looked_up(args, &schema)))
    }

    /// An equality of two expressions over different tables, as the planner's equality of two values. The planner uses it to look rows up.
    fn looked_up(&self, args: &[Expr], schema: &SchemaRef) -> Option<Native> {
        let (left, right) = self.0.sides.as_ref()?;
        let columns = &self.0.call.columns;
        let of = |text: &str| -> Vec<usize> {
            (0..args.len()).filter(|k| columns.get(*k).is_some_and(|c| text.contains(&ticked(c)))).collect()
        };
        let (l, r) = (of(left), of(right));
        let tables = |of: &[usize]| of.iter().map(|k| tables_of(&args[*k])).collect::<Option<Vec<_>>>();
        let (mine, theirs): (HashSet<_>, HashSet<_>) =
            (tables(&l)?.into_iter().flatten().collect(), tables(&r)?.into_iter().flatten().collect());
        if mine.is_empty() || theirs.is_empty() || !mine.is_disjoint(&theirs) {
            return None;
        }
        let to = key_type(left, right, schema)?;
        let side = |text: &str, of: Vec<usize>, part: Part| {
            let args = of.iter().map(|k| args[*k].clone()).collect();
            ScalarUDF::from(Self::of(self.0.call.part(text, &of), part, None)).call(args)
        };
        let expr = side(left, l, Part::Left(to.clone())).eq(side(right, r, Part::Right(to)));
        Some(Native { expr, whole: true })
    }
}

/// The tables whose columns the argument uses. Tables of an outer query are marked with `true`. `None`: the argument has a subquery, or a column
/// without a table.
fn tables_of(arg: &Expr) -> Option<HashSet<(bool, TableReference)>> {
    let mut out = HashSet::new();
    let mut all = true;
    let found = arg.apply(|e| {
        match e {
            Expr::Column(c) => all &= c.relation.clone().map(|t| out.insert((false, t))).is_some(),
            Expr::OuterReferenceColumn(_, c) => all &= c.relation.clone().map(|t| out.insert((true, t))).is_some(),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => all = false,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    (found.is_ok() && all).then_some(out)
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.call.name, &self.0.part) == (&other.0.call.name, &other.0.part)
    }
}
impl Eq for Scalar {}
impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.call.name.hash(state);
        self.0.part.hash(state);
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
        // A constant that fails is not an error if there are no rows.
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
    /// Plain comparisons become the planner's own: the planner uses them to skip files and to look rows up in joins.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        if self.0.part != Part::All {
            return Ok(ExprSimplifyResult::Original(args));
        }
        Ok(match self.lowered(&args, info) {
            Ok(Some(Native { expr, whole: true })) => ExprSimplifyResult::Simplified(expr),
            Ok(Some(Native { expr, whole: false })) => {
                let rest = Self::of(self.0.call.again(), Part::Rest, None);
                ExprSimplifyResult::Simplified(expr.and(ScalarUDF::from(rest).call(args)))
            }
            _ => ExprSimplifyResult::Original(args),
        })
    }
}
