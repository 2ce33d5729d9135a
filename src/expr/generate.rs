//! Generators: functions that make several rows of one, with Spark's names and rules of NULL.
//!
//! | call | rows of one row | columns |
//! |---|---|---|
//! | `explode(array)` | one for each element | `col` |
//! | `explode(map)` | one for each entry | `key`, `value` |
//! | `inline(array of structs)` | one for each element | those of the struct; a NULL struct is a row of NULLs |
//! | `stack(n, …)` | n | `col0`, `col1`, … |
//! | `json_tuple(text, name, …)` | one | `c0`, `c1`, … |
//!
//! `posexplode` puts the position first. An array that is empty or NULL gives no rows; the forms with `_outer` give a row of NULLs.
//!
//! A generator says how many rows it makes of each input row, and makes the columns of any consecutive part of these rows. So the caller
//! decides how many rows a batch has.

use super::bind::{Binder, finish};
use super::ddl::type_to_ddl;
use super::functions;
use super::json_text;
use super::node::Typed;
use super::parse::Function;
use super::{Bound, cast};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder, UInt32Array, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use datafusion::common::ScalarValue;
use std::sync::Arc;

pub(super) const LIST: &[(&str, &str)] = &[
    ("explode", "explode(arrayOrMap)"),
    ("explode_outer", "explode_outer(arrayOrMap)"),
    ("posexplode", "posexplode(arrayOrMap)"),
    ("posexplode_outer", "posexplode_outer(arrayOrMap)"),
    ("inline", "inline(arrayOfStructs)"),
    ("inline_outer", "inline_outer(arrayOfStructs)"),
    ("stack", "stack(n, a, b, …)"),
    ("json_tuple", "json_tuple(text, name, …)"),
];

/// Whether a function of this name (in lower case) makes several rows of one.
pub(crate) fn is_generator(name: &str) -> bool {
    LIST.iter().any(|(n, _)| *n == name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    List,
    Map,
    /// A list whose elements are structs, each field a column.
    Inline,
    /// This many rows.
    Stack(u32),
    Tuple,
}

/// A bound generator.
#[derive(Clone, Debug)]
pub struct Generator {
    kind: Kind,
    /// The position comes first.
    position: bool,
    outer: bool,
    /// The values that are computed for each input row before rows are made of it.
    pub args: Vec<Bound>,
    /// The columns that the generator makes.
    pub fields: Vec<Field>,
    /// The text as Spark prints it.
    pub sql: String,
}

/// An item of a select list: a column of the row, or a column that the generator makes.
#[derive(Clone, Debug)]
pub enum Selected {
    Column(Bound),
    /// The index of the column among the generator's.
    Generated(usize),
}

/// A select list, which may have one generator.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub items: Vec<Selected>,
    pub generator: Option<Generator>,
}

impl Selection {
    pub(crate) fn name(&self, item: &Selected) -> String {
        match (item, &self.generator) {
            (Selected::Generated(k), Some(g)) => g.fields[*k].name().clone(),
            (Selected::Column(bound), _) => bound.name.clone(),
            _ => String::new(),
        }
    }
}

