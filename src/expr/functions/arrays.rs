//! Functions that build, order and cut arrays.

use super::collections::{array_args, item};
use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::cast::implicit;
use crate::expr::coerce::Param::{Any, Int, Text};
use crate::expr::coerce::{is_decimal, is_int, strictly_common, unify};
use crate::expr::ddl::{list_of, type_to_ddl};
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Args, written};
use crate::expr::lists::{Picker, check_elements, compact, is_ordered, keys, list, record};
use crate::expr::node::Typed;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use datafusion::error::Result as DfResult;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("array", "array(a, b, …)", array),
    spec("array_append", "array_append(array, value)", |c| add(c, false)),
    spec("array_compact", "array_compact(array)", array_compact),
    spec("array_insert", "array_insert(array, position, value)", array_insert),
    spec("array_join", "array_join(array, delimiter[, nullReplacement])", array_join),
    spec("array_max", "array_max(array)", |c| extreme(c, true)),
    spec("array_min", "array_min(array)", |c| extreme(c, false)),
    spec("array_prepend", "array_prepend(array, value)", |c| add(c, true)),
    spec("array_repeat", "array_repeat(value, count)", array_repeat),
    spec("array_sort", "array_sort(array[, (a, b) -> comparison])", array_sort),
    spec("arrays_zip", "arrays_zip(a, b, …)", arrays_zip),
    spec("flatten", "flatten(arrayOfArrays)", flatten),
    spec("slice", "slice(array, start, length)", slice),
    spec("sort_array", "sort_array(array[, ascending])", sort_array),
];

fn array(c: Call) -> Result<Typed> {
    let most = c.args.len();
    let mut c = c.count(0, most)?;
    let (args, of) = unify(&c.sql, std::mem::take(&mut c.args))?;
    c.args = args;
    let to = list_of(of);
    let made = to.clone();
    let mut typed = c.build(to, move |a| {
        let width = a.len();
        check_elements(a.rows.saturating_mul(width))?;
        let offsets = OffsetBuffer::from_repeated_length(width, a.rows);
        let DataType::List(field) = &made else { return Err(row_error("an array has no type")) };
        let columns = (0..width).map(|k| a.full(k)).collect::<DfResult<Vec<_>>>()?;
        let values = match &columns[..] {
            [] => arrow::array::new_empty_array(field.data_type()),
            [one] => one.clone(),
            _ => {
                let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
                let order: Vec<_> = (0..a.rows).flat_map(|row| (0..width).map(move |k| (k, row))).collect();
                interleave(&columns, &order)?
            }
        };
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, None)?))
    })?;
    typed.nullable = false;
    Ok(typed)
}

/// Refuses values without an order.
pub(super) fn ordered(c: &Call, of: &DataType) -> Result<()> {
    if is_ordered(of) { Ok(()) } else { Err(c.error(format!("{} has no order", type_to_ddl(of)))) }
}

fn sort_array(c: Call) -> Result<Typed> {
    use datafusion::common::ScalarValue as V;
    let mut c = array_args(c.count(1, 2)?, &[0])?;
    ordered(&c, &item(&c, 0)?)?;
    let ascending = match c.args.get(1).map(|a| a.constant()) {
        None => true,
        Some(Some(V::Boolean(Some(ascending)))) => *ascending,
        _ => return Err(c.error("whether it is ascending must be true or false")),
    };
    c.sql = format!("sort_array({}, {ascending})", c.args[0].sql);
    c.args.truncate(1);
    let to = c.args[0].data_type.clone();
    c.build(to, move |a| sorted(a, !ascending, false))
}

fn array_sort(c: Call) -> Result<Typed> {
    let mut c = c.count(1, 1)?;
    ordered(&c, &item(&c, 0)?)?;
    // The comparison that Spark shows.
    let v = "namedlambdavariable()";
    let less = format!("(IF(({v} < {v}), -1, (IF(({v} > {v}), 1, 0))))");
    let nulls = format!("(IF(({v} IS NULL), 1, (IF(({v} IS NULL), -1, {less}))))");
    let comparison = format!("(IF((({v} IS NULL) AND ({v} IS NULL)), 0, {nulls}))");
    c.sql = format!("array_sort({}, lambdafunction({comparison}, {v}, {v}))", c.args[0].sql);
    let to = c.args[0].data_type.clone();
    c.build(to, |a| sorted(a, false, true))
}

