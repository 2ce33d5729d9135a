//! The options of decoding: the format with its own options, and the options that all formats have in common.

use super::Format;
use crate::batch::{MAX_MESSAGE_BYTES, ValuesFunction};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The result for a message with a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTombstone {
    #[default]
    Skip,
    NullRow,
    Quarantine,
}

/// How messages become rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecodeOptions {
    pub format: Format,
    pub on_tombstone: OnTombstone,
    pub include_metadata: bool,
    /// A message is malformed if its value, key or headers have more bytes.
    pub max_message_bytes: usize,
    /// A function that is applied to values before they are decoded.
    #[serde(skip)]
    pub decrypt: Option<Decrypt>,
}

/// A user's function over values. Two functions are equal if their names are.
#[derive(Debug, Clone)]
pub struct Decrypt(pub Arc<dyn ValuesFunction>);

impl PartialEq for Decrypt {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            format: Format::default(),
            on_tombstone: OnTombstone::default(),
            include_metadata: false,
            max_message_bytes: MAX_MESSAGE_BYTES,
            decrypt: None,
        }
    }
}

impl DecodeOptions {
    /// Distinguishes these options from others. The names of state on disk contain a hash of this text, so the text must stay the same, byte for
    /// byte: a new option adds its text only where it is not the default.
    pub fn identity(&self) -> String {
        let on_tombstone = match self.on_tombstone {
            OnTombstone::Skip => "Skip",
            OnTombstone::NullRow => "NullRow",
            OnTombstone::Quarantine => "Quarantine",
        };
        // Earlier versions removed the default from the text, and with it the same digits at the start of a longer number.
        let bytes = format!(", max_message_bytes: {}", self.max_message_bytes);
        let bytes = bytes.strip_prefix(&format!(", max_message_bytes: {MAX_MESSAGE_BYTES}")).unwrap_or(&bytes);
        let (format, include_metadata) = (self.format.options().identity(), self.include_metadata);
        // The name of the function is left out, because a new key often means a function with a different name.
        let decrypt = if self.decrypt.is_some() { ", decrypt" } else { "" };
        format!(
            "DecodeOptions {{ {format}, on_tombstone: {on_tombstone}, include_metadata: {include_metadata}{bytes}{decrypt} }}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::TimestampUnit;
    use crate::decode::{Given, OnTombstone};

    #[test]
    fn identities_are_those_that_name_the_state_of_earlier_versions() {
        let given = || Given::default();
        let options = |format: &str, given: Given| DecodeOptions {
            format: Format::read(format, given).unwrap(),
            ..DecodeOptions::default()
        };
        let units = [("a.b", TimestampUnit::S), ("say \"c\"", TimestampUnit::Us)];
        let units = units.into_iter().map(|(path, unit)| (path.to_string(), unit)).collect();
        let berlin = Some("Europe/Berlin".to_string());
        for (options, text) in [
            (
                DecodeOptions::default(),
                "DecodeOptions { format: Json, timezone: None, timestamp_unit: None, timestamp_units: {}, on_tombstone: Skip, \
                 include_metadata: false }",
            ),
            (
                options("json", Given { timezone: berlin.clone(), ..given() }),
                "DecodeOptions { format: Json, timezone: Some(\"Europe/Berlin\"), timestamp_unit: None, timestamp_units: {}, \
                 on_tombstone: Skip, include_metadata: false }",
            ),
            (
                options("JSON", Given { timestamp_unit: Some(TimestampUnit::Ms), ..given() }),
                "DecodeOptions { format: Json, timezone: None, timestamp_unit: Some(Ms), timestamp_units: {}, on_tombstone: Skip, \
                 include_metadata: false }",
            ),
            (
                options("json", Given { timestamp_units: units, timestamp_unit: Some(TimestampUnit::Ns), ..given() }),
                "DecodeOptions { format: Json, timezone: None, timestamp_unit: Some(Ns), timestamp_units: {\"a.b\": S, \
                 \"say \\\"c\\\"\": Us}, on_tombstone: Skip, include_metadata: false }",
            ),
            (
                options(
                    "json",
                    Given { allow_quoted_numbers: true, allow_nan: true, missing_is_malformed: true, ..given() },
                ),
                "DecodeOptions { format: Json, timezone: None, timestamp_unit: None, timestamp_units: {}, allow_quoted_numbers: true, \
                 allow_nan: true, missing_is_malformed: true, on_tombstone: Skip, include_metadata: false }",
            ),
            (
                options("binary", given()),
                "DecodeOptions { format: Raw, timezone: None, timestamp_unit: None, timestamp_units: {}, on_tombstone: Skip, \
                 include_metadata: false }",
            ),
            (
                DecodeOptions {
                    on_tombstone: OnTombstone::Quarantine,
                    include_metadata: true,
                    ..options("raw", Given { timezone: berlin, ..given() })
                },
                "DecodeOptions { format: Raw, timezone: Some(\"Europe/Berlin\"), timestamp_unit: None, timestamp_units: {}, \
                 on_tombstone: Quarantine, include_metadata: true }",
            ),
            (
                DecodeOptions {
                    on_tombstone: OnTombstone::NullRow,
                    max_message_bytes: 5_000,
                    ..DecodeOptions::default()
                },
                "DecodeOptions { format: Json, timezone: None, timestamp_unit: None, timestamp_units: {}, on_tombstone: NullRow, \
                 include_metadata: false, max_message_bytes: 5000 }",
            ),
            (
                DecodeOptions { max_message_bytes: 640_000_000, ..DecodeOptions::default() },
                "DecodeOptions { format: Json, timezone: None, timestamp_unit: None, timestamp_units: {}, on_tombstone: Skip, \
                 include_metadata: false0 }",
            ),
        ] {
            assert_eq!(options.identity(), text);
        }
    }
}
