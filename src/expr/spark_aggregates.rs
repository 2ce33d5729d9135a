//! The aggregates of the Databricks dialect, with their meaning in Spark, on DataFusion's accumulators.

use super::aggregate::{Aggregate, Finish, Plan};
pub(super) use super::aggregate_list::AGGREGATES;
use super::aggregate_list::usage;
use super::bind::Binder;
use super::build;
use super::cast::implicit;
use super::coerce::{Param, is_float, is_int, is_number, is_timestamp};
use super::ddl::{list_of, type_to_ddl};
use super::float_order::{self, normalised};
use super::fold::Fold;
use super::kernel::nums;
use super::moments;
use super::node::Typed;
use super::parse::{Ast, Function};
use super::shares::{Shares, percentage, percentages};
use super::sorted_rows::{self, Key, Pick, Rows, Skip};
use crate::error::did_you_mean;
use crate::{Error, Result};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate as df;
use std::sync::Arc;

/// Aggregates whose result depends on the order of the rows, or which may be given an order.
const ORDERED: &[&str] = &[
    "any_value",
    "array_agg",
    "collect_list",
    "first",
    "first_value",
    "last",
    "last_value",
    "listagg",
    "nth_value",
    "string_agg",
];

/// Binds one call of an aggregate.
pub(super) fn bind(function: &Function, schema: &SchemaRef) -> Result<Aggregate> {
    let name = function.name.as_str();
    let mut binder = Binder::new(schema);
    let star = function.args == [Ast::Star];
    if star && name != "count" {
        return Err(Error::schema(format!("{name}(*) does not exist; only count takes '*'")));
    }
    check_clauses(function)?;
    if function.within_group && matches!(name, "percentile_cont" | "percentile_disc" | "mode") {
        return within_group(function, schema);
    }
    if matches!(name, "percentile" | "percentile_approx" | "approx_percentile")
        && let Some(Ast::Function(shares)) = function.args.get(1)
        && shares.name == "array"
    {
        let shares = binder.exprs(&shares.args)?;
        let shown: Vec<&str> = shares.iter().map(|s| s.sql.as_str()).collect();
        let sql = format!("array({})", shown.join(", "));
        let values = percentages(&shares, &|why| Error::schema(format!("{name}: {why}. Call it as {}.", usage(name))))?;
        // The place of the argument is kept by a constant.
        let mut args = binder.exprs(&function.args[..1])?;
        args.push(Typed::literal(ScalarValue::Float64(Some(0.0)), sql));
        args.extend(binder.exprs(&function.args[2..])?);
        let all = Shares { values, list: true, descending: false, discrete: false };
        return bind_over(function, args, Some(all), schema);
    }
    let args =
        if star { vec![Typed::literal(ScalarValue::Int32(Some(1)), "1")] } else { binder.exprs(&function.args)? };
    bind_over(function, args, None, schema)
}

