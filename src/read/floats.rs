//! Floats in GROUP BY, DISTINCT and ORDER BY (for joins and sets of rows, see `coercion`). As in Spark, all NaNs are one value, which is the
//! greatest value, and -0.0 equals 0.0. The planner compares bits.

use crate::expr::normalize;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Distinct, Expr, ExprSchemable, Filter, LogicalPlan, Projection, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Sort, Volatility, Window,
};
use std::sync::Arc;

/// The plan in which equal floats have one form where rows are compared.
pub(super) fn equal(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::Aggregate(a) if matches!(&a.group_expr[..], [Expr::GroupingSet(_)]) => sets(a)?,
            LogicalPlan::Aggregate(a) => {
                let schema = a.input.schema();
                let named = |e: &Expr| {
                    if !has_floats(&e.get_type(schema)?) {
                        return Ok(e.clone());
                    }
                    let (table, name) = e.qualified_name();
                    Ok(one_form(e.clone()).alias_qualified(table, name))
                };
                let groups = a.group_expr.iter().map(named).collect::<Result<Vec<_>>>()?;
                match groups == a.group_expr {
                    true => Transformed::no(LogicalPlan::Aggregate(a)),
                    false => {
                        Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(a.input, groups, a.aggr_expr)?))
                    }
                }
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                if !input.schema().fields().iter().any(|f| has_floats(f.data_type())) {
                    return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
                }
                let one = |(table, f): (Option<&datafusion::common::TableReference>, &FieldRef)| {
                    let column = Expr::Column(datafusion::common::Column::from((table, f)));
                    match has_floats(f.data_type()) {
                        true => one_form(column).alias_qualified(table.cloned(), f.name()),
                        false => column,
                    }
                };
                let columns: Vec<Expr> = input.schema().iter().map(one).collect();
                let input = LogicalPlan::Projection(Projection::try_new(columns, input)?);
                Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input))))
            }
            LogicalPlan::Sort(Sort { mut expr, input, fetch }) => {
                let mut changed = false;
                for key in &mut expr {
                    if has_floats(&key.expr.get_type(input.schema())?) {
                        key.expr = one_form(key.expr.clone());
                        changed = true;
                    }
                }
                let sort = LogicalPlan::Sort(Sort { expr, input, fetch });
                if changed { Transformed::yes(sort) } else { Transformed::no(sort) }
            }
            LogicalPlan::Window(w) => {
                let mut all = vec![];
                for e in &w.window_expr {
                    all.push(windowed(e, w.input.schema())?);
                }
                match all == w.window_expr {
                    true => Transformed::no(LogicalPlan::Window(w)),
                    false => Transformed::yes(LogicalPlan::Window(Window::try_new(all, w.input)?)),
                }
            }
            other => Transformed::no(other),
        })
    })
    .map(|t| t.data)
}

/// Groups of several sets of keys. The keys get one form in the rows below, so the names of the keys and `grouping(key)` do not change.
fn sets(a: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut keys = std::collections::HashSet::new();
    for e in &a.group_expr {
        e.apply(|e| {
            if let Expr::Column(c) = e {
                keys.insert(c.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    let mut changed = false;
    let columns = a.input.schema().iter().map(|(table, f)| {
        let column = datafusion::common::Column::from((table, f));
        match keys.contains(&column) && has_floats(f.data_type()) {
            true => {
                changed = true;
                one_form(Expr::Column(column)).alias_qualified(table.cloned(), f.name())
            }
            false => Expr::Column(column),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    let input = match changed {
        true => Arc::new(LogicalPlan::Projection(Projection::try_new(columns, a.input)?)),
        false => a.input,
    };
    // As in Spark, an input without rows gives no groups, also for the empty set of keys. The planner would return one group for that set.
    // The number of the set is the planner's own column, and not part of the result: `grouping` replaces it.
    let own = |f: &FieldRef| f.name() != Aggregate::INTERNAL_GROUPING_ID;
    let outputs = a.schema.iter().filter(|(_, f)| own(f));
    let outputs = outputs.map(|f| Expr::Column(datafusion::common::Column::from(f))).collect();
    let mut all = a.aggr_expr;
    all.push(datafusion::functions_aggregate::count::count_all().alias(ROWS));
    let groups = LogicalPlan::Aggregate(Aggregate::try_new(input, a.group_expr, all)?);
    let some = Expr::Column(datafusion::common::Column::from_name(ROWS)).gt(datafusion::logical_expr::lit(0i64));
    let groups = LogicalPlan::Filter(Filter::try_new(some, Arc::new(groups))?);
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(groups))?)))
}

/// The name of the column with the number of rows of a group.
const ROWS: &str = "__rows__";

/// The window function with its keys in one form. The name of the function's column does not change.
fn windowed(e: &Expr, schema: &DFSchema) -> Result<Expr> {
    let Expr::WindowFunction(f) = e else { return Ok(e.clone()) };
    let mut new = f.clone();
    let keys = new.params.order_by.iter_mut().map(|k| &mut k.expr).chain(&mut new.params.partition_by);
    let mut changed = false;
    for key in keys {
        if has_floats(&key.get_type(schema)?) {
            *key = one_form(key.clone());
            changed = true;
        }
    }
    Ok(if changed { Expr::WindowFunction(new).alias(e.schema_name().to_string()) } else { e.clone() })
}

pub(super) fn has_floats(t: &DataType) -> bool {
    match t {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Struct(fields) => fields.iter().any(|f| has_floats(f.data_type())),
        DataType::List(f) | DataType::Map(f, _) => has_floats(f.data_type()),
        _ => false,
    }
}

pub(super) fn one_form(expr: Expr) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(OneForm { signature }).call(vec![expr])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OneForm {
    signature: Signature,
}

impl ScalarUDFImpl for OneForm {
    fn name(&self) -> &str {
        "__one_form"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].clone().into_array(args.number_rows)?;
        Ok(ColumnarValue::Array(normalize(&values)))
    }
}
