//! XPath over XML text.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::coerce::Param::Text;
use crate::expr::ddl::list_of;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{bools, nums, strings};
use crate::expr::node::Typed;
use crate::expr::xpath::{Document, Found, Path, read};
use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("xpath", "xpath(xml, path)", |c| {
        with_path(c, list_of(DataType::Utf8), |rows, find| {
            let element = Field::new("element", DataType::Utf8, true);
            let mut out = ListBuilder::new(StringBuilder::new()).with_field(element);
            for row in 0..rows {
                match find(row)? {
                    None => out.append_null(),
                    Some((document, Found::Nodes(nodes))) => {
                        nodes.into_iter().for_each(|n| out.values().append_option(document.value(n)));
                        out.append(true);
                    }
                    Some(_) => return Err(row_error("the path does not lead to nodes")),
                }
            }
            Ok(Arc::new(out.finish()) as ArrayRef)
        })
    }),
    spec("xpath_string", "xpath_string(xml, path)", |c| {
        with_path(c, DataType::Utf8, |rows, find| {
            strings(rows, |row| Ok(find(row)?.map(|(document, found)| document.text(found))))
        })
    }),
    spec("xpath_boolean", "xpath_boolean(xml, path)", |c| {
        with_path(c, DataType::Boolean, |rows, find| {
            bools(rows, |row| Ok(find(row)?.map(|(_, found)| Document::truth(&found))))
        })
    }),
    spec("xpath_double", "xpath_double(xml, path)", |c| numbers::<Float64Type>(c, |n| n)),
    spec("xpath_number", "xpath_number(xml, path)", |c| numbers::<Float64Type>(c, |n| n)),
    spec("xpath_float", "xpath_float(xml, path)", |c| numbers::<Float32Type>(c, |n| n as f32)),
    // As in Java, a number that does not fit becomes the nearest one, and NaN becomes 0.
    spec("xpath_long", "xpath_long(xml, path)", |c| numbers::<Int64Type>(c, |n| n as i64)),
    spec("xpath_int", "xpath_int(xml, path)", |c| numbers::<Int32Type>(c, |n| n as i32)),
    spec("xpath_short", "xpath_short(xml, path)", |c| numbers::<Int16Type>(c, |n| n as i32 as i16)),
];

/// What the path finds in a row. `None`: the row has no XML.
type Find<'a> = dyn Fn(usize) -> DfResult<Option<(Document, Found)>> + 'a;

fn with_path(c: Call, to: DataType, make: fn(usize, &Find) -> DfResult<ArrayRef>) -> Result<Typed> {
    let c = c.take(&[Text, Text], 2)?;
    if c.args[1].is_null_literal() {
        return Ok(Typed::null(&to).named(c.sql));
    }
    let Some(text) = c.args[1].text() else { return Err(c.error("the path must be a constant")) };
    if text.is_empty() {
        return Ok(Typed::null(&to).named(c.sql));
    }
    let Some(path) = read(text) else {
        return Err(c.error(format!(
            "'{text}' is not a path of XPath 1.0, or has variables or prefixes, which are not supported"
        )));
    };
    let path: Arc<Path> = Arc::new(path);
    c.build_nullable(to, move |a| {
        let xml = a.str(0)?;
        let find = |row: usize| {
            let Some(text) = xml.get(row).filter(|text| !text.is_empty()) else { return Ok(None) };
            let document =
                Document::read(text).ok_or_else(|| row_error("a value is not well-formed XML, or has a DTD"))?;
            let found = document.find(&path);
            Ok(Some((document, found)))
        };
        make(a.rows, &find)
    })
}

fn numbers<T: ArrowPrimitiveType>(c: Call, of: fn(f64) -> T::Native) -> Result<Typed> {
    let c = c.take(&[Text, Text], 2)?;
    // The function pointers of `with_path` take no more than the rows.
    let typed = with_path(c, DataType::Float64, |rows, find| {
        nums::<Float64Type>(rows, |row| Ok(find(row)?.map(|(document, found)| document.number(found))))
    })?;
    if T::DATA_TYPE == DataType::Float64 {
        return Ok(typed);
    }
    let sql = typed.sql.clone();
    let kernel = move |a: &crate::expr::kernel::Args| {
        let n = a.num::<Float64Type>(0)?;
        nums::<T>(a.rows, |row| Ok(n.get(row).map(of)))
    };
    Ok(Typed::call(vec![typed], T::DATA_TYPE, true, sql, Arc::new(kernel)))
}
