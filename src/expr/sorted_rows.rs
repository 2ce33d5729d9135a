//! Aggregates over sorted rows. Their results do not depend on the order in which the rows arrive.
//!
//! The sort keys of a row and then its value are written as bytes whose order is the order of the rows (Arrow's row format). So
//! `first_value(v ORDER BY k)` is the least of these bytes, `last_value` and `max_by` are the greatest, and a list is a list of bytes that
//! is sorted at the end. The state is one column, and merging is as associative and commutative as `min`. The values order the rows with
//! equal keys, so it makes no difference which partial state came first.
//!
//! DataFusion's own `first_value` and ordered `array_agg` are not used, because they keep the row that came first if
//! two rows have equal keys.
//!
//! Arrow does not promise that the row format stays the same between releases. State files contain it and name the version that they
//! were made with; a test compares the bytes.

use super::aggregate::{Finish, Plan};
use super::coerce::canonical;
use super::ddl::{list_of, type_to_ddl};
use super::evaluate::row_error;
use super::float_order::normalised;
use super::node::Typed;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, BinaryArray, UInt32Builder};
use arrow::buffer::NullBuffer;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::functions_aggregate as df;
use datafusion::physical_expr::PhysicalSortExpr;
use std::fmt;
use std::sync::Arc;

/// Rows as bytes: the sort keys, then the value.
pub(super) struct Sorted {
    converter: RowConverter,
    value: DataType,
}

impl fmt::Debug for Sorted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows of {}", self.value)
    }
}

impl Sorted {
    pub(super) fn new(keys: &[Key], value: &DataType) -> Result<Self> {
        let mut fields: Vec<SortField> =
            keys.iter().map(|k| SortField::new_with_options(k.by.data_type.clone(), k.options)).collect();
        fields.push(SortField::new(value.clone()));
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::schema(format!("{} has no order here", type_to_ddl(value))));
        }
        Ok(Self { converter: RowConverter::new(fields)?, value: value.clone() })
    }

    /// One value of bytes for each row of the columns; NULL where one of the columns in `skip` is NULL.
    fn encode(&self, columns: &[ArrayRef], skip: &[usize]) -> Result<BinaryArray> {
        let bytes = self.converter.convert_columns(columns)?.try_into_binary()?;
        let nulls =
            skip.iter().fold(None, |all, k| NullBuffer::union(all.as_ref(), columns[*k].logical_nulls().as_ref()));
        let (offsets, values, _) = bytes.into_parts();
        Ok(BinaryArray::try_new(offsets, values, nulls)?)
    }

    /// One column of bytes from all columns.
    fn bytes(self: Arc<Self>, columns: Vec<Typed>, skip: Vec<usize>, sql: String) -> Typed {
        Typed::call(
            columns,
            DataType::Binary,
            true,
            sql,
            Arc::new(move |a| {
                let columns = (0..a.len()).map(|k| a.full(k)).collect::<datafusion::error::Result<Vec<_>>>()?;
                let rows = self.encode(&columns, &skip);
                Ok(Arc::new(rows.map_err(|_| row_error("the rows cannot be sorted: they are too large"))?))
            }),
        )
    }

    /// The values of these rows.
    pub(super) fn values<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.map(|r| parser.parse(r)))?;
        columns.into_iter().next_back().ok_or_else(|| Error::internal("a row without a value"))
    }

    /// The values of these rows; NULL where there is no row.
    pub(super) fn values_or_null<'a>(&self, rows: impl ExactSizeIterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
        let mut present = vec![];
        let mut at = UInt32Builder::with_capacity(rows.len());
        for row in rows {
            match row {
                Some(row) => {
                    at.append_value(present.len() as u32);
                    present.push(row);
                }
                None => at.append_null(),
            }
        }
        let (at, all) = (at.finish(), self.values(present.into_iter())?);
        if at.null_count() == 0 { Ok(all) } else { Ok(take(&all, &at, None)?) }
    }
}

/// A sort key.
#[derive(Clone)]
pub(super) struct Key {
    pub by: Typed,
    pub options: SortOptions,
}

