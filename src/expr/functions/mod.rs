//! The allow list: every function here has its meaning in Spark 4.0 with ANSI mode. Other functions are refused by name.

mod array_sets;
mod arrays;
mod collations;
mod collections;
mod conditional;
mod csv;
mod encoding;
mod hashes;
mod interval;
mod json;
mod make_time;
mod maps;
mod math;
mod more_strings;
mod number_text;
mod numbers;
mod printf;
mod raise;
mod regex;
mod round;
mod sequence;
mod strings;
mod structs;
mod time;
mod time_format;
mod url;
mod variants;
mod xpaths;

pub(super) use interval::{field, moved, number_of, of_number, scaled, sign_of, to_number, to_text, turned, type_name};
pub(super) use maps::{map_type, value_of_nested_key};
pub(super) use structs::{build as build_struct, name_of};

use super::coerce::Param;
use super::generate;
use super::kernel::Args;
use super::node::Typed;
use crate::error::near_miss;
use crate::{Error, Result};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// The kind of result that a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A value of each row.
    Scalar,
    /// A value of many rows.
    Aggregate,
    /// Several rows of each row.
    Generator,
    /// A value of the rows around a row, with OVER: in SQL over tables.
    Window,
    /// Written between or before its operands, or with words. Spark lists it among its functions.
    Operator,
}

/// Functions that SQL over tables has in addition to those of expressions.
const OVER_TABLES: &[(&str, &str, Role)] = &[
    ("cume_dist", "cume_dist() OVER (…)", Role::Window),
    ("dense_rank", "dense_rank() OVER (…)", Role::Window),
    ("lag", "lag(expr[, offset[, default]]) OVER (…)", Role::Window),
    ("lead", "lead(expr[, offset[, default]]) OVER (…)", Role::Window),
    ("ntile", "ntile(n) OVER (…)", Role::Window),
    ("range", "range([start,] end[, step]): in FROM, over tables", Role::Generator),
    ("percent_rank", "percent_rank() OVER (…)", Role::Window),
    ("rank", "rank() OVER (…)", Role::Window),
    ("row_number", "row_number() OVER (…)", Role::Window),
    ("grouping", "grouping(key): with ROLLUP, CUBE and GROUPING SETS over tables", Role::Aggregate),
    ("grouping_id", "grouping_id([key, …]): with ROLLUP, CUBE and GROUPING SETS over tables", Role::Aggregate),
];

const OPERATORS: &[(&str, &str)] = &[
    ("!", "! a"),
    ("!=", "a != b"),
    ("%", "a % b"),
    ("&", "a & b"),
    ("*", "a * b"),
    ("+", "a + b"),
    ("-", "a - b"),
    ("/", "a / b"),
    ("<", "a < b"),
    ("<<", "a << n"),
    ("<=", "a <= b"),
    ("<=>", "a <=> b"),
    ("<>", "a <> b"),
    ("=", "a = b"),
    ("==", "a == b"),
    (">", "a > b"),
    (">=", "a >= b"),
    (">>", "a >> n"),
    (">>>", "a >>> n"),
    ("^", "a ^ b"),
    ("and", "a AND b"),
    ("between", "a [NOT] BETWEEN b AND c"),
    ("case", "CASE [a] WHEN b THEN c … [ELSE d] END"),
    ("cast", "CAST(a AS type)"),
    ("div", "a div b"),
    ("in", "a [NOT] IN (b, …)"),
    ("not", "NOT a"),
    ("or", "a OR b"),
    ("|", "a | b"),
    ("||", "a || b"),
    ("~", "~ a"),
];

/// One entry of the allow list, for the documentation and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub name: &'static str,
    pub role: Role,
    /// How it is called.
    pub usage: &'static str,
}

/// All functions, aggregates, generators, window functions and operators, sorted by name.
pub(crate) fn listed() -> Vec<Listed> {
    let scalar = all().map(|s| Listed { name: s.name, role: Role::Scalar, usage: s.usage });
    let aggregates =
        super::spark_aggregates::AGGREGATES.iter().map(|(name, usage)| Listed { name, role: Role::Aggregate, usage });
    let scalar = scalar.filter(|l| !l.name.starts_with("trim_"));
    let over = OVER_TABLES.iter().map(|(name, usage, role)| Listed { name, role: *role, usage });
    let operators = OPERATORS.iter().map(|(name, usage)| Listed { name, role: Role::Operator, usage });
    let mut out: Vec<Listed> =
        scalar.chain(aggregates).chain(generate::listed()).chain(over).chain(operators).collect();
    out.sort_by_key(|l| l.name);
    out
}

