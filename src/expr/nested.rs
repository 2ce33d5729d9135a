//! Fields of structs, elements of arrays, values of maps.

use super::cast::implicit;
use super::coerce::{canonical, is_int};
use super::ddl::{list_of, type_to_ddl};
use super::evaluate::row_error;
use super::float_order::normalize;
use super::kernel::{Args, Kernel};
use super::node::Typed;
use crate::error::did_you_mean;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array, UInt32Builder, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result as DfResult;
use std::sync::Arc;

/// `s.name`: a field of a struct, or the value of a key of a map.
pub(super) fn field(operand: Typed, name: &str) -> Result<Typed> {
    let sql = format!("{}.{name}", operand.sql);
    match operand.data_type.clone() {
        DataType::Struct(fields) => {
            let lower = name.to_lowercase();
            let mut alike = fields.iter().enumerate().filter(|(_, f)| f.name().to_lowercase() == lower).map(|(k, _)| k);
            let found = match (fields.iter().position(|f| f.name() == name), alike.next(), alike.next()) {
                (Some(k), ..) => Some(k),
                (None, Some(k), Some(other)) => {
                    return Err(Error::schema(format!(
                        "{sql} is ambiguous: it may be '{}' or '{}'. Write it exactly.",
                        fields[k].name(),
                        fields[other].name()
                    )));
                }
                (None, found, _) => found,
            };
            let Some(k) = found else {
                let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
                return Err(Error::schema(format!(
                    "{} has no field '{name}'.{} The fields are: {}.",
                    operand.sql,
                    did_you_mean(name, names.iter().copied()),
                    names.join(", ")
                )));
            };
            let (data_type, nullable) = (fields[k].data_type().clone(), fields[k].is_nullable());
            let kernel: Kernel = Arc::new(move |a| {
                let array = a.full(0)?;
                let parent = array.as_struct();
                let child = parent.column(k);
                let nulls = NullBuffer::union(parent.nulls(), child.nulls());
                Ok(make_array(child.to_data().into_builder().nulls(nulls).build()?))
            });
            Ok(Typed::call(vec![operand], data_type, nullable, sql, kernel))
        }
        // The field of each element.
        DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => {
            let element = Typed::null(item.data_type()).named(operand.sql.clone());
            let of = field(element, name)?;
            let DataType::Struct(fields) = item.data_type() else { return Ok(of) };
            let lower = name.to_lowercase();
            let exact = fields.iter().position(|f| f.name() == name);
            let k = exact.or_else(|| fields.iter().position(|f| f.name().to_lowercase() == lower)).unwrap_or_default();
            let to = list_of(of.data_type.clone());
            let made = to.clone();
            let kernel: Kernel = Arc::new(move |a| {
                let array = a.full(0)?;
                let list = array.as_list::<i32>();
                let elements = list.values().as_struct();
                let child = elements.column(k);
                let nulls = NullBuffer::union(elements.nulls(), child.nulls());
                let child = make_array(child.to_data().into_builder().nulls(nulls).build()?);
                let DataType::List(item) = &made else { return Ok(array.clone()) };
                Ok(Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), child, list.nulls().cloned())?))
            });
            let nullable = operand.nullable;
            Ok(Typed::call(vec![operand], to, nullable, sql, kernel))
        }
        DataType::Map(..) => {
            let key = Typed::literal(name.into(), name);
            subscript(operand, key)
        }
        other => Err(Error::schema(format!(
            "{} is {}, which has no fields: '{name}' is not in it",
            operand.sql,
            type_to_ddl(&other)
        ))),
    }
}

/// `array[i]` (from 0; an index out of range is an error), `map[key]` (NULL where the map does not have the key).
pub(super) fn subscript(operand: Typed, index: Typed) -> Result<Typed> {
    let sql = format!("{}[{}]", operand.sql, index.sql);
    match operand.data_type.clone() {
        DataType::List(item) => {
            if !is_int(&index.data_type) {
                return Err(Error::schema(format!("{sql}: an index is a whole number")));
            }
            let index = implicit(index, &DataType::Int32)?;
            list_item(operand, index, item.data_type().clone(), sql, |len, i| {
                usize::try_from(i).ok().filter(|i| *i < len).map(Some).ok_or(OUT_OF_RANGE)
            })
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                let index = implicit(index, &canonical(kv[0].data_type()))?;
                map_value(operand, index, kv[1].data_type().clone(), sql)
            }
            _ => Err(Error::schema(format!("{sql}: the entries of this MAP are not key and value"))),
        },
        other => {
            Err(Error::schema(format!("{sql}: {} is {}, which has no elements", operand.sql, type_to_ddl(&other))))
        }
    }
}

pub(super) const OUT_OF_RANGE: &str =
    "an array index is out of range; get(array, index) and try_element_at(array, index) give NULL there";

/// The element at the position `pick(length, index)`.
pub(super) fn list_item(
    list: Typed,
    index: Typed,
    item: DataType,
    sql: String,
    pick: fn(usize, i32) -> Result<Option<usize>, &'static str>,
) -> Result<Typed> {
    let kernel: Kernel = Arc::new(move |a| {
        let array = a.full(0)?;
        let list = array.as_list::<i32>();
        let index = a.num::<Int32Type>(1)?;
        let offsets = list.value_offsets();
        let mut wanted = UInt32Builder::with_capacity(a.rows);
        for row in 0..a.rows {
            match index.get(row).filter(|_| list.is_valid(row)) {
                None => wanted.append_null(),
                Some(i) => {
                    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                    match pick(end - start, i).map_err(row_error)? {
                        Some(i) => wanted.append_value((start + i) as u32),
                        None => wanted.append_null(),
                    }
                }
            }
        }
        Ok(take(list.values(), &wanted.finish(), None)?)
    });
    Ok(Typed::call(vec![list, index], item, true, sql, kernel))
}

/// The value of a key of each map. One Arrow kernel compares all keys of all rows with the key of their row.
pub(super) fn map_value(map: Typed, key: Typed, value: DataType, sql: String) -> Result<Typed> {
    if key.data_type.is_nested() || key.data_type == DataType::Null {
        return Ok(super::functions::value_of_nested_key(map, key, value, sql));
    }
    let kernel: Kernel = Arc::new(move |a: &Args| -> DfResult<ArrayRef> {
        let array = a.full(0)?;
        let map = array.as_map();
        let offsets = map.value_offsets();
        let rows_of_keys: UInt32Array = (0..a.rows)
            .flat_map(|row| std::iter::repeat_n(row as u32, (offsets[row + 1] - offsets[row]) as usize))
            .collect();
        let first = offsets[0] as usize;
        let keys = normalize(&map.keys().slice(first, rows_of_keys.len()));
        let wanted = take(&normalize(&a.full(1)?), &rows_of_keys, None)?;
        let equal = arrow::compute::kernels::cmp::eq(&keys, &wanted)?;
        let mut found = UInt32Builder::with_capacity(a.rows);
        for row in 0..a.rows {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            let hit = range.clone().find(|k| equal.is_valid(k - first) && equal.value(k - first));
            found.append_option(hit.filter(|_| map.is_valid(row)).map(|k| k as u32));
        }
        Ok(take(map.values(), &found.finish(), None)?)
    });
    Ok(Typed::call(vec![map, key], value, true, sql, kernel))
}
