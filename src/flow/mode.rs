//! Output modes: rows are appended, merged by their keys, or replace the whole table.

use super::stream::{Op, Stream};
use crate::sink::OutputMode;
use crate::{Error, Result};

/// Append unless the stream is an aggregate without a window.
pub(crate) fn default_mode(stream: &Stream) -> OutputMode {
    match stream.top_aggregate() {
        Some((spec, _)) if !spec.is_windowed() => OutputMode::Complete,
        _ => OutputMode::Append,
    }
}

pub(crate) fn parse_mode(text: Option<&str>, stream: &Stream) -> Result<OutputMode> {
    let mode = match text {
        None => default_mode(stream),
        Some("overwrite") => {
            return Err(Error::config(
                "output_mode=\"overwrite\" is not an output mode. To replace the whole result each time, use \"complete\".",
            ));
        }
        Some("upsert" | "merge") => {
            return Err(Error::config(
                "to merge changed groups into the table by their keys, use output_mode=\"update\"",
            ));
        }
        Some(other) => OutputMode::parse(other).ok_or_else(|| {
            let hint = crate::error::did_you_mean(other, ["append", "complete", "update"]);
            Error::config(format!("output_mode='{other}' is not an output mode.{hint}"))
        })?,
    };
    check_mode(mode, stream)?;
    Ok(mode)
}

/// Returns an error if the stream's rows cannot be written in this mode.
pub(crate) fn check_mode(mode: OutputMode, stream: &Stream) -> Result<()> {
    if mode == OutputMode::Append {
        return check_append(stream);
    }
    let name = mode.name();
    let Some((spec, _)) = stream.top_aggregate() else {
        return Err(Error::config(format!(
            "output_mode=\"{name}\" needs an aggregation, and after the aggregation only steps that work row by row. For a stream without an aggregation, use output_mode=\"append\"."
        )));
    };
    if spec.aggregation.has_functions() {
        return Err(Error::config(format!(
            "output_mode=\"{name}\": a Python aggregate is computed once, when its window closes. Use output_mode=\"append\"."
        )));
    }
    if mode == OutputMode::Update {
        stream.merge_columns()?;
    }
    Ok(())
}

/// Appended rows must be final. So each aggregate in the stream needs a window, and a watermark that closes the window.
fn check_append(stream: &Stream) -> Result<()> {
    if let Op::Aggregate(spec) = &stream.0.op {
        match spec.window_column() {
            None => {
                return Err(Error::config(
                    "output_mode=\"append\" needs a window: a running aggregate changes with every row. Use output_mode=\"complete\", or \"update\".",
                ));
            }
            Some(column) if stream.0.inputs[0].0.event_time.is_none() => {
                return Err(Error::config(format!(
                    "a window is appended when it closes, and only a watermark closes it. Put with_watermark(\"{column}\", \"10 seconds\") \
                     before group_by, or use output_mode=\"complete\" or \"update\"."
                )));
            }
            Some(_) => {}
        }
    }
    stream.0.inputs.iter().try_for_each(check_append)
}
