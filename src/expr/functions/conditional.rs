//! Functions for NULLs and conditions, and casts that are called as functions.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::coerce::Param::Any;
use crate::expr::coerce::is_interval;
use crate::expr::ddl::type_to_ddl;
use crate::expr::node::Typed;
use crate::expr::once::once;
use crate::expr::{build, cast, compare};
use crate::time::timestamp_type;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

pub(super) const LIST: &[Spec] = &[
    spec("if", "if(condition, a, b)", pick),
    spec("iff", "iff(condition, a, b)", pick),
    spec("coalesce", "coalesce(a, b, …)", |c| {
        let most = c.args.len().max(1);
        let c = c.count(1, most)?;
        build::coalesce(c.args, c.sql)
    }),
    spec("nvl", "nvl(a, b)", either),
    spec("ifnull", "ifnull(a, b)", either),
    spec("nvl2", "nvl2(a, ifNotNull, ifNull)", |c| {
        let mut c = c.count(3, 3)?;
        let rest = c.args.split_off(1);
        let there = build::is_null(c.args.remove(0), true);
        build::choose(vec![there], rest, c.sql)
    }),
    spec("nullif", "nullif(a, b)", |c| {
        let mut c = c.count(2, 2)?;
        let b = c.args.remove(1);
        let a = c.args.remove(0);
        let null = Typed::null(&a.data_type);
        once(a, |a| build::choose(vec![compare::compare("=", a.clone(), b)?], vec![null, a], c.sql))
    }),
    spec("nullifzero", "nullifzero(expr)", |c| {
        let mut c = c.count(1, 1)?;
        let a = c.args.remove(0);
        let null = Typed::null(&a.data_type);
        let zero = Typed::literal(ScalarValue::Int32(Some(0)), "0");
        once(a, |a| build::choose(vec![compare::compare("=", a.clone(), zero)?], vec![null, a], c.sql))
    }),
    spec("zeroifnull", "zeroifnull(expr)", |c| {
        let mut c = c.count(1, 1)?;
        let zero = Typed::literal(ScalarValue::Int32(Some(0)), "0");
        build::coalesce(vec![c.args.remove(0), zero], c.sql)
    }),
    spec("isnull", "isnull(expr)", |c| {
        let mut c = c.count(1, 1)?;
        let sql = format!("({} IS NULL)", c.args[0].sql);
        Ok(build::is_null(c.args.remove(0), false).named(sql))
    }),
    spec("isnotnull", "isnotnull(expr)", |c| {
        let mut c = c.count(1, 1)?;
        let sql = format!("({} IS NOT NULL)", c.args[0].sql);
        Ok(build::is_null(c.args.remove(0), true).named(sql))
    }),
    spec("equal_null", "equal_null(a, b)", |c| {
        let mut c = c.take(&[Any, Any], 2)?;
        let b = c.args.remove(1);
        compare::compare("<=>", c.args.remove(0), b).map(|t| t.named(c.sql))
    }),
    spec("typeof", "typeof(expr)", |c| {
        let c = c.count(1, 1)?;
        let name = match &c.args[0] {
            t if is_interval(&t.data_type) => super::type_name(t),
            t if t.data_type == DataType::Null => "void".into(),
            t => {
                type_to_ddl(&t.data_type).to_lowercase().replace(": ", ":").replace(", ", ",").replace(" not null", "")
            }
        };
        Ok(Typed { literal: false, ..Typed::literal(name.as_str().into(), c.sql) })
    }),
    spec("decimal", "decimal(expr)", |c| to(c, DataType::Decimal128(10, 0))),
    spec("boolean", "boolean(expr)", |c| to(c, DataType::Boolean)),
    spec("tinyint", "tinyint(expr)", |c| to(c, DataType::Int8)),
    spec("smallint", "smallint(expr)", |c| to(c, DataType::Int16)),
    spec("int", "int(expr)", |c| to(c, DataType::Int32)),
    spec("bigint", "bigint(expr)", |c| to(c, DataType::Int64)),
    spec("float", "float(expr)", |c| to(c, DataType::Float32)),
    spec("double", "double(expr)", |c| to(c, DataType::Float64)),
    spec("string", "string(expr)", |c| to(c, DataType::Utf8)),
    spec("binary", "binary(expr)", |c| to(c, DataType::Binary)),
    spec("date", "date(expr)", |c| to(c, DataType::Date32)),
    spec("timestamp", "timestamp(expr)", |c| to(c, timestamp_type())),
];

fn to(c: Call, data_type: DataType) -> Result<Typed> {
    let mut c = c.count(1, 1)?;
    // Spark does not print this cast.
    let sql = c.args[0].sql.clone();
    cast::explicit(c.args.remove(0), &data_type, false).map(|t| t.named(sql))
}

fn pick(c: Call) -> Result<Typed> {
    let mut c = c.count(3, 3)?;
    let sql = format!("(IF({}, {}, {}))", c.args[0].sql, c.args[1].sql, c.args[2].sql);
    let rest = c.args.split_off(1);
    let condition = build::condition(c.args.remove(0))?;
    build::choose(vec![condition], rest, sql)
}

fn either(c: Call) -> Result<Typed> {
    let c = c.count(2, 2)?;
    build::coalesce(c.args, c.sql)
}