/// The result over the sorted rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pick {
    First,
    Last,
    Rows(Rows),
}

/// A result of all rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rows {
    /// An array; without rows it is empty or NULL.
    List { or_null: bool },
    /// The n-th row, counted from 1, or from the end if n is negative.
    Nth(i64),
    /// The texts of the values, with this text between them.
    Joined(Vec<u8>),
}

/// The rows that do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Skip {
    Nothing,
    /// Rows whose value is NULL.
    NullValue,
    /// Rows whose first key is NULL.
    NullKey,
}

/// The plan of `pick` over `value` in the order of `keys`. With `distinct`, equal values count once, and the key is the value itself.
pub(super) fn plan(pick: Pick, value: Typed, mut keys: Vec<Key>, skip: Skip, distinct: bool) -> Result<Plan> {
    let same = |k: &Key| k.by.sql == value.sql && k.by.data_type == value.data_type;
    if distinct && !(keys.len() == 1 && same(&keys[0])) {
        return Err(Error::schema(format!("with DISTINCT the order must be ORDER BY {}, the value itself", value.sql)));
    }
    let order_by = keys.iter().map(|k| PhysicalSortExpr::new(k.by.expr.clone(), k.options)).collect();
    for key in &mut keys {
        if !super::lists::is_ordered(&key.by.data_type) {
            return Err(Error::schema(format!("{} has no order here", type_to_ddl(&key.by.data_type))));
        }
        key.by = normalised(key.by.clone());
    }
    if value.data_type == DataType::Null {
        return Err(Error::schema("NULL has no type. Use CAST."));
    }
    let value = if distinct { normalised(value) } else { value };
    let sorted = Arc::new(Sorted::new(&keys, &value.data_type)?);
    let data_type = match &pick {
        Pick::Rows(Rows::List { .. }) => list_of(canonical(&value.data_type)),
        Pick::Rows(Rows::Joined(_)) if canonical(&value.data_type) != DataType::Binary => DataType::Utf8,
        _ => canonical(&value.data_type),
    };
    let skip = match skip {
        Skip::Nothing => vec![],
        Skip::NullKey => vec![0],
        Skip::NullValue => vec![keys.len()],
    };
    let label = |k: &Key| format!("{} {:?}", k.by.sql, k.options);
    let sql = format!("row({}; {}; {skip:?})", keys.iter().map(label).collect::<Vec<_>>().join(", "), value.sql);
    let columns: Vec<Typed> = keys.into_iter().map(|k| k.by).chain([value]).collect();
    let bytes = sorted.clone().bytes(columns, skip, sql);
    let plan = match &pick {
        Pick::First => Plan::new(df::min_max::min_udaf(), vec![bytes], data_type).finish(Finish::Row(sorted)),
        Pick::Last => Plan::new(df::min_max::max_udaf(), vec![bytes], data_type).finish(Finish::Row(sorted)),
        Pick::Rows(rows) => {
            let mut plan = Plan::new(df::array_agg::array_agg_udaf(), vec![bytes], data_type)
                .grows()
                .ignore_nulls()
                .finish(Finish::Rows(sorted, rows.clone()));
            plan.distinct = distinct;
            plan.nullable = *rows != Rows::List { or_null: false };
            plan
        }
    };
    Ok(Plan { order_by, ..plan })
}

/// Several columns as one. Its values are equal where all columns are equal, and NULL where one of them is NULL.
pub(super) fn together(columns: Vec<Typed>) -> Result<Typed> {
    let mut keys: Vec<Key> =
        columns.into_iter().map(|c| Key { by: normalised(c), options: SortOptions::default() }).collect();
    let last = keys.pop().ok_or_else(|| Error::internal("no columns"))?.by;
    let sorted = Arc::new(Sorted::new(&keys, &last.data_type)?);
    let columns: Vec<Typed> = keys.into_iter().map(|k| k.by).chain([last]).collect();
    let sql = format!("row({})", columns.iter().map(|c| c.sql.as_str()).collect::<Vec<_>>().join(", "));
    let all = (0..columns.len()).collect();
    Ok(sorted.bytes(columns, all, sql))
}
