//! How a stream's rows are written: appended, merged by their keys, or as a whole.

use super::stream::{Op, Stream};
use crate::sink::OutputMode;
use crate::{Error, Result};

/// Append unless the stream is an aggregate without a window.
pub fn default_mode(stream: &Stream) -> OutputMode {
    match stream.top_aggregate() {
        Some((spec, _)) if !spec.is_windowed() => OutputMode::Complete,
        _ => OutputMode::Append,
    }
}

pub fn parse_mode(text: Option<&str>, stream: &Stream) -> Result<OutputMode> {
    let mode = match text {
        None => default_mode(stream),
        Some("overwrite") => {
            return Err(Error::config(
                "output_mode=\"overwrite\" is no output mode. To replace the whole result each time: \"complete\".",
            ));
        }
        Some("upsert" | "merge") => {
            return Err(Error::config("to merge changed groups into the table by their keys: output_mode=\"update\""));
        }
        Some(other) => OutputMode::parse(other).ok_or_else(|| {
            let hint = crate::error::did_you_mean(other, ["append", "complete", "update"]);
            Error::config(format!("output_mode='{other}' is no output mode.{hint}"))
        })?,
    };
    check_mode(mode, stream)?;
    Ok(mode)
}

/// Whether the stream's rows can be written in this mode.
pub fn check_mode(mode: OutputMode, stream: &Stream) -> Result<()> {
    if mode == OutputMode::Append {
        return check_append(stream);
    }
    let name = mode.name();
    let Some((spec, _)) = stream.top_aggregate() else {
        return Err(Error::config(format!(
            "output_mode=\"{name}\" needs an aggregation as its last step but for row by row ones; rows are appended (output_mode=\"append\")"
        )));
    };
    if spec.aggregation.has_functions() {
        return Err(Error::config(format!(
            "output_mode=\"{name}\": a Python aggregate is computed once, when its window is closed: use output_mode=\"append\""
        )));
    }
    if mode == OutputMode::Update {
        stream.merge_columns()?;
    }
    Ok(())
}

/// What is appended must be final: each aggregate in the stream needs a window and a watermark that closes it.
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
                    "a window is appended when it closes, and only a watermark tells when: put with_watermark(\"{column}\", \"10 seconds\") \
                     before group_by, or use output_mode=\"complete\" or \"update\"."
                )));
            }
            Some(_) => {}
        }
    }
    stream.0.inputs.iter().try_for_each(check_append)
}
