//! The aggregates of one `agg(...)`: the distinct inner ones, and the expressions over them.

use super::aggregate::Finish;
use super::bind::{self, Binder};
use super::cast::implicit;
use super::coerce::{Param, is_float, is_int, is_number};
use super::ddl::{list_of, type_to_ddl};
use super::node::Typed;
use super::parse::{self, Ast, Function};
use super::{Aggregate, Bound, Dialect, datafusion_dialect, ordered};
use crate::error::did_you_mean;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate as df;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use std::sync::Arc;

/// Every aggregate, and how it is called.
pub(super) const AGGREGATES: &[(&str, &str)] = &[
    ("any", "any(condition)"),
    ("approx_count_distinct", "approx_count_distinct(expr)"),
    ("approx_percentile", "approx_percentile(expr, percentage[, accuracy])"),
    ("array_agg", "array_agg(expr)"),
    ("avg", "avg([DISTINCT] expr)"),
    ("bit_and", "bit_and(expr)"),
    ("bit_or", "bit_or(expr)"),
    ("bit_xor", "bit_xor(expr)"),
    ("bool_and", "bool_and(condition)"),
    ("bool_or", "bool_or(condition)"),
    ("collect_list", "collect_list(expr)"),
    ("collect_set", "collect_set(expr)"),
    ("corr", "corr(a, b)"),
    ("count", "count(*), count([DISTINCT] expr), count(a, b, …)"),
    ("count_if", "count_if(condition)"),
    ("covar_pop", "covar_pop(a, b)"),
    ("covar_samp", "covar_samp(a, b)"),
    ("every", "every(condition)"),
    ("max", "max(expr)"),
    ("mean", "mean([DISTINCT] expr)"),
    ("median", "median(expr)"),
    ("min", "min(expr)"),
    ("percentile", "percentile(expr, percentage)"),
    ("percentile_approx", "percentile_approx(expr, percentage[, accuracy])"),
    ("some", "some(condition)"),
    ("std", "std(expr)"),
    ("stddev", "stddev(expr)"),
    ("stddev_pop", "stddev_pop(expr)"),
    ("stddev_samp", "stddev_samp(expr)"),
    ("sum", "sum([DISTINCT] expr)"),
    ("var_pop", "var_pop(expr)"),
    ("var_samp", "var_samp(expr)"),
    ("variance", "variance(expr)"),
];

/// A list of aggregates as the user typed it, each possibly an expression over aggregates.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// The distinct inner ones: `sum(a) / count(*)` has two.
    pub aggregates: Vec<Aggregate>,
    pub(super) inner: SchemaRef,
    pub(super) outer: Vec<Bound>,
}

impl Aggregation {
    pub fn has_functions(&self) -> bool {
        false
    }

    /// The output columns.
    pub fn outputs(&self) -> Vec<Field> {
        self.outer.iter().map(|b| Field::new(&b.name, b.data_type.clone(), b.nullable)).collect()
    }

    /// From the finished inner results (in order of `aggregates`) to the output columns.
    pub fn project(&self, inner: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.inner.clone(), inner.to_vec(), &options)?;
        self.outer.iter().map(|b| b.evaluate(&batch)).collect()
    }

    pub(super) fn check_names(self) -> Result<Self> {
        let mut seen = std::collections::HashSet::new();
        for bound in &self.outer {
            if !seen.insert(bound.name.to_lowercase()) {
                return Err(Error::schema(format!(
                    "two aggregates would be named '{}'; give one an alias with AS",
                    bound.name
                )));
            }
        }
        Ok(self)
    }
}