/// Binds a call of a generator; `names` are the aliases of its columns, or empty.
pub(super) fn bind(function: &Function, names: &[String], schema: &SchemaRef) -> Result<Generator> {
    let usage = LIST.iter().find(|(n, _)| *n == function.name).map_or("", |(_, usage)| usage);
    let wrong = |why: &dyn std::fmt::Display| Error::schema(format!("{}: {why}. Call it as {usage}.", function.name));
    if let Some(clause) = function.aggregate_clause() {
        return Err(Error::schema(format!("{}: {clause} is only for aggregate functions", function.name)));
    }
    let args = Binder::new(schema).exprs(&function.args)?;
    let shown: Vec<&str> = args.iter().map(|a| a.sql.as_str()).collect();
    let sql = format!("{}({})", function.name, shown.join(", "));
    let outer = function.name.ends_with("_outer");
    let position = function.name.starts_with("pos");
    let (kind, args, fields) = match function.name.as_str() {
        "stack" => stack(args, &wrong)?,
        "json_tuple" => tuple(args, &wrong)?,
        name => {
            let [arg] = <[Typed; 1]>::try_from(args).map_err(|_| wrong(&"one argument is expected"))?;
            let column = |name: &str, t: &DataType, nullable: bool| Field::new(name, t.clone(), nullable || outer);
            let (kind, mut fields) = match (&arg.data_type, name.starts_with("inline")) {
                (DataType::List(item), true) => match item.data_type() {
                    DataType::Struct(fields) => {
                        (Kind::Inline, fields.iter().map(|f| column(f.name(), f.data_type(), true)).collect())
                    }
                    other => return Err(wrong(&format!("the elements are {}, not structs", type_to_ddl(other)))),
                },
                (DataType::List(item), false) => {
                    (Kind::List, vec![column("col", item.data_type(), item.is_nullable())])
                }
                (DataType::Map(entries, _), false) => match entries.data_type() {
                    DataType::Struct(kv) if kv.len() == 2 => {
                        let (key, value) = (&kv[0], &kv[1]);
                        let value = column("value", value.data_type(), value.is_nullable());
                        (Kind::Map, vec![column("key", key.data_type(), false), value])
                    }
                    _ => return Err(wrong(&"the entries of this MAP are not key and value")),
                },
                (other, inline) => {
                    let wanted = if inline { "an ARRAY<STRUCT<…>>" } else { "an ARRAY or a MAP" };
                    return Err(wrong(&format!("{} is {}, not {wanted}", arg.sql, type_to_ddl(other))));
                }
            };
            if position {
                fields.insert(0, Field::new("pos", DataType::Int32, outer));
            }
            (kind, vec![arg], fields)
        }
    };
    let args = args.into_iter().map(|a| finish(a.sql.clone(), a)).collect::<Result<_>>()?;
    let fields = named(fields, names, &sql)?;
    Ok(Generator { kind, position, outer, args, fields, sql })
}

fn named(fields: Vec<Field>, names: &[String], sql: &str) -> Result<Vec<Field>> {
    if names.is_empty() {
        return Ok(fields);
    }
    if names.len() != fields.len() {
        let own: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
        let as_many: Vec<String> = (1..=fields.len()).map(|k| format!("name{k}")).collect();
        return Err(Error::schema(format!(
            "{sql} makes {} columns ({}), and {} named. Write AS ({}), or leave the names out.",
            fields.len(),
            own.join(", "),
            if names.len() == 1 { "1 is".to_string() } else { format!("{} are", names.len()) },
            as_many.join(", ")
        )));
    }
    Ok(fields.into_iter().zip(names).map(|(f, name)| f.with_name(name)).collect())
}

type Parts = (Kind, Vec<Typed>, Vec<Field>);

fn stack(mut args: Vec<Typed>, wrong: &dyn Fn(&dyn std::fmt::Display) -> Error) -> Result<Parts> {
    if args.len() < 2 {
        return Err(wrong(&"a number of rows and at least one value are expected"));
    }
    let rows = match args.remove(0).constant() {
        Some(ScalarValue::Int32(Some(n))) if *n > 0 => *n as usize,
        _ => return Err(wrong(&"the number of rows must be a constant above 0")),
    };
    if rows > MOST_STACKED {
        return Err(wrong(&format!("at most {MOST_STACKED} rows are possible")));
    }
    let width = args.len().div_ceil(rows);
    let mut fields = vec![];
    for k in 0..width {
        let of_column = || args.iter().skip(k).step_by(width);
        let null = DataType::Null;
        let data_type = of_column().map(|a| &a.data_type).find(|t| **t != null).unwrap_or(&null).clone();
        if let Some(other) = of_column().find(|a| a.data_type != data_type && a.data_type != null) {
            return Err(wrong(&format!(
                "column {} would be {} and {}. Use CAST",
                k + 1,
                type_to_ddl(&data_type),
                type_to_ddl(&other.data_type)
            )));
        }
        let whole = of_column().count() == rows;
        let nullable = !whole || of_column().any(|a| a.nullable);
        fields.push(Field::new(format!("col{k}"), data_type, nullable));
    }
    // Missing values of the last row are NULL.
    args.resize_with(rows * width, || Typed::null(&DataType::Null));
    let typed = args.into_iter().enumerate();
    let args = typed.map(|(i, a)| cast::implicit(a, fields[i % width].data_type())).collect::<Result<_>>()?;
    Ok((Kind::Stack(rows as u32), args, fields))
}

