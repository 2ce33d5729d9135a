//! Aggregates that are a user's function, such as one of Python's. It is called with the rows of each group when the group is finished.

use super::aggregate::{Aggregate, Finish, Plan};
use super::ddl::type_to_ddl;
use super::evaluate::row_error;
use super::lookup::resolve_column;
use super::node::Typed;
use super::sorted_rows::{Key, Rows, Skip, Sorted, plan};
use super::{Bound, sorted_rows};
use crate::{Error, Kind, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::{CastOptions, SortOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::physical_expr::expressions::Column;
use std::fmt;
use std::sync::Arc;

/// A function from the rows of groups to one value for each group.
pub trait GroupFunction: Send + Sync {
    fn name(&self) -> &str;
    /// Distinguishes it from other functions of the same name.
    fn identity(&self) -> String {
        self.name().to_string()
    }
    /// `groups` has one batch per group, with sorted rows. The array must have one value per group.
    fn call(&self, groups: &[RecordBatch]) -> Result<ArrayRef>;
}

/// One item of `agg(...)`.
#[derive(Clone)]
pub enum AggregateItem {
    /// SQL. Without an alias, its columns have the names that Spark gives them.
    Sql { alias: Option<String>, text: String },
    Function {
        /// The name of the output column; without it, the name of the function.
        alias: Option<String>,
        function: Arc<dyn GroupFunction>,
        /// The columns that the function gets; if this is empty, all columns.
        columns: Vec<String>,
        data_type: DataType,
        /// The rows are sorted by this column, then by all columns that the function gets. So their order does not depend on when they came.
        order_by: Option<String>,
    },
}

impl From<(Option<String>, String)> for AggregateItem {
    fn from((alias, text): (Option<String>, String)) -> Self {
        Self::Sql { alias, text }
    }
}

impl fmt::Debug for AggregateItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql { alias: None, text } => f.write_str(text),
            Self::Sql { alias: Some(alias), text } => write!(f, "{text} AS {alias}"),
            Self::Function { function, columns, .. } => write!(f, "{}({})", function.name(), columns.join(", ")),
        }
    }
}

/// A function, and how its rows are read from the state.
pub(super) struct Called {
    function: Arc<dyn GroupFunction>,
    sorted: Arc<Sorted>,
    schema: SchemaRef,
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.name())
    }
}

impl Called {
    pub(super) fn name(&self) -> &str {
        self.function.name()
    }

    pub(super) fn identity(&self) -> String {
        self.function.identity()
    }

    /// Calls the function; `lengths` has the number of rows of each group.
    pub(super) fn call(&self, rows: &[&[u8]], lengths: &[usize], data_type: &DataType) -> Result<ArrayRef> {
        let wrong = |what: String| Error::malformed(format!("{}: {what}", self.function.name()));
        let all = self.sorted.values(rows.iter().copied())?;
        let all = all.as_struct_opt().ok_or_else(|| Error::internal("rows that are not a struct"))?;
        let mut from = 0;
        let mut groups = Vec::with_capacity(lengths.len());
        for length in lengths {
            let options = RecordBatchOptions::new().with_row_count(Some(*length));
            let columns = all.columns().iter().map(|c| c.slice(from, *length)).collect();
            groups.push(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?);
            from += length;
        }
        let out = self.function.call(&groups).map_err(|e| match e.kind {
            // The user stopped the function, or it ended itself. The rows are not at fault.
            Kind::Interrupted | Kind::Function => e,
            _ => Error { kind: Kind::Malformed, ..e }.context(self.function.name()),
        })?;
        if out.len() != groups.len() {
            return Err(wrong(format!(
                "it returned {} values for {} groups; it must return one for each",
                out.len(),
                groups.len()
            )));
        }
        if out.data_type() == data_type {
            return Ok(out);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&out, data_type, &options).map_err(|_| {
            wrong(format!("it returned {}, but {} was declared", type_to_ddl(out.data_type()), type_to_ddl(data_type)))
        })
    }
}

