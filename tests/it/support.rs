//! The common part of the tests: the address of the real broker, new topics, and a reader that runs to the end.

use bayou::testing::{
    batch::Messages,
    kafka::{Connection, Event, NewTopic, Reader, ReaderOptions, Target},
    position::{Offset, Positions, TopicPartition},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// A variable that `tests/kafka/server.py run` sets. Tests that need it fail without it, because skipping would look
/// like passing.
pub(crate) fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `python tests/kafka/server.py run -- cargo test …`"))
}

pub(crate) fn kafka() -> Connection {
    Connection::open(Target::Address(env("BAYOU_TEST_KAFKA"))).unwrap()
}

pub(crate) fn name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn new_topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor: 1, config: BTreeMap::new(), exist_ok: false }
}

/// The name of a new topic.
pub(crate) fn topic(connection: &Connection, what: &str, partitions: i32) -> String {
    let name = name(what);
    connection.create_topic(&new_topic(&name, partitions)).unwrap();
    name
}

pub(crate) fn from_start(topic: &str, partitions: i32) -> Positions {
    (0..partitions).map(|p| (TopicPartition::new(topic, p), Offset(0))).collect()
}

/// Partition, offset, key, value.
pub(crate) type Row = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Everything up to the end of each partition.
pub(crate) struct Read {
    pub chunks: Vec<Messages>,
    pub ends: Positions,
    pub out_of_range: Vec<(TopicPartition, Offset)>,
}

impl Read {
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Messages::len).sum()
    }
    /// Every message, by partition and offset.
    pub(crate) fn all(&self) -> Vec<Row> {
        let mut all: Vec<_> = self
            .chunks
            .iter()
            .flat_map(|c| {
                (0..c.len()).map(|i| {
                    let owned = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
                    (c.source(i).partition.0, c.offset(i).0, owned(c.key(i)), owned(c.value(i)))
                })
            })
            .collect();
        all.sort();
        all
    }
    pub(crate) fn offsets(&self) -> Vec<i64> {
        self.all().iter().map(|m| m.1).collect()
    }
}

pub(crate) fn read_with(connection: &Connection, from: &Positions, options: &ReaderOptions, limit: Duration) -> Read {
    let mut reader = Reader::start(connection, from, options).unwrap();
    let mut read = Read { chunks: Vec::new(), ends: Positions::new(), out_of_range: Vec::new() };
    let start = Instant::now();
    while read.ends.len() + read.out_of_range.len() < from.len() && start.elapsed() < limit {
        match reader.next(Duration::from_millis(100)).unwrap() {
            Some(Event::Messages(messages)) => read.chunks.push(messages),
            Some(Event::EndOfPartition { partition, next }) => drop(read.ends.insert(partition, next)),
            Some(Event::OutOfRange { partition, wanted, .. }) => read.out_of_range.push((partition, wanted)),
            Some(Event::Warning(text) | Event::Refused(text)) => eprintln!("warning: {text}"),
            Some(Event::LeaderEpoch { .. }) | None => {}
        }
    }
    reader.stop();
    read
}

pub(crate) fn read(connection: &Connection, from: &Positions) -> Read {
    read_with(connection, from, &ReaderOptions::default(), Duration::from_secs(60))
}
