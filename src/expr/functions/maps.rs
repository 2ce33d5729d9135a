//! Functions that build maps and take them apart.

use super::collections::{array_args, item};
use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::cast::implicit;
use crate::expr::coerce::{strictly_common, unify};
use crate::expr::ddl::{list_of, map_of, type_to_ddl};
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Kernel, bools};
use crate::expr::lists::{compact, field_of, key_value, keys, list, map};
use crate::expr::node::Typed;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("map", "map(key, value, …)", build_map),
    spec("map_concat", "map_concat(a, b, …)", map_concat),
    spec("map_contains_key", "map_contains_key(map, key)", map_contains_key),
    spec("map_entries", "map_entries(map)", map_entries),
    spec("map_from_arrays", "map_from_arrays(keys, values)", map_from_arrays),
    spec("map_from_entries", "map_from_entries(arrayOfStructs)", map_from_entries),
];

fn has_map(t: &DataType) -> bool {
    match t {
        DataType::Map(..) => true,
        DataType::List(of) => has_map(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_map(f.data_type())),
        _ => false,
    }
}

/// The type of a map with these keys and values. An error if there is no such map.
pub(in crate::expr) fn map_type(place: &str, key: DataType, value: DataType) -> Result<DataType> {
    if has_map(&key) {
        return Err(crate::Error::schema(format!("{place}: a key of a MAP cannot be {}", type_to_ddl(&key))));
    }
    Ok(map_of(key, value))
}

/// The values of all columns, row by row: the values of the first row, the values of the second row, ….
fn in_turns(columns: &[ArrayRef], rows: usize, empty: &DataType) -> DfResult<ArrayRef> {
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    if columns.is_empty() {
        return Ok(arrow::array::new_empty_array(empty));
    }
    let order: Vec<_> = (0..rows).flat_map(|row| (0..columns.len()).map(move |k| (k, row))).collect();
    Ok(interleave(&columns, &order)?)
}

fn build_map(mut c: Call) -> Result<Typed> {
    let args = std::mem::take(&mut c.args);
    if args.len() % 2 == 1 {
        return Err(c.error("keys and values come in pairs"));
    }
    let (mut all_keys, mut values) = (vec![], vec![]);
    for (k, arg) in args.into_iter().enumerate() {
        if k % 2 == 0 { all_keys.push(arg) } else { values.push(arg) }
    }
    let width = all_keys.len();
    let (all_keys, key) = unify(&c.sql, all_keys)?;
    let (values, value) = unify(&c.sql, values)?;
    let to = map_type(&c.sql, key.clone(), value.clone())?;
    let made = to.clone();
    c.args = all_keys.into_iter().chain(values).collect();
    let mut typed = c.build(to, move |a| {
        let columns = (0..2 * width).map(|k| a.full(k)).collect::<DfResult<Vec<_>>>()?;
        let (k, v) = columns.split_at(width);
        let offsets = OffsetBuffer::from_repeated_length(width, a.rows);
        map(&made, offsets, in_turns(k, a.rows, &key)?, in_turns(v, a.rows, &value)?, None)
    })?;
    typed.nullable = false;
    Ok(typed)
}

/// The types of a MAP argument. An error if the argument is not a MAP.
fn map_arg(c: &Call, k: usize) -> Result<(DataType, DataType)> {
    key_value(&c.args[k].data_type).ok_or_else(|| c.error(format!("argument {} must be a MAP", k + 1)))
}

fn map_concat(mut c: Call) -> Result<Typed> {
    let most = c.args.len().max(1);
    c = c.count(1, most)?;
    let mut to = c.args[0].data_type.clone();
    for k in 0..c.args.len() {
        map_arg(&c, k)?;
        let other = c.args[k].data_type.clone();
        to = strictly_common(&to, &other).ok_or_else(|| {
            c.error(format!("{} and {} do not go together. Use CAST", type_to_ddl(&to), type_to_ddl(&other)))
        })?;
    }
    let args = std::mem::take(&mut c.args);
    c.args = args.into_iter().map(|a| implicit(a, &to)).collect::<Result<_>>()?;
    let made = to.clone();
    c.build_nullable(to, move |a| {
        let maps = (0..a.len()).map(|k| compact(&a.full(k)?)).collect::<DfResult<Vec<_>>>()?;
        let entries: Vec<&dyn Array> = maps.iter().map(|m| m.values().as_ref()).collect();
        let entries = concat(&entries)?;
        let mut starts = vec![0usize];
        maps.iter().for_each(|m| starts.push(starts[starts.len() - 1] + m.values().len()));
        let mut out = crate::expr::lists::Picker::new(a.rows, entries.len());
        for row in 0..a.rows {
            let valid = maps.iter().all(|m| m.is_valid(row));
            for (m, start) in maps.iter().zip(&starts).filter(|_| valid) {
                let offsets = m.value_offsets();
                out.extend(start + offsets[row] as usize..start + offsets[row + 1] as usize);
            }
            out.end(valid)?;
        }
        let lists = out.list(&entries)?;
        let lists = lists.as_list::<i32>();
        let kv = lists.values().as_struct();
        map(&made, lists.offsets().clone(), kv.column(0).clone(), kv.column(1).clone(), lists.nulls().cloned())
    })
}