/// Adds the function to the aggregates, and returns the output column with its result.
pub(super) fn bind(
    alias: Option<String>,
    function: Arc<dyn GroupFunction>,
    columns: &[String],
    data_type: DataType,
    order_by: Option<&str>,
    schema: &SchemaRef,
    aggregates: &mut Vec<Aggregate>,
) -> Result<Bound> {
    let name = function.name().to_string();
    let place = |e: Error| e.context(&name);
    let given: Vec<usize> = if columns.is_empty() {
        (0..schema.fields().len()).collect()
    } else {
        columns.iter().map(|c| resolve_column(c, schema)).collect::<Result<_>>().map_err(place)?
    };
    if given.is_empty() {
        return Err(Error::schema(format!("{name}: there are no columns to pass to it")));
    }
    let keys: Vec<Key> = match order_by {
        None => vec![],
        Some(column) => {
            let index = resolve_column(column, schema).map_err(place)?;
            vec![Key { by: Typed::column(schema, index), options: SortOptions::default() }]
        }
    };
    let shown: Vec<&str> = given.iter().map(|i| schema.field(*i).name().as_str()).collect();
    let ordered = keys.iter().map(|k| format!(" ORDER BY {}", k.by.sql)).collect::<String>();
    // The prefix distinguishes it from an SQL aggregate of the same name.
    let sql = format!("function {name}({}{ordered})", shown.join(", "));
    let row_schema = Arc::new(Schema::new(given.iter().map(|i| schema.field(*i).clone()).collect::<Vec<_>>()));
    let row = row(&given, schema, &row_schema);
    let sorted = Arc::new(Sorted::new(&keys, &row.data_type).map_err(place)?);
    let plan =
        plan(sorted_rows::Pick::Rows(Rows::List { or_null: true }), row, keys, Skip::Nothing, false).map_err(place)?;
    let finish = Finish::Function(Arc::new(Called { function, sorted, schema: row_schema }));
    let plan = Plan { data_type: data_type.clone(), ..plan.finish(finish) };
    let aggregate = plan.build(sql.clone(), None, schema)?;
    let index = aggregates.len();
    let column = Arc::new(Column::new(&format!("{index}: {sql}"), index));
    aggregates.push(aggregate);
    Ok(Bound::new(alias.unwrap_or(name), sql, data_type, true, column))
}