pub(super) fn inner_schema(aggregates: &[Aggregate]) -> SchemaRef {
    let field = |(i, a): (usize, &Aggregate)| Field::new(format!("{i}: {}", a.name), a.data_type.clone(), a.nullable);
    Arc::new(Schema::new(aggregates.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// Binds `agg(...)`'s items: (alias, text). Those without an alias are named as Spark names them.
pub fn bind_aggregation(
    items: &[(Option<String>, String)],
    schema: &SchemaRef,
    dialect: Dialect,
) -> Result<Aggregation> {
    if dialect == Dialect::DataFusion {
        return datafusion_dialect::bind_aggregation(items, schema)?.check_names();
    }
    let mut aggregates: Vec<Aggregate> = vec![];
    let mut outer = vec![];
    for (alias, text) in items {
        let place = |e: Error| if e.message.contains(text.as_str()) { e } else { e.context(format!("'{text}'")) };
        let mut parsed = parse::items(text)?;
        if parsed.len() > 1 && alias.is_some() {
            return Err(Error::schema(format!("'{text}' is {} aggregates where one is wanted", parsed.len())));
        }
        for item in parsed.drain(..) {
            let mut take = |function: &Function| take_aggregate(function, schema, &mut aggregates);
            let mut binder = Binder { schema, aggregates: Some(&mut take) };
            let typed = binder.expr(&item.ast).map_err(place)?;
            let name = alias.clone().or(item.alias).unwrap_or_else(|| bind::output_name(&item.ast, &typed));
            outer.push(bind::finish(name, typed)?);
        }
    }
    Aggregation { inner: inner_schema(&aggregates), aggregates, outer }.check_names()
}

/// The column of the inner results that holds this aggregate; an equal one is shared.
fn take_aggregate(function: &Function, schema: &SchemaRef, all: &mut Vec<Aggregate>) -> Result<Typed> {
    let aggregate = aggregate(function, schema)?;
    let index = match all.iter().position(|a| a.sql == aggregate.sql) {
        Some(index) => index,
        None => {
            all.push(aggregate);
            all.len() - 1
        }
    };
    let a = &all[index];
    Ok(Typed {
        expr: Arc::new(Column::new(&format!("{index}: {}", a.name), index)),
        data_type: a.data_type.clone(),
        nullable: a.nullable,
        sql: a.sql.clone(),
    })
}

/// An aggregate before it is built.
struct Plan {
    udaf: Arc<AggregateUDF>,
    args: Vec<Typed>,
    data_type: DataType,
    nullable: bool,
    finish: Finish,
    grows: bool,
}

impl Plan {
    fn new(udaf: Arc<AggregateUDF>, args: Vec<Typed>, data_type: DataType) -> Self {
        Self { udaf, args, data_type, nullable: true, finish: Finish::Cast, grows: false }
    }
    fn not_null(mut self) -> Self {
        self.nullable = false;
        self
    }
    fn grows(mut self) -> Self {
        self.grows = true;
        self
    }
    fn finish(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }
}

fn aggregate(function: &Function, schema: &SchemaRef) -> Result<Aggregate> {
    let name = function.name.as_str();
    let mut binder = Binder::new(schema);
    let star = function.args == [Ast::Star];
    if star && name != "count" {
        return Err(Error::schema(format!("{name}(*) does not exist; only count takes '*'")));
    }
    let mut args =
        if star { vec![Typed::literal(ScalarValue::Int32(Some(1)), "1")] } else { binder.exprs(&function.args)? };
    let shown: Vec<&str> = args.iter().map(|a| a.sql.as_str()).collect();
    let mut sql = format!("{name}({}{})", if function.distinct { "DISTINCT " } else { "" }, shown.join(", "));
    // Spark writes arguments that are not given, and collect_list for array_agg.
    match (name, args.len()) {
        ("percentile", 2) => sql = format!("percentile({}, 1)", shown.join(", ")),
        ("approx_percentile" | "percentile_approx", 2) => sql = format!("{name}({}, 10000)", shown.join(", ")),
        ("array_agg", _) => sql = sql.replacen("array_agg", "collect_list", 1),
        _ => {}
    }
    let filter = match &function.filter {
        None => None,
        Some(filter) => {
            let filter = bind::condition(binder.expr(filter)?)?;
            sql = format!("{sql} FILTER (WHERE {})", filter.sql);
            Some(filter.expr)
        }
    };
    let distinct = function.distinct;
    let takes_distinct = matches!(
        name,
        "count"
            | "sum"
            | "avg"
            | "mean"
            | "collect_set"
            | "min"
            | "max"
            | "bool_and"
            | "bool_or"
            | "every"
            | "some"
            | "any"
    );
    if distinct && !takes_distinct {
        return Err(Error::schema(format!("{name}: DISTINCT is not supported here")));
    }
    if name == "count" && distinct {
        // Equal floats have one form: NaN is NaN and -0.0 is 0.0.
        args = args.into_iter().map(normalised).collect();
    }
    let plan = plan(name, args, distinct)?;
    let distinct = distinct && matches!(name, "count" | "sum" | "avg" | "mean") || name == "collect_set";
    let grows = plan.grows || distinct;
    let arguments: Vec<_> = plan.args.iter().map(|a| a.expr.clone()).collect();
    let mut builder = AggregateExprBuilder::new(plan.udaf, arguments.clone())
        .schema(schema.clone())
        .alias(&sql)
        .with_distinct(distinct);
    if plan.finish != Finish::Cast && plan.finish != Finish::Ordered {
        builder = builder.ignore_nulls();
    }
    let built = builder.build().map_err(|e| Error::schema(format!("{sql}: {}", e.find_root())))?;
    Ok(Aggregate {
        name: sql.clone(),
        sql,
        data_type: plan.data_type,
        nullable: plan.nullable,
        function: Arc::new(built),
        arguments,
        filter,
        order_by: vec![],
        grows,
        finish: plan.finish,
    })
}

/// NaNs and zeros in one form, so that they are equal to DISTINCT.
fn normalised(arg: Typed) -> Typed {
    use super::kernel::nums;
    use arrow::datatypes::{Float32Type, Float64Type};
    let sql = arg.sql.clone();
    match arg.data_type {
        DataType::Float64 => Typed::call(
            vec![arg],
            DataType::Float64,
            false,
            sql,
            Arc::new(|a| {
                let x = a.num::<Float64Type>(0)?;
                nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(|x| if x.is_nan() { f64::NAN } else { x + 0.0 })))
            }),
        ),
        DataType::Float32 => Typed::call(
            vec![arg],
            DataType::Float32,
            false,
            sql,
            Arc::new(|a| {
                let x = a.num::<Float32Type>(0)?;
                nums::<Float32Type>(a.rows, |i| Ok(x.get(i).map(|x| if x.is_nan() { f32::NAN } else { x + 0.0 })))
            }),
        ),
        _ => arg,
    }
}

fn plan(name: &str, mut args: Vec<Typed>, distinct: bool) -> Result<Plan> {
    let usage = AGGREGATES.iter().find(|(n, _)| *n == name).map_or("", |(_, usage)| usage);
    let wrong = |why: String| Error::schema(format!("{name}: {why}; it is called as {usage}"));
    let counts = match name {
        "count" => 1..=usize::MAX,
        "corr" | "covar_pop" | "covar_samp" | "percentile" => 2..=2,
        "approx_percentile" | "percentile_approx" => 2..=3,
        _ => 1..=1,
    };
    if !counts.contains(&args.len()) {
        return Err(wrong(format!("{} arguments given", args.len())));
    }
    let bigint = DataType::Int64;
    let double = DataType::Float64;
    if name == "count" {
        if distinct {
            if args.len() > 1 {
                return Err(wrong("DISTINCT of several columns is not supported".into()));
            }
            return Ok(Plan::new(df::count::count_udaf(), args, bigint).not_null());
        }
        return Ok(Plan::new(df::count::count_udaf(), vec![counted(args)?], bigint).not_null());
    }
    let rest = args.split_off(1);
    let first = args.remove(0);
    let t = first.data_type.clone();
    let to_double = |typed: Typed| Param::Double.take(name, 0, typed);
    let doubles = |udaf, first: Typed| -> Result<Plan> { Ok(Plan::new(udaf, vec![to_double(first)?], double.clone())) };
    let truth = |udaf, first: Typed| -> Result<Plan> {
        Ok(Plan::new(udaf, vec![Param::Bool.take(name, 0, first)?], DataType::Boolean))
    };
    Ok(match name {
        "count_if" => {
            let condition = bind::condition(first)?;
            let one = Typed::literal(ScalarValue::Int32(Some(1)), "1");
            let hit = bind::choose(vec![condition], vec![one], "hit".into())?;
            Plan::new(df::count::count_udaf(), vec![hit], bigint).not_null()
        }
        "sum" => match t {
            // In i128, so that an overflow of BIGINT is seen at the end.
            DataType::Int64 => {
                let wide = implicit(first, &DataType::Decimal128(20, 0))?;
                Plan::new(df::sum::sum_udaf(), vec![wide], bigint)
            }
            t if is_int(&t) => Plan::new(df::sum::sum_udaf(), vec![implicit(first, &bigint)?], bigint),
            DataType::Decimal128(p, s) => {
                Plan::new(df::sum::sum_udaf(), vec![first], DataType::Decimal128((p + 10).min(38), s))
            }
            _ => doubles(df::sum::sum_udaf(), first)?,
        },
        "avg" | "mean" => match t {
            DataType::Decimal128(p, s) if p <= 33 => {
                if distinct {
                    return Err(wrong("DISTINCT of DECIMAL is not supported; use CAST(… AS DOUBLE)".into()));
                }
                // DataFusion cuts where Spark rounds half up: one digit more tells the two apart.
                let wide = implicit(first, &DataType::Decimal128(p + 1, s + 1))?;
                Plan::new(df::average::avg_udaf(), vec![wide], DataType::Decimal128(p + 4, s + 4))
            }
            DataType::Decimal128(..) => {
                return Err(wrong("DECIMAL of more than 33 digits is not supported; use CAST".into()));
            }
            _ => doubles(df::average::avg_udaf(), first)?,
        },
        "min" | "max" => {
            if t.is_nested() {
                return Err(wrong(format!("{} has no order here", type_to_ddl(&t))));
            }
            let udaf = if name == "min" { df::min_max::min_udaf() } else { df::min_max::max_udaf() };
            if t == DataType::Null {
                return Err(wrong("NULL has no type; use CAST".into()));
            }
            if is_float(&t) {
                // DataFusion's do not know that NaN is the greatest.
                return Ok(Plan::new(udaf, vec![ordered::key(first)], t).finish(Finish::Ordered));
            }
            Plan::new(udaf, vec![first], t)
        }
        "stddev" | "std" | "stddev_samp" => doubles(df::stddev::stddev_udaf(), first)?,
        "stddev_pop" => doubles(df::stddev::stddev_pop_udaf(), first)?,
        "variance" | "var_samp" => doubles(df::variance::var_samp_udaf(), first)?,
        "var_pop" => doubles(df::variance::var_pop_udaf(), first)?,
        "corr" | "covar_pop" | "covar_samp" => {
            let second = rest.into_iter().next().ok_or_else(|| wrong("two arguments are wanted".into()))?;
            let udaf = match name {
                "corr" => df::correlation::corr_udaf(),
                "covar_pop" => df::covariance::covar_pop_udaf(),
                _ => df::covariance::covar_samp_udaf(),
            };
            Plan::new(udaf, vec![to_double(first)?, to_double(second)?], double)
        }
        "bool_and" | "every" => truth(df::bool_and_or::bool_and_udaf(), first)?,
        "bool_or" | "some" | "any" => truth(df::bool_and_or::bool_or_udaf(), first)?,
        "bit_and" | "bit_or" | "bit_xor" => {
            if !is_int(&t) {
                return Err(wrong("a whole number is wanted".into()));
            }
            let udaf = match name {
                "bit_and" => df::bit_and_or_xor::bit_and_udaf(),
                "bit_or" => df::bit_and_or_xor::bit_or_udaf(),
                _ => df::bit_and_or_xor::bit_xor_udaf(),
            };
            Plan::new(udaf, vec![first], t)
        }
        "median" | "percentile" => {
            // DataFusion's percentile_cont rounds its interpolation.
            let p = if name == "median" { 0.5 } else { percentage(&rest, &wrong)? };
            doubles(df::array_agg::array_agg_udaf(), first)?.grows().finish(Finish::Interpolated(p))
        }
        "approx_percentile" | "percentile_approx" => {
            // Exact: a value of the data that leaves no more than that share below it.
            let p = percentage(&rest, &wrong)?;
            if !is_number(&t) && !matches!(t, DataType::Date32 | DataType::Timestamp(..)) {
                return Err(wrong("a number, a date or a timestamp is wanted".into()));
            }
            Plan::new(df::array_agg::array_agg_udaf(), vec![first], t).grows().finish(Finish::Percentile(p))
        }
        "approx_count_distinct" => {
            Plan::new(df::approx_distinct::approx_distinct_udaf(), vec![normalised(first)], bigint).not_null()
        }
        "collect_list" | "array_agg" | "collect_set" => {
            if t == DataType::Null {
                return Err(wrong("NULL has no type; use CAST".into()));
            }
            let first = if name == "collect_set" { normalised(first) } else { first };
            Plan::new(df::array_agg::array_agg_udaf(), vec![first], list_of(t))
                .grows()
                .not_null()
                .finish(Finish::EmptyList)
        }
        _ => {
            let names = AGGREGATES.iter().map(|(n, _)| *n);
            return Err(Error::schema(format!("'{name}' is not an aggregate.{}", did_you_mean(name, names))));
        }
    })
}

/// One argument that is NULL when any of them is.
fn counted(mut args: Vec<Typed>) -> Result<Typed> {
    if args.len() == 1 {
        return Ok(args.remove(0));
    }
    let mut tests = args.into_iter().map(|a| bind::is_null(a, true));
    let first = tests.next().ok_or_else(|| Error::internal("count of nothing"))?;
    let all = tests.try_fold(first, |all, test| bind::logic(true, all, test))?;
    bind::choose(vec![all], vec![Typed::literal(ScalarValue::Int32(Some(1)), "1")], "counted".into())
}

fn percentage(rest: &[Typed], wrong: &dyn Fn(String) -> Error) -> Result<f64> {
    let constant =
        rest.first().and_then(|p| implicit(p.clone(), &DataType::Float64).ok()).and_then(|p| p.constant().cloned());
    match constant {
        Some(ScalarValue::Float64(Some(p))) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err(wrong("the percentage must be a constant between 0 and 1".into())),
    }
}
