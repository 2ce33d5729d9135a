//! Functions of a VARIANT: a value within the VARIANT, whether it is null, its type.

use super::{Call, Spec, spec};
use crate::expr::coerce::Param::Any;
use crate::expr::ddl::type_to_ddl;
use crate::expr::from_json::type_of;
use crate::expr::json_path::Step;
use crate::expr::kernel::{bools, strings};
use crate::expr::node::Typed;
use crate::expr::{cast, lookup, variant};
use crate::json::{Cursor, Next, Scan, unescape};
use crate::{Error, Result};
use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use std::collections::BTreeMap;

pub(super) const LIST: &[Spec] = &[
    spec("variant_get", "variant_get(variant, path[, type])", |c| get(c, false)),
    spec("try_variant_get", "try_variant_get(variant, path[, type])", |c| get(c, true)),
    spec("is_variant_null", "is_variant_null(variant)", is_null),
    spec("schema_of_variant", "schema_of_variant(variant)", schema),
];

/// The first argument, which must be a VARIANT.
fn variants(c: &Call) -> Result<()> {
    match &c.args[0].data_type {
        t if variant::is(t) || *t == DataType::Null => Ok(()),
        t => Err(c.error(format!(
            "{} is {}, not VARIANT. parse_json(text) makes a VARIANT of a text",
            c.args[0].sql,
            type_to_ddl(t)
        ))),
    }
}

fn get(c: Call, r#try: bool) -> Result<Typed> {
    let c = c.count(2, 3)?;
    variants(&c)?;
    let Some(text) = c.args[1].text() else { return Err(c.error("the path must be a constant, such as '$.a[0]'")) };
    let Some(path) = path(text) else {
        return Err(c.error(format!("'{text}' is not a path into a VARIANT, such as '$.a[0]' or '$[\"a b\"]'")));
    };
    // As in Spark, the type is no part of the name.
    let sql = format!("{}({}, {})", c.name, c.args[0].sql, c.args[1].sql);
    let to = match c.args.get(2) {
        None => variant::VARIANT,
        Some(t) => match t.text() {
            Some(t) if t.trim().eq_ignore_ascii_case("variant") => variant::VARIANT,
            Some(t) => type_of(t).map_err(|e: Error| e.context(&c.sql))?,
            None => return Err(c.error("the type must be a constant, such as 'INT'")),
        },
    };
    let Some(operand) = c.args.into_iter().next() else { return Err(Error::internal("a call lost its argument")) };
    if operand.data_type == DataType::Null {
        return Ok(Typed::null(&to).named(sql));
    }
    let found = variant::inside(operand, path, sql.clone())?;
    if variant::is(&to) {
        return Ok(found);
    }
    Ok(cast::explicit(found, &to, r#try)?.named(sql))
}

/// `$.name`, `$['name']`, `$["name"]`, `$[0]`, and one behind another.
fn path(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut out = vec![];
    while !rest.is_empty() {
        let name = |name: &str| Some(Step::Field { name: name.to_string(), exact: true }).filter(|_| !name.is_empty());
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            out.push(name(&after[..end])?);
            rest = &after[end..];
            continue;
        }
        let after = rest.strip_prefix('[')?;
        let quote = after.chars().next().filter(|q| matches!(q, '\'' | '"'));
        match quote {
            Some(quote) => {
                let (inner, behind) = after[1..].split_once(quote)?;
                out.push(name(inner)?);
                rest = behind.strip_prefix(']')?;
            }
            None => {
                let (index, behind) = after.split_once(']')?;
                if !index.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                out.push(Step::Index(index.parse().ok()?));
                rest = behind;
            }
        }
    }
    Some(out)
}

fn is_null(c: Call) -> Result<Typed> {
    let c = c.take(&[Any], 1)?;
    variants(&c)?;
    if c.args[0].data_type == DataType::Null {
        return Ok(Typed::literal(false.into(), c.sql));
    }
    c.build(DataType::Boolean, |a| {
        let array = a.full(0)?;
        let texts = array.as_string::<i64>();
        bools(a.rows, |row| Ok(Some(texts.is_valid(row) && texts.value(row) == "null")))
    })
    .map(|typed| Typed { nullable: false, ..typed })
}

fn schema(c: Call) -> Result<Typed> {
    let c = c.take(&[Any], 1)?;
    variants(&c)?;
    if c.args[0].data_type == DataType::Null {
        return Ok(Typed::null(&DataType::Utf8).named(c.sql));
    }
    c.build(DataType::Utf8, |a| {
        let array = a.full(0)?;
        let texts = array.as_string::<i64>();
        strings(a.rows, |row| {
            if texts.is_null(row) {
                return Ok(None);
            }
            Ok(shape(&mut Cursor::new(texts.value(row).as_bytes()), 0).ok().map(|shape| shape.shown()))
        })
    })
}

/// The type of a value in a VARIANT.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Void,
    Boolean,
    Bigint,
    Decimal {
        precision: usize,
        scale: usize,
    },
    Double,
    Text,
    Array(Box<Shape>),
    Object(BTreeMap<Vec<u8>, Shape>),
    /// Values that have no common type.
    Variant,
}

