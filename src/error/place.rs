//! The facts about the place of an error, for programs. The message says the same to people.

use super::{Error, Kind};

/// Where an error happened. Python gives each fact as an attribute of the exception.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// A column, or a field of a message as a path ("after.price").
    pub field: Option<String>,
    /// The location of a table, as messages show it.
    pub table: Option<String>,
    pub epoch: Option<i64>,
    /// Offsets that are lost.
    pub ranges: Vec<LostOffsets>,
    /// Whether a second attempt can succeed, if the error itself knows this. Otherwise the kind decides.
    pub retryable: Option<bool>,
}

/// The offsets from `from` to `until`, which is not part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOffsets {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub until: i64,
}

impl Error {
    fn place_mut(&mut self) -> &mut Place {
        self.place.get_or_insert_default()
    }

    pub fn in_topic(mut self, topic: &str) -> Self {
        self.place_mut().topic.get_or_insert_with(|| topic.into());
        self
    }

    pub fn in_partition(mut self, topic: &str, partition: i32) -> Self {
        self.place_mut().partition.get_or_insert(partition);
        self.in_topic(topic)
    }

    pub fn at_offset(mut self, topic: &str, partition: i32, offset: i64) -> Self {
        self.place_mut().offset.get_or_insert(offset);
        self.in_partition(topic, partition)
    }

    pub fn in_field(mut self, field: Option<&str>) -> Self {
        if let Some(field) = field {
            self.place_mut().field.get_or_insert_with(|| field.into());
        }
        self
    }

    pub fn in_table(mut self, table: impl Into<String>) -> Self {
        self.place_mut().table.get_or_insert_with(|| table.into());
        self
    }

    /// An error that has an epoch keeps it: if a commit fails, its epoch is not the epoch that is read at that time.
    pub fn in_epoch(mut self, epoch: impl Into<Option<i64>>) -> Self {
        if let Some(epoch) = epoch.into() {
            self.place_mut().epoch.get_or_insert(epoch);
        }
        self
    }

    pub fn with_lost(mut self, lost: LostOffsets) -> Self {
        self.place_mut().ranges.push(lost);
        self
    }

    pub fn retryable(mut self, retryable: bool) -> Self {
        self.place_mut().retryable = Some(retryable);
        self
    }

    /// Whether the same call can succeed later without any change: the reason was the network, a store or a different runner.
    pub fn is_retryable(&self) -> bool {
        let said = self.place.as_ref().and_then(|p| p.retryable);
        said.unwrap_or(matches!(self.kind, Kind::Connection | Kind::ConcurrentQuery))
    }
}
