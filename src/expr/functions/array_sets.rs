//! Arrays as sets, and the search for a value in them. Values are compared as bytes (`lists::keys`): NULL is equal to NULL within a value.

use super::arrays::ordered;
use super::collections::{array_args, item};
use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::cast::implicit;
use crate::expr::coerce::{is_float, strictly_common};
use crate::expr::ddl::{list_of, type_to_ddl};
use crate::expr::kernel::{Args, bools, nums};
use crate::expr::lists::{Picker, compact, keys};
use crate::expr::node::Typed;
use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result as DfResult;
use rustc_hash::FxHashSet;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("array_contains", "array_contains(array, value)", array_contains),
    spec("array_distinct", "array_distinct(array)", array_distinct),
    spec("array_except", "array_except(a, b)", |c| set(c, Set::Except)),
    spec("array_intersect", "array_intersect(a, b)", |c| set(c, Set::Intersect)),
    spec("array_position", "array_position(array, value)", array_position),
    spec("array_remove", "array_remove(array, value)", array_remove),
    spec("array_union", "array_union(a, b)", |c| set(c, Set::Union)),
    spec("arrays_overlap", "arrays_overlap(a, b)", arrays_overlap),
];

/// The array and the value that is searched, cast to the type of both.
fn search(c: Call) -> Result<Call> {
    let mut c = c.count(2, 2)?;
    let (of, value) = (item(&c, 0)?, c.args[1].data_type.clone());
    ordered(&c, &of)?;
    let Some(to) = strictly_common(&of, &value) else {
        let (value, of) = (type_to_ddl(&value), type_to_ddl(&of));
        return Err(c.error(format!("{value} is not in an array of {of}. Use CAST")));
    };
    c.args[0] = implicit(c.args[0].clone(), &list_of(to.clone()))?;
    c.args[1] = implicit(c.args[1].clone(), &to)?;
    Ok(c)
}

/// The lists, the value of each row, and whether element `i` of row `row` is equal to it.
struct Found {
    lists: ListArray,
    value: ArrayRef,
    rows: [Rows; 2],
    nulls: Option<arrow::buffer::NullBuffer>,
}

impl Found {
    fn new(a: &Args) -> DfResult<Self> {
        let (lists, value) = (compact(&a.full(0)?)?, a.full(1)?);
        let rows = keys([lists.values(), &value])?;
        let nulls = lists.values().logical_nulls();
        Ok(Self { lists, value, rows, nulls })
    }

    fn known(&self, row: usize) -> bool {
        self.lists.is_valid(row) && !self.value.is_null(row) && self.value.data_type() != &DataType::Null
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.lists.value_offsets()[row] as usize..self.lists.value_offsets()[row + 1] as usize
    }

    fn is(&self, row: usize, i: usize) -> bool {
        self.rows[0].row(i) == self.rows[1].row(row)
    }

    fn is_null(&self, i: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(i))
    }
}

fn array_contains(c: Call) -> Result<Typed> {
    let c = search(c)?;
    if c.args[1].is_null_literal() {
        return Err(c.error("the value must not be NULL"));
    }
    c.build_nullable(DataType::Boolean, |a| {
        let found = Found::new(a)?;
        bools(a.rows, |row| {
            if !found.known(row) {
                return Ok(None);
            }
            let mut range = found.range(row);
            let hit = range.clone().any(|i| found.is(row, i));
            Ok(if hit || !range.any(|i| found.is_null(i)) { Some(hit) } else { None })
        })
    })
}

fn array_position(c: Call) -> Result<Typed> {
    search(c)?.build_nullable(DataType::Int64, |a| {
        let found = Found::new(a)?;
        nums::<Int64Type>(a.rows, |row| {
            let mut range = found.range(row);
            Ok(found.known(row).then(|| range.position(|i| found.is(row, i)).map_or(0, |k| k as i64 + 1)))
        })
    })
}

fn array_remove(c: Call) -> Result<Typed> {
    let c = search(c)?;
    let to = c.args[0].data_type.clone();
    c.build_nullable(to, |a| {
        let found = Found::new(a)?;
        let mut out = Picker::new(a.rows, found.lists.values().len());
        for row in 0..a.rows {
            let valid = found.known(row);
            if valid {
                out.extend(found.range(row).filter(|i| !found.is(row, *i)));
            }
            out.end(valid)?;
        }
        out.list(found.lists.values())
    })
}