/// `named_struct(columns…)`.
fn row(given: &[usize], schema: &SchemaRef, row_schema: &SchemaRef) -> Typed {
    let fields = row_schema.fields().clone();
    let columns: Vec<Typed> = given.iter().map(|i| Typed::column(schema, *i)).collect();
    let data_type = DataType::Struct(fields.clone());
    let sql = format!("named_struct({})", columns.iter().map(|c| c.sql.as_str()).collect::<Vec<_>>().join(", "));
    let kernel = move |a: &super::kernel::Args| {
        let columns = (0..a.len()).map(|k| a.full(k)).collect::<datafusion::error::Result<Vec<_>>>()?;
        let rows = StructArray::try_new(fields.clone(), columns, None);
        Ok(Arc::new(rows.map_err(|_| row_error("the columns are not as they were declared"))?) as ArrayRef)
    };
    Typed { nullable: false, ..Typed::call(columns, data_type, false, sql, Arc::new(kernel)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::test::{schema, schema_error};
    use crate::expr::{Aggregation, Dialect, bind_aggregation};
    use crate::state::Groups;
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, UInt32Array};
    use arrow::compute::take_record_batch;
    use arrow::datatypes::{Int32Type, Int64Type};
    use parking_lot::Mutex;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    /// Records the rows that it gets, and returns the values that it is told to return.
    struct Shown {
        seen: Mutex<Vec<Vec<String>>>,
        answer: fn(&[RecordBatch]) -> Result<ArrayRef>,
    }

    impl GroupFunction for Shown {
        fn name(&self) -> &str {
            "shown"
        }
        fn call(&self, groups: &[RecordBatch]) -> Result<ArrayRef> {
            for group in groups {
                let text = |row: usize| {
                    let cells = group.columns().iter().map(|c| arrow::util::display::array_value_to_string(c, row));
                    cells.collect::<std::result::Result<Vec<_>, _>>().unwrap().join("|")
                };
                self.seen.lock().push((0..group.num_rows()).map(text).collect());
            }
            (self.answer)(groups)
        }
    }

    fn counts(groups: &[RecordBatch]) -> Result<ArrayRef> {
        Ok(Arc::new(groups.iter().map(|g| Some(g.num_rows() as i64)).collect::<Int64Array>()))
    }

    fn shown(answer: fn(&[RecordBatch]) -> Result<ArrayRef>) -> Arc<Shown> {
        Arc::new(Shown { seen: Mutex::new(vec![]), answer })
    }

    fn item(function: Arc<Shown>, columns: &[&str], data_type: DataType, order_by: Option<&str>) -> AggregateItem {
        AggregateItem::Function {
            alias: Some("f".into()),
            function,
            columns: columns.iter().map(ToString::to_string).collect(),
            data_type,
            order_by: order_by.map(str::to_string),
        }
    }

    fn sql(text: &str) -> AggregateItem {
        (None, text.to_string()).into()
    }

    fn update(groups: &mut Groups, aggregation: &Aggregation, batch: &RecordBatch) {
        let arguments: Vec<_> = aggregation.aggregates.iter().map(|a| a.evaluate_arguments(batch).unwrap()).collect();
        let filters: Vec<_> = aggregation.aggregates.iter().map(|a| a.evaluate_filter(batch).unwrap()).collect();
        groups.update(&[batch.column(0).clone()], &arguments, &filters, batch.num_rows()).unwrap();
    }

    fn row(i: i32) -> (i32, i32, Option<String>) {
        ((i * 7) % 5, i % 2, (i % 4 > 0).then(|| format!("s{}", i % 6)))
    }

    fn table() -> RecordBatch {
        let schema = schema("g INT, time INT, m MAP<STRING, INT>, s STRING");
        let mut decoder = arrow::json::ReaderBuilder::new(schema).build_decoder().unwrap();
        let json = |i| {
            let (time, m, s) = row(i);
            serde_json::json!({ "g": i % 3, "time": time, "m": { "k": m }, "s": s })
        };
        let rows: Vec<serde_json::Value> = (0..40).map(json).collect();
        decoder.serialize(&rows).unwrap();
        decoder.flush().unwrap().unwrap()
    }

    #[test]
    fn a_function_sees_the_rows_of_its_group_sorted_however_they_came() {
        let batch = table();
        let keys = schema("g INT");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let mut before: Option<BTreeMap<i32, (i64, i64, Vec<String>)>> = None;
        for dialect in [Dialect::Databricks, Dialect::DataFusion] {
            for round in 0..10 {
                let function = shown(counts);
                let function_item = item(function.clone(), &["S", "m"], DataType::Int64, Some("time"));
                let items = [sql("count(*) AS n"), function_item, sql("max(time) AS t")];
                let aggregation = bind_aggregation(&items, &batch.schema(), dialect).unwrap();
                assert!(aggregation.has_functions());
                let names: Vec<String> = aggregation.outputs().iter().map(|f| f.name().clone()).collect();
                assert_eq!(names, ["n", "f", "t"]);
                assert!(aggregation.aggregates.iter().any(|a| a.grows));
                let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
                if round > 0 {
                    order.shuffle(&mut rng);
                }
                let mut whole = Groups::new(&keys, &aggregation.aggregates).unwrap();
                while !order.is_empty() {
                    let rest = order.split_off(rng.random_range(1..=order.len()));
                    let mut part = Groups::new(&keys, &aggregation.aggregates).unwrap();
                    update(&mut part, &aggregation, &take_record_batch(&batch, &UInt32Array::from(order)).unwrap());
                    let (keys, states) = part.into_states().unwrap();
                    whole.merge(&keys, &states, &aggregation.aggregates, keys[0].len()).unwrap();
                    order = rest;
                }
                let rows = whole.len();
                let (keys, inner) = whole.into_results(&aggregation.aggregates).unwrap();
                let out = aggregation.project(&inner, rows).unwrap();
                let seen = function.seen.lock().clone();
                let number = |k: usize, i: usize| out[k].as_primitive::<Int64Type>().value(i);
                let now: BTreeMap<i32, _> = (0..rows)
                    .map(|i| {
                        (keys[0].as_primitive::<Int32Type>().value(i), (number(0, i), number(1, i), seen[i].clone()))
                    })
                    .collect();
                assert!(now.values().all(|(n, f, seen)| n == f && *n == seen.len() as i64));
                if let Some(before) = &before {
                    assert_eq!(before, &now);
                }
                before = Some(now);
            }
        }
        // By time, then by all columns that the function gets, NULLs first.
        let mut wanted: Vec<_> = (0..40).filter(|i| i % 3 == 0).map(row).map(|(time, m, s)| (time, s, m)).collect();
        wanted.sort();
        let wanted: Vec<String> =
            wanted.into_iter().map(|(_, s, m)| format!("{}|{{k: {m}}}", s.unwrap_or_default())).collect();
        assert_eq!(before.unwrap()[&0].2, wanted);
    }

    #[test]
    fn all_columns_are_given_where_none_is_named_and_nothing_is_a_group_too() {
        let batch = table();
        let function = shown(|groups| {
            assert_eq!(groups[0].num_columns(), 4);
            counts(groups)
        });
        let aggregation =
            bind_aggregation(&[item(function, &[], DataType::Int64, None)], &batch.schema(), Dialect::Databricks)
                .unwrap();
        let nothing = aggregation.aggregates[0].over_nothing().unwrap();
        assert_eq!(nothing.as_primitive::<Int64Type>().values(), &[0]);
    }

    #[test]
    fn what_is_wrong_with_a_function_is_told_with_its_name() {
        let batch = table();
        let run = |answer: fn(&[RecordBatch]) -> Result<ArrayRef>, data_type: DataType| {
            let items = [item(shown(answer), &["s"], data_type, None)];
            let aggregation = bind_aggregation(&items, &batch.schema(), Dialect::Databricks).unwrap();
            let mut groups = Groups::new(&schema("g INT"), &aggregation.aggregates).unwrap();
            update(&mut groups, &aggregation, &batch);
            groups.into_results(&aggregation.aggregates).map(|(_, inner)| inner[0].clone())
        };
        let e = run(|_| Err(Error::internal("division by zero")), DataType::Int64).unwrap_err();
        assert_eq!((e.kind, e.message.as_str()), (Kind::Malformed, "shown: division by zero"));
        let e = run(|_| Err(Error::interrupted("stopped")), DataType::Int64).unwrap_err();
        assert_eq!(e.kind, Kind::Interrupted);
        let e = run(|_| Ok(Arc::new(Int64Array::from(vec![1]))), DataType::Int64).unwrap_err();
        assert!(e.kind == Kind::Malformed && e.message.contains("1 values for 3 groups"), "{e}");
        let e = run(|_| Ok(Arc::new(StringArray::from(vec!["a", "b", "c"]))), DataType::Int64).unwrap_err();
        assert!(e.kind == Kind::Malformed && e.message.contains("STRING, but BIGINT was declared"), "{e}");
        let e = run(|_| Ok(Arc::new(Int64Array::from(vec![1, 2, 1 << 40]))), DataType::Int32).unwrap_err();
        assert_eq!(e.kind, Kind::Malformed);
        let fits = run(|_| Ok(Arc::new(Int32Array::from(vec![1, 2, 3]))), DataType::Float64).unwrap();
        assert_eq!(fits.as_ref(), &Float64Array::from(vec![1.0, 2.0, 3.0]) as &dyn Array);
        let bound = |item: AggregateItem| {
            bind_aggregation(&[sql("count(*) AS n"), item], &batch.schema(), Dialect::Databricks).map(|a| a.outputs())
        };
        schema_error(bound(item(shown(counts), &["sz"], DataType::Int64, None)), &["shown", "'sz'"]);
        schema_error(bound(item(shown(counts), &["s"], DataType::Int64, Some("tme"))), &["shown", "'tme'", "'time'"]);
        let named = AggregateItem::Function {
            alias: Some("N".into()),
            function: shown(counts),
            columns: vec![],
            data_type: DataType::Int64,
            order_by: None,
        };
        schema_error(bound(named), &["two aggregates"]);
    }
}