/// `percentile_cont(p) WITHIN GROUP (ORDER BY x)` and similar calls.
fn within_group(function: &Function, schema: &SchemaRef) -> Result<Aggregate> {
    let name = function.name.as_str();
    let wrong = |why: String| Error::schema(format!("{name}: {why}. Call it as {}.", usage(name)));
    let mut binder = Binder::new(schema);
    let [order] = &function.order_by[..] else { return Err(wrong("ORDER BY takes one expression".into())) };
    let value = binder.expr(&order.ast)?;
    let shown_value = value.sql.clone();
    let lists = |value: Typed, data_type: DataType, finish: Finish| {
        Plan::new(df::array_agg::array_agg_udaf(), vec![value], data_type).grows().ignore_nulls().finish(finish)
    };
    let (plan, sql) = if name == "mode" {
        if !function.args.is_empty() {
            return Err(wrong("with WITHIN GROUP it has no argument".into()));
        }
        // Spark shows the call in this way, with the opposite direction.
        let direction = if order.descending { "" } else { " DESC" };
        let t = value.data_type.clone();
        let sql = format!("mode() WITHIN GROUP (ORDER BY {shown_value}{direction})");
        (lists(value, t, Finish::Mode { greatest: order.descending }), sql)
    } else {
        let [share] = &function.args[..] else { return Err(wrong("one percentage is expected".into())) };
        if !is_number(&value.data_type) {
            return Err(wrong(format!("{} is not a number", value.sql)));
        }
        let (shares, list, shown) = match share {
            Ast::Function(array) if array.name == "array" => {
                let all = binder.exprs(&array.args)?;
                let shown: Vec<&str> = all.iter().map(|s| s.sql.as_str()).collect();
                let shown = format!("array({})", shown.join(", "));
                (all, true, shown)
            }
            one => {
                let one = binder.expr(one)?;
                let shown = one.sql.clone();
                (vec![one], false, shown)
            }
        };
        let values = percentages(&shares, &|why| wrong(why))?;
        let shares = Shares { values, list, descending: order.descending, discrete: name == "percentile_disc" };
        let double = implicit(value, &DataType::Float64)?;
        let to = if list { list_of(DataType::Float64) } else { DataType::Float64 };
        let direction = if order.descending { " DESC" } else { "" };
        let sql = format!("{name}({shown}) WITHIN GROUP (ORDER BY {shown_value}{direction})");
        (lists(double, to, Finish::Interpolated(shares)), sql)
    };
    let (sql, filter) = match &function.filter {
        None => (sql, None),
        Some(filter) => {
            let filter = build::condition(binder.expr(filter)?)?;
            (format!("{sql} FILTER (WHERE {})", filter.sql), Some(filter.expr))
        }
    };
    plan.build(sql, filter, schema)
}

/// As `bind`, with its arguments bound already, and the shares of a percentile where they were written as an array.
pub(super) fn bind_over(
    function: &Function,
    mut args: Vec<Typed>,
    shares: Option<Shares>,
    schema: &SchemaRef,
) -> Result<Aggregate> {
    let name = function.name.as_str();
    let mut binder = Binder::new(schema);
    if let Some(v) = args.iter().find(|a| super::variant::is(&a.data_type) && name != "count") {
        return Err(Error::schema(format!("{name}: {} is VARIANT. Use to_json or CAST.", v.sql)));
    }
    let keys = keys(function, &mut binder)?;
    let mut sql = text(function, &args, &keys);
    let filter = match &function.filter {
        None => None,
        Some(filter) => {
            let filter = build::condition(binder.expr(filter)?)?;
            sql = format!("{sql} FILTER (WHERE {})", filter.sql);
            Some(filter.expr)
        }
    };
    let plan = if ORDERED.contains(&name) && (!keys.is_empty() || !matches!(name, "array_agg" | "collect_list")) {
        over_order(function, args, keys, schema)?
    } else {
        if name == "count" && function.distinct {
            // Equal floats get one form: all NaNs are equal, and -0.0 is 0.0.
            args = args.into_iter().map(normalised).collect();
        }
        let mut made = plan(name, args, function.distinct)?;
        if let Some(shares) = shares {
            made.data_type = list_of(made.data_type);
            made.finish = match made.finish {
                Finish::Interpolated(_) => Finish::Interpolated(shares),
                _ => Finish::Percentile(shares),
            };
        }
        made
    };
    plan.build(sql, filter, schema)
}

pub(super) fn check_count(function: &Function, wanted: usize) -> Result<()> {
    let (name, given) = (function.name.as_str(), function.args.len());
    if given == wanted {
        return Ok(());
    }
    Err(Error::schema(format!("{name}: {given} arguments given. Call it as {}.", usage(name))))
}

