//! An item of `group_by`: a key, or a window over event time.

use super::{Bound, Dialect};
use crate::Result;
use arrow::datatypes::SchemaRef;

#[derive(Clone, Debug)]
pub enum GroupItem {
    Key(Bound),
    /// `window(column, size, slide, offset)`; durations as they were typed.
    Window {
        column: String,
        size: String,
        slide: Option<String>,
        offset: Option<String>,
    },
    /// `session_window(column, gap)`.
    Session {
        column: String,
        gap: String,
    },
}

/// Reads "model", "upper(model) AS m", "window(time, '1 minute')", "session_window(time, '5 minutes')".
pub fn parse_group_item(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<GroupItem> {
    let _ = (text, schema, dialect);
    todo!()
}
