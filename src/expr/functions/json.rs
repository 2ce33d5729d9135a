//! JSON in text: paths, lengths, keys, schemas, and values from and to text.

use super::{Call, Spec, spec};
use crate::expr::coerce::Param::{Any, Text};
use crate::expr::ddl::{list_of, type_to_ddl};
use crate::expr::from_json::{Options, Reader, type_of};
use crate::expr::kernel::{nums, written};
use crate::expr::node::Typed;
use crate::expr::{json_path, json_schema, json_text, to_json, variant};
use crate::json::{Next, unescape};
use crate::{Error, Result};
use arrow::array::{Array, ListArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int32Type};
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("get_json_object", "get_json_object(text, path)", get_json_object),
    spec("json_array_length", "json_array_length(text)", |c| {
        texts(c, 1)?.build_nullable(DataType::Int32, |a| {
            let text = a.str(0)?;
            nums::<Int32Type>(a.rows, |row| Ok(text.get(row).and_then(length)))
        })
    }),
    spec("json_object_keys", "json_object_keys(text)", keys),
    spec("schema_of_json", "schema_of_json(text): of a constant", schema_of_json),
    spec("from_json", "from_json(text, schema[, map(option, value, …)])", |c| from_json(c, false)),
    spec("try_from_json", "try_from_json(text, schema[, map(option, value, …)])", |c| from_json(c, true)),
    spec("to_json", "to_json(structOrArrayOrMapOrVariant)", put_json),
    spec("parse_json", "parse_json(text)", |c| {
        let c = texts(c, 1)?;
        Ok(variant::parse(c.args, c.sql, false))
    }),
    spec("try_parse_json", "try_parse_json(text)", |c| {
        let c = texts(c, 1)?;
        Ok(variant::parse(c.args, c.sql, true))
    }),
];

/// The arguments, which must be texts. As in Spark, a number is not accepted as a text.
fn texts(c: Call, n: usize) -> Result<Call> {
    let c = c.count(n, n)?;
    if let Some(other) = c.args.iter().find(|a| !matches!(a.data_type, DataType::Utf8 | DataType::Null)) {
        return Err(c.error(format!("{} is {}, not STRING", other.sql, type_to_ddl(&other.data_type))));
    }
    c.take(&[Text, Text][..n], n)
}

fn get_json_object(c: Call) -> Result<Typed> {
    let c = texts(c, 2)?;
    // A path that is a constant is read once.
    let constant = c.args[1].text().map(json_path::parse);
    c.build_nullable(DataType::Utf8, move |a| {
        let (text, paths) = (a.str(0)?, a.str(1)?);
        written(a.rows, |row, out| {
            let Some((text, path)) = text.get(row).zip(paths.get(row)) else { return Ok(false) };
            let own;
            let path = match &constant {
                Some(path) => path,
                None => {
                    own = json_path::parse(path);
                    &own
                }
            };
            Ok(path.as_ref().is_some_and(|path| json_path::get(text, path, out)))
        })
    })
}

/// The number of elements of the outermost array.
fn length(text: &str) -> Option<i32> {
    let mut cursor = json_text::reader(text.as_bytes());
    if !matches!(cursor.next(), Ok(Next::Array)) {
        return None;
    }
    let mut n = 0;
    let read = cursor.array(0, |cursor, depth| {
        n += 1;
        cursor.skip_value(depth)
    });
    read.ok().map(|()| n)
}

fn keys(c: Call) -> Result<Typed> {
    let to = list_of(DataType::Utf8);
    texts(c, 1)?.build_nullable(to.clone(), move |a| {
        let text = a.str(0)?;
        let mut names = StringBuilder::new();
        let (mut lengths, mut valid) = (Vec::with_capacity(a.rows), Vec::with_capacity(a.rows));
        let (mut found, mut name) = (vec![], Vec::new());
        for row in 0..a.rows {
            found.clear();
            let read = text.get(row).is_some_and(|text| {
                let mut cursor = json_text::reader(text.as_bytes());
                matches!(cursor.next(), Ok(Next::Object))
                    && cursor
                        .object(0, |cursor, key, depth| {
                            name.clear();
                            unescape(key, &mut name);
                            found.push(String::from_utf8_lossy(&name).into_owned());
                            cursor.skip_value(depth)
                        })
                        .is_ok()
            });
            if !read {
                found.clear();
            }
            found.iter().for_each(|name| names.append_value(name));
            lengths.push(found.len());
            valid.push(read);
        }
        let DataType::List(field) = &to else { return Ok(Arc::new(names.finish())) };
        let nulls = NullBuffer::from(valid);
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, Arc::new(names.finish()), Some(nulls))?))
    })
}

fn schema_of_json(c: Call) -> Result<Typed> {
    if let Some((name, _)) = c.options.first() {
        return Err(c.error(format!("the option {name} is not supported")));
    }
    let c = texts(c, 1)?;
    let Some(text) = c.args[0].text() else { return Err(c.error("the text must be a constant")) };
    let ddl = json_schema::of(text).map_err(|why| c.error(format!("the text is not JSON ({why})")))?;
    Ok(Typed::literal(ddl.as_str().into(), c.sql.clone()))
}

fn from_json(c: Call, r#try: bool) -> Result<Typed> {
    let options = Options::read(&c.options, r#try)?;
    let mut c = c.count(2, 2)?;
    let schema = c.args.remove(1);
    let Some(ddl) = schema.text() else {
        return Err(c.error("the schema must be a constant, such as 'a INT, b ARRAY<STRING>'"));
    };
    let data_type = type_of(ddl).map_err(|e: Error| e.context(&c.sql))?;
    if !data_type.is_nested() {
        return Err(c.error(format!(
            "the schema is {}. It must be columns, STRUCT<…>, ARRAY<…> or MAP<STRING, …>",
            type_to_ddl(&data_type)
        )));
    }
    let reader = Reader::new(data_type.clone(), options).map_err(|e: Error| e.context(&c.sql))?;
    let name = c.name;
    let mut c = texts(c, 1)?;
    // This is Spark's name for the map that it reads.
    let map = matches!(data_type, DataType::Map(..));
    c.sql = if map { "entries".into() } else { format!("{name}({})", c.args[0].sql) };
    // Schema and options are not part of Spark's name. They still distinguish two calls, so they are added as a constant that is not read.
    let distinct = format!("{data_type} {:?}", c.options);
    c.args.push(Typed::literal(distinct.as_str().into(), ""));
    c.build_nullable(data_type, move |a| {
        let text = a.str(0)?;
        reader.read(a.rows, |row| text.get(row))
    })
}

fn put_json(c: Call) -> Result<Typed> {
    if let Some((name, _)) = c.options.first() {
        return Err(c.error(format!("the option {name} is not supported")));
    }
    let c = c.take(&[Any], 1)?;
    let of = &c.args[0].data_type;
    if !of.is_nested() && !variant::is(of) && *of != DataType::Null {
        return Err(c.error(format!("a STRUCT, ARRAY, MAP or VARIANT is expected, not {}", type_to_ddl(of))));
    }
    if *of == DataType::Null {
        return Ok(Typed::null(&DataType::Utf8).named(c.sql));
    }
    to_json::check(&c.sql, of)?;
    c.build(DataType::Utf8, |a| {
        let array = a.full(0)?;
        written(a.rows, |row, out| {
            if array.is_valid(row) {
                to_json::put(&array, row, out);
            }
            Ok(array.is_valid(row))
        })
    })
}