fn map_contains_key(c: Call) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let (key, value) = map_arg(&c, 0)?;
    let wanted = c.args[1].data_type.clone();
    let to = strictly_common(&key, &wanted).filter(|_| wanted != DataType::Null);
    let Some(to) = to else {
        return Err(c.error(format!(
            "{} is not a key of a map of {}. Use CAST",
            type_to_ddl(&wanted),
            type_to_ddl(&key)
        )));
    };
    c.args[0] = implicit(c.args[0].clone(), &map_of(to.clone(), value))?;
    c.args[1] = implicit(c.args[1].clone(), &to)?;
    c.build_nullable(DataType::Boolean, |a| {
        let maps = compact(&a.full(0)?)?;
        let wanted = a.full(1)?;
        let [have, wanted_rows] = keys([maps.values().as_struct().column(0), &wanted])?;
        bools(a.rows, |row| {
            let mut range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
            let known = maps.is_valid(row) && wanted.is_valid(row);
            Ok(known.then(|| range.any(|i| have.row(i) == wanted_rows.row(row))))
        })
    })
}

fn map_entries(mut c: Call) -> Result<Typed> {
    c = c.count(1, 1)?;
    if c.args[0].data_type == DataType::Null {
        c.args[0] = Typed::null(&map_of(DataType::Null, DataType::Null)).named("NULL");
    }
    let (key, value) = map_arg(&c, 0)?;
    let fields = arrow::datatypes::Fields::from(vec![
        arrow::datatypes::Field::new("key", key, false),
        arrow::datatypes::Field::new("value", value, true),
    ]);
    let to = list_of(DataType::Struct(shown(&fields)));
    let made = shown(&fields);
    c.build(to, move |a| {
        let maps = compact(&a.full(0)?)?;
        let kv = maps.values().as_struct();
        let values = crate::expr::lists::record(&made, kv.columns().to_vec(), None, kv.len())?;
        list(maps.offsets().clone(), values, maps.nulls().cloned())
    })
}

/// Fields that may be NULL, as those of every struct that an expression makes.
fn shown(fields: &arrow::datatypes::Fields) -> arrow::datatypes::Fields {
    fields.iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect()
}

fn map_from_arrays(c: Call) -> Result<Typed> {
    let c = array_args(c.count(2, 2)?, &[0, 1])?;
    let to = map_type(&c.sql, item(&c, 0)?, item(&c, 1)?)?;
    let made = to.clone();
    c.build_nullable(to, move |a| {
        let (mut k, mut v) = (compact(&a.full(0)?)?, compact(&a.full(1)?)?);
        let nulls = NullBuffer::union(k.nulls(), v.nulls());
        if let Some(nulls) = nulls.as_ref().filter(|_| k.null_count() + v.null_count() > 0) {
            // If one list of a row is NULL, the other list does not count.
            let masked = |l: arrow::array::ListArray| -> DfResult<arrow::array::ListArray> {
                let (field, offsets, values, _) = l.into_parts();
                let l: ArrayRef =
                    Arc::new(arrow::array::ListArray::try_new(field, offsets, values, Some(nulls.clone()))?);
                compact(&l)
            };
            (k, v) = (masked(k)?, masked(v)?);
        }
        if k.offsets() != v.offsets() {
            return Err(row_error("the arrays of keys and of values have different lengths"));
        }
        map(&made, k.offsets().clone(), k.values().clone(), v.values().clone(), nulls)
    })
}

fn map_from_entries(c: Call) -> Result<Typed> {
    let c = c.count(1, 1)?;
    let of = item(&c, 0)?;
    let kv = match &of {
        DataType::Struct(kv) if kv.len() == 2 => (kv[0].data_type().clone(), kv[1].data_type().clone()),
        _ => return Err(c.error("an ARRAY of STRUCTs with two fields is expected")),
    };
    let to = map_type(&c.sql, kv.0, kv.1)?;
    let made = to.clone();
    c.build_nullable(to, move |a| {
        let mut lists = compact(&a.full(0)?)?;
        if lists.values().null_count() > 0 {
            // A NULL entry makes the whole map NULL.
            let (field, offsets, values, nulls) = lists.into_parts();
            let valid = |row: usize| {
                let mut range = offsets[row] as usize..offsets[row + 1] as usize;
                nulls.as_ref().is_none_or(|n| n.is_valid(row)) && range.all(|i| values.is_valid(i))
            };
            let nulls = NullBuffer::from((0..a.rows).map(valid).collect::<Vec<_>>());
            let masked: ArrayRef =
                Arc::new(arrow::array::ListArray::try_new(field, offsets.clone(), values.clone(), Some(nulls))?);
            lists = compact(&masked)?;
        }
        let kv = lists.values().as_struct();
        map(&made, lists.offsets().clone(), field_of(kv, 0)?, field_of(kv, 1)?, lists.nulls().cloned())
    })
}

/// The value of a key of each map, for keys that Arrow does not compare.
pub(in crate::expr) fn value_of_nested_key(m: Typed, key: Typed, value: DataType, sql: String) -> Typed {
    let kernel: Kernel = Arc::new(|a| {
        let maps = compact(&a.full(0)?)?;
        let wanted = a.full(1)?;
        let kv = maps.values().as_struct();
        let [have, wanted_rows] = keys([kv.column(0), &wanted])?;
        let at: arrow::array::UInt32Array = (0..a.rows)
            .map(|row| {
                let mut range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
                let found = range.find(|i| have.row(*i) == wanted_rows.row(row));
                found.filter(|_| maps.is_valid(row) && wanted.is_valid(row)).map(|i| i as u32)
            })
            .collect();
        Ok(take(kv.column(1), &at, None)?)
    });
    Typed::call(vec![m, key], value, true, sql, kernel)
}