fn sorted(a: &Args, descending: bool, nulls_last: bool) -> DfResult<ArrayRef> {
    let lists = compact(&a.full(0)?)?;
    let [rows] = keys([lists.values()])?;
    let nulls = lists.values().logical_nulls();
    let absent = |i: u32| nulls_last && nulls.as_ref().is_some_and(|n| n.is_null(i as usize));
    let mut order: Vec<u32> = (0..lists.values().len() as u32).collect();
    for pair in lists.value_offsets().windows(2) {
        order[pair[0] as usize..pair[1] as usize].sort_by(|x, y| {
            let less = absent(*x).cmp(&absent(*y)).then_with(|| rows.row(*x as usize).cmp(&rows.row(*y as usize)));
            if descending { less.reverse() } else { less }
        });
    }
    let values = take(lists.values(), &UInt32Array::from(order), None)?;
    list(lists.offsets().clone(), values, lists.nulls().cloned())
}

fn extreme(c: Call, greatest: bool) -> Result<Typed> {
    let c = array_args(c.count(1, 1)?, &[0])?;
    let of = item(&c, 0)?;
    ordered(&c, &of)?;
    c.build_nullable(of, move |a| {
        let lists = compact(&a.full(0)?)?;
        let [rows] = keys([lists.values()])?;
        let nulls = lists.values().logical_nulls();
        let best: UInt32Array = lists
            .value_offsets()
            .windows(2)
            .map(|pair| {
                let some =
                    (pair[0] as u32..pair[1] as u32).filter(|i| nulls.as_ref().is_none_or(|n| n.is_valid(*i as usize)));
                some.reduce(|best, i| {
                    let order = rows.row(i as usize).cmp(&rows.row(best as usize));
                    if if greatest { order.is_gt() } else { order.is_lt() } { i } else { best }
                })
            })
            .collect();
        Ok(take(lists.values(), &best, None)?)
    })
}

fn array_join(c: Call) -> Result<Typed> {
    let mut c = array_args(c.count(2, 3)?, &[0])?;
    if item(&c, 0)?.is_nested() {
        return Err(c.error("an ARRAY of strings is expected"));
    }
    for (k, arg) in c.args.iter().enumerate().skip(1) {
        if !matches!(arg.data_type, DataType::Utf8 | DataType::Null) {
            return Err(c.error(format!("argument {} must be STRING", k + 1)));
        }
    }
    let args = std::mem::take(&mut c.args);
    let to = |(k, arg)| implicit(arg, &if k == 0 { list_of(DataType::Utf8) } else { DataType::Utf8 });
    c.args = args.into_iter().enumerate().map(to).collect::<Result<_>>()?;
    c.build_nullable(DataType::Utf8, |a| {
        let lists = a.full(0)?;
        let lists = lists.as_list::<i32>();
        let (texts, delimiter) = (lists.values().as_string::<i32>(), a.str(1)?);
        let replacement = if a.len() > 2 { Some(a.str(2)?) } else { None };
        written(a.rows, |row, out| {
            let Some(delimiter) = delimiter.get(row).filter(|_| lists.is_valid(row)) else { return Ok(false) };
            let replacement = match &replacement {
                None => None,
                Some(text) => match text.get(row) {
                    None => return Ok(false),
                    text => text,
                },
            };
            let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
            let mut first = true;
            for at in from..to {
                let text = if texts.is_valid(at) { Some(texts.value(at)) } else { replacement };
                let Some(text) = text else { continue };
                if !std::mem::take(&mut first) {
                    out.extend_from_slice(delimiter.as_bytes());
                }
                out.extend_from_slice(text.as_bytes());
            }
            Ok(true)
        })
    })
}

