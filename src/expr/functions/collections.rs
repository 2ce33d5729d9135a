//! Arrays and maps.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::cast::implicit;
use crate::expr::coerce::Param::Any;
use crate::expr::coerce::{is_int, strictly_common};
use crate::expr::ddl::{list_of, map_of, type_to_ddl};
use crate::expr::kernel::nums;
use crate::expr::nested::{OUT_OF_RANGE, list_item, map_value};
use crate::expr::node::Typed;
use arrow::array::{Array, AsArray, ListArray};
use arrow::datatypes::{DataType, Int32Type};
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("size", "size(arrayOrMap)", size),
    spec("cardinality", "cardinality(arrayOrMap)", size),
    spec("array_size", "array_size(array)", |c| {
        let c = array_args(c.count(1, 1)?, &[0])?;
        size(c)
    }),
    spec("element_at", "element_at(arrayOrMap, indexOrKey)", |c| element(c, "element_at")),
    spec("try_element_at", "try_element_at(arrayOrMap, indexOrKey)", |c| element(c, "try_element_at")),
    spec("get", "get(array, index)", |c| element(c, "get")),
    spec("map_keys", "map_keys(map)", |c| side(c, 0)),
    spec("map_values", "map_values(map)", |c| side(c, 1)),
];

fn size(c: Call) -> Result<Typed> {
    let c = c.take(&[Any], 1)?;
    match c.args[0].data_type {
        DataType::Null => Ok(Typed::null(&DataType::Int32).named(c.sql)),
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

/// The type of the elements of an ARRAY argument.
pub(super) fn item(c: &Call, k: usize) -> Result<DataType> {
    match &c.args[k].data_type {
        DataType::List(of) => Ok(of.data_type().clone()),
        _ => Err(c.error(format!("argument {} must be an ARRAY", k + 1))),
    }
}

/// Checks that these arguments are arrays. A plain NULL counts as an array.
pub(super) fn array_args(mut c: Call, at: &[usize]) -> Result<Call> {
    for k in at {
        if c.args[*k].data_type == DataType::Null {
            let sql = c.args[*k].sql.clone();
            c.args[*k] = Typed::null(&list_of(DataType::Null)).named(sql);
        }
        item(&c, *k)?;
    }
    Ok(c)
}

fn element(c: Call, name: &'static str) -> Result<Typed> {
    let mut c = c.take(&[Any, Any], 2)?;
    let index = c.args.remove(1);
    match c.args[0].data_type.clone() {
        DataType::List(item) => {
            let int = is_int(&index.data_type) && (name == "get" || index.data_type != DataType::Int64);
            let none = name == "get" && index.data_type == DataType::Null;
            if !(int || none) {
                return Err(c.error("an index is an INT"));
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
                let key = match strictly_common(kv[0].data_type(), &index.data_type) {
                    Some(to) if &to == kv[0].data_type() => implicit(index, &to)?,
                    // A key of a wider type is compared in that type.
                    Some(to) => {
                        let wider = map_of(to.clone(), kv[1].data_type().clone());
                        c.args[0] = implicit(c.args[0].clone(), &wider)?;
                        implicit(index, &to)?
                    }
                    None => {
                        return Err(c.error(format!(
                            "{} is not a key of a map of {}. Use CAST",
                            type_to_ddl(&index.data_type),
                            type_to_ddl(kv[0].data_type())
                        )));
                    }
                };
                map_value(c.args.remove(0), key, kv[1].data_type().clone(), c.sql)
            }
            _ => Err(c.error("an ARRAY or a MAP is expected")),
        },
        _ => Err(c.error("an ARRAY or a MAP is expected")),
    }
}

fn from_one(len: usize, i: i32) -> Result<Option<usize>, &'static str> {
    let k = match i {
        0 => return Err("an index of element_at counts from 1: 0 is not an index"),
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
