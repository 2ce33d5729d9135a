//! Finds the offset from which a partition's log differs from the log that was read before.
//!
//! After `unclean.leader.election` or a lost disk, the new leader can have a shorter log than the previous leader. It
//! then writes new records at offsets that have been read already. Offsets alone do not show this. Leader epochs do
//! (KIP-320). The leader is asked for the end of the epoch in which the last read record was written. If this end is
//! below our offset, the logs differ from there on. librdkafka asks this question when it is told to continue at an
//! offset with an epoch. It puts the answer into the text of an error.

use super::{
    ReaderOptions,
    native::{NativeClient, Room},
};
use crate::{
    error::{Error, Result},
    kafka::{Connection, connection::REQUEST},
    position::{Offset, TopicPartition},
};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The offset up to which a partition was read, and the leader epoch of its last record.
pub(super) type Mark = (TopicPartition, Offset, i32);

impl Connection {
    /// The partitions whose logs have changed below these offsets, each with the first offset that may now be a
    /// different record.
    pub fn divergence(&self, marks: &[Mark]) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.check_fork()?;
        let mut found = BTreeMap::new();
        // At offset 0, nothing has been read.
        let mut open: Vec<&Mark> = marks.iter().filter(|(_, at, epoch)| at.0 > 0 && *epoch >= 0).collect();
        if open.is_empty() {
            return Ok(found);
        }
        let small = BTreeMap::from([("queued.min.messages".to_string(), "1".to_string())]);
        let client = NativeClient::new(self, &ReaderOptions { properties: small, ..ReaderOptions::default() })?;
        let from: Vec<(TopicPartition, i64)> = open.iter().map(|(tp, at, _)| (tp.clone(), at.0)).collect();
        client.assign(&from, false)?;
        let wanted: Vec<(TopicPartition, i64, i32)> = open.iter().map(|(tp, at, e)| (tp.clone(), at.0, *e)).collect();
        let start = Instant::now();
        // librdkafka discards messages that it fetches between the two calls. So nothing is polled before the question
        // is asked.
        while !client.seek(&wanted, REQUEST)? {
            self.within(start, &open)?;
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut room = Room::of(64);
        while !open.is_empty() {
            self.within(start, &open)?;
            client.poll(&mut room, Duration::from_millis(5), |entry| {
                let Some(topic) = entry.topic_name() else { return Ok(()) };
                let tp = TopicPartition::new(topic, entry.partition());
                match entry.error() {
                    // A record or the end was read, so the leader's log is the one that was read before.
                    None | Some(Code::PartitionEOF) => open.retain(|(p, ..)| *p != tp),
                    Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                        let text = entry.error_text();
                        if let Some((_, at, _)) = open.iter().find(|(p, ..)| *p == tp)
                            && is_truncation(&text)
                        {
                            found.insert(tp.clone(), end_in(&text).map_or(Offset(0), |end| end.min(*at)));
                        }
                        // The other case is "out of range". The check of offsets handles it.
                        open.retain(|(p, ..)| *p != tp);
                    }
                    Some(_) => {}
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(found)
    }

    fn within(&self, start: Instant, open: &[&Mark]) -> Result<()> {
        if start.elapsed() < REQUEST {
            return Ok(());
        }
        let which = open
            .first()
            .map_or_else(String::new, |(tp, at, epoch)| format!(" {tp} offset {} (leader epoch {epoch})", at.0));
        Err(Error::connection(format!(
            "{} does not say whether its log is still the one that was read up to{which}. The broker may be gone or overloaded. You can safely try again.",
            self.address()
        )))
    }
}

/// "Partition log truncation detected at …: broker end offset is 50 (offset leader epoch 3). Reset to INVALID.", or
/// "No epoch found less or equal to …: broker end offset is -1 (offset leader epoch -1)."
pub(super) fn is_truncation(text: &str) -> bool {
    text.contains("log truncation detected") || text.contains("No epoch found")
}

/// The offset in such a text. None if no part of the log is known to be the same.
fn end_in(text: &str) -> Option<Offset> {
    let rest = text.split("broker end offset is ").nth(1)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Offset)
}

#[cfg(test)]
mod tests {
    use super::{end_in, is_truncation};
    use crate::position::Offset;

    #[test]
    fn the_offset_at_which_logs_part_is_read_from_librdkafkas_text() {
        let cut = "Partition log truncation detected at offset 100 (leader epoch 2): broker end offset is 50 (offset leader epoch 2). Reset \
                   to INVALID.: Local: Partition log truncation (broker 3)";
        assert!(is_truncation(cut));
        assert_eq!(end_in(cut), Some(Offset(50)));
        let none = "No epoch found less or equal to offset 7 (leader epoch 1): broker end offset is -1 (offset leader epoch -1). Reset \
                    using configured policy.: Local: Partition log truncation (broker 1)";
        assert!(is_truncation(none));
        assert_eq!(end_in(none), None);
        assert!(!is_truncation(
            "fetch failed due to requested offset not available on the broker: Broker: Offset out of range"
        ));
    }
}