/// `stack` makes at most this many rows of one row.
const MOST_STACKED: usize = 10_000;

fn tuple(args: Vec<Typed>, wrong: &dyn Fn(&dyn std::fmt::Display) -> Error) -> Result<Parts> {
    if args.len() < 2 {
        return Err(wrong(&"a text and at least one name are expected"));
    }
    if let Some(other) = args.iter().find(|a| a.data_type != DataType::Utf8) {
        return Err(wrong(&format!("{} is {}, not STRING", other.sql, type_to_ddl(&other.data_type))));
    }
    let fields = (0..args.len() - 1).map(|k| Field::new(format!("c{k}"), DataType::Utf8, true)).collect();
    Ok((Kind::Tuple, args, fields))
}

impl Generator {
    /// Distinguishes the generator from other generators.
    pub fn identity(&self) -> String {
        let args: Vec<String> = self.args.iter().map(Bound::identity).collect();
        format!("{} of {}", self.sql, args.join("; "))
    }

    /// Whether its rows have a place within the row that they are made of. Without places, each input row becomes
    /// exactly one row.
    pub fn has_places(&self) -> bool {
        self.kind != Kind::Tuple
    }

    /// How many rows are made of each input row. `None`: one row without an element.
    pub fn lengths(&self, args: &[ArrayRef], rows: usize) -> Vec<Option<u32>> {
        let of = |offsets: &[i32], nulls: Option<&NullBuffer>| {
            let length = |i: usize| {
                let n = (offsets[i + 1] - offsets[i]) as u32;
                let n = if nulls.is_none_or(|v| v.is_valid(i)) { n } else { 0 };
                if n == 0 && self.outer { None } else { Some(n) }
            };
            (0..rows).map(length).collect()
        };
        match self.kind {
            Kind::List | Kind::Inline => of(args[0].as_list::<i32>().value_offsets(), args[0].nulls()),
            Kind::Map => of(args[0].as_map().value_offsets(), args[0].nulls()),
            Kind::Stack(n) => vec![Some(n); rows],
            Kind::Tuple => vec![Some(1); rows],
        }
    }

    /// Its columns for some rows: row `i` is made of row `parents[i]` and has the place `places[i]` in it. Both ascend.
    pub fn columns(&self, args: &[ArrayRef], parents: &UInt32Array, places: &UInt32Array) -> Result<Vec<ArrayRef>> {
        let mut out: Vec<ArrayRef> = vec![];
        if self.position {
            out.push(Arc::new(places.unary::<_, Int32Type>(|place| place as i32)) as ArrayRef);
        }
        match self.kind {
            Kind::List => {
                let list = args[0].as_list::<i32>();
                out.push(elements(list.value_offsets(), list.values(), parents, places)?);
            }
            Kind::Map => {
                let map = args[0].as_map();
                out.push(elements(map.value_offsets(), map.keys(), parents, places)?);
                out.push(elements(map.value_offsets(), map.values(), parents, places)?);
            }
            Kind::Inline => {
                let list = args[0].as_list::<i32>();
                let all = elements(list.value_offsets(), list.values(), parents, places)?;
                let all = all.as_struct();
                for child in all.columns() {
                    let nulls = NullBuffer::union(all.nulls(), child.nulls());
                    out.push(match nulls {
                        Some(_) if all.null_count() > 0 => {
                            make_array(child.to_data().into_builder().nulls(nulls).build()?)
                        }
                        _ => child.clone(),
                    });
                }
            }
            Kind::Stack(rows) => {
                let width = args.len() / rows as usize;
                for k in 0..width {
                    let of_column: Vec<&dyn Array> = args.iter().skip(k).step_by(width).map(|a| a.as_ref()).collect();
                    let from = |(parent, place): (&u32, &u32)| (*place as usize, *parent as usize);
                    let wanted: Vec<_> = parents.values().iter().zip(places.values()).map(from).collect();
                    out.push(interleave(&of_column, &wanted)?);
                }
            }
            Kind::Tuple => {
                let taken = args.iter().map(|a| Ok(take(a, parents, None)?)).collect::<Result<Vec<_>>>()?;
                out.extend(fields_of(&taken, parents.len()));
            }
        }
        Ok(out)
    }
}