/// `concat` of arrays.
pub(super) fn concat_arrays(mut c: Call) -> Result<Typed> {
    if let Some(other) = c.args.iter().find(|a| !matches!(a.data_type, DataType::List(_))) {
        return Err(c.error(format!("{} is {}, not an ARRAY", other.sql, type_to_ddl(&other.data_type))));
    }
    let (args, to) = unify(&c.sql, std::mem::take(&mut c.args))?;
    c.args = args;
    c.build_nullable(to, |a| {
        let lists = (0..a.len()).map(|k| compact(&a.full(k)?)).collect::<DfResult<Vec<_>>>()?;
        let values: Vec<&dyn Array> = lists.iter().map(|l| l.values().as_ref()).collect();
        check_elements(values.iter().map(|v| v.len()).sum())?;
        let values = concat(&values)?;
        let mut starts = vec![0usize];
        lists.iter().for_each(|l| starts.push(starts[starts.len() - 1] + l.values().len()));
        let mut out = Picker::new(a.rows, values.len());
        for row in 0..a.rows {
            let valid = lists.iter().all(|l| l.is_valid(row));
            for (l, start) in lists.iter().zip(&starts).filter(|_| valid) {
                let offsets = l.value_offsets();
                out.extend(start + offsets[row] as usize..start + offsets[row + 1] as usize);
            }
            out.end(valid)?;
        }
        out.list(&values)
    })
}

