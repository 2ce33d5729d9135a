//! The keys that are on a topic. They show which messages must be deleted.
//!
//! Only the topic itself keeps the keys. The topic is read once in a run, by the first epoch that needs the keys, after everything that was sealed
//! before is sent. So the checkpoint does not keep keys, and the messages that readers of the topic see decide, also after a start over.

use super::{Cluster, EPOCH, GoOn, QUERY, header};
use crate::batch::Headers;
use crate::{Error, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use hashbrown::{HashMap, HashSet};
use sha2::{Digest, Sha256};

/// At most this many keys without a message are remembered. Then all of them are forgotten, and each may get one more tombstone.
const MOST: usize = 100_000;

/// Each key that is live, with a digest of its message.
pub(super) type Live = HashMap<Box<[u8]>, u128>;

#[derive(Default)]
pub(super) struct LiveKeys {
    /// Mode complete: None before the topic was read.
    live: Option<Live>,
    /// Mode update: keys that got their tombstone in this run.
    gone: HashSet<Box<[u8]>>,
}

impl LiveKeys {
    /// The live keys after the previous epoch.
    pub(super) fn load(&mut self, cluster: &dyn Cluster, topic: &str, sender: &str, go_on: GoOn<'_>) -> Result<&Live> {
        if self.live.is_none() {
            self.live = Some(on_topic(cluster, topic, sender, go_on)?);
        }
        self.live.as_ref().ok_or_else(|| Error::internal("the keys were not read"))
    }

    pub(super) fn replace(&mut self, live: Live) {
        self.live = Some(live);
    }

    pub(super) fn is_there(&mut self, key: &[u8]) {
        self.gone.remove(key);
    }

    /// Whether the key needs a tombstone.
    pub(super) fn take_away(&mut self, key: &[u8]) -> bool {
        if self.gone.len() >= MOST {
            self.gone.clear();
        }
        self.gone.insert(key.into())
    }
}

fn of_message(value: &[u8], headers: &Headers) -> u128 {
    let mut hash = Sha256::new();
    hash.update((value.len() as u64).to_le_bytes());
    hash.update(value);
    for (name, value) in headers.iter().filter(|(name, _)| !name.starts_with("bayou-")) {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((value.as_ref().map_or(u64::MAX, |v| v.len() as u64)).to_le_bytes());
        hash.update(value.as_deref().unwrap_or_default());
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    u128::from_le_bytes(short)
}

/// Distinguishes a message from a message with the same key and a different content.
pub(super) fn digest(messages: &RecordBatch, row: usize) -> Result<u128> {
    let wrong = || Error::internal("not the columns of messages");
    let value = messages.column_by_name("value").and_then(|c| c.as_binary_opt::<i32>()).ok_or_else(wrong)?;
    let all = messages.column_by_name("headers").and_then(|c| c.as_list_opt::<i32>()).ok_or_else(wrong)?;
    let mut headers = Headers::new();
    if all.is_valid(row) {
        let pairs = all.value(row);
        let pairs = pairs.as_struct_opt().ok_or_else(wrong)?;
        let names = pairs.column(0).as_string_opt::<i32>().ok_or_else(wrong)?;
        let values = pairs.column(1).as_binary_opt::<i32>().ok_or_else(wrong)?;
        for i in 0..pairs.len() {
            headers.push((names.value(i).into(), values.is_valid(i).then(|| values.value(i).to_vec())));
        }
    }
    Ok(of_message(value.value(row), &headers))
}

/// The keys whose newest message is of this output. Messages of others are left alone.
pub(super) fn on_topic(cluster: &dyn Cluster, topic: &str, sender: &str, go_on: GoOn<'_>) -> Result<Live> {
    let mut newest: HashMap<Box<[u8]>, (i64, Option<u128>)> = HashMap::new();
    cluster.read_back(topic, None, go_on, &mut |sent| {
        let Some(key) = sent.key else { return Ok(true) };
        let ours = |h: &&Headers| header(h, QUERY).is_some_and(|v| v.starts_with(sender.as_bytes()));
        let Some(headers) = sent.headers.filter(ours) else {
            newest.remove(key);
            return Ok(true);
        };
        let epoch = header(headers, EPOCH).and_then(|e| std::str::from_utf8(e).ok()?.parse().ok()).unwrap_or(-1);
        // Partitions are read in any order, and a key is in a different one after the topic got more partitions.
        if newest.get(key).is_none_or(|(before, _)| epoch >= *before) {
            newest.insert(key.into(), (epoch, sent.value.map(|value| of_message(value, headers))));
        }
        Ok(true)
    })?;
    Ok(newest.into_iter().filter_map(|(key, (_, digest))| Some((key, digest?))).collect())
}