/// Refuses clauses that have no meaning for the aggregate.
pub(super) fn check_clauses(function: &Function) -> Result<()> {
    let name = function.name.as_str();
    let wrong = |why: &str| Err(Error::schema(format!("{name}: {why}. Call it as {}.", usage(name))));
    let takes_distinct = match name {
        "count" | "sum" | "avg" | "mean" | "try_sum" | "try_avg" | "collect_set" | "min" | "max" | "bool_and"
        | "bool_or" | "every" | "some" | "any" | "listagg" | "string_agg" => true,
        "array_agg" | "collect_list" => !function.order_by.is_empty(),
        _ => false,
    };
    if function.distinct && !takes_distinct {
        return wrong("DISTINCT is not supported here");
    }
    let ordered_set = matches!(name, "percentile_cont" | "percentile_disc" | "mode");
    if matches!(name, "percentile_cont" | "percentile_disc") && !function.within_group {
        return wrong("WITHIN GROUP is missing");
    }
    if function.within_group && !ordered_set && !matches!(name, "listagg" | "string_agg") {
        return wrong("WITHIN GROUP is not supported here");
    }
    let takes_order = ORDERED.contains(&name) || ordered_set && function.within_group;
    if !function.order_by.is_empty() && !takes_order {
        return wrong("ORDER BY changes nothing here, leave it out");
    }
    let takes_nulls = matches!(name, "any_value" | "first" | "first_value" | "last" | "last_value" | "nth_value");
    match function.ignore_nulls {
        Some(true) if !takes_nulls => wrong("IGNORE NULLS is not supported here"),
        Some(false) if !takes_nulls => wrong("RESPECT NULLS is not supported here"),
        _ => Ok(()),
    }
}

fn keys(function: &Function, binder: &mut Binder) -> Result<Vec<Key>> {
    let key = |order: &super::parse::Order| {
        let options = SortOptions {
            descending: order.descending,
            // In Spark, NULL is the smallest value.
            nulls_first: order.nulls_first.unwrap_or(!order.descending),
        };
        Ok(Key { by: binder.expr(&order.ast)?, options })
    };
    function.order_by.iter().map(key).collect()
}

/// The call as Spark prints it, if Spark has it.
fn text(function: &Function, args: &[Typed], keys: &[Key]) -> String {
    let name = function.name.as_str();
    let mut shown: Vec<&str> = args.iter().map(|a| a.sql.as_str()).collect();
    let key = |key: &Key, full: bool| {
        let SortOptions { descending, nulls_first } = key.options;
        let direction = if descending { " DESC" } else { " ASC" };
        let nulls = if nulls_first { " NULLS FIRST" } else { " NULLS LAST" };
        let direction = if full || descending { direction } else { "" };
        let nulls = if full || nulls_first == descending { nulls } else { "" };
        format!("{}{direction}{nulls}", key.by.sql)
    };
    let order = |full: bool| keys.iter().map(|k| key(k, full)).collect::<Vec<_>>().join(", ");
    // Spark prints the defaults of arguments, and replaces an alias of a function by its name.
    let name = match (name, args.len()) {
        ("percentile", 2) => {
            shown.push("1");
            name
        }
        ("approx_percentile" | "percentile_approx", 2) => {
            shown.push("10000");
            name
        }
        ("listagg" | "string_agg", 1) => {
            shown.push("NULL");
            "listagg"
        }
        ("mode", 2) => return format!("mode() WITHIN GROUP (ORDER BY {} DESC)", args[0].sql),
        ("approx_count_distinct", 2) => {
            shown.pop();
            name
        }
        ("string_agg", _) => "listagg",
        ("array_agg", _) => "collect_list",
        ("any_value", 2) => {
            shown.pop();
            name
        }
        _ => name,
    };
    let distinct = if function.distinct { "DISTINCT " } else { "" };
    let shown = shown.join(", ");
    if keys.is_empty() {
        return format!("{name}({distinct}{shown})");
    }
    if name == "listagg" {
        return format!("listagg({distinct}{shown}) WITHIN GROUP (ORDER BY {})", order(true));
    }
    let nulls = if function.ignore_nulls == Some(true) { " IGNORE NULLS" } else { "" };
    format!("{name}({distinct}{shown} ORDER BY {}){nulls}", order(false))
}