/// `concat_ws` where an argument is an array: its texts are joined too, and NULLs are left out.
pub(super) fn concat_ws_arrays(mut c: Call) -> Result<Typed> {
    let args = std::mem::take(&mut c.args);
    let mut texts = vec![];
    for (k, arg) in args.into_iter().enumerate() {
        texts.push(match &arg.data_type {
            DataType::List(of) if k > 0 && !of.data_type().is_nested() => implicit(arg, &list_of(DataType::Utf8))?,
            _ => Text.take(c.name, k, arg)?,
        });
    }
    let nullable = texts[0].nullable;
    c.args = texts;
    let mut typed = c.build(DataType::Utf8, |a| {
        enum Part<'a> {
            Text(crate::expr::kernel::Arg<'a, arrow::array::StringArray>),
            List(&'a ListArray, usize),
        }
        let separator = a.str(0)?;
        let parts = (1..a.len())
            .map(|k| match a.array(k).as_list_opt::<i32>() {
                Some(lists) => Ok(Part::List(lists, a.mask(k))),
                None => Ok(Part::Text(a.str(k)?)),
            })
            .collect::<DfResult<Vec<_>>>()?;
        written(a.rows, |row, out| {
            let Some(separator) = separator.get(row) else { return Ok(false) };
            let mut first = true;
            let mut put = |text: &str| {
                if !std::mem::take(&mut first) {
                    out.extend_from_slice(separator.as_bytes());
                }
                out.extend_from_slice(text.as_bytes());
            };
            for part in &parts {
                match part {
                    Part::Text(text) => text.get(row).into_iter().for_each(&mut put),
                    Part::List(lists, mask) if lists.is_valid(row & mask) => {
                        let (at, texts) = (row & mask, lists.values().as_string::<i32>());
                        let range = lists.value_offsets()[at] as usize..lists.value_offsets()[at + 1] as usize;
                        range.filter(|i| texts.is_valid(*i)).for_each(|i| put(texts.value(i)));
                    }
                    Part::List(..) => {}
                }
            }
            Ok(true)
        })
    })?;
    typed.nullable = nullable;
    Ok(typed)
}

/// The array and the value, cast to the type of both, as `array_append` does it.
fn with_value(mut c: Call, at: usize) -> Result<(Call, DataType)> {
    let (of, value) = (item(&c, 0)?, c.args[at].data_type.clone());
    let to = strictly_common(&of, &value).filter(|to| is_decimal(to) == is_decimal(&of) || of == DataType::Null);
    let Some(to) = to else {
        return Err(c.error(format!(
            "{} does not go into an array of {}. Use CAST",
            type_to_ddl(&value),
            type_to_ddl(&of)
        )));
    };
    c.args[0] = implicit(c.args[0].clone(), &list_of(to.clone()))?;
    c.args[at] = implicit(c.args[at].clone(), &to)?;
    Ok((c, to))
}

fn add(c: Call, first: bool) -> Result<Typed> {
    let (c, of) = with_value(c.count(2, 2)?, 1)?;
    c.build_nullable(list_of(of), move |a| {
        let lists = compact(&a.full(0)?)?;
        let value = a.full(1)?;
        let old = lists.values().len();
        let values = concat(&[lists.values().as_ref(), value.as_ref()])?;
        let mut out = Picker::new(a.rows, values.len());
        for (row, pair) in lists.value_offsets().windows(2).enumerate() {
            let valid = lists.is_valid(row);
            if valid {
                if first {
                    out.push(old + row);
                }
                out.extend(pair[0] as usize..pair[1] as usize);
                if !first {
                    out.push(old + row);
                }
            }
            out.end(valid)?;
        }
        out.list(&values)
    })
}

fn array_insert(c: Call) -> Result<Typed> {
    let (mut c, of) = with_value(c.count(3, 3)?, 2)?;
    if !is_int(&c.args[1].data_type) || c.args[1].data_type == DataType::Int64 {
        return Err(c.error("the position must be INT"));
    }
    c.args[1] = implicit(c.args[1].clone(), &DataType::Int32)?;
    c.build_nullable(list_of(of), |a| {
        let lists = compact(&a.full(0)?)?;
        let (at, value) = (a.num::<Int32Type>(1)?, a.full(2)?);
        let old = lists.values().len();
        let values = concat(&[lists.values().as_ref(), value.as_ref()])?;
        let mut out = Picker::new(a.rows, values.len());
        for (row, pair) in lists.value_offsets().windows(2).enumerate() {
            let (from, to) = (pair[0] as usize, pair[1] as usize);
            let Some(at) = at.get(row).filter(|_| lists.is_valid(row)) else {
                out.end(false)?;
                continue;
            };
            let far = at.unsigned_abs() as usize;
            match at {
                0 => return Err(row_error("a position of array_insert counts from 1: 0 is not a position")),
                1.. => {
                    let middle = to.min(from + far - 1);
                    out.extend(from..middle);
                    out.repeat(None, (far - 1).saturating_sub(to - from))?;
                    out.push(old + row);
                    out.extend(middle..to);
                }
                _ if far <= to - from + 1 => {
                    let middle = to - (far - 1);
                    out.extend(from..middle);
                    out.push(old + row);
                    out.extend(middle..to);
                }
                _ => {
                    out.push(old + row);
                    out.repeat(None, far - (to - from) - 1)?;
                    out.extend(from..to);
                }
            }
            out.end(true)?;
        }
        out.list(&values)
    })
}

fn array_compact(c: Call) -> Result<Typed> {
    let c = array_args(c.count(1, 1)?, &[0])?;
    let to = c.args[0].data_type.clone();
    c.build(to, |a| {
        let lists = compact(&a.full(0)?)?;
        let Some(nulls) = lists.values().logical_nulls().filter(|n| n.null_count() > 0) else {
            return list(lists.offsets().clone(), lists.values().clone(), lists.nulls().cloned());
        };
        let mut out = Picker::new(a.rows, lists.values().len());
        for (row, pair) in lists.value_offsets().windows(2).enumerate() {
            out.extend((pair[0] as usize..pair[1] as usize).filter(|i| nulls.is_valid(*i)));
            out.end(lists.is_valid(row))?;
        }
        out.list(lists.values())
    })
}

fn array_repeat(c: Call) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let count = c.args[1].data_type.clone();
    if !matches!(count, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Null) {
        return Err(c.error("the count must be INT"));
    }
    c.args[1] = implicit(c.args[1].clone(), &DataType::Int32)?;
    let to = list_of(c.args[0].data_type.clone());
    c.build_nullable(to, |a| {
        let (value, count) = (a.full(0)?, a.num::<Int32Type>(1)?);
        let mut out = Picker::new(a.rows, a.rows);
        for row in 0..a.rows {
            let count = count.get(row);
            out.repeat(Some(row), count.map_or(0, |n| n.max(0) as usize))?;
            out.end(count.is_some())?;
        }
        out.list(&value)
    })
}