pub(super) struct Spec {
    pub name: &'static str,
    pub usage: &'static str,
    pub bind: fn(Call) -> Result<Typed>,
}

pub(super) const fn spec(name: &'static str, usage: &'static str, bind: fn(Call) -> Result<Typed>) -> Spec {
    Spec { name, usage, bind }
}

fn all() -> impl Iterator<Item = &'static Spec> {
    [
        strings::LIST,
        regex::LIST,
        math::LIST,
        round::LIST,
        conditional::LIST,
        time::LIST,
        time_format::LIST,
        make_time::LIST,
        hashes::LIST,
        more_strings::LIST,
        number_text::LIST,
        numbers::LIST,
        printf::LIST,
        url::LIST,
        interval::LIST,
        collations::LIST,
        collections::LIST,
        arrays::LIST,
        array_sets::LIST,
        maps::LIST,
        structs::LIST,
        sequence::LIST,
        crate::expr::lambda::LIST,
        json::LIST,
        variants::LIST,
        xpaths::LIST,
        csv::LIST,
        raise::LIST,
        encoding::LIST,
    ]
    .into_iter()
    .flatten()
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static Spec>> = LazyLock::new(|| all().map(|s| (s.name, s)).collect());

/// Functions that are refused for a reason.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &[
            "rand",
            "random",
            "randn",
            "uuid",
            "shuffle",
            "randstr",
            "uniform",
            "monotonically_increasing_id",
            "input_file_name",
            "spark_partition_id",
        ],
        "its result is not the same every time, so a row that is computed again after a failure could differ",
    ),
    (
        &["localtimestamp", "make_timestamp_ntz", "try_make_timestamp_ntz", "to_timestamp_ntz"],
        "TIMESTAMP_NTZ needs a table feature in Delta. Use current_timestamp(), make_timestamp or to_timestamp",
    ),
    (
        &[
            "histogram_numeric",
            "count_min_sketch",
            "hll_sketch_agg",
            "hll_union_agg",
            "hll_sketch_estimate",
            "hll_union",
            "approx_top_k",
        ],
        "bayou has no sketches. Use approx_count_distinct, percentile_approx or count(DISTINCT …)",
    ),
    (
        &["grouping", "grouping_id"],
        "they are for ROLLUP, CUBE and GROUPING SETS. Only lake.sql and bayou.sql have these clauses",
    ),
    (&["product"], "bayou has no such aggregate"),
    (
        &[
            "java_method",
            "reflect",
            "try_reflect",
            "aes_encrypt",
            "aes_decrypt",
            "try_aes_decrypt",
            "from_xml",
            "to_xml",
            "schema_of_xml",
            "from_avro",
            "to_avro",
            "schema_of_avro",
            "from_protobuf",
            "to_protobuf",
        ],
        "in expressions, bayou cannot call Java, encrypt, or read Avro and Protobuf. For XML, there are only xpath and similar functions. Use map_batches",
    ),
    (
        &["to_variant_object", "schema_of_variant_agg"],
        "parse_json(to_json(x)) makes a VARIANT, and schema_of_variant returns the type of a VARIANT",
    ),
    (&["variant_explode", "variant_explode_outer"], "cast the VARIANT to ARRAY<…> or MAP<STRING, …> and use explode"),
    (&["sentences"], "it divides a text by the rules of a human language. Use split"),
    (
        &["current_user", "user", "session_user", "current_catalog", "current_database", "current_schema", "version"],
        "it describes a session of Spark, and bayou does not have sessions",
    ),
    (&["collations"], "bayou compares texts by their bytes (UTF8_BINARY) only"),
    (
        &["row_number", "rank", "dense_rank", "lag", "lead", "ntile", "percent_rank", "cume_dist"],
        "window functions (OVER) are those of lake.sql and bayou.sql",
    ),
    (&["window", "session_window", "window_time"], "windows go into group_by"),
];

/// Checks that the function may be called. The error says why not.
pub(super) fn check_listed(name: &str) -> Result<()> {
    if BY_NAME.contains_key(name) {
        return Ok(());
    }
    if generate::is_generator(name) {
        return Err(generate::misplaced(name));
    }
    if let Some((_, why)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Err(Error::schema(format!("function '{name}' is not one of bayou's SQL functions: {why}.")));
    }
    let known = |l: &Listed| matches!(l.role, Role::Scalar | Role::Aggregate | Role::Generator);
    let names: Vec<&str> = listed().iter().filter(|l| known(l)).map(|l| l.name).collect();
    Err(Error::schema(format!(
        "function '{name}' is not one of bayou's SQL functions (bayou.functions() lists them).{}{}",
        near_miss(name, names),
        if super::datafusion_dialect::has(name) {
            format!(" DataFusion has {name}: say dialect=\"datafusion\".")
        } else {
            String::new()
        }
    )))
}