/// Aggregates that need an order of the rows.
fn over_order(function: &Function, mut args: Vec<Typed>, keys: Vec<Key>, schema: &SchemaRef) -> Result<Plan> {
    let name = function.name.as_str();
    let wrong = |why: String| Error::schema(format!("{name}: {why}. Call it as {}.", usage(name)));
    let counts = match name {
        "nth_value" => 2..=2,
        "array_agg" | "collect_list" => 1..=1,
        _ => 1..=2,
    };
    if !counts.contains(&args.len()) {
        return Err(wrong(format!("{} arguments given", args.len())));
    }
    let second = if args.len() > 1 { args.pop() } else { None };
    let value = args.remove(0);
    if keys.is_empty() && name != "any_value" {
        return Err(Error::schema(needs_order(name, &value.sql, second.as_ref().map(|s| s.sql.as_str()), schema)));
    }
    let mut skip = match function.ignore_nulls {
        Some(true) => Skip::NullValue,
        _ => Skip::Nothing,
    };
    let pick = match name {
        "nth_value" => match second.as_ref().and_then(Typed::constant).map(|n| n.cast_to(&DataType::Int64)) {
            Some(Ok(ScalarValue::Int64(Some(n)))) if n > 0 => Pick::Rows(Rows::Nth(n)),
            _ => return Err(wrong("n must be a constant greater than 0".into())),
        },
        "array_agg" | "collect_list" => {
            skip = Skip::NullValue;
            Pick::Rows(Rows::List { or_null: false })
        }
        "listagg" | "string_agg" => {
            skip = Skip::NullValue;
            let value = Param::TextOrBytes.take(name, 0, value)?;
            let separator = separator(&value, second).map_err(|e| wrong(e.message))?;
            return sorted_rows::plan(Pick::Rows(Rows::Joined(separator)), value, keys, skip, function.distinct)
                .map_err(|e| wrong(e.message));
        }
        _ => {
            match second.as_ref().map(Typed::constant) {
                None | Some(Some(ScalarValue::Boolean(Some(false)))) => {}
                Some(Some(ScalarValue::Boolean(Some(true)))) => skip = Skip::NullValue,
                _ => return Err(wrong("whether NULLs are ignored must be true or false".into())),
            }
            // Any value is correct. The smallest value is always the same.
            if keys.is_empty() {
                skip = Skip::NullValue;
            }
            if name.starts_with("last") { Pick::Last } else { Pick::First }
        }
    };
    sorted_rows::plan(pick, value, keys, skip, function.distinct).map_err(|e| wrong(e.message))
}

/// The error of a call without an order: why it needs one, and how to write it.
fn needs_order(name: &str, value: &str, second: Option<&str>, schema: &SchemaRef) -> String {
    let time = schema.fields().iter().find(|f| is_timestamp(f.data_type())).or_else(|| schema.fields().first());
    let key = time.map_or("time", |f| f.name().as_str());
    let example = match name {
        "listagg" | "string_agg" => {
            format!("{name}({value}, '{}') WITHIN GROUP (ORDER BY {key})", second.unwrap_or(", "))
        }
        _ => {
            let second = second.map(|s| format!(", {s}")).unwrap_or_default();
            format!("{name}({value}{second} ORDER BY {key})")
        }
    };
    format!("{name}: the rows of a stream have no order, so the call needs an ORDER BY. Write it as {example}.")
}

