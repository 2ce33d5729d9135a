//! SQL text to physical expressions: what "Databricks SQL, ANSI semantics" means here.
//!
//! ```text
//! text -> parse (Spark's grammar) -> bind (types and coercion as Spark 4.0 ANSI) -> DataFusion's PhysicalExpr -> evaluate
//! ```
//!
//! In `Dialect::Databricks` DataFusion plans nothing: `bind` decides every type and inserts every cast, because DataFusion's planner
//! coerces, folds case and divides in a different way than Spark. The functions are those of the allow list in `functions`. Each has
//! recorded answers of a real Spark in `tests/python/spark_answers.json`. `Dialect::DataFusion` is DataFusion's planner, without a list.

mod aggregate;
mod aggregate_list;
mod aggregation;
mod arith;
mod bind;
mod bitmap;
mod bits;
mod build;
mod cast;
mod cast_nested;
mod coerce;
mod compare;
mod datafusion_dialect;
mod ddl;
mod decimal;
mod evaluate;
mod float_order;
mod fold;
mod from_json;
mod functions;
mod generate;
mod group;
mod group_function;
mod java_regex;
mod json_path;
mod json_schema;
mod json_text;
mod kernel;
mod lambda;
mod lex;
mod limits;
mod lists;
mod literal;
mod lookup;
mod moment;
mod moments;
mod native;
mod nested;
mod node;
mod once;
mod parse;
mod shares;
mod sorted_rows;
mod spark_aggregates;
#[cfg(test)]
mod test;
mod text;
mod time_pattern;
mod to_json;
mod variant;
mod xpath;

pub(crate) use aggregate::Aggregate;
pub(crate) use aggregation::{Aggregation, bind_aggregation};
pub(crate) use bind::{bind, bind_predicate, bind_select, bind_selection};
pub(crate) use coerce::common_type;
pub use ddl::parse_ddl;
pub(crate) use ddl::{parse_type, to_ddl, type_to_ddl};
pub(crate) use evaluate::{Bound, is_too_large, text_bytes, value_bytes};
pub(crate) use float_order::normalize;
pub(crate) use functions::{Listed, Role, is_aggregate, is_bare, listed};
pub(crate) use generate::{Generator, Selected, is_generator};
pub(crate) use group::{GroupItem, parse_group_item};
pub use group_function::{AggregateItem, GroupFunction};
pub(crate) use java_regex::JavaRegex;
pub(crate) use kernel::MOST_BYTES;
pub(crate) use lex::string_of;
pub(crate) use limits::check_statement;
pub(crate) use lookup::{nested_field, nested_values, quoted, resolve_column};
pub(crate) use moment::Moment;
pub(crate) use native::{Native, bind_key, key_type, native};

use serde::{Deserialize, Serialize};

/// The SQL dialect of an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Databricks SQL with ANSI semantics, and the functions of an allow list.
    #[default]
    Databricks,
    /// DataFusion's SQL and functions.
    DataFusion,
}
