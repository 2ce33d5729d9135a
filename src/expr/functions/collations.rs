//! Collations. There is one, which compares texts by their bytes.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::coerce::Param::Text;
use crate::expr::node::Typed;
use arrow::datatypes::DataType;

pub(super) const LIST: &[Spec] = &[
    spec("collate", "collate(str, 'UTF8_BINARY')", collate),
    spec("collation", "collation(str)", |c| {
        let c = c.count(1, 1)?;
        if !matches!(c.args[0].data_type, DataType::Utf8 | DataType::Null) {
            return Err(c.error(format!("{} is not a STRING", c.args[0].sql)));
        }
        Ok(Typed::literal("SYSTEM.BUILTIN.UTF8_BINARY".into(), c.sql))
    }),
];

fn collate(c: Call) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    match c.args[1].text().map(str::to_uppercase).as_deref() {
        Some("UTF8_BINARY") => {}
        Some(_) => {
            return Err(c.error("bayou compares texts by their bytes (UTF8_BINARY) only. Use lower(…) or trim(…)"));
        }
        None => return Err(c.error("the collation must be a constant")),
    }
    if !matches!(c.args[0].data_type, DataType::Utf8 | DataType::Null) {
        return Err(c.error(format!("{} is not a STRING", c.args[0].sql)));
    }
    let text = Text.take(c.name, 0, c.args.remove(0))?;
    Ok(Typed { literal: false, ..text }.named(c.sql))
}