/// Whether the name is a call without its parentheses, where there is no column of the name.
pub(crate) fn is_bare(name: &str) -> bool {
    ["current_timestamp", "current_date", "localtimestamp"].iter().any(|n| name.eq_ignore_ascii_case(n))
}

pub(crate) fn is_aggregate(name: &str) -> bool {
    super::spark_aggregates::AGGREGATES.iter().any(|(n, _)| *n == name)
}

/// Whether a last argument `map('name', 'value', …)` has the options of the call.
pub(super) fn takes_options(name: &str) -> bool {
    matches!(
        name,
        "from_json" | "try_from_json" | "to_json" | "schema_of_json" | "from_csv" | "to_csv" | "schema_of_csv"
    )
}

/// Binds a call that may have options.
pub(super) fn call_with_options(name: &str, args: Vec<Typed>, options: Vec<(String, String)>) -> Result<Typed> {
    bind(name, args, options)
}

/// Binds a call.
pub(super) fn call(name: &str, args: Vec<Typed>) -> Result<Typed> {
    bind(name, args, vec![])
}

fn bind(name: &str, args: Vec<Typed>, options: Vec<(String, String)>) -> Result<Typed> {
    check_listed(name)?;
    let spec = BY_NAME.get(name).ok_or_else(|| Error::internal(format!("function '{name}' is listed but missing")))?;
    let shown: Vec<&str> = args.iter().map(|a| a.sql.as_str()).collect();
    let sql = format!("{name}({})", shown.join(", "));
    (spec.bind)(Call { name: spec.name, usage: spec.usage, sql, args, options })
}

/// A call while it is bound.
pub(super) struct Call {
    pub name: &'static str,
    pub usage: &'static str,
    pub sql: String,
    pub args: Vec<Typed>,
    /// For functions that `takes_options` names: their options. For `arrays_zip`: the names of its fields.
    pub options: Vec<(String, String)>,
}

impl Call {
    /// Checks the number of arguments.
    pub(super) fn count(self, least: usize, most: usize) -> Result<Self> {
        if (least..=most).contains(&self.args.len()) {
            return Ok(self);
        }
        Err(self.error(format!("{} argument{} given", self.args.len(), if self.args.len() == 1 { "" } else { "s" })))
    }

    pub(super) fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::schema(format!("{}: {why}. Call it as {}.", self.name, self.usage))
    }

    /// Casts the arguments to the types of the parameters. Arguments behind the first `required` may be missing.
    pub(super) fn take(self, params: &[Param], required: usize) -> Result<Self> {
        let mut call = self.count(required, params.len())?;
        let args = std::mem::take(&mut call.args);
        call.args = args
            .into_iter()
            .zip(params)
            .enumerate()
            .map(|(i, (arg, param))| param.take(call.name, i, arg))
            .collect::<Result<_>>()?;
        Ok(call)
    }

    pub(super) fn build(
        self,
        data_type: DataType,
        kernel: impl Fn(&Args) -> DfResult<ArrayRef> + Send + Sync + 'static,
    ) -> Result<Typed> {
        Ok(Typed::call(self.args, data_type, false, self.sql, Arc::new(kernel)))
    }

    /// As `build`, for results that may be NULL although no argument is NULL.
    pub(super) fn build_nullable(
        self,
        data_type: DataType,
        kernel: impl Fn(&Args) -> DfResult<ArrayRef> + Send + Sync + 'static,
    ) -> Result<Typed> {
        Ok(Typed::call(self.args, data_type, true, self.sql, Arc::new(kernel)))
    }

    /// The value of an argument that must be a constant.
    pub(super) fn constant_int(&self, k: usize, default: i32) -> Result<i32> {
        use datafusion::common::ScalarValue as V;
        match self.args.get(k).map(Typed::constant) {
            None => Ok(default),
            Some(Some(V::Int32(Some(v)))) => Ok(*v),
            _ => Err(self.error(format!("argument {} must be a constant", k + 1))),
        }
    }
}

/// The value, or NULL for the row.
macro_rules! get {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}
use get;