/// As `keys`, but 0.0 and -0.0 differ, as they do in Spark's sets of numbers.
fn set_keys(values: &ArrayRef) -> DfResult<Rows> {
    if !is_float(values.data_type()) {
        let [rows] = keys([values])?;
        return Ok(rows);
    }
    // Every NaN is the same.
    let one: ArrayRef = match values.data_type() {
        DataType::Float64 => Arc::new(
            values.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v }),
        ),
        _ => Arc::new(
            values.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v }),
        ),
    };
    Ok(RowConverter::new(vec![SortField::new(one.data_type().clone())])?.convert_columns(&[one])?)
}

fn array_distinct(c: Call) -> Result<Typed> {
    let c = array_args(c.count(1, 1)?, &[0])?;
    ordered(&c, &item(&c, 0)?)?;
    let to = c.args[0].data_type.clone();
    c.build(to, |a| {
        let lists = compact(&a.full(0)?)?;
        let rows = set_keys(lists.values())?;
        let mut seen = FxHashSet::default();
        let mut out = Picker::new(a.rows, lists.values().len());
        for (row, pair) in lists.value_offsets().windows(2).enumerate() {
            seen.clear();
            out.extend((pair[0] as usize..pair[1] as usize).filter(|i| seen.insert(rows.row(*i))));
            out.end(lists.is_valid(row))?;
        }
        out.list(lists.values())
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Set {
    Union,
    Intersect,
    Except,
}

/// Two arrays, cast to the type of both.
fn two(c: Call) -> Result<(Call, DataType)> {
    let mut c = c.count(2, 2)?;
    let (x, y) = (item(&c, 0)?, item(&c, 1)?);
    ordered(&c, &x)?;
    ordered(&c, &y)?;
    let Some(of) = strictly_common(&x, &y) else {
        return Err(c.error(format!(
            "arrays of {} and of {} have no type in common. Use CAST",
            type_to_ddl(&x),
            type_to_ddl(&y)
        )));
    };
    let to = list_of(of);
    let args = std::mem::take(&mut c.args);
    c.args = args.into_iter().map(|a| implicit(a, &to)).collect::<Result<_>>()?;
    Ok((c, to))
}

fn set(c: Call, op: Set) -> Result<Typed> {
    let (c, to) = two(c)?;
    c.build_nullable(to, move |a| {
        let (left, right) = (compact(&a.full(0)?)?, compact(&a.full(1)?)?);
        let old = left.values().len();
        let values = concat(&[left.values().as_ref(), right.values().as_ref()])?;
        let rows = set_keys(&values)?;
        let (mut seen, mut other) = (FxHashSet::default(), FxHashSet::default());
        let mut out = Picker::new(a.rows, values.len());
        let range = |l: &ListArray, row: usize, from: usize| {
            from + l.value_offsets()[row] as usize..from + l.value_offsets()[row + 1] as usize
        };
        for row in 0..a.rows {
            let valid = left.is_valid(row) && right.is_valid(row);
            if valid {
                seen.clear();
                other.clear();
                let (x, y) = (range(&left, row, 0), range(&right, row, old));
                match op {
                    Set::Union => out.extend(x.chain(y).filter(|i| seen.insert(rows.row(*i)))),
                    _ => {
                        other.extend(y.map(|i| rows.row(i)));
                        let wanted = op == Set::Intersect;
                        out.extend(x.filter(|i| other.contains(&rows.row(*i)) == wanted && seen.insert(rows.row(*i))));
                    }
                }
            }
            out.end(valid)?;
        }
        out.list(&values)
    })
}

fn arrays_overlap(c: Call) -> Result<Typed> {
    let (c, _) = two(c)?;
    c.build_nullable(DataType::Boolean, |a| {
        let (left, right) = (compact(&a.full(0)?)?, compact(&a.full(1)?)?);
        let old = left.values().len();
        let rows = set_keys(&concat(&[left.values().as_ref(), right.values().as_ref()])?)?;
        let nulls = [left.values().logical_nulls(), right.values().logical_nulls()];
        let absent = |side: usize, i: usize| nulls[side].as_ref().is_some_and(|n| n.is_null(i));
        let mut seen = FxHashSet::default();
        bools(a.rows, |row| {
            if left.is_null(row) || right.is_null(row) {
                return Ok(None);
            }
            let range = |l: &ListArray| l.value_offsets()[row] as usize..l.value_offsets()[row + 1] as usize;
            let (mut p, mut q) = (range(&left), range(&right));
            if p.is_empty() || q.is_empty() {
                return Ok(Some(false));
            }
            seen.clear();
            seen.extend(p.clone().filter(|i| !absent(0, *i)).map(|i| rows.row(i)));
            let hit = q.clone().any(|i| !absent(1, i) && seen.contains(&rows.row(old + i)));
            let unknown = !hit && (p.any(|i| absent(0, i)) || q.any(|i| absent(1, i)));
            Ok(if unknown { None } else { Some(hit) })
        })
    })
}
