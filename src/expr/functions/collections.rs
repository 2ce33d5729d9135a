//! Arrays and maps.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::cast::implicit;
use crate::expr::coerce::Param::Any;
use crate::expr::coerce::{common, is_int};
use crate::expr::ddl::{list_of, type_to_ddl};
use crate::expr::float_order::normalize;
use crate::expr::kernel::{bools, nums};
use crate::expr::nested::{OUT_OF_RANGE, list_item, map_value};
use crate::expr::node::Typed;
use arrow::array::{Array, AsArray, ListArray, UInt32Array};
use arrow::compute::kernels::cmp;
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type};
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("size", "size(arrayOrMap)", size),
    spec("cardinality", "cardinality(arrayOrMap)", size),
    spec("array_size", "array_size(array)", |c| {
        let c = c.count(1, 1)?;
        if !matches!(c.args[0].data_type, DataType::List(_)) {
            return Err(c.error("an ARRAY is expected"));
        }
        size(c)
    }),
    spec("array_contains", "array_contains(array, value)", array_contains),
    spec("element_at", "element_at(arrayOrMap, indexOrKey)", |c| element(c, "element_at")),
    spec("try_element_at", "try_element_at(arrayOrMap, indexOrKey)", |c| element(c, "try_element_at")),
    spec("get", "get(array, index)", |c| element(c, "get")),
    spec("map_keys", "map_keys(map)", |c| side(c, 0)),
    spec("map_values", "map_values(map)", |c| side(c, 1)),
];

fn size(c: Call) -> Result<Typed> {
    let c = c.take(&[Any], 1)?;
    match c.args[0].data_type {
        DataType::List(_) | DataType::Map(..) => c.build(DataType::Int32, |a| {
            let array = a.full(0)?;
            let offsets = match array.as_map_opt() {
                Some(map) => map.value_offsets(),
                None => array.as_list::<i32>().value_offsets(),
            };
            nums::<Int32Type>(a.rows, |i| Ok(array.is_valid(i).then(|| offsets[i + 1] - offsets[i])))
        }),
        _ => Err(c.error("an ARRAY or a MAP is expected")),
    }
}

fn array_contains(c: Call) -> Result<Typed> {
    let mut c = c.take(&[Any, Any], 2)?;
    let DataType::List(item) = c.args[0].data_type.clone() else { return Err(c.error("an ARRAY is expected")) };
    let value = c.args.remove(1);
    if common(item.data_type(), &value.data_type).as_ref() != Some(item.data_type()) || item.data_type().is_nested() {
        return Err(c.error(format!(
            "{} is not in an array of {}. Use CAST",
            type_to_ddl(&value.data_type),
            type_to_ddl(item.data_type())
        )));
    }
    c.args.push(implicit(value, item.data_type())?);
    c.build_nullable(DataType::Boolean, |a| {
        let array = a.full(0)?;
        let list = array.as_list::<i32>();
        let offsets = list.value_offsets();
        let owner: UInt32Array = (0..a.rows)
            .flat_map(|row| std::iter::repeat_n(row as u32, (offsets[row + 1] - offsets[row]) as usize))
            .collect();
        let first = offsets[0] as usize;
        // 0.0 equals -0.0, and NaN equals NaN.
        let items = normalize(&list.values().slice(first, owner.len()));
        let value = normalize(&a.full(1)?);
        let equal = cmp::eq(&items, &take(&value, &owner, None)?)?;
        bools(a.rows, |i| {
            if list.is_null(i) || value.is_null(i) {
                return Ok(None);
            }
            let range = offsets[i] as usize - first..offsets[i + 1] as usize - first;
            let mut unknown = false;
            for k in range {
                match equal.is_valid(k) {
                    true if equal.value(k) => return Ok(Some(true)),
                    valid => unknown |= !valid,
                }
            }
            Ok(if unknown { None } else { Some(false) })
        })
    })
}

fn element(c: Call, name: &'static str) -> Result<Typed> {
    let mut c = c.take(&[Any, Any], 2)?;
    let index = c.args.remove(1);
    match c.args[0].data_type.clone() {
        DataType::List(item) => {
            if !is_int(&index.data_type) {
                return Err(c.error("an index is a whole number"));
            }
            let index = implicit(index, &DataType::Int32)?;
            let pick: fn(usize, i32) -> Result<Option<usize>, &'static str> = match name {
                "get" => |len, i| Ok(usize::try_from(i).ok().filter(|i| *i < len)),
                "element_at" => |len, i| from_one(len, i)?.map(Some).ok_or(OUT_OF_RANGE),
                _ => from_one,
            };
            list_item(c.args.remove(0), index, item.data_type().clone(), c.sql, pick)
        }
        DataType::Map(entries, _) if name != "get" => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                let key = implicit(index, kv[0].data_type())?;
                map_value(c.args.remove(0), key, kv[1].data_type().clone(), c.sql)
            }
            _ => Err(c.error("an ARRAY or a MAP is expected")),
        },
        _ => Err(c.error("an ARRAY or a MAP is expected")),
    }
}

fn from_one(len: usize, i: i32) -> Result<Option<usize>, &'static str> {
    let k = match i {
        0 => return Err("an index of element_at counts from 1: 0 is not one"),
        i if i > 0 => i64::from(i) - 1,
        i => len as i64 + i64::from(i),
    };
    Ok(usize::try_from(k).ok().filter(|k| *k < len))
}

fn side(c: Call, which: usize) -> Result<Typed> {
    let c = c.take(&[Any], 1)?;
    let DataType::Map(entries, _) = c.args[0].data_type.clone() else { return Err(c.error("a MAP is expected")) };
    let DataType::Struct(kv) = entries.data_type() else { return Err(c.error("a MAP is expected")) };
    let to = list_of(kv[which].data_type().clone());
    let out = to.clone();
    c.build(to, move |a| {
        let array = a.full(0)?;
        let map = array.as_map();
        let values = if which == 0 { map.keys() } else { map.values() };
        let DataType::List(field) = &out else { return Ok(array.clone()) };
        let list = ListArray::try_new(field.clone(), map.offsets().clone(), values.clone(), map.nulls().cloned())?;
        Ok(Arc::new(list))
    })
}