fn separator(value: &Typed, separator: Option<Typed>) -> Result<Vec<u8>> {
    let Some(separator) = separator else { return Ok(vec![]) };
    let wanted = || Error::schema("the separator must be a constant of the same type");
    match implicit(separator, &value.data_type)?.constant() {
        Some(ScalarValue::Utf8(text)) => Ok(text.clone().unwrap_or_default().into_bytes()),
        Some(ScalarValue::Binary(bytes)) => Ok(bytes.clone().unwrap_or_default()),
        _ => Err(wanted()),
    }
}

/// `regr_r2` from its three sums. As in Spark 4.0, it is NULL where y does not vary, and 1 where x does not vary.
pub(super) fn r2(sums: [Typed; 3]) -> Typed {
    let sql = sums[0].sql.replacen("regr_sxx", "regr_r2", 1);
    of_sums(sums, sql, |xx, yy, xy| (yy != 0.0).then(|| if xx == 0.0 { 1.0 } else { xy * xy / xx / yy }))
}

/// `corr` from its three sums, which are taken about the means. DataFusion's own subtracts two sums of squares, which are nearly equal
/// where the values are far from zero. The result is NULL where one side does not vary.
pub(super) fn corr(sums: [Typed; 3], sql: String) -> Typed {
    of_sums(sums, sql, |xx, yy, xy| (xx != 0.0 && yy != 0.0).then(|| xy / (xx.sqrt() * yy.sqrt())))
}

/// The result of `value` over three sums about the means: of x squared, y squared, and x times y. NULL where one of them is NULL.
fn of_sums(sums: [Typed; 3], sql: String, value: fn(f64, f64, f64) -> Option<f64>) -> Typed {
    Typed::call(
        sums.into(),
        DataType::Float64,
        true,
        sql,
        Arc::new(move |a| {
            let (xx, yy, xy) = (a.num::<Float64Type>(0)?, a.num::<Float64Type>(1)?, a.num::<Float64Type>(2)?);
            nums::<Float64Type>(a.rows, |i| {
                let (Some(xx), Some(yy), Some(xy)) = (xx.get(i), yy.get(i), xy.get(i)) else { return Ok(None) };
                Ok(value(xx, yy, xy))
            })
        }),
    )
}

fn wide_decimal(arg: Typed, p: u8, s: i8) -> Typed {
    let to = DataType::Decimal256(p, s);
    let (sql, nullable, out) = (arg.sql.clone(), arg.nullable, to.clone());
    Typed::call(vec![arg], to, nullable, sql, Arc::new(move |a| Ok(arrow::compute::cast(&a.full(0)?, &out)?)))
}