/// The options have the names of the fields, if they are not numbers.
fn arrays_zip(c: Call) -> Result<Typed> {
    let most = c.args.len().max(1);
    let c = c.count(1, most)?;
    let all: Vec<usize> = (0..c.args.len()).collect();
    let c = array_args(c, &all)?;
    let field = |k: usize| {
        let name = c.options.get(k).map_or_else(|| k.to_string(), |(_, name)| name.clone());
        Ok(Field::new(name, item(&c, k)?, true))
    };
    let fields: Fields = all.iter().map(|k| field(*k)).collect::<Result<Vec<_>>>()?.into();
    let to = list_of(DataType::Struct(fields.clone()));
    c.build_nullable(to, move |a| {
        let lists = (0..a.len()).map(|k| compact(&a.full(k)?)).collect::<DfResult<Vec<_>>>()?;
        let length = |l: &ListArray, row: usize| (l.value_offsets()[row + 1] - l.value_offsets()[row]) as usize;
        let (mut offsets, mut valid) = (vec![0], vec![]);
        let mut end = 0usize;
        for row in 0..a.rows {
            valid.push(lists.iter().all(|l| l.is_valid(row)));
            if valid[row] {
                end += lists.iter().map(|l| length(l, row)).max().unwrap_or(0);
            }
            check_elements(end)?;
            offsets.push(end as i32);
        }
        let column = |l: &ListArray| {
            let mut at = arrow::array::UInt32Builder::with_capacity(end);
            for row in 0..a.rows {
                let (from, have) = (l.value_offsets()[row] as usize, length(l, row));
                for k in 0..(offsets[row + 1] - offsets[row]) as usize {
                    at.append_option((k < have).then_some((from + k) as u32));
                }
            }
            Ok(take(l.values(), &at.finish(), None)?)
        };
        let columns = lists.iter().map(column).collect::<DfResult<Vec<_>>>()?;
        let values = record(&fields, columns, None, end)?;
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        list(OffsetBuffer::new(offsets.into()), values, nulls)
    })
}

fn flatten(c: Call) -> Result<Typed> {
    let c = c.count(1, 1)?;
    let inner = item(&c, 0)?;
    if !matches!(inner, DataType::List(_)) {
        return Err(c.error("an ARRAY of ARRAYs is expected"));
    }
    c.build_nullable(inner, |a| {
        let outer = compact(&a.full(0)?)?;
        let inner = compact(outer.values())?;
        let ends = inner.value_offsets();
        if inner.null_count() == 0 {
            let offsets: Vec<i32> = outer.value_offsets().iter().map(|o| ends[*o as usize]).collect();
            return list(OffsetBuffer::new(offsets.into()), inner.values().clone(), outer.nulls().cloned());
        }
        let mut out = Picker::new(a.rows, inner.values().len());
        for (row, pair) in outer.value_offsets().windows(2).enumerate() {
            let (from, to) = (pair[0] as usize, pair[1] as usize);
            let valid = outer.is_valid(row) && (from..to).all(|k| inner.is_valid(k));
            if valid {
                out.extend(ends[from] as usize..ends[to] as usize);
            }
            out.end(valid)?;
        }
        out.list(inner.values())
    })
}

fn slice(c: Call) -> Result<Typed> {
    let c = array_args(c.take(&[Any, Int, Int], 3)?, &[0])?;
    let to = c.args[0].data_type.clone();
    c.build_nullable(to, |a| {
        let lists = compact(&a.full(0)?)?;
        let (start, length) = (a.num::<Int32Type>(1)?, a.num::<Int32Type>(2)?);
        let mut out = Picker::new(a.rows, lists.values().len());
        for (row, pair) in lists.value_offsets().windows(2).enumerate() {
            let (Some(start), Some(length), true) = (start.get(row), length.get(row), lists.is_valid(row)) else {
                out.end(false)?;
                continue;
            };
            let (from, to) = (i64::from(pair[0]), i64::from(pair[1]));
            let first = match i64::from(start) {
                0 => return Err(row_error("the start of slice counts from 1: 0 is not a position")),
                s if s > 0 => from + s - 1,
                s => to + s,
            };
            if length < 0 {
                return Err(row_error("the length of slice is negative"));
            }
            if first >= from && first < to {
                out.extend(first as usize..to.min(first + i64::from(length)) as usize);
            }
            out.end(true)?;
        }
        out.list(lists.values())
    })
}

/// `reverse` of arrays.
pub(super) fn reverse_array(c: Call) -> Result<Typed> {
    let c = c.count(1, 1)?;
    let to = c.args[0].data_type.clone();
    c.build(to, |a| {
        let lists = compact(&a.full(0)?)?;
        let order: UInt32Array =
            lists.value_offsets().windows(2).flat_map(|pair| (pair[0] as u32..pair[1] as u32).rev()).collect();
        let values = take(lists.values(), &order, None)?;
        list(lists.offsets().clone(), values, lists.nulls().cloned())
    })
}