/// The type of the value at the cursor.
fn shape(cursor: &mut Cursor<'_>, depth: u32) -> Scan<Shape> {
    Ok(match cursor.next()? {
        Next::Null => {
            cursor.skip_value(depth)?;
            Shape::Void
        }
        Next::True | Next::False => {
            cursor.skip_value(depth)?;
            Shape::Boolean
        }
        Next::String => {
            cursor.string()?;
            Shape::Text
        }
        Next::Number => of_number(cursor.number()?),
        Next::Array => {
            let mut of = Shape::Void;
            cursor.array(depth, |cursor, depth| {
                of = std::mem::replace(&mut of, Shape::Void).with(shape(cursor, depth)?);
                Ok(())
            })?;
            Shape::Array(Box::new(of))
        }
        Next::Object => {
            let mut fields = BTreeMap::new();
            cursor.object(depth, |cursor, key, depth| {
                let mut name = vec![];
                unescape(key, &mut name);
                fields.insert(name, shape(cursor, depth)?);
                Ok(())
            })?;
            Shape::Object(fields)
        }
    })
}

/// A number without an exponent is exact.
fn of_number(number: &[u8]) -> Shape {
    let Ok(text) = std::str::from_utf8(number) else { return Shape::Double };
    // Within a VARIANT a fraction does not end with zeros, unless it is that of a DOUBLE.
    if text.contains(['e', 'E']) || text.ends_with(".0") {
        return Shape::Double;
    }
    if text.parse::<i64>().is_ok() {
        return Shape::Bigint;
    }
    let digits = text.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0').len();
    // The digits of a number below 1 begin behind its zeros, but a DECIMAL has as many digits as its scale.
    Shape::Decimal { precision: (whole + fraction.len()).max(1), scale: fraction.len() }
}

impl Shape {
    /// The type of both.
    fn with(self, other: Self) -> Self {
        use Shape::*;
        let decimal = |s: &Self| match s {
            Bigint => Some((20, 0)),
            Decimal { precision, scale } => Some((*precision, *scale)),
            _ => None,
        };
        match (self, other) {
            (a, b) if a == b => a,
            (Void, b) => b,
            (a, Void) => a,
            (Double, b) if b == Double || decimal(&b).is_some() => Double,
            (a, Double) if decimal(&a).is_some() => Double,
            (Array(a), Array(b)) => Array(Box::new(a.with(*b))),
            (Object(mut a), Object(b)) => {
                for (name, shape) in b {
                    let both = a.remove(&name).map_or(shape.clone(), |had| had.with(shape));
                    a.insert(name, both);
                }
                Object(a)
            }
            (a, b) => match (decimal(&a), decimal(&b)) {
                (Some((p, s)), Some((q, t))) => {
                    let scale = s.max(t);
                    let precision = (p - s).max(q - t) + scale;
                    if precision > 38 { Double } else { Decimal { precision, scale } }
                }
                _ => Variant,
            },
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Void => "VOID".into(),
            Self::Boolean => "BOOLEAN".into(),
            Self::Bigint => "BIGINT".into(),
            Self::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
            Self::Double => "DOUBLE".into(),
            Self::Text => "STRING".into(),
            Self::Variant => "VARIANT".into(),
            Self::Array(of) => format!("ARRAY<{}>", of.shown()),
            Self::Object(fields) => {
                let shown: Vec<String> = fields
                    .iter()
                    .map(|(name, shape)| {
                        format!("{}: {}", lookup::quoted(&String::from_utf8_lossy(name)), shape.shown())
                    })
                    .collect();
                format!("OBJECT<{}>", shown.join(", "))
            }
        }
    }
}