/// The elements of lists at these places. Consecutive elements, which are the usual case, are not copied.
fn elements(offsets: &[i32], values: &ArrayRef, parents: &UInt32Array, places: &UInt32Array) -> Result<ArrayRef> {
    let at = |i: usize| offsets[parents.value(i) as usize] as u32 + places.value(i);
    let n = parents.len();
    if n == 0 {
        return Ok(values.slice(0, 0));
    }
    // The indices `at(i)` ascend, and no index occurs twice. So if the last index is n - 1 after the first, the n elements are consecutive.
    if places.null_count() == 0 && (at(n - 1) - at(0)) as usize == n - 1 {
        return Ok(values.slice(at(0) as usize, n));
    }
    let wanted: UInt32Array = match places.nulls() {
        None => (0..n).map(at).collect::<Vec<_>>().into(),
        Some(nulls) => (0..n).map(|i| nulls.is_valid(i).then(|| at(i))).collect(),
    };
    Ok(take(values, &wanted, None)?)
}

/// The fields of JSON objects by name: args are the texts, then the names.
fn fields_of(args: &[ArrayRef], rows: usize) -> Vec<ArrayRef> {
    let texts = args[0].as_string::<i32>();
    let names: Vec<_> = args[1..].iter().map(|a| a.as_string::<i32>()).collect();
    let mut out: Vec<StringBuilder> = names.iter().map(|_| StringBuilder::with_capacity(rows, rows * 8)).collect();
    // The value of each name is a part of `text`.
    let (mut text, mut found) = (Vec::new(), vec![None; names.len()]);
    for row in 0..rows {
        text.clear();
        found.fill(None);
        let good = texts.is_valid(row)
            && fields_of_one(texts.value(row), &mut text, &mut found, |k, key| {
                names[k].is_valid(row) && names[k].value(row).as_bytes() == key
            });
        for (found, out) in found.iter().zip(&mut out) {
            let value = found.filter(|_| good).and_then(|(from, to)| std::str::from_utf8(&text[from..to]).ok());
            out.append_option(value);
        }
    }
    out.into_iter().map(|mut b| Arc::new(b.finish()) as ArrayRef).collect()
}

fn fields_of_one(
    json: &str,
    text: &mut Vec<u8>,
    found: &mut [Option<(usize, usize)>],
    is: impl Fn(usize, &[u8]) -> bool,
) -> bool {
    use crate::json::{Next, unescape};
    let mut cursor = json_text::reader(json.as_bytes());
    if !matches!(cursor.next(), Ok(Next::Object)) {
        return false;
    }
    let mut name = Vec::new();
    let read = cursor.object(0, |cursor, key, depth| {
        name.clear();
        unescape(key, &mut name);
        let first = (0..found.len()).find(|k| is(*k, &name));
        let Some(first) = first.filter(|_| !matches!(cursor.next(), Ok(Next::Null))) else {
            return cursor.skip_value(depth);
        };
        let from = text.len();
        json_text::copy_plain(cursor, depth, text)?;
        // The last value counts, for each column of this name.
        for (k, found) in found.iter_mut().enumerate().skip(first) {
            if is(k, &name) {
                *found = Some((from, text.len()));
            }
        }
        Ok(())
    });
    read.is_ok()
}

/// The error for a generator in a place where there can be none.
pub(super) fn misplaced(name: &str) -> Error {
    Error::schema(format!(
        "{name} makes several rows of one: it must be alone in select(…) or with_columns(…), once, as in select(\"id\", \"{name}(…) AS x\")"
    ))
}

pub(super) fn twice(first: &str, second: &str) -> Error {
    Error::schema(format!(
        "one select can make rows only once: {first} and {second} cannot be used together. Put the second into a separate with_columns(…) or \
         select(…)."
    ))
}

pub(super) fn listed() -> impl Iterator<Item = functions::Listed> {
    LIST.iter().map(|(name, usage)| functions::Listed { name, usage, role: functions::Role::Generator })
}