fn plan(name: &str, mut args: Vec<Typed>, distinct: bool) -> Result<Plan> {
    let wrong = |why: String| Error::schema(format!("{name}: {why}. Call it as {}.", usage(name)));
    let counts = match name {
        "count" => 1..=usize::MAX,
        "covar_pop" | "covar_samp" | "percentile" | "max_by" | "min_by" => 2..=2,
        name if name.starts_with("regr_") => 2..=2,
        "approx_percentile" | "percentile_approx" => 2..=3,
        "mode" | "approx_count_distinct" => 1..=2,
        _ => 1..=1,
    };
    if !counts.contains(&args.len()) {
        return Err(wrong(format!("{} arguments given", args.len())));
    }
    let bigint = DataType::Int64;
    let double = DataType::Float64;
    if name == "count" {
        if distinct {
            let args = if args.len() > 1 { vec![sorted_rows::together(args)?] } else { args };
            return Ok(Plan { distinct, ..Plan::new(df::count::count_udaf(), args, bigint).not_null() });
        }
        return Ok(Plan::new(df::count::count_udaf(), vec![counted(args)?], bigint).not_null());
    }
    match name {
        "try_sum" | "try_avg" => {
            let made = plan(&name[4..], args, distinct).map_err(|e| wrong(e.message))?;
            let finish = if matches!(made.finish, Finish::Cast) { Finish::Try } else { made.finish };
            return Ok(Plan { finish, nullable: true, ..made });
        }
        "regr_count" => {
            for (i, arg) in args.iter().enumerate() {
                Param::Number.take(name, i, arg.clone())?;
            }
            return Ok(Plan::new(df::count::count_udaf(), vec![counted(args)?], bigint).not_null());
        }
        "regr_avgx" | "regr_avgy" => {
            args = args.into_iter().enumerate().map(|(i, a)| Param::Number.take(name, i, a)).collect::<Result<_>>()?;
            let averaged = args[usize::from(name == "regr_avgx")].clone();
            let both = build::logic(true, build::is_null(args.remove(0), true), build::is_null(args.remove(0), true))?;
            let sql = averaged.sql.clone();
            return plan("avg", vec![build::choose(vec![both], vec![averaged], sql)?], false);
        }
        _ => {}
    }
    let rest = args.split_off(1);
    let first = args.remove(0);
    let t = first.data_type.clone();
    let to_double = |typed: Typed| Param::Double.take(name, 0, typed);
    let doubles = |udaf, first: Typed| -> Result<Plan> { Ok(Plan::new(udaf, vec![to_double(first)?], double.clone())) };
    let truth = |udaf, first: Typed| -> Result<Plan> {
        Ok(Plan::new(udaf, vec![Param::Bool.take(name, 0, first)?], DataType::Boolean))
    };
    let plan = match name {
        "count_if" => {
            let condition = build::condition(first)?;
            let one = Typed::literal(ScalarValue::Int32(Some(1)), "1");
            let hit = build::choose(vec![condition], vec![one], "hit".into())?;
            Plan::new(df::count::count_udaf(), vec![hit], bigint).not_null()
        }
        "sum" => match t {
            // The sum has 128 bits, so that an overflow of BIGINT shows at the end.
            DataType::Int64 => {
                let wide = implicit(first.clone(), &DataType::Decimal128(20, 0))?;
                Plan::new(df::sum::sum_udaf(), vec![wide], bigint).folds(Fold::Sum, first)
            }
            t if is_int(&t) => {
                let wide = implicit(first.clone(), &bigint)?;
                Plan::new(df::sum::sum_udaf(), vec![wide], bigint).folds(Fold::Sum, first)
            }
            DataType::Decimal128(p, s) => {
                // DataFusion's sum wraps around. For up to 28 digits, 128 bits have room for more than ten billion rows. Other sums
                // have 256 bits, so that only the sum itself can be too large, whatever the order of the rows.
                let plan = match p {
                    ..=28 => Plan::new(df::sum::sum_udaf(), vec![first], DataType::Null),
                    _ => Plan::new(df::sum::sum_udaf(), vec![wide_decimal(first, p, s)], DataType::Null),
                };
                Plan { data_type: DataType::Decimal128((p + 10).min(38), s), ..plan }
            }
            _ => doubles(df::sum::sum_udaf(), if distinct { normalised(first) } else { first })?,
        },
        // Different whole numbers may become equal doubles: the whole numbers decide what is distinct.
        "avg" | "mean" if distinct && t == DataType::Int64 => {
            Plan::new(df::array_agg::array_agg_udaf(), vec![first], double).grows().ignore_nulls().finish(Finish::Mean)
        }
        "avg" | "mean" => match t {
            DataType::Decimal128(p, s) if p <= 33 => {
                if distinct {
                    return Err(wrong("DISTINCT of DECIMAL is not supported. Use CAST(… AS DOUBLE)".into()));
                }
                // DataFusion truncates, and Spark rounds half up. One more digit is enough to round it here.
                let wide = implicit(first, &DataType::Decimal128(p + 1, s + 1))?;
                Plan::new(df::average::avg_udaf(), vec![wide], DataType::Decimal128(p + 4, s + 4))
            }
            DataType::Decimal128(..) => {
                return Err(wrong("DECIMAL of more than 33 digits is not supported. Use CAST".into()));
            }
            _ => doubles(df::average::avg_udaf(), if distinct { normalised(first) } else { first })?,
        },
        "min" | "max" => {
            if !super::lists::is_ordered(&t) {
                return Err(wrong(format!("{} has no order", type_to_ddl(&t))));
            }
            if t.is_nested() {
                let key = Key { by: first.clone(), options: SortOptions::default() };
                let pick = if name == "min" { Pick::First } else { Pick::Last };
                return sorted_rows::plan(pick, first, vec![key], Skip::NullKey, false).map_err(|e| wrong(e.message));
            }
            let udaf = if name == "min" { df::min_max::min_udaf() } else { df::min_max::max_udaf() };
            if t == DataType::Null {
                return Err(wrong("NULL has no type. Use CAST".into()));
            }
            if is_float(&t) {
                // In DataFusion's own min and max, NaN is not the greatest value.
                let fold = if name == "min" { Fold::Least } else { Fold::Greatest };
                let key = float_order::key(first.clone());
                return Ok(Plan::new(udaf, vec![key], t).finish(Finish::Ordered).folds(fold, first));
            }
            Plan::new(udaf, vec![first], t)
        }
        "stddev" | "std" | "stddev_samp" => doubles(df::stddev::stddev_udaf(), first)?,
        "stddev_pop" => doubles(df::stddev::stddev_pop_udaf(), first)?,
        "variance" | "var_samp" => doubles(df::variance::var_samp_udaf(), first)?,
        "var_pop" => doubles(df::variance::var_pop_udaf(), first)?,
        "covar_pop" | "covar_samp" => {
            let second = rest.into_iter().next().ok_or_else(|| wrong("two arguments are expected".into()))?;
            let udaf = match name {
                "covar_pop" => df::covariance::covar_pop_udaf(),
                _ => df::covariance::covar_samp_udaf(),
            };
            Plan::new(udaf, vec![to_double(first)?, to_double(second)?], double)
        }
        "regr_slope" | "regr_intercept" | "regr_sxx" | "regr_syy" | "regr_sxy" => {
            let second = rest.into_iter().next().ok_or_else(|| wrong("two arguments are expected".into()))?;
            let udaf = match name {
                "regr_slope" => df::regr::regr_slope_udaf(),
                "regr_intercept" => df::regr::regr_intercept_udaf(),
                "regr_sxx" => df::regr::regr_sxx_udaf(),
                "regr_syy" => df::regr::regr_syy_udaf(),
                _ => df::regr::regr_sxy_udaf(),
            };
            Plan::new(udaf, vec![to_double(first)?, to_double(second)?], double)
        }
        "max_by" | "min_by" => {
            let by = rest.into_iter().next().ok_or_else(|| wrong("two arguments are expected".into()))?;
            let keys = vec![Key { by, options: SortOptions::default() }];
            let pick = if name == "max_by" { Pick::Last } else { Pick::First };
            sorted_rows::plan(pick, first, keys, Skip::NullKey, false).map_err(|e| wrong(e.message))?
        }
        "bool_and" | "every" => truth(df::bool_and_or::bool_and_udaf(), first)?,
        "bool_or" | "some" | "any" => truth(df::bool_and_or::bool_or_udaf(), first)?,
        "bitmap_construct_agg" | "bitmap_or_agg" => {
            let to = if name == "bitmap_or_agg" { DataType::Binary } else { bigint };
            let value = match (&t, &to) {
                (DataType::Binary | DataType::Null, DataType::Binary) => implicit(first, &to)?,
                (_, DataType::Binary) => return Err(wrong(format!("{} is not BINARY", first.sql))),
                _ => Param::Big.take(name, 0, first)?,
            };
            let list = Plan::new(df::array_agg::array_agg_udaf(), vec![value], DataType::Binary);
            list.grows().ignore_nulls().not_null().finish(Finish::Bitmap)
        }
        "bit_and" | "bit_or" | "bit_xor" => {
            if !is_int(&t) {
                return Err(wrong("a whole number is expected".into()));
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
            let shares = Finish::Interpolated(Shares::one(p));
            doubles(df::array_agg::array_agg_udaf(), first)?.grows().ignore_nulls().finish(shares)
        }
        "approx_percentile" | "percentile_approx" => {
            // Exact: the result is a value of the data, with at most this share of the values below it.
            let p = percentage(&rest, &wrong)?;
            if !is_number(&t) && !matches!(t, DataType::Date32 | DataType::Timestamp(..)) {
                return Err(wrong("a number, a date or a timestamp is expected".into()));
            }
            Plan::new(df::array_agg::array_agg_udaf(), vec![first], t)
                .grows()
                .ignore_nulls()
                .finish(Finish::Percentile(Shares::one(p)))
        }
        "mode" => {
            if t == DataType::Null {
                return Err(wrong("NULL has no type. Use CAST".into()));
            }
            if t.is_nested() {
                return Err(wrong(format!("{} has no order here", type_to_ddl(&t))));
            }
            match rest.first().map(Typed::constant) {
                None | Some(Some(ScalarValue::Boolean(Some(_)))) => {}
                _ => return Err(wrong("whether it is deterministic must be true or false".into())),
            }
            // If several values are the most frequent, any of them is correct without an order. The least of them is
            // always the same.
            Plan::new(df::array_agg::array_agg_udaf(), vec![first], t)
                .grows()
                .ignore_nulls()
                .finish(Finish::Mode { greatest: false })
        }
        "skewness" | "kurtosis" => doubles(moments::udaf(name == "kurtosis"), first)?,
        "approx_count_distinct" => {
            let error = match rest.first() {
                None => 0.05,
                Some(error) => match implicit(error.clone(), &DataType::Float64)?.constant() {
                    Some(ScalarValue::Float64(Some(error))) if *error > 0.0 && *error <= 0.39 => *error,
                    _ => return Err(wrong("the error must be a constant between 0 and 0.39".into())),
                },
            };
            if error < 0.0081 || t.is_nested() {
                // The sketch is not exact enough for such a small error, and does not support nested types.
                let first = if t.is_nested() { sorted_rows::together(vec![first])? } else { normalised(first) };
                let counted = Plan::new(df::count::count_udaf(), vec![first], bigint).not_null();
                return Ok(Plan { distinct: true, ..counted });
            }
            let first = normalised(first);
            let first = if is_float(&t) { float_order::key(first) } else { first };
            Plan::new(df::approx_distinct::approx_distinct_udaf(), vec![first], bigint).not_null()
        }
        "collect_list" | "array_agg" | "collect_set" => {
            if t == DataType::Null {
                return Err(wrong("NULL has no type. Use CAST".into()));
            }
            let set = name == "collect_set";
            let first = if set { normalised(first) } else { first };
            let plan = Plan::new(df::array_agg::array_agg_udaf(), vec![first], list_of(t))
                .grows()
                .ignore_nulls()
                .not_null()
                .finish(Finish::EmptyList);
            Plan { distinct: set, ..plan }
        }
        _ => {
            let names = AGGREGATES.iter().map(|(n, _)| *n);
            return Err(Error::schema(format!("'{name}' is not an aggregate.{}", did_you_mean(name, names))));
        }
    };
    let distinct = plan.distinct || distinct && matches!(name, "sum" | "avg" | "mean");
    Ok(Plan { distinct, ..plan })
}

/// One argument that is NULL where any of the arguments is NULL.
fn counted(mut args: Vec<Typed>) -> Result<Typed> {
    if args.len() == 1 {
        return Ok(args.remove(0));
    }
    let all = build::all_of(true, args.into_iter().map(|a| build::is_null(a, true)).collect())?;
    build::choose(vec![all], vec![Typed::literal(ScalarValue::Int32(Some(1)), "1")], "counted".into())
}
