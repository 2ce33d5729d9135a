//! Values that a user's function makes readable before they are decoded.

use super::Malformed;
use crate::batch::{Message, Messages, ValuesFunction};
use crate::error::Kind;
use crate::{Error, Result};

/// How many values the function gets at a time.
const AT_ONCE: usize = 4096;

/// The messages at `wanted` with readable values, the index of each in `messages`, and the messages for which the function fails.
pub(super) fn clear(
    function: &dyn ValuesFunction,
    messages: &Messages,
    wanted: &[u32],
) -> Result<(Messages, Vec<u32>, Vec<Malformed>)> {
    let mut out = Messages::new(messages.partitions.clone());
    let (mut places, mut failed) = (Vec::with_capacity(wanted.len()), vec![]);
    for part in wanted.chunks(AT_ONCE) {
        for (i, value) in part.iter().zip(each(function, messages, part)?) {
            let at = *i as usize;
            match value {
                Err(error) => failed.push(Malformed { message: *i, error, field: None }),
                Ok(value) => {
                    let message = Message {
                        source: messages.sources[at],
                        offset: messages.offsets[at],
                        timestamp: messages.timestamps[at],
                        timestamp_type: messages.timestamp_types[at],
                        key: messages.key(at),
                        value: value.as_deref(),
                        headers: messages.headers(at).cloned().unwrap_or_default(),
                        header_bytes: messages.header_bytes_of(at),
                    };
                    out.push(message, usize::MAX);
                    places.push(*i);
                }
            }
        }
    }
    Ok((out, places, failed))
}

type Cleared = std::result::Result<Option<Vec<u8>>, String>;

/// One value for each message. If the function fails, the messages are divided in halves until the failing messages are found.
fn each(function: &dyn ValuesFunction, messages: &Messages, part: &[u32]) -> Result<Vec<Cleared>> {
    let values = part.iter().map(|i| messages.value(*i as usize).map(<[u8]>::to_vec)).collect();
    match function.call(values) {
        Ok(values) if values.len() == part.len() => Ok(values.into_iter().map(Ok).collect()),
        Ok(_) => Err(Error::internal("a function over values has lost some")),
        Err(e) if matches!(e.kind, Kind::Interrupted | Kind::Connection) => Err(e),
        Err(e) if part.len() == 1 => Ok(vec![Err(e.message)]),
        Err(_) => {
            let (first, second) = part.split_at(part.len() / 2);
            let mut out = each(function, messages, first)?;
            out.append(&mut each(function, messages, second)?);
            Ok(out)
        }
    }
}
